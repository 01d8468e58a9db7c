"""What `docker save` writes, as a place of images: an image for one platform, its layers as plain tars.

It has no manifest, so that an image that comes out of it gets one: layers are compressed on the way, always
to the same bytes. One that goes into it has its layers decompressed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from builder.bases.docker_archive import DockerArchive
from builder.imagecopy.base import Document
from builder.imagecopy.layouts import open_archive_file
from builder.imagecopy.reading import unnamed
from cache.compression import GZIP, compressed
from cache.errors import DigestMismatch, FormatError
from cache.oci.digest import Digest
from cache.oci.spec import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
)

if TYPE_CHECKING:
    from builder.imagecopy.base import Source
    from builder.imagecopy.places import Place
    from cache.oci.reference import Reference

_CHUNK = 1 << 20
_CONFIG_LIMIT = 16 * 1024 * 1024


class DockerArchiveSource:
    """An image of a Docker archive. Its layers are compressed when `root` is called, into files without a
    name.
    """

    repository: Reference | None = None
    tries = 1

    def __init__(self, place: Place) -> None:
        self._stack = ExitStack()
        files = open_archive_file(place.location)
        self._stack.callback(files.close)
        self._archive = DockerArchive(files, place.location)
        self._entry = self._archive.select(place.reference)
        self._blobs: dict[Digest, bytes | BinaryIO] = {}

    def root(self) -> Document:
        """Return the manifest that the image gets. Raises FormatError."""
        from builder.bases.images import read_config

        data = self._archive.config(self._entry)
        names = self._entry.texts("Layers")
        config = read_config(data, len(names), self._archive.path)
        layers = tuple(
            self._layer(name, diff_id) for name, diff_id in zip(names, config.diff_ids, strict=True)
        )
        self._blobs[Digest.of(data)] = data
        manifest = Manifest(Descriptor(MEDIA_TYPE_CONFIG, Digest.of(data), len(data)), layers)
        text = manifest.to_json()
        return Document(Descriptor(MEDIA_TYPE_MANIFEST, Digest.of(text), len(text)), text, manifest)

    def document(self, descriptor: Descriptor) -> Document:
        raise FormatError(f"{self._archive.path} has one image")

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob, which was verified when it was made."""
        blob = self._blobs[descriptor.digest]
        if isinstance(blob, bytes):
            yield blob
            return
        import os

        done = 0
        while chunk := os.pread(blob.fileno(), _CHUNK, done):
            done += len(chunk)
            yield chunk

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        return ()

    def stop(self) -> None: ...

    def close(self) -> None:
        self._stack.close()

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        """Compress a layer, and verify it."""
        from cache.decompression import decompress

        stream, _ = self._archive.open_layer(name)
        file = self._stack.enter_context(unnamed())
        out = _Hashed(file)
        plain = hashlib.new(diff_id.algorithm)
        with compressed(out, GZIP) as sink:
            reader = decompress(stream)
            while chunk := reader.read(_CHUNK):
                plain.update(chunk)
                sink.write(chunk)
        file.flush()
        if plain.hexdigest() != diff_id.hex:
            raise DigestMismatch(
                f"{self._archive.path}: the layer {name[:200]} is damaged: it is not {diff_id}"
            )
        digest = Digest(f"sha256:{out.digest.hexdigest()}")
        self._blobs[digest] = file
        return Descriptor(MEDIA_TYPE_LAYER_GZIP, digest, out.size)


def write(source: Source, root: Document, place: Place) -> None:
    """Write the image with the manifest `root` to a Docker archive, a new one. Raises CacheError,
    OutputError.
    """
    from builder.bases.images import read_config
    from builder.exporters.destination import open_output
    from builder.exporters.tar_archive import TarArchive
    from cache.oci.document import dumps

    manifest = root.content
    if not isinstance(manifest, Manifest):
        raise FormatError("a Docker archive holds an image for one platform")
    data = _small(source, manifest.config)
    config: ImageConfig = read_config(data, len(manifest.layers), place.location)
    names = [f"{diff_id.hex}.tar" for diff_id in config.diff_ids]
    entry = {
        "Config": f"{Digest.of(data).hex}.json",
        "RepoTags": [_name(place.reference)] if place.reference else None,
        "Layers": names,
    }
    with open_output(place.location) as stream:
        archive = TarArchive(stream)
        archive.file("manifest.json", dumps([entry]))
        archive.file(f"{Digest.of(data).hex}.json", data)
        written = set()
        for name, diff_id, layer in zip(names, config.diff_ids, manifest.layers, strict=True):
            if name in written:
                continue
            written.add(name)
            with unnamed() as file:
                size = _decompress(source, layer, diff_id, file)
                file.seek(0)
                archive.stream_file(name, size, iter(lambda file=file: file.read(_CHUNK), b""))  # type: ignore[misc]
        archive.end()


def _name(text: str) -> str:
    from cache.oci.reference import Reference

    return str(Reference.parse(text))


def _small(source: Source, descriptor: Descriptor) -> bytes:
    if descriptor.size > _CONFIG_LIMIT:
        raise FormatError(f"blob {descriptor.digest} has {descriptor.size} bytes: too many for a config")
    return b"".join(source.blob(descriptor))


def _decompress(source: Source, layer: Descriptor, diff_id: Digest, out: BinaryIO) -> int:
    """Write a layer's tar to `out`, verified; return its size."""
    for left in reversed(range(source.tries)):
        out.seek(0)
        out.truncate()
        try:
            found = _tar(source.blob(layer), diff_id, out)
        except DigestMismatch:
            if not left:
                raise
            continue
        if found != diff_id.hex:
            raise DigestMismatch(f"layer {layer.digest} is not {diff_id}, which the image config names")
        break
    return out.tell()


def _tar(chunks: Iterator[bytes], like: Digest, out: BinaryIO) -> str:
    """Write what is compressed in `chunks`, and return its digest."""
    from cache.decompression import decompress

    plain = hashlib.new(like.algorithm)
    try:
        reader = decompress(_Stream(chunks))
        while chunk := reader.read(_CHUNK):
            plain.update(chunk)
            out.write(chunk)
    except FormatError:
        for _ in chunks:  # where it makes no sense, a corrupted transfer is the better explanation
            pass
        raise
    for _ in chunks:  # the blob is verified at its end, padding included
        pass
    return plain.hexdigest()


class _Hashed:
    """Writes, and takes the digest of what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> None:
        self.digest.update(data)
        self.size += len(data)
        self._file.write(data)


class _Stream:
    """Chunks as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int, /) -> bytes:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        data, self._left = self._left[:size], self._left[size:]
        return data
