"""blobs/: compressed layers, manifests, and what else is named by its digest, as an OCI layout (image-
layout.md).

A blob is hashed while it is written under tmp/, and published by rename once its digest is known: what has a
name there is whole. It is hashed again before it is used (once in a process), since nothing was synced for
it: one that a power cut damaged is dropped, and made or fetched anew. When a blob was used last is its mtime.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.compression import KINDS, Compression, Kind
from cache.disk import storing, write_all
from cache.errors import DigestMismatch
from cache.oci.digest import DiffID, Digest
from cache.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from types import TracebackType

    from cache.memo import Memo, Receipts
    from cache.scratch import Scratch

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY_INDEX = b'{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}'

_CHUNK = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}|[0-9a-f]{128}")
_MEMO = "blob"


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """A layer as one blob: how it is compressed, its digest, its size in bytes."""

    kind: Kind
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that stands in the store; `used` is when it was used last, in seconds since 1970."""

    digest: Digest
    size: int
    used: int


class Blobs:
    """The blobs of a store, and which of them is which layer. For any number of threads."""

    def __init__(self, path: str, scratch: Scratch, memo: Memo, receipts: Receipts) -> None:
        """`path` is made when the first blob is written."""
        self.path = path
        self._scratch = scratch
        self._memo = memo
        self._receipts = receipts
        self._lock = threading.Lock()
        self._ready = False
        self._verified: set[Digest] = set()
        self._pins = Pins()

    # Blobs by digest

    def path_of(self, digest: Digest) -> str:
        """Where a blob of that digest stands, or would."""
        return f"{self.path}/blobs/{digest.algorithm}/{digest.hex}"

    def get(self, digest: Digest) -> str | None:
        """Return the path of a blob, None if it is not there. Nothing is verified."""
        path = self.path_of(digest)
        return path if os.path.isfile(path) else None

    def open(self, digest: Digest) -> FileIO | None:
        """Return a blob open for reading, its bytes verified; None if it is not there, or was damaged (it is
        gone then).

        No prune takes it before the store is closed. Raises StoreError.
        """
        path = self.path_of(digest)
        with storing("reading a blob"):
            if self._pins.take(path) is None:
                return None
            try:
                file = open(path, "rb", buffering=0, opener=_open_no_follow)  # noqa: SIM115
            except FileNotFoundError:
                return None
            try:
                if digest not in self._verified:
                    if _hash(file, digest.algorithm) != digest:
                        file.close()
                        self.remove(digest)
                        return None
                    file.seek(0)
                    self._verified.add(digest)
                os.utime(file.fileno())
            except BaseException:
                file.close()
                raise
        return file

    def read(self, digest: Digest) -> bytes | None:
        """Return the bytes of a small blob, verified; None as `open` does."""
        file = self.open(digest)
        if file is None:
            return None
        with file:
            return file.read()

    def put(self, data: bytes) -> Digest:
        """Keep `data`, and return its digest. Raises StoreFull, StoreError."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def writer(self, algorithm: str = "sha256") -> BlobWriter:
        """Return a new blob's writer: to be entered, written to, and committed."""
        with storing("writing a blob"):
            self._make_layout(algorithm)
            fd, path = self._scratch.file()
        return BlobWriter(self, fd, path, algorithm)

    def remove(self, digest: Digest) -> bool:
        """Remove a blob. False if there was none."""
        self._verified.discard(digest)
        self._pins.drop(self.path_of(digest))
        with storing("removing a blob"):
            try:
                os.unlink(self.path_of(digest))
            except FileNotFoundError:
                return False
        return True

    def all(self) -> Iterator[StoredBlob]:
        """Every blob."""
        for algorithm in ("sha256", "sha512"):
            try:
                entries = os.scandir(f"{self.path}/blobs/{algorithm}")
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    if _HEX.fullmatch(entry.name) is None:
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # pruned meanwhile
                    yield StoredBlob(
                        Digest(f"{algorithm}:{entry.name}"), status.st_size, int(status.st_mtime)
                    )

    # Layers

    def layer(self, diff_id: DiffID, compression: Compression) -> LayerBlob | None:
        """Return the blob of a layer compressed like that, None where it was never made or is gone.

        The blob that the layer was pulled as is taken at any level, if the kind is the same: it is what
        registries have already.
        """
        pulled = self.pulled(diff_id)
        if pulled is not None and pulled.kind == compression.kind:
            return pulled
        return self._present(self._memo.get(_MEMO, _key(diff_id, compression)))

    def note_layer(self, diff_id: DiffID, compression: Compression, blob: LayerBlob) -> None:
        """Remember that `blob` is the layer compressed like that (by us: it follows from the layer)."""
        self._memo.put(_MEMO, _key(diff_id, compression), _encode(blob))

    def pulled(self, diff_id: DiffID) -> LayerBlob | None:
        """Return the blob that a layer came as, None if it was built here or the blob is gone.

        Only this has the layer's own tar, where somebody else wrote it: from the unpacked files we write
        another.
        """
        return self._present(self._receipts.get(f"pulled {diff_id}"))

    def note_pulled(self, diff_id: DiffID, blob: LayerBlob) -> None:
        """Remember that `blob` unpacks to the layer."""
        self._receipts.put(f"pulled {diff_id}", _encode(blob))

    def _present(self, value: bytes | None) -> LayerBlob | None:
        blob = None if value is None else _decode(value)
        if blob is None:
            return None
        try:
            size = os.stat(self.path_of(blob.digest), follow_symlinks=False).st_size
        except FileNotFoundError:
            return None
        return blob if size == blob.size else None

    # Writing

    def _make_layout(self, algorithm: str) -> None:
        os.makedirs(f"{self.path}/blobs/{algorithm}", exist_ok=True)
        with self._lock:
            if self._ready:
                return
            for name, content in (("index.json", EMPTY_INDEX), ("oci-layout", LAYOUT_FILE)):
                path = f"{self.path}/{name}"
                if not os.path.exists(path):
                    fd, staged = self._scratch.file()
                    try:
                        write_all(fd, content)
                        os.rename(staged, path)
                    finally:
                        os.close(fd)
            self._ready = True

    def close(self) -> None:
        """Let prunes take what was written and read here."""
        self._pins.drop_all()

    def _publish(self, staged: str, digest: Digest, fd: int) -> None:
        path = self.path_of(digest)
        os.rename(staged, path)
        self._pins.adopt(path, fd)
        self._verified.add(digest)


