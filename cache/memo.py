"""Blobs kept by key: memos, which are pure functions of it (a parsed recipe), and receipts, which speak of
the store."""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection

    from cache.database import Database

_DAY = 86400


class Memo:
    """(kind, key) -> value, where the value follows from the key alone: never wrong, dropped when long
    unused."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        rows = self._database.read("SELECT value, used FROM memo WHERE kind = ? AND key = ?", (kind, key))
        if not rows:
            return None
        value, used = rows[0]
        now = int(time.time())
        if now - used > _DAY:
            self._database.write(
                lambda c: c.execute("UPDATE memo SET used = ? WHERE kind = ? AND key = ?", (now, kind, key))
            )
        return bytes(value)

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Keep `value`."""
        row = (kind, key, int(time.time()), value)
        self._database.write(lambda c: c.execute("INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?)", row))

    def add_last(self, kind: str, key: str, value: bytes, kept: int) -> None:
        """Keep `value` under a key that sorts after all of its kind, and of this kind the last `kept`
        alone.
        """
        row = (kind, key, int(time.time()), value)
        older = "SELECT key FROM memo WHERE kind = ? ORDER BY key DESC LIMIT 1 OFFSET ?"

        def work(connection: Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?)", row)
            connection.execute(f"DELETE FROM memo WHERE kind = ? AND key <= ({older})", (kind, kind, kept))

        self._database.write(work)

    def last(self, kind: str, count: int) -> list[bytes]:
        """Return the `count` values of a kind whose keys sort last, the last one first."""
        rows = self._database.read(
            "SELECT value FROM memo WHERE kind = ? ORDER BY key DESC LIMIT ?", (kind, count)
        )
        return [bytes(value) for (value,) in rows]


class Receipts:
    """key -> value, where the value speaks of layers and images: like a record, trusted after a sync or in
    its boot.

    Whoever takes one looks whether the store still has what it speaks of.
    """

    def __init__(self, database: Database, boot: str) -> None:
        self._database = database
        self._boot = boot
        self._lock = threading.Lock()
        self._unsynced: set[str] = set()

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none, or one that a power cut made doubtful."""
        rows = self._database.read(
            "SELECT value, used, boot_id FROM receipts WHERE key = ? AND boot_id IN ('', ?)",
            (key, self._boot),
        )
        if not rows:
            return None
        value, used, boot = rows[0]
        if boot:
            with self._lock:
                self._unsynced.add(key)
        now = int(time.time())
        if now - used > _DAY:
            self._database.write(
                lambda c: c.execute("UPDATE receipts SET used = ? WHERE key = ?", (now, key))
            )
        return bytes(value)

    def of_kind(self, kind: str) -> list[bytes]:
        """Return the values of all keys that begin with the word `kind`: no use of them."""
        rows = self._database.read(
            "SELECT value FROM receipts WHERE key > ? AND key < ? AND boot_id IN ('', ?)",
            (f"{kind} ", f"{kind}!", self._boot),
        )
        return [bytes(value) for (value,) in rows]

    def put(self, key: str, value: bytes) -> None:
        """Keep `value`, in place of an earlier one."""
        row = (key, self._boot, int(time.time()), value)
        self._database.write(lambda c: c.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?)", row))
        with self._lock:
            self._unsynced.add(key)

    def delete(self, key: str) -> None:
        """Drop it."""
        self._database.write(lambda c: c.execute("DELETE FROM receipts WHERE key = ?", (key,)))
        with self._lock:
            self._unsynced.discard(key)

    def unsynced(self) -> frozenset[str]:
        """Return the keys put or read by this process that a sync has not covered yet."""
        with self._lock:
            return frozenset(self._unsynced)

    def mark_synced(self, connection: Connection, keys: Iterable[str]) -> None:
        """Clear the boot ids of `keys`. Part of the transaction of a sync."""
        done = list(keys)
        connection.executemany("UPDATE receipts SET boot_id = '' WHERE key = ?", [(key,) for key in done])
        with self._lock:
            self._unsynced.difference_update(done)
