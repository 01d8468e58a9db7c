"""The store: one directory that all builds of a machine share. docs/store.md shows how to look into it."""

from __future__ import annotations

import contextlib
import os
from functools import cached_property

from cache import storeformat
from cache.database import Database
from cache.disk import boot_id, read_small, storing, syncfs
from cache.errors import StoreError
from cache.scratch import Scratch

TYPE_CHECKING = False  # typing alone takes longer to import than a cached build has left
if TYPE_CHECKING:
    from collections.abc import Callable
    from sqlite3 import Connection
    from types import TracebackType

    from cache.absent import AbsentLayer, AbsentLayers
    from cache.blobs import Blobs
    from cache.cachemounts import CacheMounts
    from cache.containers import ContainerStore
    from cache.failedsteps import FailedSteps
    from cache.holders import Holders
    from cache.images import ImageStore
    from cache.lastuse import LastUse
    from cache.layers import Layer, LayerStore
    from cache.locks import Lock
    from cache.memo import Memo, Receipts
    from cache.names import Names
    from cache.oci.digest import ChainID
    from cache.records import Records
    from cache.scratch import Staging
    from cache.statcache import StatCache
    from cache.writeback import WriteBack

_DIRECTORIES = ("overlay2/l", "layerdb/sha256", "imagedb/content/sha256", "blobs", "tmp")
_NAMES = frozenset(path.partition("/")[0] for path in _DIRECTORIES) | {
    "cachemounts",
    "containers",
    "failed",
    "format",
    "git",
    "lost+found",
    "reserve",
}


