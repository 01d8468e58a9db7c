"""One shared cache in the hands of one build: asked as seldom as can be, and no more once it has failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from builder.events import Notice
from cache.errors import CacheError
from cache.remote import UNSIGNED

if TYPE_CHECKING:
    from builder.cachetiers import CacheTier
    from builder.events import Emit
    from cache.remote import RemoteCache

T = TypeVar("T")


class TierInUse:
    """A tier, what it has told so far, and whether it still answers. For several threads."""

    def __init__(
        self, tier: CacheTier, open_tier: Callable[[], RemoteCache], emit: Emit, *, required: bool
    ) -> None:
        """`required`: a failure is an error, and not a warning."""
        self.tier = tier
        self.error: CacheError | None = None
        self._open = open_tier
        self._emit = emit
        self._required = required
        self._remote: RemoteCache | None = None
        self._lock = threading.RLock()
        self._lines: dict[str, set[bytes]] = {}
        self._found: dict[str, list[bytes]] = {}
        self._asked: set[str] = set()

    @property
    def name(self) -> str:
        return self.tier.name

    @property
    def broken(self) -> bool:
        return self.error is not None

    def entries(self, line: str, key: str) -> list[bytes]:
        """Return the sealed entries under `key`; [] if the tier does not answer. Of a line of descent all are
        asked for at once, by whoever is the first."""
        with self._lock:
            self._load(line)
            signers = self._signers()
            if key not in self._asked and not self._known(key, signers):
                self._asked.add(key)
                self._note(self.attempt(lambda remote: remote.entry(key, signers), []))
            return list(self._found.get(key, ()))

    def each(self, line: str, key: str) -> Iterator[bytes]:
        """Yield the sealed entries under `key`, those that are known first: if none of them will do, it is
        asked for by its name, for a line of descent may hold what somebody has forged."""
        met = self.entries(line, key)
        yield from met
        with self._lock:
            asked = key in self._asked
        if met and not asked:
            yield from (sealed for sealed in self.again(key, keep=True) if sealed not in met)

    def again(self, key: str, *, keep: bool = False) -> list[bytes]:
        """Return the sealed entries under `key` as they are now; with `keep`, those that were met before,
        too."""
        with self._lock:
            self._asked.add(key)
            if not keep:
                self._found.pop(key, None)
            signers = self._signers()
            self._note(self.attempt(lambda remote: remote.entry(key, signers), []))
            return list(self._found.get(key, ()))

    def of_line(self, line: str) -> list[bytes]:
        """Return all entries that the tier knows of a line of descent."""
        with self._lock:
            self._load(line)
            return list(self._lines.get(line, ()))

    def extend(self, line: str, entries: list[bytes]) -> None:
        """Add to a line of descent what it does not know yet."""
        with self._lock:
            new = [each for each in entries if each not in self._lines.get(line, ())]
        if new:
            self.attempt(lambda remote: remote.extend(line, new), None)

    def attempt(self, work: Callable[[RemoteCache], T], default: T) -> T:
        """Return what `work` returns; where it fails, `default`, and the tier is not asked again. Raises
        CacheError if it is required.
        """
        if self.broken:
            return default
        try:
            return work(self.remote())
        except CacheError as error:
            if self._required:
                raise
            with self._lock:
                told, self.error = self.error, error
            if told is None:
                message = f"the shared cache {self.name} is left out of this build: {error.message}"
                self._emit(Notice("warning", error.code, message))
            return default

    def remote(self) -> RemoteCache:
        """Return the open cache. Raises CacheError."""
        with self._lock:
            if self._remote is None:
                self._remote = self._open()
            return self._remote

    def close(self, *, at_once: bool = False) -> None:
        """Let go of connections; `at_once`: whatever is under way fails."""
        with self._lock if not at_once else threading.Lock():
            remote, self._remote = self._remote, None
        if remote is not None:
            if at_once:
                remote.stop()
            remote.close()

    def _load(self, line: str) -> None:
        if line and line not in self._lines:
            found: list[bytes] = self.attempt(lambda remote: remote.line(line), [])
            self._lines[line] = set(found)
            self._note(found)

    def _known(self, key: str, signers: tuple[str, ...]) -> bool:
        """Return whether an entry by one of `signers` was met; by their own word: one that only says so is
        asked for in vain, and what strangers have put into a line hides nothing."""
        from cache.envelope import signers_of

        met = self._found.get(key, ())
        return any("" in signers or not signers_of(each).isdisjoint(signers) for each in met)

    def _note(self, entries: list[bytes]) -> None:
        from cache.entries import key_of

        for sealed in entries:
            key = key_of(sealed)
            known = self._found.setdefault(key, []) if key else []
            if sealed not in known:
                known.append(sealed)

    def _signers(self) -> tuple[str, ...]:
        """Return whose entries are worth asking for: of those that are believed, and one's own."""
        trusted = (self.tier.trust.signers or ("",)) if self.tier.reads else ()
        if not self.tier.writes or trusted == ("",):
            return trusted
        own = self.tier.private_key()
        return (*dict.fromkeys((*trusted, UNSIGNED if own is None else own.public.id)),)
