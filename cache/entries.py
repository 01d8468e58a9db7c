"""What a shared cache tells of a step, a base, or a fact: an in-toto statement, before it is sealed.

Source: in-toto attestation framework v1 (statement.md). The subject is the step key and, where there is a
layer, its blob, so that `cosign verify-blob-attestation` can check an entry against the blob. What we say of
it is the predicate, which bears the whole record. Reading verifies nothing but the form; `cache.trust` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from cache.errors import FormatError
from cache.oci.digest import ChainID, DiffID, Digest
from cache.oci.document import Document, dumps, loads
from cache.oci.spec import Descriptor
from cache.records import Record

if TYPE_CHECKING:
    from typing import Any

    from cache.records import Parts

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATES = {
    "step": "https://pybuild.dev/cache/step/v1",
    "base": "https://pybuild.dev/cache/base/v1",
    "fact": "https://pybuild.dev/cache/fact/v1",
}

_KEY = re.compile("[0-9a-f]{64}")

Kind = Literal["step", "base", "fact"]
_KIND: dict[str, Kind] = {uri: cast("Kind", kind) for kind, uri in PREDICATES.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement. `key` is the step key, or the hex name of a base or fact.

    A step has a `record`, and the descriptor of its layer's blob if it made one. A base has its image
    config's bytes as `value`, and all layers, bottom first. A fact has a `value` alone: what a digest of
    files is (see builder.sources). `created` is when it was said, `expires` until when it holds (None: for
    ever), in seconds since 1970.
    """

    kind: Kind
    key: str
    created: int
    record: Record | None = None
    layers: tuple[Descriptor, ...] = ()
    value: str = ""
    expires: int | None = None

    @property
    def layer(self) -> Descriptor | None:
        """The blob of a step's layer."""
        return self.layers[0] if self.kind == "step" and self.layers else None

    def to_json(self) -> bytes:
        """Return the statement: a pure function of the entry."""
        subject = [{"name": f"{self.kind}:{self.key}", "digest": {"blake3": self.key}}]
        subject += [
            {"name": "layer", "digest": {each.digest.algorithm: each.digest.hex}} for each in self.layers
        ]
        predicate: dict[str, Any] = {"key": self.key, "created": self.created}
        if self.expires is not None:
            predicate["expires"] = self.expires
        if self.value:
            predicate["value"] = self.value
        if self.layers:
            predicate["layers"] = [each.value() for each in self.layers]
        if self.record is not None:
            predicate["record"] = _record_value(self.record)
        return dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": subject,
                "predicateType": PREDICATES[self.kind],
                "predicate": predicate,
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> Entry:
        """Return the entry that a statement tells. Raises FormatError."""
        statement = loads(data, "cache entry")
        kind = _KIND.get(statement.text("predicateType"))
        if statement.text("_type") != STATEMENT_TYPE or kind is None:
            raise FormatError("cache entry: it is of another kind")
        predicate = statement.document("predicate")
        if predicate is None:
            raise FormatError("cache entry: it has no predicate")
        key = predicate.required_text("key")
        if not _KEY.fullmatch(key):
            raise FormatError("cache entry: its key is no BLAKE3 in hex")
        record = predicate.document("record")
        if (kind == "step") != (record is not None):
            raise FormatError("cache entry: a step has a record, and nothing else has")
        entry = cls(
            kind,
            key,
            predicate.number("created"),
            None if record is None else _read_record(key, record),
            tuple(Descriptor.read(each) for each in predicate.documents("layers")),
            predicate.text("value"),
            predicate.optional_number("expires"),
        )
        _check(entry)
        return entry


def unsealed(sealed: bytes) -> Entry | None:
    """Return what a sealed entry says, None if it cannot be read. Nothing of it is verified."""
    from cache.envelope import Envelope

    try:
        return Entry.from_json(Envelope.from_json(sealed).payload)
    except FormatError:
        return None


def key_of(sealed: bytes) -> str:
    """Return the key that a sealed entry speaks of by its own word, "" if it cannot be read. Nothing of it is
    verified."""
    from cache.envelope import Envelope

    try:
        key = loads(Envelope.from_json(sealed).payload, "cache entry").document("predicate")
        return "" if key is None else key.required_text("key")
    except FormatError:
        return ""


def _check(entry: Entry) -> None:
    """Refuse what contradicts itself: a layer without a blob, a ChainID that is not that of its layers."""
    record = entry.record
    if record is None:
        return
    if record.diff_id is None:
        if entry.layers or record.chain_id != record.parent:
            raise FormatError("cache entry: without a layer, the state stays as it was")
        return
    if len(entry.layers) != 1:
        raise FormatError("cache entry: a step that made a layer names its blob")
    parent = ChainID(record.parent) if record.parent else None
    if ChainID.extend(parent, record.diff_id) != record.chain_id:
        raise FormatError("cache entry: its ChainID is not that of its layers")


def _record_value(record: Record) -> dict[str, Any]:
    return {
        "parent": record.parent,
        "diffId": record.diff_id,
        "chainId": record.chain_id,
        "size": record.size,
        "milliseconds": round(record.seconds * 1000),
        "created": record.created,
        "version": record.version,
        "line": record.line,
        "parts": [text for pair in record.parts for text in pair],
    }


def _read_record(key: str, document: Document) -> Record:
    diff_id = document.text("diffId")
    parent, chain_id = document.text("parent"), document.text("chainId")
    if parent:
        Digest.parse(parent)
    if chain_id:
        Digest.parse(chain_id)
    return Record(
        key=key,
        parent=parent,
        diff_id=DiffID(Digest.parse(diff_id)) if diff_id else None,
        chain_id=ChainID(chain_id),
        size=document.number("size"),
        seconds=document.number("milliseconds") / 1000,
        created=document.number("created"),
        version=document.text("version"),
        line=document.text("line"),
        parts=_read_parts(document),
    )


def _read_parts(document: Document) -> Parts:
    texts = document.texts("parts")
    if len(texts) % 2:
        raise FormatError("cache entry: parts are names and values, in turn")
    return tuple(zip(texts[::2], texts[1::2], strict=True))
