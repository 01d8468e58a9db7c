"""Blobs on their way into a shared cache: what is sent is what its name promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.remote import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from cache.oci.spec import Descriptor

_CHUNK = 1 << 18


def checked(blob: Descriptor, opener: Callable[[], BinaryIO]) -> Iterator[bytes]:
    """Yield what `opener` gives, chunk by chunk. Raises RemoteError before the last one if it is not `blob`:
    so whoever sends it cannot complete something else.
    """
    import hashlib

    digest, count = hashlib.new(blob.digest.algorithm), 0
    last = b""
    with opener() as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            count += len(chunk)
            if count > blob.size:
                break
            if last:
                yield last
            last = chunk
    if count != blob.size or digest.hexdigest() != blob.digest.hex:
        raise RemoteError(f"what is to be sent as {blob.digest} is something else")
    if last:
        yield last
