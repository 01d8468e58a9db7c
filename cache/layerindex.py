"""An index of layerdb/ in pybuild.db: what lies on what, and by which signature. layerdb/ is the truth."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cache.oci.digest import ChainID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection

    from cache.database import Database
    from cache.layerfiles import Layer

_PUT = """
INSERT INTO layers (chain_id, parent, diff_id, size, created, boot_id, tree, signature)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (chain_id) DO UPDATE SET boot_id = excluded.boot_id, tree = coalesce(excluded.tree, tree),
    signature = coalesce(excluded.signature, signature)
"""


class LayerIndex:
    """The table of layers."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, layer: Layer, boot: str, *, tree: str | None, signature: bytes | None) -> None:
        """Enter `layer`, whose changeset can be trusted in this `boot` ("": in all)."""
        row = self._row(layer, boot, tree, signature)

        def work(connection: Connection) -> None:
            connection.execute(_PUT, row)
            if boot:  # new: what was known of another changeset of that name, which somebody removed, is void
                connection.execute("UPDATE layers SET boot_id = ? WHERE diff_id = ?", (boot, layer.diff_id))

        self.database.write(work)

    def put_all(self, layers: Iterable[tuple[Layer, str]]) -> None:
        """Enter all of layerdb/, with the boot ids of their changesets, and say that this was done."""
        rows = [self._row(layer, boot, None, None) for layer, boot in layers]

        def work(connection: Connection) -> None:
            connection.executemany(_PUT, rows)
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('layers-indexed', '1')")

        self.database.write(work)

    def is_complete(self) -> bool:
        """False in a database that is new: layerdb/ may hold what it does not know."""
        return bool(self.database.read("SELECT 1 FROM facts WHERE name = 'layers-indexed'"))

    def children(self, parent: ChainID | None) -> list[ChainID]:
        """Return the ChainIDs right above `parent` (None: the lowest layers), newest first."""
        rows = self.database.read(
            "SELECT chain_id FROM layers WHERE parent = ? ORDER BY created DESC, chain_id", (parent or "",)
        )
        return [ChainID(row[0]) for row in rows]

    def candidates(self, parent: ChainID | None, signature: bytes) -> list[ChainID]:
        """Return those of `children` whose signature is `signature`."""
        rows = self.database.read(
            "SELECT chain_id FROM layers WHERE parent = ? AND signature = ? ORDER BY created DESC, chain_id",
            (parent or "", signature),
        )
        return [ChainID(row[0]) for row in rows]

    def is_synced(self, diff_id: str) -> bool:
        """True if a sync has covered the changeset: asked only after a power cut that `committed` did not
        outlast."""
        return bool(
            self.database.read("SELECT 1 FROM layers WHERE diff_id = ? AND boot_id = '' LIMIT 1", (diff_id,))
        )

    def tree(self, chain_id: ChainID) -> str | None:
        """Return the digest that our own tar of the layer had when it was published, None where that is
        its DiffID."""
        rows = self.database.read("SELECT tree FROM layers WHERE chain_id = ?", (chain_id,))
        return rows[0][0] if rows else None

    def created(self) -> dict[str, int]:
        """Return ChainID -> time of publication."""
        return dict(self.database.read("SELECT chain_id, created FROM layers"))

    def mark_synced(self, connection: Connection, chain_ids: Iterable[ChainID]) -> None:
        """Clear the boot ids, within the transaction of a sync."""
        connection.executemany("UPDATE layers SET boot_id = '' WHERE chain_id = ?", [(c,) for c in chain_ids])

    @staticmethod
    def _row(layer: Layer, boot: str, tree: str | None, signature: bytes | None) -> tuple[object, ...]:
        return (
            layer.chain_id,
            layer.parent or "",
            layer.diff_id,
            layer.size,
            int(time.time()),
            boot,
            tree,
            signature,
        )
