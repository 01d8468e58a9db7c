"""Archives as sources of bases: opened, decompressed where needed, remembered once they were read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from builder.bases.local import split_location, stamp
from builder.errors import BaseError
from cache.errors import FormatError

if TYPE_CHECKING:
    from builder.bases.archive import Archive
    from builder.bases.base import BaseImage, BaseRequest, Surroundings
    from cache.oci.digest import Digest

_CHUNK = 1 << 20

Take = Callable[["Archive", str, str, "str | None", "Digest | None"], "BaseImage"]
"""From an open archive, its path, the base's reference, and the tag and digest asked for, to the base."""


def resolve_archive(around: Surroundings, request: BaseRequest, transport: str, take: Take) -> BaseImage:
    """Return the base that `request` means: what `take` makes of the archive, or made of it last time.

    Raises BaseError, FormatError, StoreError.
    """
    from builder.bases.images import recall, remember

    path, tag, digest = split_location(request)
    file = _open(path, request, transport)
    reference = f"{transport}://{path}{f':{tag}' if tag else ''}{f'@{digest}' if digest else ''}"
    with file:
        receipt = f"{transport} {stamp(file.fileno())} {tag or ''} {digest or ''} {request.platform}"
        known = None if request.pull else recall(around.store, receipt, reference)
        if known is not None:
            return known
        archive = open_archive(around, file, path)
        try:
            base = take(archive, path, reference, tag, digest)
        finally:
            archive.close()
    remember(around.store, receipt, base)
    return base


def _open(path: str, request: BaseRequest, transport: str) -> BinaryIO:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BaseError(f"{path} cannot be read: {error.strerror}", code="base/not-found") from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        hint = f"write oci-layout://{request.location}" if stat.S_ISDIR(mode) else None
        raise BaseError(f"{path} is not a file", code="base/not-found", hint=hint)
    return open(fd, "rb", buffering=0)


def open_archive(around: Surroundings, file: BinaryIO, path: str) -> Archive:
    """Open the tar in `file`. A compressed one is unpacked into a file that has no name any more.

    Raises FormatError.
    """
    from builder.bases.archive import Archive
    from cache.decompression import MAGIC_BYTES, decompress, sniff

    head = os.pread(file.fileno(), MAGIC_BYTES, 0)
    try:
        if sniff(head) == "none":
            return Archive(open(os.dup(file.fileno()), "rb", buffering=0))
        plain = _unnamed(around)
        try:
            reader = decompress(file)
            while piece := reader.read(_CHUNK):
                plain.write(piece)
            plain.flush()
            return Archive(plain)
        except BaseException:
            plain.close()
            raise
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", hint=error.hint, code=error.code) from None


def _unnamed(around: Surroundings) -> BinaryIO:
    fd, path = around.store.scratch.file()
    os.unlink(path)
    return open(fd, "w+b")
