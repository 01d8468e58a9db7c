"""What a prune may take, how much of it, and what of that is worth least.

What a thing is worth is the time that it saves: the seconds that making it again would take, per byte, and
the less the longer nobody has used it. docs/decisions/prune-order.md says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["layer", "image", "blob", "record", "remnant", "cache mount", "repository", "failed step"]

FETCHED = 20_000_000
"""Bytes that come from elsewhere in a second, where nobody has measured it: a base's layer, a repository."""
COMPRESSED = 40_000_000
"""Bytes of blobs that are made of layers in a second."""

_WITH_OTHERS = frozenset[Kind](("record", "remnant"))
"""What goes when what it speaks of is gone, whatever a policy says."""
ALL_KINDS = frozenset[Kind](get_args(Kind)) - _WITH_OTHERS
USUAL_KINDS = ALL_KINDS - {"cache mount"}
"""What a policy is about that names none: what is in a cache mount no step key tells how to make again."""

_DAY = 86400


@dataclass(frozen=True, slots=True)
class Policy:
    """What to take away of what is not needed: things of the `kinds` that were not used for `older_than`
    seconds, those that are worth least first, until what is left of these kinds is at most `keep_storage`
    bytes, and `min_free` bytes of the disk are free. None sets no bound: with neither, all goes. Sizes are
    those of layer tars, of blobs, and of files."""

    older_than: float | None = None
    keep_storage: int | None = None
    min_free: int | None = None
    kinds: frozenset[Kind] = USUAL_KINDS

    def is_about(self, item: Item, now: int) -> bool:
        """Return whether it may be taken away at all, at `now` in seconds since 1970."""
        return item.kind in self.kinds and (self.older_than is None or item.used <= now - self.older_than)

    def is_met(self, left: int, free: int) -> bool:
        """Return whether no more need go where `left` bytes of the kinds are left, and `free` of the
        disk."""
        bounds = []
        if self.keep_storage is not None:
            bounds.append(left <= self.keep_storage)
        if self.min_free is not None:
            bounds.append(free >= self.min_free)
        return bool(bounds) and all(bounds)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to take away. `size` in bytes, 0 if another layer has the same changeset; `used` in
    seconds since 1970, 0 where nobody knows; `seconds` is what it takes to make it again. A remnant, named by
    its path, is what a power cut left unusable. `title` is what a person calls it, if that is not its
    identity: the id of a cache mount, the remote of a repository."""

    kind: Kind
    identity: str
    size: int = 0
    used: int = 0
    title: str = ""
    seconds: float = 0.0


def worth(item: Item, now: int) -> float:
    """Return what keeping `item` is worth: seconds per byte, in as many parts as days have begun since its
    last use. To three digits: where two are worth about the same, the longer unused is to go."""
    days = max(0, now - item.used) // _DAY
    return float(f"{item.seconds / max(item.size, 1) / (days + 1):.3g}")
