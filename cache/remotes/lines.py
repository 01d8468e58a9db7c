"""Lines of descent as backends keep them: sealed entries, one a line, newest first. A sealed entry is JSON
without a line feed in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.entries import Entry, key_of
from cache.envelope import Envelope
from cache.errors import FormatError
from cache.remote import LINE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Set


def joined(entries: Iterable[bytes]) -> bytes:
    """Return entries as the bytes that a backend keeps."""
    return b"".join(entry + b"\n" for entry in entries)


def split(data: bytes | None) -> list[bytes]:
    """Return the entries in what a backend has kept; [] of nothing."""
    return [] if data is None else [each for each in data.split(b"\n") if each]


def merged(parts: Iterable[bytes | None]) -> list[bytes]:
    """Return the entries of all parts, each of them once; a part with which they would be more than
    LINE_LIMIT bytes is left out."""
    found: dict[bytes, None] = {}
    left = LINE_LIMIT
    for data in parts:
        if data is not None and len(data) <= left:
            left -= len(data)
            found.update(dict.fromkeys(split(data)))
    return list(found)


def without(entries: Iterable[bytes], keys: Set[str]) -> list[bytes]:
    """Return the entries that do not speak of `keys`, by their own word."""
    return [entry for entry in entries if key_of(entry) not in keys]


def layers_of(sealed: bytes | None) -> set[str]:
    """Return the hex names of the blobs that an entry speaks of, by its own word."""
    try:
        entry = Entry.from_json(Envelope.from_json(sealed or b"").payload)
    except FormatError:
        return set()
    return {each.digest.hex for each in entry.layers}
