"""Headers of the tar that we write: ustar, with a PAX extended header only where ustar cannot hold a value.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header". What Go's archive/tar
writes, on which the field's readers are tested, is the guide where POSIX leaves a choice: non-ASCII names
go into PAX as plain bytes, without hdrcharset, about which GNU tar would complain.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two zero blocks end an archive. It is not filled up to a record of 20 blocks: that is for tapes."""

REGULAR = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"

MAX_ID = 0o7777777
MAX_NUMBER = 0o77777777777
"""The largest size in bytes, and time in seconds since 1970, of a ustar header."""

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Names and values of extended attributes, in the order of their names."""

_MAGIC = b"ustar\x0000" + bytes(64)  # and no user and group names: ids are all that counts in a container
_NO_DEVICE = b"0000000\x000000000\x00"
_PADDING = tuple(bytes(-size % BLOCK) for size in range(BLOCK))
_CONSTANT = sum(_MAGIC) + 8 * 0x20  # of the checksum: its own field counts as blanks
_CONSTANT_NO_DEVICE = _CONSTANT + sum(_NO_DEVICE)


def padding(size: int) -> bytes:
    """Return the zeros that fill `size` bytes of data up to a whole block."""
    return _PADDING[size % BLOCK]


def header(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    *,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: tuple[int, int] | None = None,
    xattrs: Xattrs = (),
    nanoseconds: int = 0,
) -> bytes:
    """Return the header blocks of one entry.

    `name` of a directory ends in a slash; `kind` is the type flag; `size` in bytes; `mtime` in seconds
    since 1970, `nanoseconds` what is to be added to it; `link` is a symlink's target, or the name of the
    entry that a hard link repeats; `device` is major and minor.
    """
    if (
        len(name) <= 100
        and len(link) <= 100
        and not xattrs
        and not nanoseconds
        and name.isascii()
        and link.isascii()
        and uid <= MAX_ID
        and gid <= MAX_ID
        and size <= MAX_NUMBER
        and 0 <= mtime <= MAX_NUMBER
    ):
        return _ustar(name, b"", kind, mode, uid, gid, size, mtime, link, device)
    records: list[tuple[bytes, bytes]] = [(b"SCHILY.xattr." + key, value) for key, value in xattrs]
    prefix, short = _split(name)
    if not short:
        records.append((b"path", name))
        prefix, short = b"", _ascii(name)
    if len(link) > 100 or not link.isascii():
        records.append((b"linkpath", link))
        link = _ascii(link)
    if nanoseconds:
        records.append((b"mtime", _decimal(mtime, nanoseconds)))
        mtime = max(0, min(mtime, MAX_NUMBER))
    numbers = {b"uid": uid, b"gid": gid, b"size": size, b"mtime": mtime}
    for key, value in numbers.items():
        if not 0 <= value <= (MAX_ID if key in (b"uid", b"gid") else MAX_NUMBER):
            records.append((key, b"%d" % value))
            numbers[key] = 0
    owner = numbers[b"uid"], numbers[b"gid"]
    ustar = _ustar(short, prefix, kind, mode, *owner, numbers[b"size"], numbers[b"mtime"], link, device)
    return _extended(records) + ustar if records else ustar


def _ustar(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int] | None,
) -> bytes:
    numbers = b"%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00" % (mode, uid, gid, size, mtime)
    checksum = sum(name) + sum(numbers) + kind[0]
    if link:
        checksum += sum(link)
    if device is None:
        devices = _NO_DEVICE
        checksum += _CONSTANT_NO_DEVICE
    else:
        devices = b"%07o\x00%07o\x00" % device
        checksum += _CONSTANT + sum(devices)
    if prefix:
        checksum += sum(prefix)
    return b"".join(
        (
            name.ljust(100, b"\x00"),
            numbers,
            b"%06o\x00 " % checksum,
            kind,
            link.ljust(100, b"\x00"),
            _MAGIC,
            devices,
            prefix.ljust(167, b"\x00"),
        )
    )


def _decimal(seconds: int, nanoseconds: int) -> bytes:
    """A time as PAX has it: -1.5 for two seconds before 1970 and half a second after that."""
    total = seconds * 1_000_000_000 + nanoseconds
    whole, fraction = divmod(abs(total), 1_000_000_000)
    return b"%b%d.%09d" % (b"-" if total < 0 else b"", whole, fraction)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Part `name` at a slash into ustar's prefix (155 bytes) and name (100); the second is empty if that
    cannot be.
    """
    if not name.isascii():
        return b"", b""
    if len(name) <= 100:
        return b"", name
    slash = name.rfind(b"/", 0, min(156, len(name) - 1))
    if slash <= 0 or len(name) - slash - 1 > 100:
        return b"", b""
    return name[:slash], name[slash + 1 :]


def _ascii(text: bytes) -> bytes:
    """What a reader that does not know PAX gets to see."""
    return bytes(byte for byte in text if byte < 0x80)[:100]


def _extended(records: list[tuple[bytes, bytes]]) -> bytes:
    data = b"".join(_record(key, value) for key, value in sorted(records))
    head = _ustar(b"././@PaxHeader", b"", b"x", 0o644, 0, 0, len(data), 0, b"", None)
    return head + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value\\n`, where LENGTH counts itself."""
    bare = len(key) + len(value) + 3
    length = bare + len(b"%d" % bare)
    length = bare + len(b"%d" % length)
    return b"%d %b=%b\n" % (length, key, value)
