"""The shared cache as its backends see it: opaque sealed entries under names, and blobs under digests.

A backend keeps three kinds of things and understands none of them: a *blob* (a compressed layer) under its
digest; an *entry* under a step key and the id of the key that signed it; and, for a *line of descent* (one
stage of one recipe on one base), the entries that builds of it have met, so that a build finds all of its
hits in a round trip or two. Everything is added and nothing overwritten: two builders that write at once
cannot undo each other's work. What a backend returns is not to be believed: `cache.trust` judges entries, and
whoever reads a blob verifies it.

Every method may raise `RemoteError` (down, slow, refused), which never fails a build unless it was asked for.
All may be called from several threads at once. A new backend is one file in `cache/remotes/` that passes
tests/cache/remote_contract.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cache.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from cache.oci.digest import Digest
    from cache.oci.spec import Descriptor

UNSIGNED = "unsigned"
"""What stands for the id of a signer where an entry has none."""

ENTRY_LIMIT = 4 * 1024 * 1024
"""The most bytes of one sealed entry: a longer one is not read."""

LINE_LIMIT = 64 * 1024 * 1024
"""The most bytes that are read for one line of descent."""


class RemoteError(CacheError):
    """A shared cache could not be reached, took too long, refused, or does not hold what it says."""

    code = "cache/remote"
    exit_code = 3


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as a backend lists it. `changed` and `used` are in seconds since 1970; `used` is None where
    the backend cannot know; `size` is the sealed entry's bytes."""

    key: str
    signer: str
    size: int
    changed: int
    used: int | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection took away, or would take: entries, blobs, and their bytes."""

    entries: int
    blobs: int
    size: int


class Claim(Protocol):
    """Somebody's word that a step is being run. It ends with `release`, or when its holder is dead."""

    def renew(self) -> None:
        """Say that the holder is alive still. Raises RemoteError, also if somebody else has taken it over."""

    def release(self) -> None:
        """Let go. Idempotent; errors are swallowed: a claim that is not let go expires."""


class RemoteCache(Protocol):
    """One shared cache."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def claims(self) -> bool:
        """Whether `claim` works here."""

    def line(self, line: str) -> list[bytes]:
        """Return the sealed entries that are known of a line of descent, newest first; [] of none. At most
        LINE_LIMIT bytes."""

    def extend(self, line: str, entries: Iterable[bytes]) -> None:
        """Add sealed entries to a line of descent."""

    def entry(self, key: str, signers: Iterable[str]) -> list[bytes]:
        """Return the sealed entries under `key` by those signers ("" among them: by anybody who can be
        listed)."""

    def add(
        self, key: str, signer: str, entry: bytes, layer: Descriptor | None, *, replace: bool = False
    ) -> bool:
        """Add a sealed entry, whose layer (None: it has none) is there already, under `key` and `signer`.
        False if there was one, which stays, unless it is to be replaced: the signer's own, which has expired
        or was tampered with."""

    def has_blob(self, digest: Digest) -> bool:
        """Return whether a blob is there, whole."""

    def put_blob(self, blob: Descriptor, opener: Callable[[], BinaryIO]) -> bool:
        """Send a blob unless it is there; `opener` gives its bytes from the start, as often as it is asked.
        False if it was there."""

    def blob(self, blob: Descriptor) -> Iterator[bytes]:
        """Return the bytes of a blob in chunks, as they arrive: not verified, and no more than its size."""

    def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim the run of a step for at most `seconds` without renewal. None if somebody alive has it."""

    def stored(self) -> Iterator[Stored]:
        """Every entry."""

    def remove(self, key: str) -> int:
        """Remove the entries under `key`, and from lines of descent; return how many there were. Blobs stay
        for `collect`."""

    def collect(self, *, older: int | None, unused: int | None, dry_run: bool) -> Collected:
        """Remove entries that were added before the time `older`, or not used since `unused` (seconds since
        1970), and every blob that no entry speaks of and that is not fresh."""

    def stop(self) -> None:
        """Make all transfers in other threads fail soon."""

    def close(self) -> None: ...
