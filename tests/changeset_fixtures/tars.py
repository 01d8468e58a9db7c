"""Tars as an adversary or an odd tool makes them: written header by header, nothing checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAGIC_USTAR = b"ustar\x0000"
MAGIC_GNU = b"ustar  \x00"


@dataclass(frozen=True)
class Raw:
    """One entry; every field as it stands, names that are too long with PAX, `size` that of `data` unless
    given.
    """

    name: bytes
    kind: bytes = b"0"
    data: bytes = b""
    link: bytes = b""
    mode: bytes = b"0000644"
    uid: bytes = b"0000000"
    gid: bytes = b"0000000"
    mtime: bytes = b"07346545000"
    size: bytes | None = None
    magic: bytes = MAGIC_USTAR
    device: tuple[bytes, bytes] = (b"", b"")
    prefix: bytes = b""
    checksum: bytes | None = None

    def block(self) -> bytes:
        size = b"%011o" % len(self.data) if self.size is None else self.size
        block = bytearray(512)
        for start, width, value in (
            (0, 100, self.name),
            (100, 8, self.mode),
            (108, 8, self.uid),
            (116, 8, self.gid),
            (124, 12, size),
            (136, 12, self.mtime),
            (148, 8, b" " * 8),
            (156, 1, self.kind),
            (157, 100, self.link),
            (257, 8, self.magic),
            (329, 8, self.device[0]),
            (337, 8, self.device[1]),
            (345, 167, self.prefix),
        ):
            assert len(value) <= width, (start, value)
            block[start : start + len(value)] = value
        block[148:156] = (
            b"%06o\x00 " % sum(block) if self.checksum is None else self.checksum.ljust(8, b"\x00")
        )
        return bytes(block)

    def bytes(self) -> bytes:
        long = [
            (key, value)
            for key, value in ((b"path", self.name), (b"linkpath", self.link))
            if len(value) > 100
        ]
        if long:
            short = replace(self, name=self.name[:100], link=self.link[:100])
            return pax(*long).bytes() + short.bytes()
        return self.block() + self.data + bytes(-len(self.data) % 512)


def tar(*entries: Raw, end: bytes = bytes(1024)) -> bytes:
    """Return the entries as an archive."""
    return b"".join(entry.bytes() for entry in entries) + end


def folder(name: bytes, mode: bytes = b"0000755") -> Raw:
    return Raw(name, b"5", mode=mode)


def link(name: bytes, target: bytes) -> Raw:
    """A symlink."""
    return Raw(name, b"2", link=target)


def hard(name: bytes, target: bytes) -> Raw:
    """A hard link."""
    return Raw(name, b"1", link=target)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> Raw:
    """An extended header of these records."""
    data = b""
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        length = len(body) + len(b"%d" % len(body))
        length = len(body) + len(b"%d" % length)
        data += b"%d" % length + body
    return Raw(b"pax", kind, data)
