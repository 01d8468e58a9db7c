"""Digests, and the two identifiers made of them (image-spec, config.md: Layer DiffID, Layer ChainID)."""

from __future__ import annotations

import hashlib
import re

from cache.errors import FormatError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """`algorithm:hex`, as in the image-spec's descriptor.md: a plain string, known to be well-formed."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return `text` as a digest. Raises FormatError if it is none, or of an unknown algorithm."""
        if _DIGEST.fullmatch(text) is None:
            raise FormatError(f"not a digest: {text[:100]!r}")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the sha256 digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


class DiffID(Digest):
    """sha256 of an uncompressed layer tar."""

    __slots__ = ()


class ChainID(Digest):
    """Names a root filesystem: a stack of layers."""

    __slots__ = ()

    @classmethod
    def extend(cls, parent: ChainID | None, diff_id: DiffID) -> ChainID:
        """Return the ChainID of `diff_id` applied on `parent` (None: on nothing)."""
        if parent is None:
            return cls(diff_id)
        return cls("sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest())
