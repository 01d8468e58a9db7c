"""What a command that builds or runs has open: the configuration, the store, and an executor once one is
needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, cast

from builder import userns
from builder.epoch import Epoch
from builder.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from builder.annotations import Annotations
    from builder.baseresolver import BaseResolver
    from builder.bases.base import BaseImage
    from builder.build import Build, Built, Settings
    from builder.config import Config
    from builder.contexts import BuildContext
    from builder.events import Emit, Event
    from builder.executor import Executor
    from builder.exporters.base import Output
    from builder.exporters.output_spec import OutputSpec
    from builder.inspection import Inspection
    from builder.lazylayers import LazyLayers
    from builder.locks import Locks
    from builder.plan import PlanOptions
    from builder.progress import Display
    from builder.remotes.fetching import Pinned, Remotes
    from builder.sharedcache import SharedCache
    from builder.sharedtier import TierInUse
    from cache.compression import Compression
    from cache.registry.endpoints import Registries
    from cache.remote import RemoteCache
    from cache.store import Store


class Session:
    """Closes what it opened, whatever happens."""

    def __init__(self, config: Config, root: str, snapshotter: str | None = None) -> None:
        from builder import snapshots
        from cache.store import Store

        self.config = config
        if not os.path.exists(os.path.join(root, "format")):
            userns.require()  # what this process cannot become says how a new store is to be
        self.store: Store = Store.open(root, warn=_warn)
        choice = cast("snapshots.Driver", snapshotter or config.snapshotter or "auto")
        self.snapshots = snapshots.use(choice, self.store.scratch)
        self.epoch = Epoch(None)
        self._executor: Executor | None = None
        self._resolver: BaseResolver | None = None
        self._remotes: Remotes | None = None
        self._fetched = ExitStack()
        self._lazy: LazyLayers | None = None
        self._shared: SharedCache | None = None
        self._tiers: tuple[TierInUse, ...] = ()
        self._emit: Emit = _tell_transfer
        self.written: Sequence[OutputSpec] = ()
        """What the build is to write."""
        self.store.fetch = lambda chain_id: self.lazy().fetch(chain_id)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what runs, and close the store."""
        try:
            if self._resolver is not None:
                self._resolver.close()
            if self._remotes is not None:
                self._remotes.close()
            if self._shared is not None:
                self._shared.close()
            if self._lazy is not None:
                self._lazy.close()
            if self._executor is not None:
                self._executor.close()
            self.snapshots.close()
        finally:
            self._fetched.close()
            self.store.close()

    def lazy(self) -> LazyLayers:
        """What fetches layers that the store knows and does not have."""
        if self._lazy is None:
            from builder.lazylayers import LazyLayers
            from builder.registries import registry_client

            self._lazy = LazyLayers(
                self.store, self._emit, lambda: registry_client(self.registries()), self.open_cache
            )
        self._lazy.emit = self._emit
        return self._lazy

    def open_cache(self, place: str) -> RemoteCache:
        """Open a shared cache by the name that the origins of its layers have for it. Raises UsageError."""
        from builder.cachetiers import open_place

        return open_place(place, self.registries())

    def shared(self, args: argparse.Namespace, emit: Emit) -> SharedCache | None:
        """Return what asks and tells the shared caches that the arguments or the configuration name, None if
        they name none. Raises UsageError.
        """
        given, told = getattr(args, "cache_from", ()), getattr(args, "cache_to", ())
        config = self.config.cache
        if not (given or told or config.from_ or config.to):
            return None
        from builder.cachetiers import open_cache, tiers
        from builder.sharedcache import SharedCache
        from builder.sharedtier import TierInUse

        required = getattr(args, "cache_required", False) or config.required
        self._tiers = tuple(
            TierInUse(tier, partial(open_cache, tier.spec, self.registries()), emit, required=required)
            for tier in tiers(given, told, self.config)
        )
        self._shared = SharedCache(self.store, emit, self._tiers, self._compression)
        return self._shared

    def _compression(self) -> Compression:
        """Return how the layers of images are compressed: as the outputs have it, else the configuration."""
        from builder.exporters import default_compression
        from builder.exporters.output_spec import PACKED
        from cache.compression import Compression

        found = [spec.compression for spec in self.written if spec.type in PACKED]
        found += [default_compression(self.config) or Compression.parse("gzip")]
        return next((each for each in found if each.kind != "none"), Compression.parse("gzip"))

    @property
    def cache_files(self) -> tuple[str, ...] | None:
        """The files that say which shared caches are believed; None if one of these did not answer, so that
        another build may find more."""
        if any(tier.broken for tier in self._tiers):
            return None
        return tuple(path for tier in self._tiers for path in tier.tier.files)

    def executor(self) -> Executor:
        """The executor. Started at the first call, from a process that is still small."""
        if self._executor is None:
            from builder.sandbox import Sandbox

            if self.snapshots.driver == "overlay":
                self._executor = Sandbox()
            else:
                from builder.snapshotexecutor import SnapshotExecutor

                self._executor = SnapshotExecutor(Sandbox(), self.snapshots)
                self._tell_fallback()
        return self._executor

    def _tell_fallback(self) -> None:
        """Say that something slower than the kernel's overlay is used which nobody has asked for."""
        found = self.snapshots.found
        if found.refused:
            from builder.events import Notice

            reasons = "; ".join(f"{driver}: {reason}" for driver, reason in found.refused)
            message = f"root filesystems are made by {found.driver}, which is slower ({reasons})"
            self._emit(Notice("info", "snapshotter/fallback", message))

    def display(self, mode: str | None, *, explain: bool = False) -> Display:
        """Open the display of progress on standard error."""
        from builder.progress import open_display

        return open_display(mode or "auto", sys.stderr, explain=explain)  # type: ignore[arg-type]

    def prepare(
        self,
        args: argparse.Namespace,
        context: str | BuildContext,
        emit: Emit,
        *,
        locks: Locks | None = None,
        change: Callable[[Settings], Settings] = lambda settings: settings,
        inspection: Inspection | None = None,
        several: bool = False,
    ) -> Build:
        """Return the build that the arguments ask for, on a directory or a context that is open, with
        `locks` in place of the lock files on the disk; `inspection` looks on. `several`: it may be for more
        than one platform. Raises UsageError, and HostError where nothing can be built.
        """
        from builder.baseresolver import BaseResolver
        from builder.build import Build
        from builder.contexts import BuildContext
        from builder.locks import Locks
        from builder.options import one_platform
        from builder.parallel import in_turn
        from builder.statistics import Tally

        # Said before a base is fetched: unpacking it would be the first to fail.
        userns.require()
        tally = Tally(emit)
        self._emit = emit = in_turn(tally)
        opened = context if isinstance(context, BuildContext) else BuildContext("", context)
        settings = change(self.settings(args, opened.directory, opened.commit_time))
        if not several:
            one_platform(settings.platforms)
        settings = replace(settings, options=self.fetched(settings.options, args, emit))
        # What the command line names is not the stranger's doing.
        given = [each.reference for _, each in settings.options.contexts if hasattr(each, "reference")]
        shared = self.shared(args, emit)
        resolve = BaseResolver(
            self,
            emit,
            pull=settings.pull,
            confined=bool(opened.confined),
            given=frozenset(given),
            shared=shared,
        )
        self._resolver = resolve
        locks = locks or Locks(settings.lock, emit)
        return Build(
            self.store,
            settings,
            emit,
            executor=self.executor,
            resolve=resolve,
            remotes=self.remotes(emit, locks.pinned),
            locks=locks,
            origin=opened.origin,
            confined=opened.confined,
            inspection=inspection,
            shared=shared,
            tally=tally,
        )

    def fetched(self, options: PlanOptions, args: argparse.Namespace, emit: Emit) -> PlanOptions:
        """Return `options` with named contexts that are elsewhere fetched, for as long as this is open."""
        from builder.namedcontexts import RemoteContext

        if not any(isinstance(context, RemoteContext) for _, context in options.contexts):
            return options
        from builder.contexts import fetch_named

        contexts = fetch_named(options.contexts, self.store, emit, args, self._fetched)
        return replace(options, contexts=contexts)

    def remotes(self, emit: Emit, pinned: Pinned | None = None) -> Remotes:
        """Return what fetches for the session's builds, as `pinned` has it."""
        if self._remotes is None:
            from builder.remotes.fetching import Remotes

            self._remotes = Remotes(self.store, emit, pinned=pinned)
        return self._remotes

    def bases(self) -> list[tuple[str, BaseImage]]:
        """Return the image bases that the last build asked for, and what they were."""
        return self._resolver.found if self._resolver is not None else []

    def locked_names(self) -> dict[str, str | None]:
        """Return what names of bases meant in the store, where --locked asks whether they moved."""
        return self._resolver.locked.tags if self._resolver is not None else {}

    def registries(self) -> Registries:
        """Return what the configuration says of registries."""
        from builder.registries import configured

        return configured(self.config)

    def settings(self, args: argparse.Namespace, context: str, commit_time: int | None = None) -> Settings:
        """Return what the arguments and the configuration ask of a build. `commit_time` is that of a context
        which is a git commit. Raises UsageError."""
        from builder.build import Settings
        from builder.epoch import find_epoch
        from builder.limits import limits
        from builder.options import lock_mode, plan_options, platforms
        from builder.secrets import parse_secret
        from builder.ssh import parse_ssh

        self.epoch = find_epoch(args.timestamps or self.config.timestamps or "clamp", context, commit_time)
        wanted = platforms(args, self.config)
        return Settings(
            options=plan_options(args, self.config, wanted[0]),
            platforms=wanted,
            lock=lock_mode(args, self.config),
            names=tuple(image_name(name) for name in getattr(args, "tag", ())),
            no_cache=args.no_cache,
            pull=args.pull or self.config.pull,
            epoch=self.epoch.seconds,
            host_ca=args.host_ca or self.config.host_ca,
            # More than processors: a stage waits for the network and the disk as much as it computes.
            jobs=args.jobs or self.config.jobs or max(4, 2 * len(os.sched_getaffinity(0))),
            secrets=tuple(parse_secret(text) for text in args.secret),
            ssh=tuple(parse_ssh(text) for text in args.ssh),
            limits=limits(args, self.config),
        )

    def outputs(self, given: Sequence[str], platforms: str | None = None) -> tuple[OutputSpec, ...]:
        """Return what --output, or else the configuration, asks for; `platforms` as --platform has them.
        Raises UsageError.
        """
        texts = [*given] or [*self.config.outputs]
        if not texts:
            return ()
        from builder.exporters import parse_outputs

        several = "," in (platforms or self.config.platform or "")
        return parse_outputs(texts, self.config, several=several)

    def annotations(self, args: argparse.Namespace, specs: Sequence[OutputSpec]) -> list[Annotations]:
        """Return what --annotation asks for, for each platform; it is said if no output has a place for it.
        Raises UsageError.
        """
        if not args.annotation:
            return []
        from builder.annotations import parse_annotations
        from builder.exporters.output_spec import PACKED
        from builder.options import platforms

        wanted = platforms(args, self.config)
        found = [parse_annotations(args.annotation, each, several=len(wanted) > 1) for each in wanted]
        if any(found) and not any(spec.type in PACKED for spec in specs):
            _warn("--annotation: outputs of type oci and oci-layout alone have annotations")
        return found

    def export(
        self,
        built: Built,
        specs: Sequence[OutputSpec],
        emit: Emit,
        annotations: Sequence[Annotations] = (),
    ) -> tuple[Output, ...]:
        """Write the image out as each of `specs` says. Raises OutputError, StoreError."""
        if not specs:
            return ()
        from builder.exporters import export
        from builder.exporters.base import Source

        written = []
        for spec in specs:
            names = (*built.names, *spec.names)
            group = [
                Source.load(self.store, image_id, names, told, fetch=spec.type != "registry")
                for image_id, told in zip_longest(built.images, annotations)
            ]
            written.append(export(group, spec, self.store, emit, self.registries()))
        return tuple(written)


