"""pybuild.db: the SQLite database of a store. All in it can be made again, so its damage never stops a build.

WAL, synchronous=NORMAL: a commit costs no fsync and is seen by every other process at once; what a power cut
takes away are the last commits, in order. A commit that must outlast one is made durable.
"""

from __future__ import annotations

import os
import threading

from cache.disk import FULL_HINT
from cache.errors import StoreCorrupt, StoreError, StoreFull
from cache.reserve import is_full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from sqlite3 import Connection
    from typing import Any, TypeVar

    from cache.scratch import Scratch

    T = TypeVar("T")
    Row = tuple[Any, ...]


VERSION = 1
"""Of the tables (`cache.schema`); kept in the file as its user_version."""

_BUSY_SECONDS = 30.0
# sqlite.org/rescode.html, primary codes
_BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 5, 6, 8, 10, 11, 13, 14, 26


class Database:
    """The database at `path`, opened at its first use. Shared by the threads of a process, one at a time."""

    def __init__(
        self,
        path: str,
        scratch: Scratch,
        *,
        warn: Callable[[str], None],
        inhabited: Callable[[], bool],
    ) -> None:
        """`warn` is told of damage that was got over; `inhabited` says whether the store has layers
        already."""
        self.path = path
        self._scratch = scratch
        self._warn = warn
        self._inhabited = inhabited
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._told = False
        self._errors: type[Exception] = Exception

    def read(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Return the rows of a query. Raises StoreFull, StoreError."""
        return self._run(lambda connection: connection.execute(statement, values).fetchall())

    def write(self, work: Callable[[Connection], T], *, durable: bool = False) -> T:
        """Return `work(connection)`, run in one transaction, which is on the disk on return if it is
        `durable`.

        `work` is run again if the database was damaged and had to be begun anew. Raises StoreFull,
        StoreError.
        """

        def transaction(connection: Connection) -> T:
            if durable:
                connection.execute("PRAGMA synchronous = FULL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            finally:
                if durable:
                    connection.execute("PRAGMA synchronous = NORMAL")
            return result

        return self._run(transaction)

    def close(self) -> None:
        """Close the database, if it is open. It opens again when it is used again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _run(self, work: Callable[[Connection], T]) -> T:
        with self._lock:
            for attempt in (1, 2):
                try:
                    return work(self._connection or self._open())
                except self._errors as error:
                    if not isinstance(error, Exception) or not hasattr(error, "sqlite_errorcode"):
                        raise
                    failure = self._failure(error)
                    if not isinstance(failure, StoreCorrupt) or attempt == 2:
                        raise failure from error
                    self._begin_anew()
            raise AssertionError("unreachable")

    def _open(self) -> Connection:
        # Not sqlite3, which is this and datetime: a millisecond that a cached build would pay for nothing.
        import _sqlite3

        self._errors = _sqlite3.Error
        self._inode = _inode(self.path)
        connection: Connection = _sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        self._inode = _inode(self.path)
        self._connection = connection
        return connection

    def _set_up(self, connection: Connection) -> None:
        """Make the tables of a new database, and bring an old one up to date."""
        if _version(connection) == VERSION:
            return
        from cache.schema import MIGRATIONS, TABLES

        with self._scratch.lock("database"):
            version = _version(connection)
            if version > VERSION:
                raise StoreError(
                    f"{self.path} is of a newer pybuild (schema {version}; this one knows {VERSION})",
                    hint="use that pybuild, or another --root",
                )
            # SQLite maps the WAL's index, and makes sure of one block in each 4096 bytes of it. Where blocks
            # are smaller and the disk gets full, touching the others kills the process (SIGBUS): there, the
            # slower journal must do.
            small = os.statvfs(os.path.dirname(self.path)).f_frsize < 4096
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if small else 'WAL'}")
            script = TABLES if version == 0 else "".join(MIGRATIONS[step] for step in range(version, VERSION))
            connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {VERSION}; COMMIT;")
        if version == 0 and not self._told and self._inhabited():
            self._warn(
                f"{self.path} was missing or empty: step records and image names begin anew; "
                "images are still there by their ids"
            )

    def _begin_anew(self) -> None:
        """Put the damaged database aside, keep the names that can be read still, and go on with a new one."""
        import time

        self.close()
        with self._scratch.lock("damaged-database"):
            if _inode(self.path) != self._inode:
                return  # another process has done it
            aside = f"{self.path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
            try:
                for suffix in ("-wal", "-shm", ""):
                    if os.path.lexists(self.path + suffix):
                        os.rename(self.path + suffix, aside + suffix)
            except OSError as error:
                raise StoreCorrupt(
                    f"{self.path} is damaged, and cannot be moved away: {error.strerror}",
                    hint=f"remove it: all but the image names can be made again ({self.path}*)",
                ) from error
        names = _salvage(aside, "SELECT name, image, created FROM names")
        self._told = True
        self._warn(
            f"{self.path} was damaged: it is kept as {os.path.basename(aside)}, step records begin anew, "
            f"{len(names)} image name(s) could be saved; images and layers are untouched"
        )
        self.write(
            lambda c: c.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", names), durable=True
        )

    def _failure(self, error: Exception) -> StoreError:
        code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what = f"{self.path}: {error}"
        if code == _FULL or (code in (_IOERR, _CANTOPEN) and is_full(os.path.dirname(self.path))):
            return StoreFull(what, hint=FULL_HINT)
        if code in (_CORRUPT, _NOTADB) or str(error).startswith(("no such table", "no such column")):
            return StoreCorrupt(what, hint="remove the file: all but the image names can be made again")
        if code in (_BUSY, _LOCKED):
            return StoreError(what, hint="another pybuild has written to it for more than 30 seconds")
        if code in (_READONLY, _CANTOPEN):
            return StoreError(
                what, hint="the store must be writable: run as root, or name another with --root"
            )
        return StoreError(what)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _version(connection: Connection) -> int:
    row: Row = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0])


def _salvage(path: str, query: str) -> list[Row]:
    """Return the rows that a damaged database still gives before it fails."""
    import _sqlite3

    rows: list[Row] = []
    try:
        connection = _sqlite3.connect(path, isolation_level=None)
    except _sqlite3.Error:
        return rows
    try:
        rows.extend(connection.execute(query))
    except _sqlite3.Error:
        return rows
    finally:
        connection.close()
    return rows
