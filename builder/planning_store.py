"""A store that is only looked into: what `pybuild plan` asks, without making, locking or sweeping
anything.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from cache.database import VERSION, Database
from cache.disk import read_small
from cache.errors import StoreError
from cache.memo import Memo
from cache.store import Store
from cache.storeformat import refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from sqlite3 import Connection
    from typing import TypeVar

    T = TypeVar("T")


class ReadOnlyDatabase(Database):
    """The database of a store, opened for reading. What would be written is not."""

    def write(self, work: Callable[[Connection], T], *, durable: bool = False) -> T:
        """Do nothing: what is kept beside a look into the store (when it was last used) is dropped."""
        return None  # type: ignore[return-value]

    def _open(self) -> Connection:
        import _sqlite3
        from urllib.parse import quote

        self._errors = _sqlite3.Error
        # Without a WAL nobody is writing: then SQLite makes no index of it (-shm) either.
        busy = os.path.exists(self.path + "-wal") and os.path.getsize(self.path + "-wal") > 0
        mode = "mode=ro" if busy else "mode=ro&immutable=1"
        connection: Connection = _sqlite3.connect(
            f"file:{quote(self.path)}?{mode}", uri=True, isolation_level=None, check_same_thread=False
        )
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            connection.close()
            raise StoreError(f"{self.path} was written by another pybuild")
        self._connection = connection
        return connection

    def _begin_anew(self) -> None:
        raise StoreError(f"{self.path} is damaged", hint="the next build begins it anew")


class ReadOnlyMemo(Memo):
    """The memos of a store. New ones are kept for as long as this is."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._new: dict[tuple[str, str], bytes] = {}

    def get(self, kind: str, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        found = self._new.get((kind, key))
        return super().get(kind, key) if found is None else found

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Keep `value` here."""
        self._new[kind, key] = value


class ReadOnlyStore(Store):
    """A store as `find_store` returns it. Use its `records`, `layers`, `images`, `memo` and `stats`."""

    @cached_property
    def database(self) -> Database:
        """pybuild.db, for reading."""
        return ReadOnlyDatabase(
            self.root + "/pybuild.db", self.scratch, warn=self._tell, inhabited=self._has_layers
        )

    @cached_property
    def memo(self) -> Memo:
        """The memos, and those that this look adds."""
        return ReadOnlyMemo(self.database)


def find_store(root: str) -> tuple[ReadOnlyStore | None, str]:
    """Return the store at `root`; or None, and why nothing is known of it."""
    try:
        found = read_small(os.path.join(root, "format"))
    except OSError as error:
        return None, f"the store {root} cannot be read: {error.strerror}"
    if found is None:
        return None, f"there is no store at {root}"
    refused = refusal(root, found)
    if refused is not None:
        return None, refused.message
    store = ReadOnlyStore(root)
    try:
        store.database.read("SELECT 1 FROM records LIMIT 1")
        for directory in ("layerdb/sha256", "overlay2", "imagedb/content/sha256"):
            os.listdir(os.path.join(root, directory))
    except StoreError as error:
        return None, f"the store {root} cannot be read: {error.message}"
    except OSError as error:
        return None, f"the store {root} cannot be read: {error.strerror}"
    return store, ""
