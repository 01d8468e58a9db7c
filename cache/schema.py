"""The tables of pybuild.db. A change of these raises `cache.database.VERSION` and adds to MIGRATIONS."""

from __future__ import annotations

TABLES = """
CREATE TABLE records (
    key TEXT PRIMARY KEY, parent TEXT NOT NULL, diff_id TEXT, chain_id TEXT NOT NULL, size INTEGER NOT NULL,
    seconds REAL NOT NULL, created INTEGER NOT NULL, version TEXT NOT NULL, boot_id TEXT NOT NULL,
    line TEXT NOT NULL, parts BLOB NOT NULL
);
CREATE INDEX records_by_line ON records (line, created);
CREATE INDEX records_by_chain ON records (chain_id);
CREATE TABLE layers (
    chain_id TEXT PRIMARY KEY, parent TEXT NOT NULL, diff_id TEXT NOT NULL, size INTEGER NOT NULL,
    created INTEGER NOT NULL, boot_id TEXT NOT NULL, tree TEXT, signature BLOB
) WITHOUT ROWID;
CREATE INDEX layers_by_parent ON layers (parent, signature);
CREATE INDEX layers_by_diff ON layers (diff_id);
CREATE TABLE names (name TEXT PRIMARY KEY, image TEXT NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE last_use (id TEXT PRIMARY KEY, time INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE memo (
    kind TEXT NOT NULL, key TEXT NOT NULL, used INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key)
);
CREATE TABLE receipts (
    key TEXT PRIMARY KEY, boot_id TEXT NOT NULL, used INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE TABLE stats (root TEXT PRIMARY KEY, used INTEGER NOT NULL, rows BLOB NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
"""`boot_id` is empty once a sync has made sure of what the row speaks of. Times are whole seconds since
1970. `layers` is an index of layerdb/, made again from it when the database is new (`facts`:
layers-indexed); `tree` is the digest of the layer's tar as we would write it, where that is not the DiffID
(a pulled layer)."""

MIGRATIONS: dict[int, str] = {}
"""Version -> the script that brings a database from it to the next one."""
