"""Where the links are kept: one SQLite file."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

_TABLE = (
    "CREATE TABLE IF NOT EXISTS link (slug TEXT PRIMARY KEY, address TEXT NOT NULL, uses INTEGER DEFAULT 0)"
)
_COUNT_USE = "UPDATE link SET uses = uses + 1 WHERE slug = ? RETURNING address"
_ALPHABET = "23456789abcdefghijkmnpqrstuvwxyz"
"""No 0, 1, l or o: a slug may be read aloud."""


def slug_of(address: str) -> str:
    """Return the slug of `address`: eight characters, always the same for the same address."""
    number = int.from_bytes(hashlib.sha256(address.encode()).digest()[:5], "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(0, 40, 5))


class Links:
    """The links in the SQLite file `path`, made if need be. Safe for several threads and processes."""

    def __init__(self, path: str) -> None:
        self._path = path
        with self._connection() as db:
            db.execute(_TABLE)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10)) as db, db:
            yield db

    def add(self, address: str) -> str:
        """Keep `address` and return its slug."""
        slug = slug_of(address)
        with self._connection() as db:
            db.execute("INSERT OR IGNORE INTO link (slug, address) VALUES (?, ?)", (slug, address))
        return slug

    def use(self, slug: str) -> str | None:
        """Return the address behind `slug` and count the use; None if there is none."""
        with self._connection() as db:
            row = db.execute(_COUNT_USE, (slug,)).fetchone()
        return row[0] if row else None

    def count(self) -> int:
        """Return how many links there are."""
        with self._connection() as db:
            return int(db.execute("SELECT count(*) FROM link").fetchone()[0])
