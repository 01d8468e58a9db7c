"""Telling shared caches what was run here, while the build goes on."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.events import TransferFinished, TransferStarted
from cache.entries import Entry
from cache.envelope import Envelope, signers_of
from cache.errors import StoreError
from cache.oci.spec import MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_ZSTD, Descriptor
from cache.remote import UNSIGNED
from cache.trust import Believed, Trust, judge

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from typing import BinaryIO

    from builder.events import Emit
    from builder.sharedcache import Held
    from builder.sharedtier import TierInUse
    from cache.compression import Compression
    from cache.layers import Layer
    from cache.oci.digest import ChainID
    from cache.records import Record
    from cache.signing import PrivateKey
    from cache.store import Store

_AT_ONCE = 2
"""Uploads at a time: a layer is compressed by several threads as it is."""

_MEDIA_TYPES = {"none": MEDIA_TYPE_LAYER, "gzip": MEDIA_TYPE_LAYER_GZIP, "zstd": MEDIA_TYPE_LAYER_ZSTD}


class Upload:
    """Tells `tiers`, in threads of its own."""

    def __init__(
        self, store: Store, emit: Emit, tiers: Sequence[TierInUse], compression: Compression
    ) -> None:
        """`compression` is that of images. Raises KeyFileError."""
        self._store = store
        self._compression = compression
        self._emit = emit
        self._tiers = tiers
        # Here, not in a thread: a key that cannot be read ends the build before it has run any longer.
        self._keys: dict[str, PrivateKey | None] = {each.name: each.tier.private_key() for each in tiers}
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._tasks: list[Future[None]] = []
        self._told: dict[tuple[str, str], list[bytes]] = {}
        self.added = 0
        """How many entries are new."""
        self.sent = 0
        """The bytes of blobs that were new."""

    def step(self, line: str, record: Record, value: str, held: Held | None) -> None:
        """Tell what a step gave; `value` is what is to be known of it besides. `held` is let go of then."""
        if held is not None:
            held.handed_on = True

        def work() -> None:
            try:
                top = record.chain_id if record.diff_id is not None else None
                self._tell_all(line, record.key, lambda created: _step(record, value, created), top, 1)
            finally:
                if held is not None:
                    held.release()

        self._submit(work)

    def base(self, key: str, config: bytes) -> None:
        """Tell what a base is: its config, and all of its layers."""
        from builder.bases.base import chain_of
        from cache.oci.spec import ImageConfig

        diff_ids = ImageConfig.from_json(config).diff_ids

        def entry(created: int) -> Entry:
            return Entry("base", key, created, value=config.decode())

        self._submit(lambda: self._tell_all("", key, entry, chain_of(diff_ids), len(diff_ids)))

    def fact(self, line: str, key: str, value: str) -> None:
        """Tell the answer to a question."""
        self._submit(
            lambda: self._tell_all(
                line, key, lambda created: Entry("fact", key, created, value=value), None, 0
            )
        )

    def finish(self) -> None:
        """Wait until all is told; then say of each line of descent what was met. Raises CacheError of a tier
        that is required.
        """
        waiting = [each for each in self._tasks if not each.done()]
        if waiting:
            count = f"{len(waiting)} result{'s' if len(waiting) > 1 else ''}"
            self._emit(TransferStarted("share", f"telling shared caches of {count}", None))
        try:
            for task in self._tasks:
                task.result()
            for (name, line), entries in self._told.items():
                for tier in self._tiers:
                    if tier.name == name:
                        tier.extend(line, entries)
        finally:
            if waiting:
                self._emit(TransferFinished("share", 0))
            self._end()

    def stop(self) -> None:
        """Give up what is not told yet."""
        for task in self._tasks:
            task.cancel()
        for tier in self._tiers:
            tier.close(at_once=True)
        self._end()

    def _end(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def _submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="share")
            self._tasks.append(self._pool.submit(work))

    def _tell_all(
        self,
        line: str,
        key: str,
        entry: Callable[[int], Entry],
        top: ChainID | None,
        count: int,
    ) -> None:
        """Tell every tier; `count` layers from `top` down belong to it."""
        for tier in self._tiers:
            if tier.broken:
                continue
            signer = self._keys[tier.name]
            name = UNSIGNED if signer is None else signer.public.id
            mine = [each for each in tier.entries(line, key) if name in signers_of(each)]
            known = next((each for each in mine if _holds(each, signer)), None)
            if known is None:
                known = self._tell(tier, key, entry, top, count, signer, name, replace=bool(mine))
            if known is not None and line:
                with self._lock:
                    self._told.setdefault((tier.name, line), []).append(known)

    def _tell(
        self,
        tier: TierInUse,
        key: str,
        entry: Callable[[int], Entry],
        top: ChainID | None,
        count: int,
        signer: PrivateKey | None,
        name: str,
        *,
        replace: bool,
    ) -> bytes | None:
        blobs = self._send_layers(tier, top, count)
        if blobs is None:
            return None
        now = int(time.time())
        ttl = tier.tier.ttl
        said = dataclasses.replace(entry(now), layers=blobs, expires=None if ttl is None else now + ttl)
        envelope = Envelope(said.to_json())
        sealed = (envelope if signer is None else envelope.signed(signer)).to_json()
        blob = blobs[-1] if blobs else None
        if tier.attempt(lambda remote: remote.add(key, name, sealed, blob, replace=replace), False):
            with self._lock:
                self.added += 1
        return None if tier.broken else sealed

    def _send_layers(self, tier: TierInUse, top: ChainID | None, count: int) -> tuple[Descriptor, ...] | None:
        """Send the blobs of `count` layers from `top` down; return them, bottom first. None if it cannot be
        done."""
        if top is None or not count:
            return ()
        if self._store.layers.get(top) is None:
            return None  # it is not here: who told us of it has it
        blobs = []
        for layer in self._store.layers.chain(top)[-count:]:
            blob = self._pack(tier, layer)
            if blob is None:
                return None
            sent = tier.attempt(lambda remote, blob=blob: remote.put_blob(blob, self._opener(blob)), False)  # type: ignore[misc]
            with self._lock:
                self.sent += blob.size if sent else 0
            if tier.broken:
                return None
            if tier.tier.repository:
                self._store.holders.note(blob.digest, tier.tier.repository)
            blobs.append(blob)
        return tuple(blobs)

    def _pack(self, tier: TierInUse, layer: Layer) -> Descriptor | None:
        from builder.exporters.packing import pack

        try:
            how = tier.tier.compression(self._compression)
            (packed,) = pack(self._store, [layer], how, lambda event: None)
        except StoreError:  # somebody else's tar, whose blob is gone
            return None
        return Descriptor(_MEDIA_TYPES[packed.kind], packed.digest, packed.size)

    def _opener(self, blob: Descriptor) -> Callable[[], BinaryIO]:
        def opened() -> BinaryIO:
            file = self._store.blobs.open(blob.digest)
            if file is None:
                raise StoreError(f"the blob {blob.digest} is gone: was the store pruned?")
            return file

        return opened


def _holds(sealed: bytes, signer: PrivateKey | None) -> bool:
    """Return whether an entry of one's own is good still."""
    trust = Trust(None if signer is None else (signer.public,))
    return isinstance(judge(sealed, trust, int(time.time())), Believed)


def _step(record: Record, value: str, created: int) -> Entry:
    return Entry("step", record.key, created, record, value=value)
