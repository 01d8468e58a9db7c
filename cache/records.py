"""Step key -> record: what is known of a step that was run before, so that it need not be run again."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import StoreCorrupt
from cache.oci.digest import ChainID, DiffID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from sqlite3 import Connection

    from cache.database import Database, Row
    from cache.lastuse import LastUse

Parts = tuple[tuple[str, str], ...]

_COLUMNS = "key, parent, diff_id, chain_id, size, seconds, created, version, boot_id, line"
_LONG = 512
_BATCH = 500  # SQLite binds 999 values at least


@dataclass(frozen=True, slots=True)
class Record:
    """The result of a step. `parent` and `chain_id` are ChainIDs, `parent` empty on scratch; `diff_id` is
    None for a step that changed nothing; `size` is the layer's tar bytes; `created` is in seconds since
    1970; `version` names the pybuild that ran it; `line` is the recipe's logical line, and `parts` are
    what went into the key, by name."""

    key: str
    parent: str
    diff_id: DiffID | None
    chain_id: ChainID
    size: int
    seconds: float
    created: int
    version: str
    line: str
    parts: Parts = ()


class Records:
    """The table of records. One whose layer may have been lost in a power cut (it bears the id of another
    boot) is none."""

    def __init__(self, database: Database, last_use: LastUse, boot: str) -> None:
        self._database = database
        self._last_use = last_use
        self._boot = boot
        self._lock = threading.Lock()
        self._unsynced: set[str] = set()

    def get(self, key: str, *, parts: bool = False) -> Record | None:
        """Return the record of a step key, None on a miss. Without `parts`, they are left out: a hit needs
        none."""
        columns = _COLUMNS + ", parts" if parts else _COLUMNS
        rows = self._database.read(
            f"SELECT {columns} FROM records WHERE key = ? AND boot_id IN ('', ?)", (key, self._boot)
        )
        return self._record(rows[0]) if rows else None

    def get_many(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records of those keys that have one, without their parts."""
        found: dict[str, Record] = {}
        for batch in _batches(keys):
            marks = ",".join("?" * len(batch))
            query = f"SELECT {_COLUMNS} FROM records WHERE key IN ({marks}) AND boot_id IN ('', ?)"
            for row in self._database.read(query, (*batch, self._boot)):
                found[row[0]] = self._record(row)
        return found

    def put(self, record: Record) -> None:
        """Keep `record`, in place of an earlier one of the same key. It is trusted within this boot until
        a sync."""
        row = (
            record.key,
            record.parent,
            record.diff_id,
            record.chain_id,
            record.size,
            record.seconds,
            record.created,
            record.version,
            self._boot,
            record.line,
            encode_parts(record.parts),
        )
        marks = ",".join("?" * len(row))
        self._database.write(
            lambda c: c.execute(f"INSERT OR REPLACE INTO records ({_COLUMNS}, parts) VALUES ({marks})", row)
        )
        with self._lock:
            self._unsynced.add(record.key)
        self._last_use.note(record.key)

    def nearest(self, line: str) -> Record | None:
        """Return the newest record of the recipe line `line`, with its parts: what `--explain` compares
        with."""
        rows = self._database.read(
            f"SELECT {_COLUMNS}, parts FROM records WHERE line = ? ORDER BY created DESC, key LIMIT 1",
            (line,),
        )
        return _decode(rows[0]) if rows else None

    def recent(self, lines: Iterable[str], count: int) -> tuple[Record, ...]:
        """Return the newest `count` records of each of the recipe lines, with their parts, the newest
        first.
        """
        order = "ORDER BY created DESC, rowid DESC LIMIT ?"
        query = f"SELECT {_COLUMNS}, parts FROM records WHERE line = ? {order}"
        return tuple(_decode(row) for line in lines for row in self._database.read(query, (line, count)))

    def touch(self, keys: Iterable[str]) -> None:
        """Say that the records were used now. Kept to the hour, so that a build that hits writes nothing
        most times."""
        self._last_use.touch(keys)

    def delete(self, keys: Iterable[str]) -> int:
        """Drop the records of `keys`, and return how many there were."""
        doomed = list(keys)

        def work(connection: Connection) -> int:
            count = 0
            for key in doomed:
                count += connection.execute("DELETE FROM records WHERE key = ?", (key,)).rowcount
                connection.execute("DELETE FROM last_use WHERE id = ?", (key,))
            return count

        with self._lock:
            self._unsynced.difference_update(doomed)
        return self._database.write(work) if doomed else 0

    def __iter__(self) -> Iterator[Record]:
        """All records, without their parts, oldest first; of another boot too."""
        rows = self._database.read(f"SELECT {_COLUMNS} FROM records ORDER BY created, key")
        return (_decode(row) for row in rows)

    def unsynced(self) -> frozenset[str]:
        """Return the keys that this process put or was given while their layers may not be on the disk
        yet."""
        with self._lock:
            return frozenset(self._unsynced)

    def mark_synced(self, connection: Connection, keys: Iterable[str]) -> None:
        """Clear the boot ids of `keys`: what they name is on the disk now. Part of the transaction of a
        sync."""
        done = list(keys)
        connection.executemany("UPDATE records SET boot_id = '' WHERE key = ?", [(key,) for key in done])
        with self._lock:
            self._unsynced.difference_update(done)

    def _record(self, row: Row) -> Record:
        if row[
            8
        ]:  # another build of this boot put it, and was perhaps killed before its sync: ours covers it
            with self._lock:
                self._unsynced.add(row[0])
        return _decode(row)


def encode_parts(parts: Parts) -> bytes:
    """Return `parts` as bytes: a line of lengths, then the texts; deflated if that is long. No JSON: hits
    decode none, but an import is paid by all."""
    texts = [text.encode("utf-8", "surrogateescape") for pair in parts for text in pair]
    data = " ".join(str(len(text)) for text in texts).encode() + b"\n" + b"".join(texts)
    if len(data) <= _LONG:
        return b"r" + data
    import zlib

    return b"z" + zlib.compress(data, 3)


def decode_parts(blob: bytes) -> Parts:
    """Return what `encode_parts` was given. Raises StoreCorrupt."""
    try:
        if blob[:1] == b"z":
            import zlib

            data = zlib.decompress(blob[1:])
        else:
            data = blob[1:]
        head, _, rest = data.partition(b"\n")
        texts = []
        start = 0
        for length in map(int, head.split()):
            texts.append(rest[start : start + length].decode("utf-8", "surrogateescape"))
            start += length
            if length < 0:
                raise ValueError("a length is negative")
        if start != len(rest) or len(texts) % 2:
            raise ValueError("lengths do not add up")
    except Exception as error:  # zlib.error is no ValueError
        raise StoreCorrupt(f"the parts of a record cannot be read: {error}") from error
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def _decode(row: Row) -> Record:
    try:
        diff_id = None if row[2] is None else DiffID(row[2])
        parts = decode_parts(row[10]) if len(row) > 10 else ()
        return Record(row[0], row[1], diff_id, ChainID(row[3]), row[4], row[5], row[6], row[7], row[9], parts)
    except TypeError as error:
        raise StoreCorrupt(f"the record {row[0]} cannot be read: {error}") from error


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    rest = list(dict.fromkeys(keys))
    for start in range(0, len(rest), _BATCH):
        yield rest[start : start + _BATCH]
