"""When records, layers and images were used last: to the hour, which is what pruning by age needs."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection

    from cache.database import Database

GRAIN = 3600
"""Seconds by which a time in the table may be behind: within it, a use is not written again."""
_BATCH = 500


class LastUse:
    """The table of last uses: id (step key, ChainID, image id) -> seconds since 1970."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fresh: set[str] = set()

    def note(self, identity: str) -> None:
        """Say that `identity` was made just now: its own time of creation stands for its use."""
        self._fresh.add(identity)

    def touch(self, identities: Iterable[str]) -> None:
        """Say that they are in use now. Writes only what is behind by more than GRAIN."""
        asked = [identity for identity in dict.fromkeys(identities) if identity not in self._fresh]
        if not asked:
            return
        now = int(time.time())
        current = self._since(asked, now - GRAIN)
        stale = [(identity, now) for identity in asked if identity not in current]
        if stale:
            self._database.write(
                lambda c: c.executemany("INSERT OR REPLACE INTO last_use VALUES (?, ?)", stale)
            )
        self._fresh.update(asked)

    def all(self) -> dict[str, int]:
        """Return id -> seconds since 1970."""
        return dict(self._database.read("SELECT id, time FROM last_use"))

    def forget(self, connection: Connection, identities: Iterable[str]) -> None:
        """Drop them, within a transaction."""
        connection.executemany("DELETE FROM last_use WHERE id = ?", [(identity,) for identity in identities])

    def _since(self, identities: list[str], time_: int) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(identities), _BATCH):
            batch = identities[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            rows = self._database.read(
                f"SELECT id FROM last_use WHERE time > ? AND id IN ({marks})", (time_, *batch)
            )
            found.update(row[0] for row in rows)
        return found
