"""Blobs of files, verified while they are read; and files for what has to be kept meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from cache.errors import DigestMismatch

if TYPE_CHECKING:
    from builder.bases.arrivals import Readable
    from cache.oci.spec import Descriptor

_CHUNK = 1 << 18


def verified(stream: Readable, descriptor: Descriptor, name: str) -> Iterator[bytes]:
    """Yield what is in `stream`, and close it. Raises DigestMismatch at the end if that is not the blob that
    `descriptor` means, and before more than its size is yielded; `name` is where it is.
    """
    digest = hashlib.new(descriptor.digest.algorithm)
    done = 0
    try:
        while chunk := stream.read(_CHUNK):
            done += len(chunk)
            if done > descriptor.size:
                break
            digest.update(chunk)
            yield chunk
    finally:
        stream.close()
    if done != descriptor.size or digest.hexdigest() != descriptor.digest.hex:
        raise DigestMismatch(f"{name}: blob {descriptor.digest} is damaged: it has another digest")


def unnamed() -> BinaryIO:
    """Return a file without a name, in $TMPDIR, that is gone when it is closed."""
    import tempfile

    return tempfile.TemporaryFile(prefix="pybuild-")