def _tell_transfer(event: Event) -> None:
    """Say that something is fetched, where no display is open that shows how it goes."""
    from builder.events import TransferStarted

    if isinstance(event, TransferStarted):
        from builder.progress.printable import printable
        from builder.progress.units import size

        total = "" if event.total is None else f" ({size(event.total)})"
        print(f"fetching {printable(event.label)}{total}", file=sys.stderr)


def _warn(message: str) -> None:
    from builder.progress.printable import printable

    print(f"warning: {printable(message)}", file=sys.stderr)


def open_session(args: argparse.Namespace) -> Session:
    """Open the store that the arguments, the environment or the configuration name."""
    from builder.config import load

    config = load(args.config)
    return Session(config, store_root(args.root, config.root), getattr(args, "snapshotter", None))


def store_root(given: str | None, configured: str | None = None) -> str:
    """Return the store's directory: --root, else $PYBUILD_ROOT, else the configuration's, else the
    default.
    """
    root = given or os.environ.get("PYBUILD_ROOT") or configured
    if root:
        return os.path.abspath(root)
    if userns.real_uid() == 0:
        return "/var/lib/pybuild"
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local/share")
    return os.path.join(data, "pybuild")


def image_name(text: str) -> str:
    """Return the name to give an image, in its short complete form (`app` is `app:latest`). Raises
    UsageError.
    """
    from cache.errors import FormatError
    from cache.oci.reference import Reference

    try:
        reference = Reference.parse(text)
    except FormatError as error:
        raise UsageError(error.message, hint=error.hint, code="usage/name") from None
    if reference.digest is not None:
        raise UsageError(f"{text}: a name that is given cannot have a digest", code="usage/name")
    return reference.familiar
