"""What is known of one step key: what went into it, what it gave, and who says so."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.cacheaudit import Audited
from builder.table import ago, human_size

if TYPE_CHECKING:
    from cache.records import Record

Elsewhere = tuple[str, Audited, str]
"""A cache's name, what it says, and which blob of it is missing there, "" if none is."""

_LONG = 100


@dataclass(frozen=True, slots=True)
class Here:
    """What this store has: `layer` says whether it is here, known elsewhere, gone, or was never made."""

    record: Record
    layer: str


def known_here(args: argparse.Namespace, start: str) -> dict[str, Here]:
    """Return what the store knows of the keys that begin with `start`."""
    from builder.session import open_session

    found = {}
    with open_session(args) as session:
        store = session.store
        for key in [each.key for each in store.records if each.key.startswith(start)]:
            record = store.records.get(key, parts=True)
            if record is None:
                continue
            if record.diff_id is None:
                layer = "none: the step changed nothing"
            elif store.layers.get(record.chain_id) is not None:
                layer = "in the store"
            else:
                layer = "known, and not fetched" if store.has(record.chain_id) else "no longer in the store"
            found[key] = Here(record, layer)
    return found


def print_text(key: str, here: Here | None, elsewhere: Sequence[Elsewhere]) -> None:
    """Print what a person reads."""
    record = _record(here, elsewhere)
    print(f"key        {key}")
    if record is not None:
        print(f"step       {_plain(record.line)}")
        took = f"{ago(record.created)}, for {record.seconds:.1f} s"
        print(f"run        {took}, by pybuild {_plain(record.version)}")
        if record.diff_id is not None:
            print(f"layer      {record.diff_id} ({human_size(record.size)})")
            print(f"chain      {record.chain_id}")
    print(f"this store {'does not know it' if here is None else 'knows it; layer: ' + here.layer}")
    for name, each, missing in elsewhere:
        print(_plain(f"{name}: {_verdict(each, missing)}"))
    if record is not None and record.parts:
        print("made of")
        width = min(max(len(label) for label, _ in record.parts), 30)
        for label, value in record.parts:
            print(_plain(f"  {label.ljust(width)}  {_short(value)}"))


def print_json(key: str, here: Here | None, elsewhere: Sequence[Elsewhere]) -> None:
    """Print everything, for programs."""
    record = _record(here, elsewhere)
    value = {
        "key": key,
        "line": None if record is None else record.line,
        "parent": None if record is None else record.parent,
        "diff_id": None if record is None else record.diff_id,
        "chain_id": None if record is None else record.chain_id,
        "size": None if record is None else record.size,
        "seconds": None if record is None else record.seconds,
        "created": None if record is None else record.created,
        "parts": [] if record is None else [list(pair) for pair in record.parts],
        "here": None if here is None else here.layer,
        "caches": [
            {
                "cache": name,
                "signer": each.stored.signer,
                "believed": None if each.doubt is None else not each.doubt,
                "doubt": each.doubt or None,
                "missing": missing or None,
                "expires": None if each.entry is None else each.entry.expires,
            }
            for name, each, missing in elsewhere
        ],
    }
    print(json.dumps(value, indent=2))


def _record(here: Here | None, elsewhere: Sequence[Elsewhere]) -> Record | None:
    """Return this store's word, else that of who is believed, else anybody's."""
    if here is not None:
        return here.record
    told = sorted(elsewhere, key=lambda each: bool(each[1].doubt))
    return next((each.entry.record for _, each, _ in told if each.entry and each.entry.record), None)


def _verdict(each: Audited, missing: str) -> str:
    signer = (
        each.stored.signer if each.stored.signer == "unsigned" else f"signed by {each.stored.signer[:12]}"
    )
    if each.doubt is None:
        verdict = f"it has it, {signer}; nobody is named who is to be believed"
    elif each.doubt:
        verdict = f"a miss: {each.doubt}"
    else:
        verdict = f"a hit, {signer}"
    if missing:
        verdict += f"; but its layer {missing} is not there"
    expires = None if each.entry is None else each.entry.expires
    if expires is not None and not each.doubt:
        verdict += f"; for {max(0, expires - int(time.time())) // 86400} more days"
    return f"{verdict}; written {ago(each.stored.changed)}"


def _short(value: str) -> str:
    text = json.dumps(value, ensure_ascii=False)[1:-1] if "\n" in value else value
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _plain(text: str) -> str:
    from builder.progress.printable import printable

    return printable(text)
