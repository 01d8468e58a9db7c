"""Where the frames of a zstd stream end: RFC 8878, section 3.

The zstandard module reads a stream in bounded pieces, but takes one that was cut off in the middle for one
that ended. This walks frame and block headers as the compressed bytes pass by (3 bytes a block of up to 128
KiB), and knows.
"""

from __future__ import annotations

from collections.abc import Generator

MAGIC = b"\x28\xb5\x2f\xfd"

_DICTIONARY_ID_BYTES = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_RLE_BLOCK = 1


class NotZstd(ValueError):
    """What stands where a frame should begin is none."""


def is_skippable(magic: bytes) -> bool:
    """Whether `magic` (4 bytes) begins a skippable frame (section 3.1.2)."""
    return magic[0] & 0xF0 == 0x50 and magic[1:] == b"\x2a\x4d\x18"


class FrameScanner:
    """Follows a zstd stream that is fed to it piece by piece, and says whether it may end here."""

    __slots__ = ("_held", "_in_frame", "_skip", "_walk", "_want")

    def __init__(self) -> None:
        self._held = bytearray()
        self._in_frame = False
        self._walk = self._frames()
        self._want, self._skip = next(self._walk)

    @property
    def between_frames(self) -> bool:
        """Whether the bytes fed so far are whole frames."""
        return not self._in_frame and not self._skip and not self._held

    def feed(self, data: bytes) -> None:
        """Take the stream's next bytes. Raises NotZstd where a frame should begin and none does."""
        position, end = 0, len(data)
        while position < end:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
            else:
                step = min(self._want - len(self._held), end - position)
                self._held += data[position : position + step]
                if len(self._held) == self._want:
                    self._want, self._skip = self._walk.send(bytes(self._held))
                    self._held.clear()
            position += step

    def _frames(self) -> Generator[tuple[int, int], bytes, None]:
        """Yield (bytes wanted, bytes to skip before them); be sent the bytes wanted."""
        skip = 0
        while True:
            self._in_frame = False
            magic = yield 4, skip
            self._in_frame = True
            if is_skippable(magic):
                skip = int.from_bytes((yield 4, 0), "little")
                continue
            if magic != MAGIC:
                raise NotZstd
            flags = (yield 1, 0)[0]
            single_segment = flags >> 5 & 1
            content_size = _CONTENT_SIZE_BYTES[flags >> 6] or single_segment
            skip = (1 - single_segment) + _DICTIONARY_ID_BYTES[flags & 3] + content_size
            last = 0
            while not last:
                header = int.from_bytes((yield 3, skip), "little")
                last = header & 1
                skip = 1 if header >> 1 & 3 == _RLE_BLOCK else header >> 3
            skip += 4 * (flags >> 2 & 1)
