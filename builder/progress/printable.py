"""Bytes that strangers wrote, made harmless for a terminal.

A step's output, a file name or an image's label may hold escape sequences that move the cursor, set the
window title, answer back into the shell's input (CWE-150), or bidirectional controls that make a text read
otherwise than it runs. Whole sequences are dropped, as what they are meant to do makes no sense in a log;
what is left of control characters is shown.
"""

from __future__ import annotations

import re

# ECMA-48: CSI with parameters; the string controls OSC, DCS, SOS, PM, APC up to their terminator (or the end
# of the text); any other escape sequence. With their 8-bit forms.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
# C0 but tab, DEL, C1, the bidirectional controls, the line separators, and lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return `text` without escape sequences, its other control characters shown as ^G, \\x85 or \\u202e."""
    if text.isprintable():
        return text
    return _CONTROL.sub(_show, _SEQUENCE.sub("", text))


def one_line(text: str) -> str:
    """Return the first line of `text`, printable, its blanks squeezed; dots stand for further lines."""
    first, _, rest = text.strip().partition("\n")
    return " ".join(printable(first).split()) + (" ..." if rest.strip() else "")


def _show(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return "^" + chr(code + 0x40)
    if code == 0x7F:
        return "^?"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class LineSplitter:
    """Makes lines of a byte stream that comes in pieces cut anywhere.

    A carriage return within a line starts it over, as on a terminal, so that of a progress bar only the last
    state is left. A line without an end is cut at `limit` bytes: memory stays flat whatever a step writes.
    """

    limit = 65536

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """Take `data`; return the lines that are complete now, printable and without their ends."""
        self._pending += data
        end = self._pending.rfind(b"\n")
        lines = []
        if end >= 0:
            lines = [_line(raw) for raw in bytes(self._pending[:end]).split(b"\n")]
            del self._pending[: end + 1]
        while len(self._pending) > self.limit:
            start = self._pending.rfind(b"\r", 0, self.limit)
            if start >= 0:
                del self._pending[: start + 1]
                continue
            cut = self.limit
            while cut > self.limit - 4 and self._pending[cut] & 0xC0 == 0x80:  # not within a UTF-8 character
                cut -= 1
            lines.append(_line(bytes(self._pending[:cut])))
            del self._pending[:cut]
        return lines

    @property
    def partial(self) -> str:
        """The line that has begun, printable."""
        return _line(bytes(self._pending))

    def finish(self) -> list[str]:
        """Return the last line if it has no end."""
        rest = self.partial
        self._pending.clear()
        return [rest] if rest else []


def _line(raw: bytes) -> str:
    kept = raw.rstrip(b"\r")
    return printable(kept[kept.rfind(b"\r") + 1 :].decode("utf-8", "replace"))


def cells(text: str) -> int:
    """Return how many terminal columns `text`, which is printable, takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    columns = 0
    for character in text:
        if unicodedata.east_asian_width(character) in ("W", "F"):
            columns += 2
        elif unicodedata.category(character) not in ("Mn", "Me", "Cf"):
            columns += 1
    return columns


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """Return `text` if it fits into `width` columns, else its beginning and an ellipsis."""
    if cells(text) <= width:
        return text
    if width <= len(ellipsis):
        return ellipsis[: max(width, 0)]
    room = width - len(ellipsis)
    if text.isascii():
        return text[:room] + ellipsis
    taken = 0
    for index, character in enumerate(text):
        taken += cells(character)
        if taken > room:
            return text[:index] + ellipsis
    return text
