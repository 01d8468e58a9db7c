"""The layer store: overlay2/ and layerdb/, as docs/store.md shows them.

A layer is there if all of these hold: its entry in layerdb/ is whole, so is that of each layer below, and
each of their changesets was committed, in this boot or before a sync. Whatever `get` returns stays until the
store is closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING

from cache.disk import storing, write_new
from cache.errors import StoreCorrupt, StoreError
from cache.layerfiles import (
    Layer,
    committed,
    lower_is_whole,
    mark_synced,
    read_entry,
    short_name,
    write_committed,
    write_entry,
)
from cache.layerindex import LayerIndex
from cache.locks import flocked
from cache.oci.digest import ChainID, DiffID
from cache.pins import Lease, Pins, take_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from sqlite3 import Connection

    from cache.changeset import Changeset
    from cache.database import Database
    from cache.scratch import Scratch, Staging

__all__ = ["Layer", "LayerStore"]


class LayerStore:
    """The layers of the store at `root`. May be used by several threads."""

    def __init__(
        self,
        root: str,
        scratch: Scratch,
        database: Database,
        boot: str,
        fetch: Callable[[ChainID], None] = lambda chain_id: None,
    ) -> None:
        """`fetch` is asked for a chain that is not there, before that is an error."""
        self._fetch = fetch
        self._overlay2 = root + "/overlay2"
        self._layerdb = root + "/layerdb/sha256"
        self._scratch = scratch
        self._boot = boot
        self._index = LayerIndex(database)
        self._pins = Pins()
        self._lock = threading.RLock()
        self._known: dict[ChainID, tuple[Layer, int]] = {}  # with the number of layers below
        self._unsynced: set[ChainID] = set()

    def get(self, chain_id: ChainID) -> Layer | None:
        """Return the topmost layer of a chain all of which can be used, None otherwise: then it is to be
        built."""
        with self._lock, storing("reading a layer"):
            found = self._known.get(chain_id)
            if found is None:
                found = self._load(chain_id)
            return None if found is None else found[0]

    def chain(self, chain_id: ChainID) -> tuple[Layer, ...]:
        """Return the layers of a chain, the lowest first; those that are not there are fetched, if they can
        be had. Raises StoreError (store/missing) if not, and what fetching raises."""
        if self.get(chain_id) is None:
            self._fetch(chain_id)
        with self._lock:
            layer = self.get(chain_id)
            if layer is None:
                raise StoreError(
                    f"the layers of {chain_id} are not in the store",
                    hint="build or pull it again",
                    code="store/missing",
                )
            layers = [layer]
            while layer.parent is not None:
                layer = self._known[layer.parent][0]
                layers.append(layer)
        layers.reverse()
        return tuple(layers)

    def lowerdirs(self, chain_id: ChainID) -> tuple[str, ...]:
        """Return the chain's changesets as overlayfs takes its lowerdirs: absolute paths, the topmost first.

        One that is there twice (two steps that changed nothing) comes once, as the kernel demands (ELOOP):
        all that it has is the upper one's anyway.
        """
        return tuple(dict.fromkeys(self.diff_path(layer) for layer in reversed(self.chain(chain_id))))

    def diff_path(self, layer: Layer) -> str:
        """Return the absolute path of the layer's changeset."""
        return f"{self._overlay2}/{layer.cache_id}/diff"

    def publish(
        self,
        parent: ChainID | None,
        staged: Staging,
        changeset: Changeset,
        *,
        signature: bytes | None = None,
        foreign: bool = False,
    ) -> Layer:
        """Make `staged.upper`, measured as `changeset`, the layer on top of `parent`, and return it.

        The directory is moved, not copied; where the store has that changeset already, `staged` keeps its
        own. `signature` is what `candidates` will find the layer by. A `foreign` changeset was unpacked from
        a tar that we did not write, so that its DiffID cannot be had again from the disk: the digest of our
        own tar is kept beside it, for `verify`. Raises StoreFull, StoreError; nothing is published then.
        """
        if parent is not None:
            self.chain(parent)  # before the locks: whoever fetches publishes, too
        tree = _tree_digest(staged.upper) if foreign else None
        # A store that has layers and no database is taken for one that has lost it.
        self._index.database.read("SELECT 1")
        # No prune meanwhile, and nobody else who publishes.
        with storing("publishing a layer"), flocked(self._layerdb), flocked(self._overlay2, exclusive=True):
            lower = "" if parent is None else self._lower(parent)
            layer = Layer(
                ChainID.extend(parent, changeset.diff_id),
                parent,
                changeset.diff_id,
                changeset.diff_id.hex,
                changeset.size,
            )
            boot = self._publish_diff(layer, staged)
            self._publish_entry(layer, lower)
            self._index.put(layer, boot, tree=tree, signature=signature)
            published = self.get(layer.chain_id)
        if published is None:
            raise StoreCorrupt(f"{layer.chain_id} is not as it was published")
        return published

    def children(self, parent: ChainID | None) -> tuple[Layer, ...]:
        """Return the layers known right above `parent` (None: the lowest ones), the newest first."""
        self.complete_index()
        return self._present(self._index.children(parent))

    def candidates(self, parent: ChainID | None, signature: bytes) -> tuple[Layer, ...]:
        """Return the layers right above `parent` that were published with `signature`, the newest first."""
        return self._present(self._index.candidates(parent, signature))

    def lease(self, chain_ids: Iterable[ChainID]) -> Lease:
        """Hold chains beyond the life of this store object, or for a child process. Raises StoreError."""
        chains = list(chain_ids)
        for chain_id in chains:
            self.chain(chain_id)
        lease = take_lease([self._entry(chain_id) for chain_id in chains])
        if lease is None or any(self.get(chain_id) is None for chain_id in chains):
            if lease is not None:
                lease.close()
            raise StoreError("the layers to be leased are not in the store", code="store/missing")
        return lease

    def remove(self, chain_id: ChainID) -> bool:
        """Remove the topmost layer of a chain. False if there is none.

        Raises StoreError (store/in-use) if another layer stands on it, or a process uses it.
        """
        from cache.layerremoval import remove

        with self._lock:
            found = self._known.pop(chain_id, None)
            if found is not None and found[0].parent is not None:
                self._pins.take(self._entry(found[0].parent))
            self._pins.drop(self._entry(chain_id))
            self._unsynced.discard(chain_id)
        return remove(self, chain_id)

    def all(self) -> tuple[Layer, ...]:
        """Return every whole entry of layerdb/, sorted by ChainID; whether its changeset can be trusted is
        not asked."""
        return tuple(self.entries())

    def entries(self) -> Iterator[Layer]:
        """Yield what `all` returns, holding none of it."""
        for name in sorted(os.listdir(self._layerdb)):
            if len(name) != 64:
                continue
            chain_id = ChainID("sha256:" + name)
            try:
                fd = os.open(
                    self._entry(chain_id), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                )
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                layer = read_entry(chain_id, fd)
            finally:
                os.close(fd)
            if layer is not None:
                yield layer

    def is_whole(self, layer: Layer) -> bool:
        """True if the layer's own changeset can be trusted."""
        return self._trust(layer) is not None

    def verify(self, chain_id: ChainID) -> None:
        """Hash the topmost layer's changeset again, and check all that is written about it. The disk stays as
        it is.

        Raises StoreCorrupt that says what is wrong, StoreError (store/missing) if there is no such chain.
        """
        from cache.layerverify import verify

        verify(self, self.chain(chain_id), self._index.tree(chain_id))

    def distrust(self, layer: Layer) -> None:
        """Let a changeset that was found to be changed count as not committed: whoever needs it makes it
        anew.
        """
        with self._lock, storing("distrusting a layer"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._overlay2}/{layer.cache_id}/committed")
            for chain_id in [c for c, (known, _) in self._known.items() if known.cache_id == layer.cache_id]:
                del self._known[chain_id]

    def unsynced(self) -> frozenset[ChainID]:
        """Return the layers published by, or given to, this process that no sync has covered yet."""
        with self._lock:
            return frozenset(self._unsynced)

    def index_synced(self, connection: Connection, chain_ids: Iterable[ChainID]) -> None:
        """Say in the index that they are on the disk, within the transaction of a sync."""
        self._index.mark_synced(connection, chain_ids)

    def mark_synced(self, chain_ids: Iterable[ChainID]) -> None:
        """Say in `committed` that they are on the disk. To be called when the index says so for good."""
        with self._lock, storing("marking layers as synced"):
            for chain_id in chain_ids:
                found = self._known.get(chain_id)
                if found is not None:
                    mark_synced(f"{self._overlay2}/{found[0].cache_id}")
                self._unsynced.discard(chain_id)

    def close(self) -> None:
        """Hold no layer any more."""
        with self._lock:
            self._known.clear()
            self._pins.drop_all()

    @property
    def index(self) -> LayerIndex:
        """The index in pybuild.db, for pruning."""
        return self._index

    @property
    def layerdb(self) -> str:
        """The directory of the entries, whose flock keeps pruning and publishing apart."""
        return self._layerdb

    @property
    def overlay2(self) -> str:
        """The directory of the changesets."""
        return self._overlay2

    @property
    def scratch(self) -> Scratch:
        """tmp/ of the store."""
        return self._scratch

    def _entry(self, chain_id: ChainID) -> str:
        return f"{self._layerdb}/{chain_id.hex}"

    def _load(self, chain_id: ChainID) -> tuple[Layer, int] | None:
        """Read a chain from the disk, down to what is known, and hold it. A prune takes layers from the
        top, so holding the topmost holds those below."""
        found: list[tuple[Layer, int, bool]] = []
        current: ChainID | None = chain_id
        while current is not None and current not in self._known:
            fd = self._pins.take(self._entry(current))
            layer = None if fd is None else read_entry(current, fd)
            trust = None if layer is None else self._trust(layer)
            if fd is None or layer is None or trust is None:
                for path in [self._entry(current), *(self._entry(each.chain_id) for each, _, _ in found)]:
                    self._pins.drop(path)
                return None
            found.append((layer, fd, trust == ""))
            current = layer.parent
        depth = -1 if current is None else self._known[current][1]
        for layer, fd, synced in reversed(found):
            depth += 1
            if not lower_is_whole(fd, depth):
                self._drop_from(layer.chain_id, found)
                return None
            self._known[layer.chain_id] = (layer, depth)
            if not synced:
                self._unsynced.add(layer.chain_id)
            if layer.parent is not None:
                self._pins.drop(self._entry(layer.parent))
        return self._known[chain_id]

    def _drop_from(self, chain_id: ChainID, found: list[tuple[Layer, int, bool]]) -> None:
        """Let go of `chain_id` and what was found above it."""
        for layer, _, _ in found:
            self._pins.drop(self._entry(layer.chain_id))
            if layer.chain_id == chain_id:
                return

    def _trust(self, layer: Layer) -> str | None:
        """Return "" for a changeset that is synced, this boot's id for one that is not yet, None for one
        that may be anything."""
        path = f"{self._overlay2}/{layer.cache_id}"
        boot = committed(path)
        if boot is None or boot in ("", self._boot):
            return boot
        if not self._index.is_synced(layer.diff_id):
            return None
        mark_synced(path)  # the power went after the sync, and before this was on the disk
        return ""

    def _present(self, chain_ids: Iterable[ChainID]) -> tuple[Layer, ...]:
        layers = (self.get(chain_id) for chain_id in chain_ids)
        return tuple(layer for layer in layers if layer is not None)

    def _lower(self, parent: ChainID) -> str:
        """Return the text of `lower` for what stands on `parent`. Raises StoreError if that is not there."""
        below = self.chain(parent)[-1]
        link = "l/" + short_name(below.cache_id)
        if below.parent is None:
            return link
        with open(self._entry(parent) + "/lower") as file:
            return f"{link}:{file.read()}"

    def _publish_diff(self, layer: Layer, staged: Staging) -> str:
        """Move the changeset to overlay2/, unless a whole one is there. Returns the boot it can be trusted
        in, "" for all."""
        target = f"{self._overlay2}/{layer.cache_id}"
        short = short_name(layer.cache_id)
        trust = self._trust(layer) if os.path.isdir(target + "/diff") else None
        self._link(f"{self._overlay2}/l/{short}", layer.cache_id)
        if trust is not None:
            return trust
        staged.keep_only("diff")
        write_new(staged.path + "/link", short.encode())
        write_committed(staged.path, self._boot)
        self._replace(target, staged)
        return self._boot

    def _publish_entry(self, layer: Layer, lower: str) -> None:
        """Move the entry to layerdb/, unless a whole one is there."""
        if self.get(layer.chain_id) is not None:
            return
        with self._scratch.directory("entry") as staged:
            os.chmod(staged.path, 0o755)
            write_entry(staged.path, layer, lower)
            self._replace(self._entry(layer.chain_id), staged)

    def _replace(self, target: str, staged: Staging) -> None:
        """Move `staged` to `target`, after what a power cut has left there is out of the way."""
        try:
            staged.move(target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        with self._scratch.take_away(target):
            staged.move(target)

    def _link(self, short: str, cache_id: str) -> None:
        target = f"../{cache_id}/diff"
        try:
            os.symlink(target, short)
        except FileExistsError:
            if os.path.islink(short) and os.readlink(short) == target:
                return
            os.unlink(short)
            os.symlink(target, short)

    def complete_index(self) -> None:
        """Enter what layerdb/ has into the index, if the database is new."""
        if self._index.is_complete():
            return
        with storing("indexing the layers"):
            found = [(layer, committed(f"{self._overlay2}/{layer.cache_id}")) for layer in self.entries()]
        self._index.put_all((layer, boot) for layer, boot in found if boot is not None)


def _tree_digest(upper: str) -> DiffID:
    from cache.layerverify import tar_digest

    return tar_digest(upper)
