"""Objects in a store: S3 and what speaks like it, Google's, Azure's, or a directory; by the library obstore,
which is imported when something is asked.

Everything that it raises becomes a RemoteError that names the cache. Nothing waits for longer than `timeout`
seconds for an answer, twice; of a transfer it is the silence that counts, not the length.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cache.remote import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

Found = TypeVar("Found")

_CHUNK = 1 << 20
_AT_ONCE = 16
_PARTS_AT_ONCE = 4
"""Parts of 5 MiB of one blob that are under way: memory, and what a slow line must carry in time."""
_PART_TIMEOUT = 60.0
"""Seconds for a part: that is 2.8 Mbit/s with `_PARTS_AT_ONCE`."""
_LARGE = 1 << 20
_SEEN = 0.1
"""Seconds until somebody who waits has seen that it is over."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as it is listed: `changed` is in seconds since 1970, by the store's clock."""

    path: str
    size: int
    changed: float

    @property
    def age(self) -> float:
        """Seconds since it was written, by this machine's clock."""
        return time.time() - self.changed

    @property
    def base(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


class ObjectStore:
    """The objects below `url` (s3://BUCKET/PREFIX, gs://, az://, file:///DIRECTORY). `options` as obstore
    names them. Safe to use from several threads. Every method may raise RemoteError."""

    def __init__(self, url: str, options: Mapping[str, str], *, name: str, timeout: float) -> None:
        self.name = name
        self._url = url
        self._options = options
        self._timeout = timeout
        self._stores: dict[bool, Any] = {}
        self._opening = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let nobody wait any longer: what is under way fails, and everything else before it begins."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of connections."""
        with self._opening:
            self._stores.clear()

    def size(self, path: str) -> int | None:
        """Return the bytes of an object, None if there is none."""
        with self._reaching():
            store, obstore = self._open()
            try:
                size: int = self._answer(lambda: obstore.head(store, path)["size"])
            except FileNotFoundError:
                return None
            return size

    def read(self, path: str, limit: int) -> bytes | None:
        """Return an object; None if there is none, or it has more than `limit` bytes."""
        with self._reaching():
            store, obstore = self._open()
            try:
                found = self._answer(lambda: obstore.get(store, path))
                return None if found.meta["size"] > limit else self._answer(lambda: bytes(found.bytes()))
            except FileNotFoundError:
                return None

    def read_all(self, paths: Sequence[str], limit: int) -> list[bytes | None]:
        """Return what `read` does for each, as soon as the slowest has come."""
        return self._at_once(lambda path: self.read(path, limit), paths)

    def create(self, path: str, data: bytes) -> bool:
        """Put an object unless there is one; return whether there was none."""
        with self._reaching():
            store, obstore = self._open(transfer=len(data) > _LARGE)
            from obstore.exceptions import AlreadyExistsError, PreconditionError

            try:
                self._answer(lambda: obstore.put(store, path, data, mode="create", use_multipart=False))
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

    def replace(self, path: str, data: bytes) -> None:
        """Put an object, in place of another one or not."""
        with self._reaching():
            store, obstore = self._open()
            self._answer(lambda: obstore.put(store, path, data, use_multipart=False))

    def send(self, path: str, chunks: Iterator[bytes]) -> None:
        """Put an object of any size, in parts. If `chunks` raises there is none afterwards."""
        with self._reaching():
            store, obstore = self._open(transfer=True)
            sent = self._until_stopped(chunks)
            self._answer(
                lambda: obstore.put(store, path, sent, use_multipart=True, max_concurrency=_PARTS_AT_ONCE)
            )

    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        """Yield the first `size` bytes of an object as they arrive."""
        with self._reaching():
            store, obstore = self._open(transfer=True)
            left = size
            found = self._answer(lambda: obstore.get(store, path))
            for chunk in self._arriving(found.stream(min_chunk_size=_CHUNK)):
                data = bytes(chunk)[:left]
                left -= len(data)
                yield data

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield the objects below `prefix`, a path."""
        with self._reaching():
            store, obstore = self._open()
            for page in self._arriving(obstore.list(store, prefix=prefix)):
                for each in page:
                    yield Listed(each["path"], each["size"], each["last_modified"].timestamp())

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; one that is gone is no error."""

        def delete(path: str) -> None:
            with self._reaching():
                store, obstore = self._open()
                try:
                    self._answer(lambda: obstore.delete(store, path))
                except FileNotFoundError:
                    return

        self._at_once(delete, list(paths))

    def _at_once(self, act: Callable[[str], Found], paths: Sequence[str]) -> list[Found]:
        if len(paths) < 2:
            return [act(path) for path in paths]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(act, paths))

    def _until_stopped(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._check()
            yield chunk

    def _arriving(self, pieces: Iterable[Any]) -> Iterator[Any]:
        rest = iter(pieces)
        while (chunk := self._answer(lambda: next(rest, None))) is not None:
            yield chunk

    def _answer(self, ask: Callable[[], Found]) -> Found:
        """Return what `ask` does. What waits for an answer cannot be cut, so it waits in a thread that may be
        left behind: nobody else does once this is stopped.
        """
        self._check()
        asking: Future[Found] = Future()

        def work() -> None:
            try:
                asking.set_result(ask())
            except BaseException as error:
                asking.set_exception(error)

        threading.Thread(target=work, name="object", daemon=True).start()
        while not wait([asking], _SEEN).done:
            self._check()
        return asking.result()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise RemoteError(f"{self.name}: stopped")

    def _open(self, *, transfer: bool = False) -> tuple[Any, Any]:
        """Return what obstore calls a store, and obstore."""
        self._check()
        try:
            import obstore
            import obstore.store
        except ImportError:
            raise RemoteError(
                f"{self.name}: object stores take the package obstore",
                hint="pip install 'pybuild[object]'",
                code="cache/obstore",
            ) from None
        with self._opening:
            if transfer not in self._stores:
                self._stores[transfer] = self._connect(obstore.store, transfer)
            return self._stores[transfer], obstore

    def _connect(self, stores: Any, transfer: bool) -> Any:
        from datetime import timedelta

        if self._url.startswith("file://"):
            from urllib.parse import unquote

            return stores.LocalStore(unquote(self._url.removeprefix("file://")), mkdir=True)
        silence = max(self._timeout, _PART_TIMEOUT)
        limits = (
            {"timeout": timedelta(hours=1), "read_timeout": timedelta(seconds=silence)}
            if transfer
            else {"timeout": timedelta(seconds=self._timeout)}
        )
        return stores.from_url(
            self._url,
            **self._options,
            client_options={
                **limits,
                "connect_timeout": timedelta(seconds=min(self._timeout, 10)),
                "allow_http": self._options.get("endpoint", "").startswith("http://")
                or _environment_is_plain(),
            },
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=silence)},
        )

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what obstore raises, which has no base that it always keeps to, into a RemoteError."""
        try:
            yield
        except (RemoteError, GeneratorExit):
            raise
        except Exception as error:
            reason = (str(error).split("\n") or [""])[0][:300] or type(error).__name__
            raise RemoteError(f"{self.name}: {reason}") from None


def _environment_is_plain() -> bool:
    import os

    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
    return any(os.environ.get(name, "").startswith("http://") for name in names)
