"""How layers are compressed: gzip, zstd, or not at all, streamed in memory that does not grow with the layer.

What is written depends on the bytes, the kind and the level, and on nothing else: not on how many processors
there are and of which model, not on how the bytes were cut into writes, not on the clock. gzip is cut into
blocks of 1 MiB that are compressed side by side, each with the last 32 KiB before it as its dictionary (as
pigz does), and is one member in the end. zstd cuts by itself. Reading is in cache/decompression.py.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from cache.errors import CacheError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from zstandard import ZstdCompressionObj

Kind = Literal["gzip", "zstd", "none"]

KINDS: tuple[Kind, ...] = ("gzip", "zstd", "none")
DEFAULT_LEVELS: dict[Kind, int] = {"gzip": 1, "zstd": 3, "none": 0}
LEVELS: dict[Kind, range] = {"gzip": range(10), "zstd": range(1, 23), "none": range(1)}

_BLOCK = 1 << 20
_WINDOW = 1 << 15
_MOST_THREADS = 16
_FASTEST_ZLIB = 3
_GZIP_END = b"\x03\x00"  # an empty last deflate block


class Writable(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Compression:
    """How a layer is compressed.

    gzip's levels 1 and 2 are igzip's, 3 to 9 zlib's, 0 stores. zstd's are 1 to 22. `none` has no level but 0.
    """

    kind: Kind
    level: int

    @classmethod
    def parse(cls, kind: str, level: int | None = None) -> Compression:
        """Return the compression of that kind and level (None: its default). Raises CacheError."""
        if kind not in KINDS:
            raise CacheError(
                f"unknown compression: {kind[:100]!r}",
                hint="gzip, zstd and none are known",
                code="compression/kind",
            )
        if level is None:
            level = DEFAULT_LEVELS[kind]
        levels = LEVELS[kind]
        if level not in levels:
            reason = f"has the levels {levels[0]} to {levels[-1]}" if len(levels) > 1 else "has no levels"
            raise CacheError(f"{kind} {reason}, not {level}", code="compression/level")
        return cls(kind, level)


GZIP = Compression("gzip", DEFAULT_LEVELS["gzip"])
ZSTD = Compression("zstd", DEFAULT_LEVELS["zstd"])
NONE = Compression("none", 0)


def processors() -> int:
    """How many threads are worth starting for work that keeps a processor busy."""
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


def compressed(
    out: Writable, compression: Compression, *, size: int | None = None, threads: int | None = None
) -> AbstractContextManager[Writable]:
    """Return a context whose value takes bytes, and `out` their compressed form, whole when the context ends.

    `size` is what will be written in all, where that is known (zstd notes it in its header, and refuses
    another number of bytes). `threads` is how many compress at once (None: one for each processor). A context
    that is left by an exception has written a part of the stream and no end to it. The value is for one
    thread.
    """
    workers = processors() if threads is None else max(1, threads)
    if compression.kind == "gzip":
        return _gzip(out, compression.level, workers)
    if compression.kind == "zstd":
        return _zstd(out, compression.level, workers, size)
    return _plain(out)


@contextmanager
def _plain(out: Writable) -> Iterator[Writable]:
    yield out


@contextmanager
def _zstd(out: Writable, level: int, threads: int, size: int | None) -> Iterator[Writable]:
    from zstandard import ZstdCompressor, ZstdError

    # zstd's own threads: one or many write the same bytes, none at all writes others.
    stream = ZstdCompressor(level=level, threads=threads).compressobj(-1 if size is None else size)
    try:
        yield _ZstdWriter(out, stream)
        out.write(stream.flush())
    except ZstdError as error:
        raise CacheError(f"zstd: not the {size} bytes that were announced: {error}") from error


class _ZstdWriter:
    __slots__ = ("_out", "_stream")

    def __init__(self, out: Writable, stream: ZstdCompressionObj) -> None:
        self._out = out
        self._stream = stream

    def write(self, data: bytes, /) -> int:
        piece = self._stream.compress(data)
        if piece:
            self._out.write(piece)
        return len(data)


@contextmanager
def _gzip(out: Writable, level: int, threads: int) -> Iterator[Writable]:
    writer = _GzipWriter(out, level, threads)
    try:
        yield writer
        writer.finish()
    finally:
        writer.stop()


class _GzipWriter:
    """One gzip member (RFC 1952) out of deflate blocks compressed apart, each ended by a sync flush."""

    def __init__(self, out: Writable, level: int, threads: int) -> None:
        from isal.isal_zlib import crc32_combine

        self._out = out
        self._deflate = _deflater(level)
        self._combine: Callable[[int, int, int], int] = crc32_combine
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[Future[tuple[bytes, int, int]]] = deque()
        self._block = bytearray()
        self._dictionary = b""
        self._crc = 0
        self._size = 0
        fastest = 4 if level <= 1 else 2 if level == 9 else 0
        out.write(b"\x1f\x8b\x08\x00" + bytes(4) + bytes((fastest, 255)))  # no name, mtime 0, system unknown

    def write(self, data: bytes, /) -> int:
        view = memoryview(data)
        position, end = 0, len(view)
        while position < end:
            step = min(_BLOCK - len(self._block), end - position)
            self._block += view[position : position + step]
            position += step
            if len(self._block) == _BLOCK:
                self._submit()
        return end

    def _submit(self) -> None:
        block, dictionary = self._block, self._dictionary
        self._block = bytearray()
        self._dictionary = bytes(memoryview(block)[-_WINDOW:])
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="gzip")
        if len(self._pending) > self._threads:
            self._take(self._pending.popleft().result())
        self._pending.append(self._pool.submit(self._deflate, block, dictionary))

    def _take(self, result: tuple[bytes, int, int]) -> None:
        piece, crc, length = result
        self._out.write(piece)
        self._crc = self._combine(self._crc, crc, length)
        self._size += length

    def finish(self) -> None:
        while self._pending:
            self._take(self._pending.popleft().result())
        if self._block:
            self._take(self._deflate(self._block, self._dictionary))
        self._out.write(
            _GZIP_END + self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        )

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _deflater(level: int) -> Callable[[bytearray, bytes], tuple[bytes, int, int]]:
    """Return what compresses a block after a dictionary, to (whole bytes of deflate, CRC-32, bytes taken)."""
    import zlib

    from isal import isal_zlib

    # igzip's level 0 does not store. Its level 3 searches with as many lanes as the processor has, so that
    # SSE, AVX2 and AVX-512 each write other bytes; 1 and 2 write the same on every x86-64 with SSE 4.2 (tried
    # under qemu).
    codec = isal_zlib if 0 < level < _FASTEST_ZLIB else zlib

    def deflate(block: bytearray, dictionary: bytes) -> tuple[bytes, int, int]:
        preset = (dictionary,) if dictionary else ()
        stream = codec.compressobj(level, codec.DEFLATED, -codec.MAX_WBITS, codec.DEF_MEM_LEVEL, 0, *preset)
        body = stream.compress(block)
        return body + stream.flush(codec.Z_SYNC_FLUSH), isal_zlib.crc32(block), len(block)

    return deflate
