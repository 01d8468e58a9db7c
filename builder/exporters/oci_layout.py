"""type=oci-layout: an OCI image layout in a directory, to which further images can be added
(image-layout.md)."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.exporters.base import Output, writing
from builder.exporters.destination import Stream, new_file
from builder.exporters.meter import Meters
from builder.exporters.oci_documents import LAYOUT_FILE, image_index, image_manifest, merged
from builder.exporters.packing import pack
from builder.exporters.tar_archive import copy_layer
from cache.errors import FormatError
from cache.oci.digest import Digest
from cache.oci.spec import Index

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.exporters.base import Group, Source
    from builder.exporters.output_spec import OutputSpec
    from cache.blobs import LayerBlob
    from cache.oci.spec import Descriptor
    from cache.store import Store

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_INDEX = 16 << 20


def export(group: Group, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Add the image to the layout, which is made if it is not there.

    The index is replaced last: until then, and if anything fails, the layout is what it was, but for blobs
    that nothing names.
    """
    found: list[Descriptor] = []
    with open_layout(spec.dest) as layout:
        for source in group:
            blobs = _add_layers(layout, source, spec, store, Meters(emit), emit)
            document, bare = image_manifest(source, blobs)
            layout.documents(source.config, document)
            found.append(bare)
        if len(group) > 1:
            document, bare = image_index(group, found)
            layout.documents(document)
        layout.finish(merged(layout.index, bare, group))
    return Output(spec, layout.written, bare.digest)


def _add_layers(
    layout: LayoutWriter, source: Source, spec: OutputSpec, store: Store, meters: Meters, emit: Emit
) -> list[LayerBlob]:
    blobs: list[LayerBlob] = []
    with closing(pack(store, source.layers, spec.compression, emit)) as packed:
        for layer, blob in zip(source.layers, packed, strict=True):
            write = partial(copy_layer, store=store, layer=layer, blob=blob, meters=meters)
            layout.blob(blob.digest, blob.size, write)
            blobs.append(blob)
    return blobs


class LayoutWriter:
    """A layout under construction, in the directory that is open as `root`. Knows what it added."""

    def __init__(self, root: int, dest: str, index: Index) -> None:
        self._root = root
        self._dest = dest
        self.index = index
        self.written = 0
        self._added: list[str] = []
        self._directories: list[str] = []
        with writing(dest):
            for path in ("blobs", "blobs/sha256"):
                try:
                    os.mkdir(path, dir_fd=root)
                    self._directories.append(path)
                except FileExistsError:
                    pass
            self._blobs = os.open("blobs/sha256", _DIRECTORY, dir_fd=root)

    def blob(self, digest: Digest, size: int, write: Callable[[Stream], object]) -> None:
        """Add a blob, unless the layout has it, and it is right."""
        if not self.has(digest, size):
            self._file(self._blobs, digest.hex, write)
            self._added.append(digest.hex)

    def has(self, digest: Digest, size: int) -> bool:
        """Whether the layout has a blob, and it is right."""
        return _digest(self._blobs, digest.hex, size) == digest

    def documents(self, *documents: bytes) -> None:
        """Add documents."""
        for document in documents:
            self.blob(Digest.of(document), len(document), partial(_write, document))

    def finish(self, index: Index) -> None:
        """Let the layout be what `index` says."""
        for name, data in (("oci-layout", LAYOUT_FILE), ("index.json", index.to_json())):
            self._file(self._root, name, partial(_write, data))

    def undo(self) -> None:
        """Take away what was added: no index names it."""
        for name in self._added:
            os.unlink(name, dir_fd=self._blobs)
        for path in reversed(self._directories):
            os.rmdir(path, dir_fd=self._root)

    def close(self) -> None:
        os.close(self._blobs)

    def _file(self, directory: int, name: str, write: Callable[[Stream], object]) -> None:
        with new_file(directory, name, self._dest) as fd:
            stream = Stream(fd, self._dest)
            write(stream)
            stream.flush()
        self.written += stream.size


def _write(data: bytes, stream: Stream) -> None:
    stream.write(data)


@contextmanager
def open_layout(dest: str) -> Iterator[LayoutWriter]:
    """Open the layout at `dest` for nobody else to add to; it is made if there is nothing, or an empty
    directory."""
    with writing(dest):
        root, made = _lock(dest)
    try:
        with writing(dest):
            index = _read_index(root, dest)
        layout = LayoutWriter(root, dest, index)
        try:
            yield layout
        except BaseException:
            layout.undo()
            raise
        finally:
            layout.close()
    except BaseException:
        if made:
            with suppress(OSError):
                os.rmdir(dest)
        raise
    finally:
        os.close(root)


def _lock(dest: str) -> tuple[int, bool]:
    """Open and lock the directory `dest`; say whether it was made for that."""
    while True:
        os.makedirs(os.path.dirname(os.path.abspath(dest)), exist_ok=True)
        made = True
        try:
            os.mkdir(dest)
        except FileExistsError:
            made = False
        root = os.open(dest, _DIRECTORY)
        try:
            fcntl.flock(root, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(dest), os.fstat(root)):
                    return root, made
        except BaseException:
            os.close(root)
            raise
        os.close(root)  # the one that made it has failed, and removed it again


def _read_index(root: int, dest: str) -> Index:
    """Return the layout's index, an empty one if it is new. Raises UsageError."""
    names = os.listdir(root)
    if "oci-layout" in names and "index.json" in names:
        try:
            with open(os.open("index.json", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root), "rb") as file:
                return Index.from_json(file.read(_MOST_INDEX))
        except FormatError as error:
            problem = f"{dest}/index.json: {error.message}"
    elif not set(names) - {"blobs"}:
        return Index(())
    else:
        problem = f"{dest} is not empty, and no OCI layout"
    raise UsageError(problem, hint="name a new or empty directory", code="usage/output")


def _digest(directory: int, name: str, size: int) -> Digest | None:
    """Return the digest of a blob that is there with that size, None if it is not."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    with open(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size != size:
            return None
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
