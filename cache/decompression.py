"""Streams of unknown compression, read in memory that does not grow with them: gzip, zstd, bzip2, xz, told by
their magic.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cache.errors import FormatError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from cache.zstd_frames import FrameScanner

Kind = Literal["gzip", "zstd", "bzip2", "xz", "none"]

MAGIC_BYTES = 6
"""How much of a stream's beginning `sniff` wants to see."""

_CHUNK = 1 << 18
_XZ_MEMORY = 1 << 29  # xz -9 wants 65 MiB; a hostile header may ask for 4 GiB


class Readable(Protocol):
    """Where compressed bytes come from: `read` gives at most `size` bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


def sniff(head: bytes) -> Kind:
    """Return what a stream that begins with `head` is compressed with; `none` for all that is not known."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    if head.startswith(b"BZh") and b"1" <= head[3:4] <= b"9":
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    return "none"


def decompress(stream: Readable) -> io.BufferedReader:
    """Return a reader of what is compressed in `stream`: its bytes as they are where they bear no known
    magic.

    Several members or frames one after the other are one stream, and zeros may follow (tape padding). Reading
    raises FormatError where the stream is damaged, goes on with something else, or stops early. `stream`
    stays open.
    """
    source = _Source(stream)
    kind = sniff(source.head)
    raw: io.RawIOBase
    if kind == "none":
        raw = _Plain(source)
    elif kind == "zstd":
        raw = _Zstd(source)
    else:
        raw = _Members(source, kind)
    return io.BufferedReader(raw, _CHUNK)


class _Source:
    """A stream whose first bytes have been looked at already."""

    __slots__ = ("_stream", "head")

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.head = b""
        while len(self.head) < MAGIC_BYTES:
            piece = stream.read(MAGIC_BYTES - len(self.head))
            if not piece:
                break
            self.head += piece

    def read(self, size: int) -> bytes:
        if self.head:
            piece, self.head = self.head[:size], self.head[size:]
            return piece
        return self._stream.read(size)


class _Reader(io.RawIOBase):
    def readable(self) -> bool:
        return True


class _Plain(_Reader):
    def __init__(self, source: _Source) -> None:
        self._source = source

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        piece = self._source.read(len(view))
        view[: len(piece)] = piece
        return len(piece)


class _Members(_Reader):
    """gzip, bzip2, xz: the three modules have decompressors of the same shape, each of which ends with its
    member.
    """

    def __init__(self, source: _Source, kind: Literal["gzip", "bzip2", "xz"]) -> None:
        self._source = source
        self._kind = kind
        self._codec, self._errors = _decompressor(kind)
        self._input = b""

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while True:
            if self._codec.eof and not self._next_member():
                return 0
            piece = self._decompress(len(view))
            if piece:
                view[: len(piece)] = piece
                return len(piece)

    def _decompress(self, most: int) -> bytes:
        data, self._input = self._input, b""
        if self._codec.needs_input and not data:
            data = self._source.read(_CHUNK)
            if not data:
                raise _truncated(self._kind)
        try:
            piece: bytes = self._codec.decompress(data, most)
        except self._errors as error:
            raise _damaged(self._kind, error) from error
        return piece

    def _next_member(self) -> bool:
        rest: bytes = self._codec.unused_data.lstrip(b"\0")
        while not rest:
            piece = self._source.read(_CHUNK)
            if not piece:
                return False
            rest = piece.lstrip(b"\0")
        while len(rest) < MAGIC_BYTES and (piece := self._source.read(MAGIC_BYTES - len(rest))):
            rest += piece
        if sniff(rest) != self._kind:
            raise _damaged(self._kind, "something else follows its end")
        self._codec = _decompressor(self._kind)[0]
        self._input = rest
        return True


def _decompressor(kind: Literal["gzip", "bzip2", "xz"]) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return a decompressor of one member, and what it raises at bad bytes."""
    if kind == "gzip":
        from isal import igzip_lib

        damage: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # the stub says it is an instance
        return igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP), (damage, EOFError)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor(), (OSError, EOFError)
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), (lzma.LZMAError, EOFError)


class _Scanned:
    """A source whose bytes a scanner sees as they pass."""

    __slots__ = ("_scanner", "_source")

    def __init__(self, source: _Source, scanner: FrameScanner) -> None:
        self._source = source
        self._scanner = scanner

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._scanner.feed(data)
        return data


class _Zstd(_Reader):
    def __init__(self, source: _Source) -> None:
        from zstandard import ZstdDecompressor

        from cache.zstd_frames import FrameScanner

        self._scanner = FrameScanner()
        # A window larger than 128 MiB (zstd --long=28 and up) is refused: memory stays bounded.
        self._stream = ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            _Scanned(source, self._scanner),  # type: ignore[arg-type]  # it is read from, and no more
            read_size=_CHUNK,
            read_across_frames=True,
            closefd=False,
        )

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        from zstandard import ZstdError

        from cache.zstd_frames import NotZstd

        try:
            count = self._stream.readinto(buffer)
        except NotZstd as error:
            raise _damaged("zstd", "something else follows its end") from error
        except ZstdError as error:
            raise _damaged("zstd", error) from error
        if not count and not self._scanner.between_frames:
            raise _truncated("zstd")
        return count


def _truncated(kind: Kind) -> FormatError:
    return FormatError(f"the {kind} stream ends too early", code="compression/truncated")


def _damaged(kind: Kind, reason: object) -> FormatError:
    return FormatError(f"the {kind} stream is damaged: {reason}", code="compression/damaged")
