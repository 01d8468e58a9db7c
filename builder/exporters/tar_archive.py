"""Tar archives of what we made ourselves: the same bytes for the same content, whoever writes them, wherever,
whenever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.exporters.packing import write_layer
from cache import tar_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.exporters.destination import Stream
    from builder.exporters.meter import Meters
    from cache.blobs import LayerBlob
    from cache.layers import Layer
    from cache.store import Store


class TarArchive:
    """An archive that grows on `stream`. Its entries belong to 0:0, are for everyone to read, and of 1970."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def directory(self, name: str) -> None:
        """Add a directory; `name` ends in a slash."""
        self.stream.write(tar_format.header(name.encode(), tar_format.DIRECTORY, 0o755, 0, 0))

    def file(self, name: str, data: bytes) -> None:
        """Add a file."""
        self._header(name, len(data))
        self.stream.write(data)
        self.stream.write(tar_format.padding(len(data)))

    def stream_file(self, name: str, size: int, chunks: Iterator[bytes]) -> None:
        """Add a file of `size` bytes, which are what `chunks` yields."""
        self._header(name, size)
        for chunk in chunks:
            self.stream.write(chunk)
        self.stream.write(tar_format.padding(size))

    def layer(self, name: str, store: Store, layer: Layer, blob: LayerBlob, meters: Meters) -> None:
        """Add a layer as the blob that it is, or as its tar if that is not compressed. Raises StoreError."""
        self._header(name, blob.size)
        copy_layer(self.stream, store, layer, blob, meters)
        self.stream.write(tar_format.padding(blob.size))

    def end(self) -> None:
        """End the archive."""
        self.stream.write(tar_format.END)

    def _header(self, name: str, size: int) -> None:
        self.stream.write(tar_format.header(name.encode(), tar_format.REGULAR, 0o644, 0, 0, size=size))


def copy_layer(stream: Stream, store: Store, layer: Layer, blob: LayerBlob, meters: Meters) -> None:
    """Write a layer's blob, or its tar if it is not compressed, to `stream`. Raises StoreError."""
    if blob.kind == "none":
        short = layer.diff_id.hex[:12]
        with meters.transfer(f"write-{short}", f"writing {short}", layer.size, stream) as meter:
            write_layer(store, layer, meter)
        return
    file = store.blobs.open(blob.digest)
    if file is None:
        from cache.errors import StoreError

        raise StoreError(f"the blob {blob.digest} is gone: was the store pruned?", hint="export again")
    with file:
        stream.copy(file.fileno(), blob.size)
