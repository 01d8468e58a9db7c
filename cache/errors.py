"""What can go wrong below the builder: each error has a stable code, a message and, if one helps, a hint."""


class CacheError(Exception):
    """Base of every error that `cache` raises for something that is not a bug."""

    code = "cache/error"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class StoreError(CacheError):
    """The store or the host cannot do it (exit code 4)."""

    code = "store/error"


class StoreFull(StoreError):
    """The file system of the store has no space, inodes or quota left."""

    code = "store/full"


class StoreCorrupt(StoreError):
    """Something published does not have the digest that its name promises, or the database is damaged."""

    code = "store/corrupt"


class FormatError(CacheError):
    """An image, layer, manifest or archive that was read is malformed (exit code 3)."""

    code = "image/format"


class DigestMismatch(FormatError):
    """Content does not have the digest under which it was asked for."""

    code = "image/digest"


class RegistryError(CacheError):
    """A registry could not be reached, or refused (exit code 3)."""

    code = "registry/error"


class LayerUnavailable(RegistryError):
    """A layer that was said to be had somewhere cannot be had: whoever can makes it again (exit code 3)."""

    code = "layer/unavailable"
