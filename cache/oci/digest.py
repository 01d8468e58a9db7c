"""Digests, and the two identifiers made of them (image-spec, config.md: Layer DiffID, Layer ChainID)."""

from __future__ import annotations

from cache.errors import FormatError

_LENGTHS = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


class Digest(str):
    """`algorithm:hex`, as in the image-spec's descriptor.md: a plain string, known to be well-formed."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Return `text` as a digest. Raises FormatError if it is none, or of an unknown algorithm."""
        algorithm, _, digits = text.partition(":")
        if len(digits) != _LENGTHS.get(algorithm) or not _HEX.issuperset(digits):
            raise FormatError(f"not a digest: {text[:100]!r}")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the sha256 digest of `data`."""
        import hashlib

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
        import hashlib

        return cls("sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest())
