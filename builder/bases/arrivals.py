"""A layer's blob on its way into the store: read by whoever unpacks it while it still comes in.

What comes in is written to a staged blob and hashed; the unpacker reads it from there (a download may be far
ahead of the unpacking), and believes nothing until `finish` has verified it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from cache.decompression import MAGIC_BYTES, Kind, sniff
from cache.errors import DigestMismatch

if TYPE_CHECKING:
    from cache.blobs import BlobWriter
    from cache.oci.digest import Digest
    from cache.oci.spec import Descriptor
    from cache.store import Store

_POLL = 0.1
_CHUNK = 256 * 1024


class Readable(Protocol):
    """A stream that local sources are read from."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class Arrival(Protocol):
    """A blob on its way. For one reader."""

    @property
    def done(self) -> int:
        """Bytes that are here. May be asked from any thread."""

    @property
    def kind(self) -> Kind:
        """How it is compressed, by its magic."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end. Waits for them. Raises what the transfer raises."""

    def finish(self) -> BlobWriter:
        """Wait for the rest, and return the blob, verified, to be committed. Raises DigestMismatch."""

    def discard(self) -> None:
        """Drop what has come in. A second call does nothing."""


class LocalArrival:
    """A blob from a file of this machine, which is read, copied and verified as the unpacker goes along."""

    def __init__(
        self, store: Store, expected: Digest | None, source: Readable, tick: Callable[[], None]
    ) -> None:
        """`expected` is the blob's digest, None where only the image config vouches for what is in it."""
        self._expected = expected
        self._source = source
        self._tick = tick
        self._writer = store.blobs.writer("sha256" if expected is None else expected.algorithm)
        self._head = b""

    @property
    def done(self) -> int:
        return self._writer.size

    @property
    def kind(self) -> Kind:
        return sniff(self._head)

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        if len(self._head) < MAGIC_BYTES:
            self._head += data[:MAGIC_BYTES]
        self._writer.write(data)
        self._tick()
        return data

    def finish(self) -> BlobWriter:
        while self.read(_CHUNK):
            pass
        if self._expected is not None and self._writer.digest != self._expected:
            raise DigestMismatch(f"blob {self._expected} is damaged: its digest is {self._writer.digest}")
        return self._writer

    def discard(self) -> None:
        self._source.close()
        self._writer.discard()


class RemoteArrival:
    """A blob that another thread downloads: `run` is that thread's, everything else the reader's.

    `fetch` starts the download: an iterator of chunks that verifies them.
    """

    def __init__(
        self,
        store: Store,
        descriptor: Descriptor,
        fetch: Callable[[], Iterator[bytes]],
        tick: Callable[[], None],
    ) -> None:
        self._descriptor = descriptor
        self._fetch = fetch
        self._tick = tick
        self._writer = store.blobs.writer(descriptor.digest.algorithm)
        self._news = threading.Condition()
        self._written = 0
        self._read = 0
        self._complete = False
        self._dropped = False
        self._running = False
        self._error: BaseException | None = None

    @property
    def done(self) -> int:
        return self._written

    @property
    def kind(self) -> Kind:
        return sniff(self._writer.read_at(0, MAGIC_BYTES))

    def run(self) -> None:
        """Download. Never raises: the reader gets what went wrong."""
        with self._news:
            if self._dropped:
                return
            self._running = True
        error: BaseException | None = None
        try:
            for chunk in self._fetch():
                self._writer.write(chunk)
                with self._news:
                    if self._dropped:
                        break
                    self._written += len(chunk)
                    self._news.notify_all()
        except BaseException as caught:
            error = caught
        with self._news:
            self._error = error
            self._complete = True
            self._running = False
            self._news.notify_all()
            if self._dropped:
                self._writer.discard()

    def read(self, size: int, /) -> bytes:
        self._await(lambda: self._written > self._read or self._complete)
        data = self._writer.read_at(self._read, min(size, self._written - self._read))
        self._read += len(data)
        return data

    def finish(self) -> BlobWriter:
        self._await(lambda: self._complete)
        return self._writer

    def discard(self) -> None:
        """Drop what has come in; the downloading thread does it if it is still writing."""
        with self._news:
            self._dropped = True
            if not self._running:
                self._writer.discard()

    def _await(self, ready: Callable[[], bool]) -> None:
        while True:
            with self._news:
                if ready() or self._news.wait_for(ready, _POLL):
                    error = self._error
                    break
            self._tick()
        self._tick()
        if error is not None:
            raise error