class Store:
    """An open store. What it was asked for is loaded at first use: a build that hits opens no more than it
    needs."""

    def __init__(self, root: str, *, warn: Callable[[str], None] | None = None) -> None:
        """Use `open`, which makes sure of the layout."""
        self.root = root
        self.scratch = Scratch(root + "/tmp")
        self.warnings: list[str] = []
        """What the user should know of: damage that was got over, leftovers that cannot be removed."""
        self._warn = warn
        self.fetch: Callable[[ChainID], None] | None = None
        """Gets the layers of a chain that is not here, if it can be had."""

    @classmethod
    def open(cls, root: str, *, warn: Callable[[str], None] | None = None, sweep: bool = True) -> Store:
        """Open the store at `root`, made if it is not there, and sweep what dead builds left in tmp/.

        Without `sweep`, for who may not remove it yet: it can belong to ids that a user namespace has.

        `warn` is called with what is got over, now or later; without it, that is in `warnings`. Raises
        StoreError if `root` cannot be used, is something else, or was written in a format that this pybuild
        does not know.
        """
        root = os.path.abspath(root)
        store = cls(root, warn=warn)
        with storing(f"opening the store {root}"):
            _prepare(root)
            try:
                leftovers = store.scratch.sweep() if sweep else ()
            except FileNotFoundError:  # somebody tidied up too well
                _make_layout(root)
                leftovers = store.scratch.sweep()
        for left in leftovers:
            store._tell(f"cannot be removed: {left}")
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def boot(self) -> str:
        """The id of the boot that we are in."""
        return boot_id()

    @cached_property
    def database(self) -> Database:
        """pybuild.db, opened by the first question to it."""
        return Database(self.root + "/pybuild.db", self.scratch, warn=self._tell, inhabited=self._has_layers)

    @cached_property
    def layers(self) -> LayerStore:
        from cache.layers import LayerStore

        return LayerStore(self.root, self.scratch, self.database, self.boot, self._fetch)

    @cached_property
    def write_back(self) -> WriteBack:
        from cache.writeback import WriteBack

        return WriteBack(self.root)

    @cached_property
    def absent(self) -> AbsentLayers:
        from cache.absent import AbsentLayers

        return AbsentLayers(self.receipts)

    @cached_property
    def holders(self) -> Holders:
        from cache.holders import Holders

        return Holders(self.memo)

    @cached_property
    def images(self) -> ImageStore:
        from cache.images import ImageStore

        return ImageStore(self.root, self.scratch, self.names)

    @cached_property
    def containers(self) -> ContainerStore:
        from cache.containers import ContainerStore

        return ContainerStore(self.root, self.scratch)

    @cached_property
    def failed_steps(self) -> FailedSteps:
        from cache.failedsteps import FailedSteps

        return FailedSteps(self.root, self.scratch)

    @cached_property
    def cache_mounts(self) -> CacheMounts:
        from cache.cachemounts import CacheMounts

        return CacheMounts(self.root, self.scratch)

    @cached_property
    def blobs(self) -> Blobs:
        from cache.blobs import Blobs

        return Blobs(self.root + "/blobs", self.scratch, self.memo, self.receipts)

    @cached_property
    def records(self) -> Records:
        from cache.records import Records

        return Records(self.database, self.last_use, self.boot)

    @cached_property
    def names(self) -> Names:
        from cache.names import Names

        return Names(self.database)

    @cached_property
    def stats(self) -> StatCache:
        from cache.statcache import StatCache

        return StatCache(self.database)

    @cached_property
    def memo(self) -> Memo:
        from cache.memo import Memo

        return Memo(self.database)

    @cached_property
    def receipts(self) -> Receipts:
        from cache.memo import Receipts

        return Receipts(self.database, self.boot)

    @cached_property
    def last_use(self) -> LastUse:
        from cache.lastuse import LastUse

        return LastUse(self.database)

    def has(self, chain_id: ChainID | None) -> bool:
        """Return whether a chain is here, or those of its layers that are not can be had."""
        return not chain_id or self.layers.get(chain_id) is not None or self.stack(chain_id) is not None

    def stack(self, chain_id: ChainID | None) -> list[Layer | AbsentLayer] | None:
        """Return the layers of a chain, the lowest first, whether they are here or not: nothing is fetched.
        None if one of them cannot be had."""
        found: list[Layer | AbsentLayer] = []
        while chain_id:
            if self.layers.get(chain_id) is not None:
                return [*self.layers.chain(chain_id), *reversed(found)]
            absent = self.absent.get(chain_id)
            if absent is None:
                return None
            found.append(absent)
            chain_id = absent.parent
        found.reverse()
        return found

    def stage(self) -> Staging:
        """Return a private directory to make a changeset in: a context manager, which removes what was not
        published."""
        return self.scratch.stage()

    def lock(
        self,
        name: str,
        *,
        shared: bool = False,
        blocking: bool = True,
        on_wait: Callable[[], None] | None = None,
    ) -> Lock:
        """Return the lock `name` (a step key, a ChainID), to be entered: see `cache.locks.Lock`.

        Without `blocking`, entering it raises LockHeld if another holds it; `on_wait` is called if it has to
        wait.
        """
        return self.scratch.lock(name, shared=shared, blocking=blocking, on_wait=on_wait)

    def sync(self) -> None:
        """Make sure that what this process published, or was given by one that has not synced, outlasts a
        power cut.

        One syncfs, then one durable transaction that says so; nothing at all if there is nothing to sync.
        Names are given after it.
        """
        layers = self.layers.unsynced() if "layers" in self.__dict__ else frozenset()
        records = self.records.unsynced() if "records" in self.__dict__ else frozenset()
        receipts = self.receipts.unsynced() if "receipts" in self.__dict__ else frozenset()
        images = "images" in self.__dict__ and self.images.unsynced
        if not (layers or records or receipts or images):
            return
        with storing("syncing the store"):
            if "write_back" in self.__dict__:
                self.write_back.wait()
            syncfs(self.root)

        def work(connection: Connection) -> None:
            if layers:
                self.layers.index_synced(connection, layers)
            if records:
                self.records.mark_synced(connection, records)
            if receipts:
                self.receipts.mark_synced(connection, receipts)

        if layers or records or receipts:
            self.database.write(work, durable=True)
        if layers:
            self.layers.mark_synced(layers)
        if images:
            self.images.unsynced = False

    def close(self) -> None:
        """Wait until what was thrown away is removed, let go of all that is held, and close the database."""
        if "write_back" in self.__dict__:
            with contextlib.suppress(OSError):  # said by `sync`, if anything depends on it
                self.write_back.wait()
        for left in self.scratch.settle():
            self._tell(f"cannot be removed: {left}")
        if "layers" in self.__dict__:
            self.layers.close()
        if "images" in self.__dict__:
            self.images.close()
        if "blobs" in self.__dict__:
            self.blobs.close()
        if "database" in self.__dict__:
            self.database.close()

    def upperdir_problem(self) -> str | None:
        """Say why no step can run on this store's file system, None if it can: see `cache.filesystem`."""
        from cache.filesystem import upperdir_problem

        return upperdir_problem(self.root, self.scratch)

    def _fetch(self, chain_id: ChainID) -> None:
        if self.fetch is not None:
            self.fetch(chain_id)

    def _has_layers(self) -> bool:
        with os.scandir(self.root + "/layerdb/sha256") as entries:
            return any(True for _ in entries)

    def _tell(self, message: str) -> None:
        self.warnings.append(message)
        if self._warn is not None:
            self._warn(message)


def _prepare(root: str) -> None:
    """Make the layout at `root` where it is not there yet."""
    found = read_small(root + "/format")
    if found:
        if (refusal := storeformat.refusal(root, found)) is not None:
            raise refusal
        return
    os.makedirs(os.path.dirname(root), exist_ok=True)
    try:
        os.mkdir(root, 0o700)  # layers hold setuid programs of other systems: not for everyone on this one
    except FileExistsError:
        strange = [name for name in sorted(os.listdir(root)) if name.partition(".damaged")[0] not in _NAMES]
        strange = [name for name in strange if not name.startswith("pybuild.db")]
        if strange:
            raise StoreError(
                f"{root} is no store, and not empty: it holds {strange[0]!r}",
                hint="give an empty or new directory as --root",
            ) from None
    _make_layout(root)
    _write_format(root)


def _make_layout(root: str) -> None:
    from cache import reserve

    for path in _DIRECTORIES:
        os.makedirs(f"{root}/{path}", 0o700, exist_ok=True)
    reserve.keep(root)


def _write_format(root: str) -> None:
    """Write it last: a store that has it is complete. Two that make the same store write the same."""
    scratch = Scratch(root + "/tmp")
    fd, staged = scratch.file()
    try:
        os.write(fd, storeformat.own_format().encode())
        os.fsync(fd)
        os.rename(staged, root + "/format")
    finally:
        os.close(fd)
