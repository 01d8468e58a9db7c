"""The near miss: what somebody who mistyped a name most likely meant."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that is at most two typing mistakes (one in a short word) away from `word`,
    case aside.
    """
    if len(word) > 40:
        return None
    allowed = 1 if len(word) < 4 else 2
    best: tuple[int, str] | None = None
    for name in known:
        if abs(len(name) - len(word)) > allowed:
            continue
        away = _distance(word.lower(), name.lower())
        if away <= allowed and (best is None or away < best[0]):
            best = (away, name)
    return best[1] if best else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the hint that names the near miss, if there is one."""
    name = nearest(word, known)
    return f"Did you mean {name}?" if name else None


def _distance(a: str, b: str) -> int:
    """Return how many characters to insert, delete, change or swap with their neighbour make `b` of `a`."""
    before: list[int] = []
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, previous = previous, row
    return previous[-1]
