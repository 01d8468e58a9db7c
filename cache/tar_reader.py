"""Reading a layer tar as a stream: each entry with its attributes, then its data, and the digest of all of
it.

Takes what real images and archives contain: v7, ustar, star, PAX (extended and global headers), GNU (long
names, base-256 numbers, sparse files). Anything else, and whatever is damaged, is a FormatError. Source:
POSIX.1-2017, pax; GNU tar's manual, "Basic Tar Format" and "Sparse Formats"; where they leave it open, Go's
archive/tar, by which every other tool of the field reads layers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache import tar_format
from cache.errors import FormatError
from cache.oci.digest import DiffID
from cache.tar_format import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cache.changeset import Input
    from cache.tar_format import Xattrs

CHUNK = 256 * 1024
MAX_EXTENDED = 1024 * 1024
"""The most bytes of one extended header or long name, as in Go's archive/tar."""

_ZERO = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."
_ALIASES = {b"\x00": b"0", b"7": b"0"}  # v7's, and a contiguous file: regular ones, both
_WITHOUT_DATA = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))


@dataclass(slots=True)
class Member:
    """An entry as its headers say, nothing of it trusted. `size` is that of the data in the tar, `mtime` in
    ns.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    device: tuple[int, int]
    xattrs: Xattrs
    sparse: SparseMap | None = None


@dataclass(slots=True)
class SparseMap:
    """Where a sparse file's data belongs: (offset, size) in ascending order; `size` is that of the whole
    file.
    """

    pieces: list[tuple[int, int]]
    size: int


class Stream:
    """The bytes of a tar, from a file or an iterable, hashed as they come."""

    __slots__ = ("_at", "_chunk", "_hash", "_next", "size")

    def __init__(self, source: Input | Iterable[bytes]) -> None:
        self._next = _chunks(source)
        self._hash = hashlib.sha256()
        self._chunk = memoryview(b"")
        self._at = 0
        self.size = 0

    def _fill(self) -> bool:
        chunk = self._next()
        if not chunk:
            return False
        self._hash.update(chunk)
        self.size += len(chunk)
        self._chunk = memoryview(chunk)
        self._at = 0
        return True

    def block(self) -> bytes | None:
        """Return the next 512 bytes, or None at the end of the stream."""
        start = self._at
        end = start + BLOCK
        if end <= len(self._chunk):
            self._at = end
            return bytes(self._chunk[start:end])
        if start == len(self._chunk) and not self._fill():
            return None
        return self.take(BLOCK)

    def take(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield the next `size` bytes in pieces, each valid until the next one is asked for."""
        while size:
            if self._at == len(self._chunk) and not self._fill():
                raise FormatError("the tar is cut short")
            piece = self._chunk[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def pad(self, size: int) -> None:
        """Pass over `size` bytes of padding.

        At the end of the stream they may be missing: umoci's `insert` leaves the last block unfilled, and
        Go's archive/tar takes it.
        """
        while size and (self._at < len(self._chunk) or self._fill()):
            step = min(size, len(self._chunk) - self._at)
            self._at += step
            size -= step

    def finish(self) -> DiffID:
        """Read on to the end, and return the digest of the whole stream."""
        while self._fill():
            pass
        self._at = len(self._chunk)
        return DiffID("sha256:" + self._hash.hexdigest())


def _chunks(source: Input | Iterable[bytes]) -> Callable[[], bytes]:
    read = getattr(source, "read", None)
    if read is not None:
        return lambda: read(CHUNK)
    full = filter(None, source)  # type: ignore[arg-type]  # an empty piece is not the end
    return lambda: next(full, b"")


class Reader:
    """The entries of a tar. After each, `data` gives its bytes; what is not taken is skipped."""

    __slots__ = ("_global", "_left", "_padding", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0
        self._global: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        while (member := self._member()) is not None:
            yield member

    def data(self) -> Iterator[memoryview]:
        """Yield the data of the entry at hand in pieces, each valid until the next one is asked for."""
        for piece in self._stream.pieces(self._left):
            self._left -= len(piece)
            yield piece

    def _skip(self) -> None:
        for _ in self._stream.pieces(self._left):
            pass
        self._stream.pad(self._padding)
        self._left = self._padding = 0

    def _member(self) -> Member | None:
        records: list[tuple[bytes, bytes]] = []
        long_name = long_link = None
        while True:
            self._skip()
            block = self._header()
            if block is None:
                if records or long_name is not None or long_link is not None:
                    raise FormatError("the tar ends after an extended header")
                return None
            kind = block[156:157]
            if kind == b"x":
                records = list(parse_records(self._extended(block)))
            elif kind == b"g":
                self._global.update(parse_records(self._extended(block)))
            elif kind == b"L":
                long_name = self._extended(block).partition(b"\x00")[0]
            elif kind == b"K":
                long_link = self._extended(block).partition(b"\x00")[0]
            else:
                return self._assemble(block, records, long_name, long_link)

    def _header(self) -> bytes | None:
        """The next header block, its checksum verified; None at the end of the archive."""
        block = self._stream.block()
        if block is None:
            return None
        if block == _ZERO:
            second = self._stream.block()
            if second is not None and second != _ZERO:
                raise FormatError("the tar goes on after a zero block")
            return None
        total = sum(block) - sum(block[148:156]) + 8 * 0x20
        wanted = number(block[148:156], "checksum")
        if (
            total != wanted and total - 256 * sum(byte > 127 for byte in block) != wanted
        ):  # old tars summed signed bytes
            raise FormatError("not a tar, or damaged: a header's checksum is wrong")
        return block

    def _extended(self, block: bytes) -> bytes:
        size = number(block[124:136], "size")
        if not 0 <= size <= MAX_EXTENDED:
            raise FormatError(f"an extended header of {size} bytes is too long")
        return self._stream.take(size + -size % BLOCK)[:size]

    def _assemble(
        self, block: bytes, records: list[tuple[bytes, bytes]], name: bytes | None, link: bytes | None
    ) -> Member:
        member = _ustar(block)
        if name is not None:
            member.name = name
        if link is not None:
            member.link = link
        if records or self._global:
            _apply(member, {**self._global, **dict(records)})
        if member.kind == b"0" and member.name.endswith(b"/"):
            member.kind = tar_format.DIRECTORY  # v7 has no type for it
        if member.kind in _WITHOUT_DATA:
            member.size = 0  # some write a hard link's or directory's size, and no data; as Go's archive/tar
        if member.size < 0:
            raise FormatError("an entry's size is negative")
        self._left = member.size
        self._padding = -member.size % BLOCK
        if member.kind == b"S" or any(key.startswith(b"GNU.sparse.") for key, _ in records):
            self._sparse(member, block, records)
        return member

    def _sparse(self, member: Member, block: bytes, records: list[tuple[bytes, bytes]]) -> None:
        from cache import tar_sparse

        def take() -> bytes:
            """One more block of the map: in GNU's own format it stands before the data, in PAX's it is part
            of it.
            """
            if member.kind != b"S":
                if self._left < BLOCK:
                    raise FormatError("a sparse file's map is cut short")
                self._left -= BLOCK
            return self._stream.take(BLOCK)

        member.sparse = tar_sparse.read_map(member, block, records, take)
        if sum(size for _, size in member.sparse.pieces) != self._left:
            raise FormatError("a sparse file's map does not fit its data")
        member.size = self._left
        member.kind = tar_format.REGULAR


def _ustar(block: bytes) -> Member:
    name = _text(block[0:100])
    kind = block[156:157]
    if block[257:263] == b"ustar\x00":
        prefix = _text(block[345:476] if block[508:512] == b"tar\x00" else block[345:500])
        if prefix:
            name = prefix + b"/" + name
    device = (0, 0)
    if kind in (tar_format.CHARACTER, tar_format.BLOCK_DEVICE):
        device = (number(block[329:337], "device"), number(block[337:345], "device"))
    return Member(
        name=name,
        kind=_ALIASES.get(kind, kind),
        mode=number(block[100:108], "mode") & 0o7777,
        uid=number(block[108:116], "uid"),
        gid=number(block[116:124], "gid"),
        size=number(block[124:136], "size"),
        mtime=number(block[136:148], "mtime") * 1_000_000_000,
        link=_text(block[157:257]),
        device=device,
        xattrs=(),
    )


def _text(field: bytes) -> bytes:
    return field.partition(b"\x00")[0]


def number(field: bytes, what: str) -> int:
    """Return the number in a header's field: octal, or GNU's base-256 with the first bit set. Empty is 0."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        if field[0] & 0x40:
            return value - (1 << (8 * len(field)))
        return value - (1 << (8 * len(field) - 1))
    digits = field.strip(b" \x00")
    if digits.isdigit() or (digits := digits.partition(b"\x00")[0]).isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    elif not digits:
        return 0
    raise FormatError(f"a header's {what} is not a number: {digits!r}")


def parse_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of a PAX header: `LENGTH key=value\\n`, where LENGTH counts itself."""
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 20)
        digits = data[at:blank]
        end = at + int(digits) if blank > 0 and digits.isdigit() else 0
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not blank < end <= len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise FormatError("an extended header is malformed")
        if b"\x00" in key or (b"\x00" in value and key in (b"path", b"linkpath")):
            raise FormatError("a name in an extended header has a NUL in it")
        yield key, value
        at = end


def _apply(member: Member, records: dict[bytes, bytes]) -> None:
    """Let PAX records override the header. An empty value takes a record back, and stands for the header's
    own.
    """
    xattrs = []
    for key, value in records.items():
        if key.startswith(_XATTR):
            xattrs.append((key[len(_XATTR) :], value))
        elif not value:
            continue
        elif key == b"path":
            member.name = value
        elif key == b"linkpath":
            member.link = value
        elif key == b"size":
            member.size = _decimal(key, value)
        elif key == b"uid":
            member.uid = _decimal(key, value)
        elif key == b"gid":
            member.gid = _decimal(key, value)
        elif key == b"mtime":
            member.mtime = _nanoseconds(value)
    member.xattrs = tuple(sorted(xattrs))


def _decimal(key: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise FormatError(f"an extended header's {key.decode()} is not a number: {value[:40]!r}")
    return int(value)


def _nanoseconds(value: bytes) -> int:
    """A time such as -1.5, in seconds, as nanoseconds."""
    whole, _, fraction = value.partition(b".")
    digits = whole[1:] if whole[:1] == b"-" else whole
    if not digits.isdigit() or len(digits) > 20 or (fraction and not fraction.isdigit()):
        raise FormatError(f"an extended header's mtime is not a time: {value[:40]!r}")
    nanoseconds = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if value[:1] == b"-" else nanoseconds
