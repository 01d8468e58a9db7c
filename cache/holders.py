"""Which repositories of registries have a blob: those that it was fetched from, or has been sent to.

A registry hands a blob from one of its repositories to another on request (distribution-spec, Mounting a
blob), to whoever names one that has it. What is noted is a hint, dropped when it was long of no use: a
repository that has the blob no longer costs a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache.memo import Memo
    from cache.oci.digest import Digest

_KIND = "holders"
_MOST = 4


class Holders:
    """What this store has seen of where blobs are. Safe to use from several threads."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo
        self._seen: dict[Digest, tuple[str, ...]] = {}

    def of(self, digest: Digest) -> tuple[str, ...]:
        """Return the repositories (`host/path`) that had a blob, the last one first."""
        found = self._memo.get(_KIND, digest)
        return tuple(dict.fromkeys((*self.seen(digest), *(found or b"").decode().split())))

    def seen(self, digest: Digest) -> tuple[str, ...]:
        """Return those that had it while this store was open."""
        return self._seen.get(digest, ())

    def note(self, digest: Digest, place: str) -> None:
        """Note that the repository `place` has a blob, now."""
        known = self.of(digest)
        self._seen[digest] = tuple(dict.fromkeys((place, *self.seen(digest))))
        if place not in known:
            self._memo.put(_KIND, digest, " ".join((place, *known)[:_MOST]).encode())
