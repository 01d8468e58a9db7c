"""imagedb/: image configs by their digest, which is the image's id; and the names that images go by."""

from __future__ import annotations

import contextlib
import os
import string
from typing import TYPE_CHECKING

from cache.disk import storing, write_all
from cache.errors import FormatError, StoreCorrupt, StoreError
from cache.indexes import ImageIndexes
from cache.locks import flocked
from cache.oci.digest import Digest
from cache.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache.names import Names
    from cache.oci.platform import Platform
    from cache.scratch import Scratch

_SHORTEST_PREFIX = 4
_HEX = frozenset(string.hexdigits.lower())


class ImageStore:
    """The images of the store at `root`."""

    def __init__(self, root: str, scratch: Scratch, names: Names) -> None:
        self._content = root + "/imagedb/content/sha256"
        self._layerdb = root + "/layerdb/sha256"
        self._scratch = scratch
        self._names = names
        self._pins = Pins()
        self.indexes = ImageIndexes(root, scratch)
        self.unsynced = False
        """True if this process put an image that no sync has covered."""

    def put(self, config: bytes) -> Digest:
        """Keep an image config, and return the image's id. No prune takes it before the store is closed."""
        image = Digest.of(config)
        path = self._path(image)
        with storing("writing an image config"), flocked(self._layerdb):  # no prune meanwhile
            if self._pins.take(path) is not None and _read(path) == config:
                os.utime(path)
            else:
                self._write(path, config)
                self._pins.drop(path)
                self._pins.take(path)
                self.unsynced = True
        return image

    def put_index(self, images: Sequence[tuple[Platform, Digest]]) -> Digest:
        """Keep an index of images of the store, each for its platform, and return its id, which names can
        mean as they mean images."""
        sized = [(platform, image, os.path.getsize(self._path(image))) for platform, image in images]
        index = self.indexes.put(sized)
        self._pins.take(self.indexes.path(index))
        self.unsynced = True
        return index

    def get(self, image: Digest) -> bytes:
        """Return the config of `image`. Raises StoreError (store/missing), StoreCorrupt."""
        with storing("reading an image config"):
            config = _read(self._path(image))
        if config is None:
            raise StoreError(f"no such image: {image}", code="store/missing")
        if Digest.of(config) != image:
            raise StoreCorrupt(
                f"the config of {image} does not have that digest", hint="build or pull the image again"
            )
        return config

    def exists(self, image: Digest) -> bool:
        """True if the config of `image` is there; whether it is right is not asked."""
        return os.path.isfile(self._path(image))

    def resolve(self, text: str) -> Digest | None:
        """Return the id of the image, or of the index of images, that `text` means: a name, short or full;
        else an id, with or without "sha256:", or at least 4 hex digits that only one begins with. None if
        there is none; raises StoreError (store/ambiguous) if there are several.
        """
        image = self._names.get(text) or self._names.get(_likely_name(text))
        if image is None:
            canonical = canonical_name(text, strict=False)
            image = None if canonical is None else self._names.get(canonical)
        if image is not None:
            return image
        prefix = text.removeprefix("sha256:")
        if not _SHORTEST_PREFIX <= len(prefix) <= 64 or not _HEX.issuperset(prefix):
            return None
        if len(prefix) == 64:
            image = Digest("sha256:" + prefix)
            return image if self.exists(image) or self.indexes.exists(image) else None
        matches = [each for each in (*self.all(), *self.indexes.all()) if each.hex.startswith(prefix)]
        if len(matches) > 1:
            raise StoreError(
                f"{len(matches)} images have ids that begin with {prefix}",
                hint="give more digits: " + ", ".join(each.hex[: len(prefix) + 8] for each in matches[:5]),
                code="store/ambiguous",
            )
        return matches[0] if matches else None

    def tag(self, name: str, image: Digest) -> None:
        """Let `name` mean `image`, or an index, whatever it meant before. Sync the store first: the name is
        on the disk on return.

        Raises FormatError if `name` is not valid, StoreError if there is no such image.
        """
        if self._names.get(_likely_name(name)) == image and self.exists(image):
            return
        full = canonical_name(name) or name
        path = self.indexes.path(image) if self.indexes.exists(image) else self._path(image)
        with storing("naming an image"), flocked(self._layerdb):
            if self._pins.take(path) is None:
                raise StoreError(f"no such image: {image}", code="store/missing")
            self._names.put(full, image)

    def touch(self, image: Digest) -> None:
        """Say that `image` is used now: the time of its config in imagedb/ says so."""
        with storing("noting an image's use"), contextlib.suppress(FileNotFoundError):
            os.utime(self._path(image))

    def untag(self, name: str) -> bool:
        """Take a name away; the image stays. False if nothing has that name."""
        if self._names.delete(name):
            return True
        canonical = canonical_name(name, strict=False)
        return canonical is not None and canonical != name and self._names.delete(canonical)

    def named_since(self, name: str) -> float | None:
        """Return since when the canonical `name` means its image, in seconds since 1970; None if nothing
        bears it.
        """
        return self._names.since(name)

    def names(self) -> dict[str, Digest]:
        """Return canonical name -> image id, sorted by name."""
        return self._names.all()

    def names_of(self, image: Digest) -> tuple[str, ...]:
        """Return the canonical names of `image`."""
        return self._names.of(image)

    def remove(self, image: Digest) -> bool:
        """Remove an image and its names; its layers stay until a prune. False if there was none."""
        for name in self._names.of(image):
            self._names.delete(name)
        self._pins.drop(self._path(image))
        with storing("removing an image"):
            try:
                os.unlink(self._path(image))
            except FileNotFoundError:
                return False
        return True

    def all(self) -> tuple[Digest, ...]:
        """Return the ids of all images, sorted."""
        with storing("listing the images"):
            names = sorted(os.listdir(self._content))
        return tuple(Digest("sha256:" + name) for name in names if len(name) == 64 and _HEX.issuperset(name))

    def close(self) -> None:
        """Hold no image any more."""
        self._pins.drop_all()

    def path(self, image: Digest) -> str:
        """Return the path of the config."""
        return self._path(image)

    def _path(self, image: Digest) -> str:
        return f"{self._content}/{image.hex}"

    def _write(self, path: str, config: bytes) -> None:
        fd, staged = self._scratch.file()
        try:
            write_all(fd, config)
            os.rename(staged, path)
        except BaseException:
            os.unlink(staged)
            raise
        finally:
            os.close(fd)


def canonical_name(text: str, *, strict: bool = True) -> str | None:
    """Return the full form of an image name; None for one that names a base by a transport
    (`mmdebstrap://…`).

    Raises FormatError if it is not valid; None if not `strict`.
    """
    if "://" in text:
        return None
    from cache.oci.reference import Reference

    try:
        return str(Reference.parse(text))
    except FormatError:
        if strict:
            raise
        return None


def _likely_name(text: str) -> str:
    """Guess the full form of a name, without the grammar, which takes a millisecond to load. Only to be
    looked up: what is found is right, since `tag` puts no other names than full ones."""
    first, slash, _ = text.partition("/")
    if not slash:
        text = "docker.io/library/" + text
    elif first != "localhost" and "." not in first and ":" not in first:
        text = "docker.io/" + text
    return text if ":" in text.rpartition("/")[2] else text + ":latest"


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        return file.read()
