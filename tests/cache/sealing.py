"""Entries of a shared cache, made up for tests."""

from __future__ import annotations

import hashlib

from cache.entries import Entry
from cache.envelope import Envelope
from cache.oci.digest import ChainID, DiffID, Digest
from cache.oci.spec import MEDIA_TYPE_LAYER_ZSTD, Descriptor
from cache.records import Record
from cache.signing import PrivateKey

NOW = 1_700_000_000


def key_of(text: str) -> str:
    """A name like that of a step key."""
    return hashlib.sha256(text.encode()).hexdigest()


def blob_of(data: bytes) -> Descriptor:
    return Descriptor(MEDIA_TYPE_LAYER_ZSTD, Digest.of(data), len(data))


def step(text: str = "step", layer: bytes | None = b"layer", *, created: int = NOW, **more: int) -> Entry:
    """An entry on a step that made `layer`, on nothing."""
    diff_id = None if layer is None else DiffID(Digest.of(b"tar of " + layer))
    record = Record(
        key=key_of(text),
        parent="",
        diff_id=diff_id,
        chain_id=ChainID("") if diff_id is None else ChainID.extend(None, diff_id),
        size=10240,
        seconds=1.5,
        created=created,
        version="0",
        line="app.rec#stage-0:RUN:0",
        parts=(("command", "true"), ("variable A", "\udcff b\n")),
    )
    layers = () if layer is None else (blob_of(layer),)
    return Entry("step", key_of(text), created, record, layers, expires=more.get("expires"))


def sealed(entry: Entry, *keys: PrivateKey) -> bytes:
    envelope = Envelope(entry.to_json())
    for key in keys:
        envelope = envelope.signed(key)
    return envelope.to_json()
