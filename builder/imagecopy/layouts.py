"""OCI layouts, in a directory or in a tar archive, as places of images (image-layout.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from builder.bases.layouts import Files, Layout, Selector
from builder.errors import BaseError
from builder.imagecopy.base import Document
from builder.imagecopy.reading import verified
from cache.errors import FormatError
from cache.oci.platform import Platform
from cache.oci.spec import Descriptor, Index, Manifest
from cache.registry.documents import MANIFEST_LIMIT, read_document

if TYPE_CHECKING:
    from io import FileIO

    from builder.bases.archive import Archive
    from builder.exporters.destination import Stream
    from builder.exporters.oci_layout import LayoutWriter
    from builder.exporters.tar_archive import TarArchive
    from builder.imagecopy.base import Chunks
    from builder.imagecopy.places import Place
    from cache.oci.digest import Digest
    from cache.oci.reference import Reference


class LayoutSource:
    """An image of a layout."""

    repository: Reference | None = None
    tries = 1

    def __init__(self, files: Files, place: Place) -> None:
        self._files = files
        self._place = place
        self._layout = Layout(files, place.location)
        self._subjects: dict[Digest, list[Descriptor]] | None = None

    def root(self) -> Document:
        """Return what the layout's index has under the tag. Raises BaseError, FormatError."""
        selector = Selector(self._place.reference, self._place.digest)
        return self.document(self._layout.select(selector, Platform.host()))

    def document(self, descriptor: Descriptor) -> Document:
        """Return a manifest or an index, verified. Raises FormatError."""
        data = self._layout.blob(descriptor, MANIFEST_LIMIT)
        media_type, content = read_document(data, descriptor.media_type)
        return Document(replace(descriptor, media_type=media_type, size=len(data)), data, content)

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Stream a blob. Raises FormatError; DigestMismatch at the end if it is damaged."""
        stream, _ = self._layout.open_blob(descriptor)
        return verified(stream, descriptor, self._place.location)

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return what refers to a manifest: of those that the layout's index lists. Raises FormatError."""
        if self._subjects is None:
            self._subjects = {}
            for item in self._layout.index().manifests:
                content = self.document(item).content
                if content.subject is not None:
                    self._subjects.setdefault(content.subject.digest, []).append(_listed(item, content))
        return tuple(self._subjects.get(digest, ()))

    def stop(self) -> None: ...

    def close(self) -> None:
        self._files.close()


def open_layout_source(place: Place) -> LayoutSource:
    """Open the layout at `place`, directory or archive. Raises BaseError, FormatError."""
    if place.kind == "oci-layout":
        from builder.bases.oci_layout import Directory

        if not os.path.isdir(place.location):
            raise BaseError(f"{place.location} is no directory", code="base/not-found")
        return LayoutSource(Directory(place.location), place)
    return LayoutSource(open_archive_file(place.location), place)


def open_archive_file(path: str) -> Archive:
    """Open a tar archive; a compressed one is unpacked into a file without a name. Raises BaseError,
    FormatError.
    """
    from builder.bases.archive import Archive

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BaseError(f"{path} cannot be read: {error.strerror}", code="base/not-found") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BaseError(f"{path} is not a file", code="base/not-found")
    with ExitStack() as stack:
        file = stack.enter_context(open(fd, "rb", buffering=0))
        try:
            archive = Archive(stack.enter_context(_plain(file)))
        except FormatError as error:
            raise FormatError(f"{path}: {error.message}", hint=error.hint, code=error.code) from None
        stack.pop_all()
    return archive


def _plain(file: FileIO) -> BinaryIO:
    """Return a file of what is in `file`, decompressed: itself, if it is not compressed. Raises
    FormatError.
    """
    from cache.decompression import MAGIC_BYTES, decompress, sniff

    if sniff(os.pread(file.fileno(), MAGIC_BYTES, 0)) == "none":
        return file
    from builder.imagecopy.reading import unnamed

    plain = unnamed()
    try:
        reader = decompress(file)
        while piece := reader.read(1 << 20):
            plain.write(piece)
        plain.flush()
    except BaseException:
        plain.close()
        raise
    file.close()
    return plain