class BlobWriter:
    """A blob under way. Leaving its context drops what was not committed."""

    def __init__(self, blobs: Blobs, fd: int, path: str, algorithm: str) -> None:
        self._blobs = blobs
        self._fd = fd
        self._path = path
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, data: bytes, /) -> int:
        """Append `data`. Raises StoreFull, StoreError."""
        with storing("writing a blob"):
            write_all(self._fd, data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most `size` of the bytes written so far, from `offset` on: for a reader that follows."""
        with storing("reading a blob"):
            return os.pread(self._fd, size, offset)

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far."""
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")

    def commit(self, expected: Digest | None = None, *, size: int | None = None) -> Digest:
        """Publish the blob, and return its digest. Raises DigestMismatch if that is not `expected`, or the
        size not `size`.
        """
        digest = self.digest
        if (expected is not None and digest != expected) or (size is not None and size != self.size):
            wanted = f"{expected or digest} of {self.size if size is None else size} bytes"
            raise DigestMismatch(f"wanted {wanted}, got {digest} of {self.size} bytes")
        fd, self._fd = self._fd, -1
        try:
            with storing("publishing a blob"):
                self._blobs._publish(self._path, digest, fd)
        except BaseException:
            self._fd = fd
            raise
        return digest

    def discard(self) -> None:
        """Drop the blob, unless it was committed."""
        fd, self._fd = self._fd, -1
        if fd == -1:
            return
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)


def _open_no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _hash(file: FileIO, algorithm: str) -> Digest:
    return Digest(f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}")


def _key(diff_id: DiffID, compression: Compression) -> str:
    return f"{diff_id} {compression.kind} {compression.level}"


def _encode(blob: LayerBlob) -> bytes:
    return f"{blob.kind} {blob.digest} {blob.size}".encode()


def _decode(value: bytes) -> LayerBlob | None:
    kind, digest, size = value.decode().split(" ")
    return LayerBlob(kind, Digest(digest), int(size)) if kind in KINDS else None
