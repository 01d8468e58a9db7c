"""The files in a tar archive, by name, without unpacking any: offsets into the archive, read on demand.

No name of the archive ever becomes a path on the disk. What archives of images need is read: regular files,
links to them, GNU's long names, PAX records; the rest is passed over. Source: POSIX.1-2017, pax; GNU tar's
manual.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import BinaryIO

from cache.errors import FormatError

_BLOCK = 512
_MOST_ENTRIES = 200_000
_LONGEST_RECORD = 1024 * 1024
_MOST_LINKS = 40


@dataclass(frozen=True, slots=True)
class _Slot:
    offset: int
    size: int


class Section:
    """A part of an open file as a stream.

    `pread` leaves the file's own position alone: sections do not disturb each other.
    """

    def __init__(self, fd: int, slot: _Slot) -> None:
        self._fd = fd
        self._offset = slot.offset
        self._left = slot.size

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = os.pread(self._fd, wanted, self._offset) if wanted else b""
        if wanted and not data:
            raise FormatError("the archive became shorter while it was read")
        self._offset += len(data)
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Nothing: the file belongs to the archive."""


class Archive:
    """An uncompressed tar archive in `file`, which is closed with it. Raises FormatError if it is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._files: dict[str, _Slot] = {}
        self._links: dict[str, str] = {}
        _Scan(file, self._files, self._links).run()

    def close(self) -> None:
        self._file.close()

    def open(self, name: str) -> tuple[Section, int] | None:
        """Return a stream of the file `name`, and its size; None if there is none."""
        slot = self._find(name)
        return None if slot is None else (Section(self._file.fileno(), slot), slot.size)

    def _find(self, name: str) -> _Slot | None:
        """Links lead to other entries of the archive, and nowhere else."""
        name = _normalise(name)
        for _ in range(_MOST_LINKS):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None


class _Scan:
    """Walks over the headers of an archive."""

    def __init__(self, file: BinaryIO, files: dict[str, _Slot], links: dict[str, str]) -> None:
        self._file = file
        self._end = os.fstat(file.fileno()).st_size
        self._files = files
        self._links = links

    def run(self) -> None:
        offset = 0
        overrides: dict[str, str] = {}
        for _ in range(_MOST_ENTRIES):
            header = self._read(offset, _BLOCK)
            if not header.strip(b"\0"):
                return
            _check(header, offset)
            size = int(overrides.get("size", "")) if "size" in overrides else _number(header[124:136])
            data = offset + _BLOCK
            if size < 0 or data + size > self._end:
                raise FormatError("the archive is cut off")
            kind = header[156:157]
            if kind in b"xLK" and kind:
                overrides |= self._override(kind, data, size)
            elif kind != b"g":
                self._entry(kind, header, overrides, _Slot(data, size))
                overrides = {}
            offset = data + (size + _BLOCK - 1) // _BLOCK * _BLOCK
        raise FormatError(f"the archive has more than {_MOST_ENTRIES} entries")

    def _entry(self, kind: bytes, header: bytes, overrides: dict[str, str], slot: _Slot) -> None:
        name = _normalise(overrides.get("path") or _name(header))
        if kind in (b"0", b"\0", b"7"):
            self._files[name] = slot
            self._links.pop(name, None)
        elif kind in (b"1", b"2"):
            target = overrides.get("linkpath") or _text(header[157:257])
            if kind == b"2":
                target = posixpath.join(posixpath.dirname(name), target)
            self._links[name] = _normalise(target)
            self._files.pop(name, None)

    def _override(self, kind: bytes, offset: int, size: int) -> dict[str, str]:
        if size > _LONGEST_RECORD:
            raise FormatError("the archive has an extended header that is too long")
        data = self._read(offset, size)
        if kind == b"x":
            return _records(data)
        return {"path" if kind == b"L" else "linkpath": _text(data)}

    def _read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) == size:
            return data
        if not data and offset == self._end and offset:  # no zero blocks at the end: GNU tar takes that, too
            return bytes(size)
        raise FormatError("the archive is cut off" if offset else "not a tar archive")


def _check(header: bytes, offset: int) -> None:
    """The checksum is of the header with blanks in the place of the checksum."""
    try:
        expected = int(header[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        expected = -1
    if expected != sum(header) - sum(header[148:156]) + 8 * 0x20:
        raise FormatError("the archive is damaged" if offset else "not a tar archive")


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's base 256, for what octal cannot hold
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise FormatError("the archive is damaged: a size is no number") from None


def _records(data: bytes) -> dict[str, str]:
    """The PAX records that matter here: `LENGTH KEY=VALUE`, with the length of the whole."""
    found: dict[str, str] = {}
    while data.strip(b"\0"):
        digits, blank, _ = data.partition(b" ")
        length = int(digits) if blank and digits.isdigit() and len(digits) < 8 else 0
        key, equals, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not equals or length > len(data) or data[length - 1 : length] != b"\n":
            raise FormatError("the archive is damaged: a PAX record is malformed")
        if key in (b"path", b"linkpath") or (key == b"size" and value.isdigit() and len(value) < 20):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    return found


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    name = _text(header[:100])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _normalise(name: str) -> str:
    """One spelling for `./a//b` and `a/b`; what leads out of the archive becomes a name that nothing has."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return ""
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
