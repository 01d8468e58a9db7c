"""imagedb/index/: images for several platforms under one id, and so under one name.

A document is an image-spec index whose descriptors point to image configs, each with its platform: manifests
there are none before an image goes out, since these tell how its layers are compressed.
"""

from __future__ import annotations

import contextlib
import os
import string
from typing import TYPE_CHECKING

from cache.disk import storing, write_all
from cache.errors import CacheError, StoreCorrupt
from cache.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache.oci.platform import Platform
    from cache.scratch import Scratch

_HEX = frozenset(string.hexdigits.lower())


class ImageIndexes:
    """The indexes of the store at `root`."""

    def __init__(self, root: str, scratch: Scratch) -> None:
        self._directory = root + "/imagedb/index/sha256"
        self._scratch = scratch

    def put(self, images: Sequence[tuple[Platform, Digest, int]]) -> Digest:
        """Keep the index of `images` (platform, id, size of the config in bytes), and return its id."""
        from cache.oci.spec import MEDIA_TYPE_CONFIG, Descriptor, Index

        entries = [Descriptor(MEDIA_TYPE_CONFIG, image, size, platform) for platform, image, size in images]
        data = Index(tuple(entries)).to_json()
        digest = Digest.of(data)
        with storing("writing an image index"):
            os.makedirs(self._directory, exist_ok=True)
            fd, staged = self._scratch.file()
            try:
                write_all(fd, data)
                os.rename(staged, self.path(digest))
            except BaseException:
                os.unlink(staged)
                raise
            finally:
                os.close(fd)
        return digest

    def get(self, digest: Digest) -> tuple[tuple[Platform, Digest], ...] | None:
        """Return the platforms of an index, and the id of the image for each; None if `digest` is no index.

        Raises StoreCorrupt, FormatError.
        """
        from cache.oci.spec import Index

        try:
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            data = file.read()
        if Digest.of(data) != digest:
            raise StoreCorrupt(f"the index {digest} does not have that digest", hint="build the image again")
        entries = Index.from_json(data).manifests
        return tuple((each.platform, each.digest) for each in entries if each.platform is not None)

    def exists(self, digest: Digest) -> bool:
        """True if there is such an index."""
        return os.path.isfile(self.path(digest))

    def images_of(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the ids of the images of an index; none if `digest` is none, or damaged."""
        try:
            return tuple(image for _, image in self.get(digest) or ())
        except CacheError:
            return ()

    def all(self) -> tuple[Digest, ...]:
        """Return the ids of all indexes, sorted."""
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return ()
        return tuple(Digest("sha256:" + name) for name in names if len(name) == 64 and _HEX.issuperset(name))

    def remove(self, digest: Digest) -> None:
        """Remove an index; its images stay."""
        with storing("removing an image index"), contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(digest))

    def path(self, digest: Digest) -> str:
        """Return the path of the document."""
        return f"{self._directory}/{digest.hex}"
