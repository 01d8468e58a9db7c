"""Sparse files in a tar: GNU's old format, and its PAX formats 0.0, 0.1 and 1.0 (GNU tar's manual, "Sparse
Formats").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.errors import FormatError
from cache.tar_reader import SparseMap, number

if TYPE_CHECKING:
    from collections.abc import Callable

    from cache.tar_reader import Member

MAX_PIECES = 1_000_000


def read_map(
    member: Member, block: bytes, records: list[tuple[bytes, bytes]], take: Callable[[], bytes]
) -> SparseMap:
    """Return where the data of `member` belongs, and give it its real name.

    `block` is its header, `records` are its PAX records in order, `take` returns the next block of the map.
    Raises FormatError for a map that does not fit its file.
    """
    known = dict(records)
    if member.kind == b"S":
        result = _old(block, take)
    elif known.get(b"GNU.sparse.major") == b"1" and known.get(b"GNU.sparse.minor", b"0") == b"0":
        result = SparseMap(_embedded(take), _number(known.get(b"GNU.sparse.realsize")))
    elif known.get(b"GNU.sparse.major", b"0") == b"0":
        result = SparseMap(_listed(records), _number(known.get(b"GNU.sparse.size")))
    else:
        raise FormatError("a sparse file is in an unknown format")
    if known.get(b"GNU.sparse.name"):
        member.name = known[b"GNU.sparse.name"]
    end = 0
    for offset, size in result.pieces:
        if size < 0 or not end <= offset or offset + size > result.size:
            raise FormatError("a sparse file's map is not in order")
        end = offset + size
    return result


def _old(block: bytes, take: Callable[[], bytes]) -> SparseMap:
    """Four pieces in the header, and 21 in each block that follows while a flag says so."""
    pieces = list(_fields(block, 386, 4))
    more = block[482]
    while more:
        extension = take()
        pieces.extend(_fields(extension, 0, 21))
        more = extension[504]
        _limit(len(pieces))
    return SparseMap([piece for piece in pieces if piece[1]], number(block[483:495], "size"))


def _fields(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    return [
        (number(block[at : at + 12], "offset"), number(block[at + 12 : at + 24], "size"))
        for at in range(start, start + 24 * count, 24)
        if block[at : at + 24].strip(b"\x00")
    ]


def _embedded(take: Callable[[], bytes]) -> list[tuple[int, int]]:
    """Format 1.0: decimal numbers, each ended by a newline, in whole blocks before the data: a count, then
    pairs.
    """
    held = b""

    def line() -> int:
        nonlocal held
        while b"\n" not in held:
            if len(held) > 20:
                raise FormatError("a sparse file's map is malformed")
            held += take()
        digits, _, held = held.partition(b"\n")
        return _number(digits)

    count = line()
    _limit(count)
    return [piece for piece in [(line(), line()) for _ in range(count)] if piece[1]]


def _listed(records: list[tuple[bytes, bytes]]) -> list[tuple[int, int]]:
    """Formats 0.1, one list of offsets and sizes, and 0.0, a record for each of them, in order."""
    listed = dict(records).get(b"GNU.sparse.map")
    if listed is None:
        numbers = [value for key, value in records if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
    else:
        numbers = listed.split(b",") if listed else []
    if len(numbers) % 2:
        raise FormatError("a sparse file's map is malformed")
    values = [_number(value) for value in numbers]
    return [piece for piece in zip(values[::2], values[1::2], strict=True) if piece[1]]


def _number(digits: bytes | None) -> int:
    if digits is None or not digits.isdigit() or len(digits) > 20:
        raise FormatError("a sparse file's map is malformed")
    return int(digits)


def _limit(count: int) -> None:
    if count > MAX_PIECES:
        raise FormatError("a sparse file has too many pieces")
