"""What a build would do: which steps are in the cache, which would run, and why. Nothing is run, made or
fetched.

The keys are those of the build, as far as they can be known beforehand. A key begins with the state below:
above a step that would run, it depends on what that one gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from builder.errors import BuildError
from builder.explain import why
from builder.keys import StepKey, check_key, copy_key, descent_key, exec_key, packages_key, workdir_key
from builder.locks import Locks, Mode
from builder.plan import PlanOptions, plan, settle
from builder.recipes import RecipeLoader, refuse_cycle
from builder.sources import EMPTY, Sources
from builder.stepcache import StepLine
from builder.stepmounts import mounted_parts
from builder.steps import (
    Base,
    ConfigStep,
    CopyStep,
    Directory,
    ExecStep,
    ImageBase,
    PackagesStep,
    PlannedStage,
    RecipeBase,
    Scratch,
    StageBase,
    Step,
    TestStep,
    WorkdirStep,
    describe,
)
from cache.records import decode_parts

if TYPE_CHECKING:
    from builder.keys import Part
    from builder.planning_shared import SharedLookup
    from builder.planning_store import ReadOnlyStore
    from builder.remotes.address import Address
    from builder.tree import Tree
    from cache.oci.digest import ChainID
    from cache.oci.platform import Platform
    from cache.oci.spec import ImageConfig
    from cache.records import Record
    from grammar.source import Span

Outcome = Literal["cached", "runs", "depends", "unknown", "config"]
"""`depends`: on what a step below gives, which would run. `unknown`: nothing is known of what it stands on.
`config`: it changes the image's config alone, and is not cached."""

_COMPARED = 10


@dataclass(frozen=True, slots=True)
class StepForecast:
    """A step. `key` is "" where it cannot be known; `seconds` is what it took when it ran, `size` its layer's
    bytes, both 0 unless it is cached. `reads` names the stages and images that a COPY, or mounts, read from;
    `reads_ids` are the ids of the stages among them."""

    text: str
    file: str
    line: int
    outcome: Outcome
    reason: str = ""
    key: str = ""
    seconds: float = 0.0
    size: int = 0
    reads: str = ""
    reads_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageForecast:
    """A stage. `base` is what it stands on, as its FROM names it; `known`: what that is stands in the store,
    or needs not to. `id`, `base_id` (of the stage that it stands on) and `needs` tell stages of several
    recipes apart."""

    id: str
    name: str
    recipe: str
    base: str
    base_id: str
    known: bool
    needs: tuple[str, ...]
    steps: tuple[StepForecast, ...]


