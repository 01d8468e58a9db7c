"""When to ask again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass

TRANSIENT = frozenset((408, 429, 500, 502, 503, 504))
"""Statuses after which the same request may succeed (RFC 9110, RFC 6585)."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` in all; waits grow from `first` by doubling up to `longest`; all in seconds.

    A server's Retry-After is heeded up to `patience`; one that asks for more is given up. `finishing` is how
    long a registry may be silent once it has a whole blob: one over an object store copies it then.
    """

    attempts: int = 5
    first: float = 0.3
    longest: float = 10.0
    patience: float = 60.0
    finishing: float = 600.0

    def delay(self, attempt: int, retry_after: float | None = None) -> float | None:
        """Seconds to wait after the failed `attempt` (from 1), or None to give up."""
        if attempt >= self.attempts or (retry_after is not None and retry_after > self.patience):
            return None
        wait = min(self.longest, self.first * 2.0 ** (attempt - 1))
        wait *= 0.5 + random.random() / 2  # many builders that were refused together must not return together
        return max(wait, retry_after or 0.0)


def retry_after(header: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for: a number or an HTTP date; None if it is neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isdecimal():
        return float(text[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
