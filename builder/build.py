"""The build: recipe -> plan -> stages -> image. Effects are here and below; planning is pure."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.direct import looked_at
from builder.errors import BuildError, HostError, PlanError
from builder.events import BuildFinished, BuildStarted, Emit, Notice
from builder.limits import UNLIMITED, Limits
from builder.parallel import Cancellation, Stages, in_turn
from builder.plan import PlanOptions, near_stage, plan, settle
from builder.platformplans import Node, PlatformPlan, joined
from builder.recipes import RecipeLoader, refuse_cycle
from builder.secrets import Secrets, SecretSource
from builder.sources import Sources, ignore_files
from builder.ssh import Agents, SshSource
from builder.stage import StageResult, StageRun
from builder.statistics import Tally
from builder.stepcache import StepCache
from builder.steps import (
    Base,
    ConfigStep,
    ImageBase,
    Plan,
    PlannedStage,
    RecipeBase,
    Scratch,
    TestStep,
    describe,
)
from builder.surroundings import PackagesRun, Surroundings
from builder.testing import suite_places
from builder.timeline import TimelineRecorder
from cache.errors import CacheError, LayerUnavailable
from grammar.includes import spliced

if TYPE_CHECKING:
    from builder.direct import Status
    from builder.executor import Executor
    from builder.inspection import Inspection
    from builder.locks import Locks, Mode, RecipeLock
    from builder.remotes.fetching import Fetched, Remotes
    from builder.sharedcache import SharedCache
    from cache.oci.digest import ChainID, Digest
    from cache.oci.platform import Platform
    from cache.oci.spec import ImageConfig
    from cache.store import Store
    from grammar.ast import Recipe
    from grammar.source import Span


@dataclass(frozen=True, slots=True)
class Settings:
    """What a build is asked for, beside the recipe. `epoch` in seconds, None where real times stay.
    `platforms`: those to build for, where it is not that of `options` alone. `whole`: the image's layers are
    all to be here in the end, those of its base too, but for chains of which `lent` says that nobody reads
    them here.
    """

    options: PlanOptions
    names: tuple[str, ...] = ()
    no_cache: bool = False
    pull: bool = False
    epoch: int | None = None
    host_ca: bool = False
    jobs: int = 1
    secrets: tuple[SecretSource, ...] = ()
    ssh: tuple[SshSource, ...] = ()
    lock: Mode = "used"
    packages_anew: bool = False
    limits: Limits = UNLIMITED
    platforms: tuple[Platform, ...] = ()
    whole: bool = False
    lent: Callable[[ChainID], bool] = lambda chain_id: False

    @property
    def each_platform(self) -> tuple[PlanOptions, ...]:
        """The options for each platform."""
        if len(self.platforms) < 2:
            return (self.options,)
        return tuple(replace(self.options, platform=each) for each in self.platforms)


@dataclass(frozen=True, slots=True)
class Built:
    """What stands in the store now. `image_id` is the id of the image; of an index, where it is for several
    platforms. `images` and `configs` are those of each of them.
    """

    image_id: Digest
    images: tuple[Digest, ...]
    configs: tuple[ImageConfig, ...]
    names: tuple[str, ...]
    recipes: tuple[str, ...]
    keys: tuple[str, ...]
    ran: int
    cached: int

    @property
    def config(self) -> ImageConfig:
        """That of the image, or of the first one."""
        return self.configs[0]


BaseResolver = Callable[[ImageBase, str, "RecipeLock"], StageResult]
"""From an image base, the directory that relative paths in it are meant from, and the lock file that speaks
of it, to what stands in the store.
"""


class Build:
    """One build, with the recipes that it stands on."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        emit: Emit,
        *,
        executor: Callable[[], Executor],
        resolve: BaseResolver,
        locks: Locks,
        remotes: Remotes | None = None,
        origin: str = "",
        confined: str = "",
        inspection: Inspection | None = None,
        shared: SharedCache | None = None,
        tally: Tally | None = None,
    ) -> None:
        """`remotes` fetches what is elsewhere. `origin` and `confined` are as of
        builder.contexts.BuildContext: where the context came from, and the directory that recipes may not
        lead out of. `shared` is asked for what the store does not know, and told what was run. `tally`
        counts.
        """
        from builder.remotes.fetching import Remotes

        self._store = store
        self._remotes = remotes or Remotes(store, emit)
        self._origin = origin
        self._confined = confined
        self._settings = settings
        self._timeline = TimelineRecorder(emit)
        self._emit = emit = in_turn(self._timeline)
        self._resolve = resolve
        self._numbers = itertools.count(1)
        self._top = ""
        self._again = False
        self._tally = tally or Tally()
        self._cache = StepCache(
            store,
            emit,
            epoch=settings.epoch,
            no_cache=settings.no_cache,
            shared=shared,
            tally=self._tally,
        )
        secrets = Secrets(settings.secrets)
        agent = next((source.agent for source in settings.ssh if source.id == "default"), "")
        self._cancellation = Cancellation()
        self._remotes.give(
            lambda name: secrets.get(name, required=False),
            agent,
            emit=self._emit,
            cancellation=self._cancellation,
        )
        self._around = Surroundings(
            store,
            self._emit,
            self._cache,
            executor if inspection is None else lambda: inspection.executor(executor),
            settings.epoch,
            settings.host_ca,
            self._next_number,
            secrets,
            Agents(settings.ssh, store, executor),
            [],
            settings.packages_anew,
            self._cancellation,
            threading.RLock(),
            settings.limits,
            inspection,
            shared,
        )
        self._shared = shared
        if shared is not None:
            shared.check = self._cancellation.check
        self._stages: dict[tuple[str, int, Platform], StageResult] = {}
        self._images: dict[tuple[ImageBase, str], StageResult] = {}
        self._locks = locks
        self.loader = RecipeLoader(store.memo, confined)
        self.looked_at: dict[str, Status] = {}
        """The files that the build's answer depends on, as they were."""

    @property
    def fetched(self) -> tuple[Fetched, ...]:
        """What was taken from elsewhere so far, and what it was."""
        return self._remotes.fetched

    def run(self, recipe: str, context: str) -> Built:
        """Build `recipe` on `context`; return the image. Raises RecipeError, BuildError, CacheError."""
        started = time.monotonic()
        self._top = recipe
        settings = self._settings
        try:
            results = self._results(recipe, context)
        except (BuildError, CacheError):
            self._tell(failed=True)
            raise
        finally:
            self._around.agents.close()
        images = [self._kept(result) for result in results]
        image_id = images[0] if len(images) == 1 else self._index(images)
        for each in images:
            self._timeline.keep(self._store, each)
        self._store.records.touch(self._cache.used)
        # Before names: a name must not outlive, in a power cut, what it names.
        self._store.sync()
        for name in settings.names:
            self._store.images.tag(name, image_id)
        self._tell()
        cache = self._cache
        self._emit(
            BuildFinished(image_id, settings.names, time.monotonic() - started, cache.ran, cache.cached)
        )
        recipes = tuple(self.loader.sources)
        return Built(
            image_id,
            tuple(images),
            tuple(result.image for result in results),
            settings.names,
            recipes,
            tuple(cache.used),
            cache.ran,
            cache.cached,
        )

    def _tell(self, *, failed: bool = False) -> None:
        """Wait until shared caches know what ran: of a build that failed, too. Keep what was counted."""
        with contextlib.suppress(CacheError) if failed else contextlib.nullcontext():
            if self._shared is not None:
                self._shared.finish()
                self._shared.count(self._tally.statistics)
        with contextlib.suppress(CacheError):  # a full disk: the image stands all the same
            self._tally.keep(self._store, self._top, failed=failed)

    def _results(self, recipe: str, context: str) -> list[StageResult]:
        """Return what the recipe makes. A layer that was said to be had, and cannot be, is as good as none:
        whatever gives it is done again.
        """
        while True:
            try:
                results = self._recipes(recipe, context, self._settings.each_platform, ())
                for result in results if self._settings.whole else ():
                    if result.chain_id is not None and not self._settings.lent(result.chain_id):
                        self._store.layers.chain(result.chain_id)
                return results
            except LayerUnavailable as error:
                self._emit(Notice("warning", error.code, f"{error.message}: what makes it is done again"))
                self._stages.clear()
                self._images.clear()
                self._cancellation.forget()
                self._again = True

    def _kept(self, result: StageResult) -> Digest:
        image_id = self._store.images.put(result.image.to_json())
        self._store.memo.put("base", image_id, (result.base or "").encode())
        return image_id

    def _index(self, images: Sequence[Digest]) -> Digest:
        """Keep the images of all platforms under one id."""
        platforms = [options.platform for options in self._settings.each_platform]
        return self._store.images.put_index(tuple(zip(platforms, images, strict=True)))

    @property
    def packages(self) -> tuple[PackagesRun, ...]:
        """The PACKAGES of this build, as far as it came."""
        return tuple(self._around.packages)

    def _next_number(self) -> int:
        return next(self._numbers)

    def _recipes(
        self, path: str, context: str, several: Sequence[PlanOptions], above: tuple[str, ...]
    ) -> list[StageResult]:
        """Return what the recipe makes, for each of `several`, which differ in their platforms."""
        recipe = self.loader.load(path)
        if self.loader.parsed:
            self._prepare_to_run(recipe)
        plans = [self._planned(path, recipe, options, above) for options in several]
        nodes = joined(plans)
        self._announce(plans, nodes, not above)
        origin = "" if above else self._origin
        sources = Sources(self._store, context, path, origin=origin, remotes=self._remotes)
        try:
            self._run_stages(path, nodes, sources)
            for each in plans:
                self._remember(path, context, each.planned, sources)
            return [each.result for each in plans]
        finally:
            sources.close()

    def _planned(
        self, path: str, recipe: Recipe, options: PlanOptions, above: tuple[str, ...]
    ) -> PlatformPlan:
        real = os.path.realpath(path)
        bases: dict[Base, StageResult] = {}

        def config_of(base: ImageBase | RecipeBase) -> ImageConfig:
            bases[base] = self._base(base, path, (*above, real))
            return bases[base].image

        outlined, configs = settle(recipe, options, config_of, self.loader.trigger)
        planned = plan(outlined, options, configs)
        planned = self._locks.enter(path).applied(planned)
        self._refuse_suites(planned)
        return PlatformPlan(options, planned, bases)

    def _refuse_suites(self, planned: Plan) -> None:
        """A testinfra suite is a program that runs on this host."""
        for step in (step for stage in planned.stages for step in stage.steps) if self._confined else ():
            if isinstance(step, TestStep) and step.suite:
                raise PlanError(
                    "a context that comes from elsewhere cannot have its suite run on this host",
                    code="test/elsewhere",
                    span=step.span,
                    hint="fetch it, look at the suite, and build the directory",
                )

    def _remember(self, path: str, context: str, planned: Plan, sources: Sources) -> None:
        """Note what this recipe's part of the answer depends on."""
        steps = [step for stage in planned.stages for step in stage.steps if isinstance(step, TestStep)]
        suites = [
            place for step in steps if step.suite for place in suite_places(step.span.file, [step.suite])
        ]
        ignored = sources.ignore_files()
        places = (path, *ignore_files(context, path), *ignored, *suites, *self.loader.fragments)
        self.looked_at.update(looked_at((*places, *self._locks.paths)))
        for file, entry in sources.looked_at().items():
            self.looked_at[file] = entry and (entry.size, entry.mtime, entry.ctime, entry.ino, entry.mode)

    def _prepare_to_run(self, recipe: Recipe) -> None:
        """Have the executor start while we plan: a recipe that had to be parsed is a recipe whose steps
        will run.
        """
        kinds = {each.keyword for stage in recipe.stages for each in spliced(stage.instructions)}
        if kinds & {"RUN", "TEST", "PACKAGES"}:
            # What is wrong with this host is said when a step needs it, with the step's place.
            with contextlib.suppress(HostError):
                self._around.executor()

    def _announce(self, plans: Sequence[PlatformPlan], nodes: Sequence[Node], top: bool) -> None:
        for code, message, span in dict.fromkeys(told for each in plans for told in each.planned.warnings):
            self._emit(_warning(code, message, span))
        if top and not self._again:
            steps = sum(not isinstance(step, ConfigStep) for node in nodes for step in node.stage.steps)
            planned = plans[0].planned
            self._emit(BuildStarted(planned.recipe, planned.target, len(nodes), steps))

    def _run_stages(self, path: str, nodes: Sequence[Node], sources: Sources) -> None:
        real = os.path.realpath(path)

        def shared(node: Node) -> tuple[str, int, Platform] | None:
            # The same stage may be asked for by several recipes: what options can change it is the top's.
            options = node.plans[0].options
            return None if options.own else (real, node.stage.index, options.platform)

        def start(node: Node) -> StageResult | StageRun:
            name = shared(node)
            found = self._stages.get(name) if name else None
            if found is not None:
                return found
            stage, of = node.stage, node.plans[0]
            base = of.results[stage.base] if not isinstance(stage.base, Scratch) else _nothing(stage.image)
            below = describe(stage.base, {each.index: each.name for each in of.planned.stages})
            label = self._label(path, node)
            return StageRun(self._around, path, stage, base, of.results, sources, label, below)

        def finished(node: Node, result: StageResult) -> None:
            name = shared(node)
            if name:
                self._stages[name] = result
            node.finish(result)

        Stages(self._settings.jobs, self._cancellation).run(nodes, start, finished)

    def _label(self, path: str, node: Node) -> str:
        """Return what events call a stage; with several platforms as BuildKit, `linux/amd64->arm64 build`."""
        stage = node.stage
        label = stage.name if path == self._top else _label(path, stage)
        if len(self._settings.platforms) < 2:
            return label
        platform, target = stage.image.platform, node.plans[0].options.platform
        foreign = len(node.plans) == 1 and platform != target
        return f"{platform}{'->' + str(target).partition('/')[2] if foreign else ''} {label}"

    def _base(self, base: ImageBase | RecipeBase, recipe: str, above: tuple[str, ...]) -> StageResult:
        try:
            if isinstance(base, RecipeBase):
                return self._recipe_base(base, recipe, above)
            known = self._images.get((base, recipe))
            if known is None:
                lock = self._locks.of(recipe)
                known = self._images[base, recipe] = self._resolve(base, os.path.dirname(recipe), lock)
            return known
        except Exception as error:
            # The place in the recipe, for whatever a transport has to say about the base.
            if getattr(error, "span", None) is None:
                error.span = base.span  # type: ignore[attr-defined]
            if isinstance(base, ImageBase):
                near = near_stage(self.loader.load(recipe), base.reference)
                error.hint = near or getattr(error, "hint", None)  # type: ignore[attr-defined]
            raise

    def _recipe_base(self, base: RecipeBase, recipe: str, above: tuple[str, ...]) -> StageResult:
        path = os.path.normpath(os.path.join(os.path.dirname(recipe), base.path))
        refuse_cycle(os.path.realpath(path), above, base.span)
        # A base is the same for all that stand on it: arguments, labels and target of the recipe above are
        # not its own. What commands may do and reach is this build's.
        top = self._settings.options
        options = PlanOptions(base.platform, top.build_platform, target=base.target, asked=top.asked)
        return self._recipes(path, os.path.dirname(path) or ".", (options,), above)[0]


def _label(path: str, stage: PlannedStage) -> str:
    """Return what events call a stage of a recipe that is a base: as FROM would name it."""
    unnamed = stage.name == f"stage-{stage.index}"
    return os.path.basename(path) + ("" if unnamed else f"#{stage.name}")


def _nothing(image: ImageConfig) -> StageResult:
    return StageResult(None, replace(image, history=(), diff_ids=()), 0)


def _warning(code: str, message: str, span: Span | None) -> Notice:
    return Notice("warning", code, message, span.file if span else "", span.line if span else 0)