@dataclass(frozen=True, slots=True)
class Forecast:
    """All stages that the target needs, each after those that it needs itself; the target is the last one.
    `no_store` says why the store was not asked, "" if it was."""

    recipe: str
    target: str
    stages: tuple[StageForecast, ...]
    warnings: tuple[tuple[str, str, Span | None], ...]
    no_store: str

    def count(self, outcome: Outcome) -> int:
        """Return how many steps have this outcome."""
        return sum(step.outcome == outcome for stage in self.stages for step in stage.steps)


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a root filesystem: its ChainID (None: empty) if `known`; else why it is not."""

    image: ImageConfig
    known: bool
    chain_id: ChainID | None
    outcome: Outcome
    stage: str = ""


class Planning:
    """Looks ahead at one build. `why_not` says why there is no store."""

    def __init__(
        self,
        store: ReadOnlyStore | None,
        why_not: str,
        options: PlanOptions,
        *,
        no_cache: bool,
        pull: bool,
        lock: Mode = "used",
        shared: SharedLookup | None = None,
    ) -> None:
        self._store = store
        self._shared = shared
        self._why_not = why_not
        self._options = options
        self._no_cache = no_cache
        self._pull = pull
        self._locks = Locks(lock, lambda event: None)
        self._stages: list[StageForecast] = []
        self._states: dict[tuple[str, int, Platform], _State] = {}
        self._warnings: list[tuple[str, str, Span | None]] = []
        self.loader = RecipeLoader(store.memo if store else None)

    def run(self, recipe: str, context: str) -> Forecast:
        """Return what building `recipe` on `context` would do. Raises RecipeError, BuildError, CacheError."""
        state = self._recipe(recipe, context, self._options, ())
        last = next(stage for stage in self._stages if stage.id == state.stage)
        return Forecast(recipe, last.name, tuple(self._stages), tuple(self._warnings), self._why_not)

    def _recipe(self, path: str, context: str, options: PlanOptions, above: tuple[str, ...]) -> _State:
        real = os.path.realpath(path)
        bases: dict[Base, _State] = {}

        def config_of(base: ImageBase | RecipeBase) -> ImageConfig:
            bases[base] = self._base(base, path, (*above, real))
            return bases[base].image

        outlined, configs = settle(self.loader.load(path), options, config_of, self.loader.trigger)
        planned = self._locks.enter(path).applied(plan(outlined, options, configs))
        self._warnings += planned.warnings
        names = {stage.index: f"{path}#{stage.name}" for stage in planned.stages}
        sources = _Sources(self._store, context, path) if self._store else None
        try:
            for stage in planned.stages:
                known = self._states.get((real, stage.index, options.platform))
                if known is None:
                    known = self._stage(path, stage, bases, names, sources)
                    self._states[real, stage.index, options.platform] = known
                bases[StageBase(stage.index)] = known
        finally:
            if sources is not None:
                sources.close()
        return bases[StageBase(planned.stages[-1].index)]

    def _base(self, base: ImageBase | RecipeBase, recipe: str, above: tuple[str, ...]) -> _State:
        if isinstance(base, RecipeBase):
            path = os.path.normpath(os.path.join(os.path.dirname(recipe), base.path))
            refuse_cycle(os.path.realpath(path), above, base.span)
            top = self._options
            options = PlanOptions(base.platform, top.build_platform, target=base.target, asked=top.asked)
            return self._recipe(path, os.path.dirname(path) or ".", options, above)
        lock = self._locks.of(recipe)
        if self._store is None:
            lock.base(base)  # what is missing is missing, with a store or without
        else:
            from builder.planning_bases import find_base

            found = find_base(self._store, base, os.path.dirname(recipe), lock, pull=self._pull)
            if found is not None:
                return _State(found.config, True, found.chain_id, "cached")
        from builder.stagestate import initial_config

        return _State(initial_config(base.platform), False, None, "unknown")

    def _stage(
        self,
        recipe: str,
        stage: PlannedStage,
        bases: Mapping[Base, _State],
        names: Mapping[int, str],
        sources: Sources | None,
    ) -> _State:
        if isinstance(stage.base, Scratch):
            below = _State(stage.image, True, None, "cached")
        else:
            below = bases[stage.base]
        run = _StagePlanning(
            self._store, recipe, stage, below, bases, sources, no_cache=self._no_cache, shared=self._shared
        )
        steps = run.run()
        identity = names[stage.index]
        states = [below, *(bases[tree] for step in stage.steps for tree in _trees(step))]
        needs = [state.stage for state in states if state.stage]
        self._stages.append(
            StageForecast(
                identity,
                stage.name,
                recipe,
                describe(stage.base, names),
                below.stage,
                below.outcome != "unknown" or isinstance(stage.base, StageBase | RecipeBase),
                tuple(dict.fromkeys(needs)),
                tuple(steps),
            )
        )
        return replace(run.state, image=stage.image, stage=identity)


class _StagePlanning:
    """Looks ahead at one stage."""

    def __init__(
        self,
        store: ReadOnlyStore | None,
        recipe: str,
        stage: PlannedStage,
        below: _State,
        trees: Mapping[Base, _State],
        sources: Sources | None,
        *,
        no_cache: bool,
        shared: SharedLookup | None,
    ) -> None:
        self._store = store
        self._shared = shared
        self._recipe = recipe
        self._stage = stage
        self._trees = trees
        self._sources = sources
        self._no_cache = no_cache
        self._platform = str(stage.image.platform)
        self._ordinals: dict[str, int] = {}
        self.state = below
        name = os.path.basename(recipe)
        self._descent = descent_key(name, stage.name, self._platform, below.chain_id) if shared else ""

    def run(self) -> list[StepForecast]:
        """Return what each step would do; `state` is what is known of the root filesystem above the last."""
        return [self._step(step) for step in self._stage.steps]

    def _step(self, step: Step) -> StepForecast:
        told = StepForecast(step.text, step.span.file, step.span.line, "config")
        if isinstance(step, ConfigStep):
            return told
        trees = _trees(step)
        if trees:
            names = ", ".join(dict.fromkeys(map(self._name, trees)))
            told = replace(told, reads=names, reads_ids=tuple(self._trees[tree].stage for tree in trees))
        keyword = step.text.partition(" ")[0]
        ordinal = self._ordinals[keyword] = self._ordinals.get(keyword, -1) + 1
        line = StepLine(0, keyword, os.path.basename(self._recipe), self._stage.name, ordinal)
        found = self._look(step, line, told)
        if not isinstance(step, TestStep) and found.outcome != "cached":
            after: Outcome = "unknown" if found.outcome == "unknown" else "depends"
            self.state = replace(self.state, known=False, chain_id=None, outcome=after)
        return found

    def _name(self, tree: Base) -> str:
        if isinstance(tree, StageBase):
            return self._trees[tree].stage.rpartition("#")[2]
        return describe(tree, {})

    def _look(
        self,
        step: ExecStep | CopyStep | WorkdirStep | PackagesStep | TestStep,
        line: StepLine,
        told: StepForecast,
    ) -> StepForecast:
        if self._store is None:
            return replace(told, outcome="runs", reason="there is no store to look in")
        if not self.state.known:
            reason = (
                "the base is not in the store"
                if self.state.outcome == "unknown"
                else "a step below it would run"
            )
            return replace(told, outcome=self.state.outcome, reason=reason)
        try:
            key = self._key(step)
        except BuildError as error:
            if error.span is None:
                error.span = step.span
            raise
        if isinstance(key, str):
            return replace(told, outcome="unknown" if key.startswith("the base") else "depends", reason=key)
        told = replace(told, key=key.key)
        no_cache = self._no_cache or self._stage.no_cache
        record = None if no_cache else self._record(key.key)
        if record is None and not no_cache and self._shared is not None:
            found = self._shared.find(self._descent, key.key, self.state.chain_id)
            if found is not None:
                record, told = found[0], replace(told, reason=f"from {found[1]}")
        if record is None:
            return replace(told, outcome="runs", reason=self._reason(line, key))
        if not isinstance(step, TestStep):
            self.state = replace(self.state, chain_id=record.chain_id)
        return replace(told, outcome="cached", seconds=record.seconds, size=record.size)

    def _key(self, step: ExecStep | CopyStep | WorkdirStep | PackagesStep | TestStep) -> StepKey | str:
        """Return the key of a step on the state below it; or why it cannot be known."""
        below = self.state.chain_id
        if isinstance(step, ExecStep):
            return self._exec_key(step, below)
        if isinstance(step, WorkdirStep):
            return workdir_key(step, below)
        if isinstance(step, PackagesStep):
            return packages_key(step, below, self._platform)
        if isinstance(step, TestStep):
            from builder.testing import suite_digest

            suite = suite_digest(step.span.file, step.suite) if step.suite else ""
            return check_key(step, below, self._platform, suite)
        assert self._sources is not None
        if isinstance(step.tree, Directory):
            try:
                return copy_key(step, below, self._sources.parts(step, None))
            except _NotLookedAt:
                return "nobody has looked yet at what it adds"
        why_not = self._unknown(step.tree, "copies")
        if why_not:
            return why_not
        try:
            return copy_key(step, below, self._sources.parts(step, self._trees[step.tree].chain_id or EMPTY))
        except _NotLookedAt:
            return "nobody has looked yet at what it copies"

    def _exec_key(self, step: ExecStep, below: ChainID | None) -> StepKey | str:
        assert self._sources is not None
        for tree in step.trees:
            why_not = self._unknown(tree, "mounts")
            if why_not:
                return why_not
        try:
            mounted = mounted_parts(step, self._sources, lambda tree: self._trees[tree].chain_id or EMPTY)
        except _NotLookedAt:
            return "nobody has looked yet at what it mounts"
        return exec_key(step, below, self._platform, mounted)

    def _unknown(self, base: Base, verb: str) -> str:
        """Return why it is not known what a step copies or mounts from, "" if it is."""
        tree = self._trees[base]
        if tree.known:
            return ""
        if tree.outcome == "unknown":
            return f"the base that it {verb} from is not in the store"
        return f"what it {verb} comes of a step that would run"

    def _record(self, key: str) -> Record | None:
        assert self._store is not None
        record = self._store.records.get(key)
        if record is None or (record.diff_id is not None and not self._store.has(record.chain_id)):
            return None
        return record

    def _reason(self, line: StepLine, key: StepKey) -> str:
        if self._no_cache or self._stage.no_cache:
            return "--no-cache" if self._no_cache else "--no-cache-filter"
        assert self._store is not None
        earlier = self._store.records.recent(line.neighbours, _COMPARED)
        return why(line.keyword, key, [record.parts for record in earlier], self._files)

    def _files(self, digest: str) -> tuple[tuple[str, str], ...] | None:
        assert self._store is not None
        known = self._store.memo.get("files", digest)
        return None if known is None else decode_parts(known)


def _trees(step: Step) -> tuple[Base, ...]:
    """Return the stages and images that a step copies or mounts from."""
    if isinstance(step, CopyStep):
        return () if isinstance(step.tree, Directory) else (step.tree,)
    return step.trees if isinstance(step, ExecStep) else ()


class _NotLookedAt(Exception):
    """What a root filesystem holds is not known, and to look at it takes a mount; or it is elsewhere, and to
    look at it takes a network."""


class _Sources(Sources):
    """What COPYs read, as far as it can be told without a mount and a network: the context, and what builds
    before have found in stages and images, and elsewhere."""

    def stage(self, chain_id: ChainID) -> Tree:
        raise _NotLookedAt

    def remote_part(self, address: Address) -> Part:
        known = self.added.known_part(address)
        if known is None:
            raise _NotLookedAt
        return known