class LayoutDestination:
    """A layout in a directory, to which an image is added."""

    at_once = 4

    def __init__(self, place: Place) -> None:
        from builder.exporters.oci_layout import open_layout

        self._tag = place.reference
        self._stack = ExitStack()
        self._layout: LayoutWriter = self._stack.enter_context(open_layout(place.location))
        self._finished = False
        self._listed: list[Descriptor] = []

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, and right."""
        _only_sha256(descriptor)
        return self._layout.has(descriptor.digest, descriptor.size)

    def put(self, descriptor: Descriptor, chunks: Chunks) -> None:
        """Write a blob, which appears when it is whole."""
        self._layout.blob(descriptor.digest, descriptor.size, partial(_write, chunks))

    def add(self, document: Document) -> None:
        _only_sha256(document.descriptor)
        self._layout.blob(
            document.descriptor.digest, len(document.data), lambda stream: stream.write(document.data)
        )

    def refer(self, document: Document, descriptor: Descriptor) -> None:
        """As ORAS does, what refers to an image is listed beside it, without a name."""
        self.add(document)
        self._listed.append(descriptor)

    def finish(self, root: Document) -> None:
        self.add(root)
        self._layout.finish(listed(self._layout.index, root, self._tag, self._listed))
        self._finished = True

    def stop(self) -> None: ...

    def close(self) -> None:
        if self._finished:
            self._stack.close()
        else:
            self._stack.__exit__(_Unfinished, _Unfinished(), None)


class ArchiveDestination:
    """A layout in a tar archive, which is a new one."""

    at_once = 1

    def __init__(self, place: Place) -> None:
        from builder.exporters.destination import open_output
        from builder.exporters.tar_archive import TarArchive

        self._tag = place.reference
        self._stack = ExitStack()
        stream: Stream = self._stack.enter_context(open_output(place.location))
        self._archive: TarArchive = TarArchive(stream)
        self._archive.directory("blobs/")
        self._archive.directory("blobs/sha256/")
        self._written: set[Digest] = set()
        self._listed: list[Descriptor] = []
        self._finished = False

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self._written

    def put(self, descriptor: Descriptor, chunks: Chunks) -> None:
        """Append a blob. If reading it fails, so does the whole: no archive appears."""
        _only_sha256(descriptor)
        self._archive.stream_file(_path(descriptor.digest), descriptor.size, chunks())
        self._written.add(descriptor.digest)

    def add(self, document: Document) -> None:
        _only_sha256(document.descriptor)
        if document.descriptor.digest not in self._written:
            self._archive.file(_path(document.descriptor.digest), document.data)
            self._written.add(document.descriptor.digest)

    def refer(self, document: Document, descriptor: Descriptor) -> None:
        self.add(document)
        self._listed.append(descriptor)

    def finish(self, root: Document) -> None:
        from builder.exporters.oci_documents import LAYOUT_FILE

        self.add(root)
        index = listed(Index(()), root, self._tag, self._listed)
        self._archive.file("index.json", index.to_json())
        self._archive.file("oci-layout", LAYOUT_FILE)
        self._archive.end()
        self._finished = True

    def stop(self) -> None: ...

    def close(self) -> None:
        if self._finished:
            self._stack.close()
        else:
            self._stack.__exit__(_Unfinished, _Unfinished(), None)


class _Unfinished(Exception):
    """The copy has failed: what was begun is taken away."""


def listed(index: Index, root: Document, tag: str | None, referrers: list[Descriptor]) -> Index:
    """Return `index` with an image under `tag`, in place of the one that had it, and with what refers to
    it.
    """
    from builder.exporters.oci_documents import CONTAINERD_NAME
    from cache.errors import FormatError
    from cache.oci.reference import Reference
    from cache.oci.spec import ANNOTATION_REF_NAME

    descriptor = replace(root.descriptor, data="", extra=())
    pairs = {
        key: value
        for key, value in descriptor.annotations
        if key not in (ANNOTATION_REF_NAME, CONTAINERD_NAME)
    }
    name = tag or "latest"
    pairs[ANNOTATION_REF_NAME] = name
    if "/" in name:
        try:
            reference = Reference.parse(name)
            pairs[CONTAINERD_NAME] = str(reference)
            pairs[ANNOTATION_REF_NAME] = reference.tag or name
        except FormatError:
            pass  # what is no image's name is a tag all the same
    entry = replace(descriptor, annotations=tuple(sorted(pairs.items())))
    mark = CONTAINERD_NAME if CONTAINERD_NAME in pairs else ANNOTATION_REF_NAME
    kept = [item for item in index.manifests if dict(item.annotations).get(mark) != pairs[mark]]
    known = {item.digest for item in kept}
    new = [item for item in referrers if item.digest not in known]
    return replace(index, manifests=(*kept, entry, *new))


def _listed(item: Descriptor, content: Manifest | Index) -> Descriptor:
    """How the referrers API lists a manifest (distribution-spec, Listing Referrers)."""
    kind = content.artifact_type
    if not kind and isinstance(content, Manifest):
        kind = content.config.media_type
    return replace(item, artifact_type=item.artifact_type or kind, annotations=content.annotations)


def _write(chunks: Chunks, stream: Stream) -> None:
    for chunk in chunks():
        stream.write(chunk)


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _only_sha256(descriptor: Descriptor) -> None:
    if descriptor.digest.algorithm != "sha256":
        raise FormatError(f"{descriptor.digest}: layouts are written with sha256 alone")
