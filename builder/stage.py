"""Running a stage: its steps one after the other, each on the state that the one before left."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from builder.asked import network, with_asked
from builder.chmod import parse_chmod
from builder.errors import BuildError, StepFailed
from builder.events import StageFinished, StageStarted, StepFinished, StepOutput, StepStarted
from builder.image import HistoryEntry, assemble
from builder.inspection import OpenStep, Work, watched
from builder.keys import (
    StepKey,
    check_key,
    copy_key,
    descent_key,
    exec_key,
    packages_key,
    workdir_key,
)
from builder.limits import failed, limited
from builder.mountedroot import MountedRoot
from builder.sources import EMPTY
from builder.stepcache import StepLine, is_mended
from builder.stepmounts import StepMounts, mounted_parts
from builder.steps import (
    Base,
    ConfigStep,
    CopyStep,
    Directory,
    ExecStep,
    LayerStep,
    PackagesStep,
    PlannedStage,
    StageBase,
    TestStep,
    WorkdirStep,
)
from builder.surroundings import PackagesRun, Surroundings, run_until_cancelled
from cache import idmap

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from builder.executor import ExecRequest, Output
    from builder.sharedcache import Facts
    from builder.sources import Sources
    from cache.oci.digest import ChainID, DiffID
    from cache.oci.spec import ImageConfig
    from cache.records import Record
    from cache.scratch import Staging

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage, or a base image, is: its root filesystem (None: empty), its image config, and the newest
    time in seconds that something in it was made."""

    chain_id: ChainID | None
    image: ImageConfig
    newest: int
    base: ChainID | None = None


class StageRun:
    """One stage in the making. `hits`, then `run`."""

    def __init__(
        self,
        around: Surroundings,
        recipe: str,
        stage: PlannedStage,
        base: StageResult,
        trees: Mapping[Base, StageResult],
        sources: Sources,
        label: str,
        below: str,
    ) -> None:
        """`label` is what events call the stage, `below` what they call its base."""
        self._around = around
        self._recipe = recipe
        self._stage = stage
        self._trees = trees
        self._sources = sources
        self._base = base
        self._label = label
        self._below = below
        self._platform = str(stage.image.platform)
        self._history: list[HistoryEntry] = []
        self._diff_ids: list[DiffID] = []
        self._newest = base.newest
        self._chain_id = base.chain_id
        self._ordinals: dict[str, int] = {}
        self._total = sum(not isinstance(step, ConfigStep) for step in stage.steps)
        self._number = 0
        self._left = deque(stage.steps)
        self._open: OpenStep | None = None
        self._descent = ""
        self._facts: Facts | None = None
        if around.shared is not None:
            from builder.sharedcache import Facts

            name = os.path.basename(recipe)
            self._descent = descent_key(name, stage.name, self._platform, base.chain_id)
            self._facts = Facts(around.shared, self._descent)

    def hits(self) -> bool:
        """Go on as long as steps hit; return whether the stage is complete. Raises BuildError."""
        self._around.emit(StageStarted(self._label, self._below, self._total))
        return self._advance(run=False)

    def run(self) -> StageResult:
        """Run or find every step that is left; return the stage's root filesystem and image. Raises
        BuildError.
        """
        self._advance(run=True)
        self._around.emit(StageFinished(self._label, self._chain_id or ""))
        return StageResult(self._chain_id, self._image(), self._newest, self._base_chain())

    def _advance(self, *, run: bool) -> bool:
        if self._open is not None:
            self._told(self._open.step, self._open.line, lambda: self._make())
        while self._left:
            self._around.cancellation.check()
            step = self._left.popleft()
            if isinstance(step, ConfigStep):
                self._history.append(
                    HistoryEntry(step.created_by, self._time(self._newest), empty_layer=True)
                )
                continue
            if not run and isinstance(step, CopyStep) and self._sources.asks(step):
                # Who asks somebody elsewhere has to wait, and the other stages need not.
                self._left.appendleft(step)
                return False
            self._number += 1
            line = self._begin(step)
            if self._told(step, line, partial(self._find, step, line)):
                continue
            if not run:
                return False
            self._told(step, line, lambda: self._make())
        return True

    def _begin(self, step: LayerStep | TestStep) -> StepLine:
        keyword = step.text.partition(" ")[0]
        ordinal = self._ordinals.get(keyword, 0)
        self._ordinals[keyword] = ordinal + 1
        recipe, stage = os.path.basename(self._recipe), self._stage.name
        line = StepLine(self._around.numbers(), keyword, recipe, stage, ordinal, self._descent)
        number, total, span = self._number, self._total, step.span
        self._around.emit(
            StepStarted(line.number, self._label, number, total, step.text, span.file, span.line)
        )
        return line

    def _told(self, step: LayerStep | TestStep, line: StepLine, work: Callable[[], T]) -> T:
        """Return what `work` returns; where it fails, tell which step that was."""
        started = time.monotonic()
        try:
            return work()
        except BuildError as error:
            if error.span is None:
                error.span = step.span
            status, limit = (error.status, error.limit) if isinstance(error, StepFailed) else (-1, "")
            seconds = time.monotonic() - started
            self._around.emit(StepFinished(line.number, "failed", seconds, status=status, limit=limit))
            raise

    def _find(self, step: LayerStep | TestStep, line: StepLine) -> bool:
        """Return whether the step hits. If it does not, it is open, to be made."""
        if isinstance(step, CopyStep):
            self._sources.fetch(step, content=False)
        with self._around.reading:
            key, work = self._prepare(step, line)
        anew = isinstance(step, PackagesStep) and self._around.packages_anew and step.pins is None
        no_cache = "its packages are to be locked anew" if anew else ""
        no_cache = "--no-cache-filter" if self._stage.no_cache else no_cache
        around, inspection = self._around, self._around.inspection
        opened = OpenStep(step, line, key, work, no_cache, self._chain_id, self._recipe, self._stage, around)
        record = inspection.reached(opened) if inspection is not None else None
        record = (
            around.cache.hit(line, key, self._chain_id, no_cache)
            if record is None
            else around.cache.given(line, record)
        )
        if record is None:
            self._open = opened
            return False
        self._note(step, record)
        return True

    def _make(self) -> None:
        """Make the step that is open."""
        assert self._open is not None
        opened, self._open = self._open, None
        step = opened.step
        layer = not isinstance(step, TestStep)
        cache = self._around.cache
        work = watched(self._around.inspection, opened)
        record = cache.make(
            opened.line, opened.key, self._chain_id, work, layer=layer, no_cache=opened.no_cache
        )
        self._note(step, record)

    def _note(self, step: LayerStep | TestStep, record: Record) -> None:
        """Go on from the layer of a step."""
        if isinstance(step, TestStep):
            return
        assert record.diff_id is not None
        if isinstance(step, PackagesStep):
            run = PackagesRun(
                self._recipe, self._stage.name, self._platform, step, self._chain_id, record.key
            )
            self._around.packages.append(run)
        self._newest = max(self._newest, record.created)
        self._chain_id = record.chain_id
        self._diff_ids.append(record.diff_id)
        created_by = f"{step.created_by}, mended by hand" if is_mended(record) else step.created_by
        self._history.append(HistoryEntry(created_by, self._time(record.created), empty_layer=False))

    def _prepare(self, step: LayerStep | TestStep, line: StepLine) -> tuple[StepKey, Work]:
        if isinstance(step, TestStep):
            return self._prepare_test(step, line)
        if isinstance(step, ExecStep):
            mounted = mounted_parts(step, self._sources, self._chain_of, self._facts) if step.mounts else ()
            key = exec_key(step, self._chain_id, self._platform, mounted)
            return key, lambda staging: self._exec(step, line, staging)
        if isinstance(step, WorkdirStep):
            return workdir_key(step, self._chain_id), lambda staging: self._workdir(step, staging)
        if isinstance(step, PackagesStep):
            packages = packages_key(step, self._chain_id, self._platform)
            return packages, lambda staging: self._packages(step, packages.key, line, staging)
        tree = None if isinstance(step.tree, Directory) else self._chain_of(step.tree)
        parts = self._sources.parts(step, tree, self._facts)
        return copy_key(step, self._chain_id, parts), lambda staging: self._copy(step, tree, staging)

    def _exec(self, step: ExecStep, line: StepLine, staging: Staging) -> None:
        from builder.executor import ExecRequest

        request = ExecRequest(
            argv=step.argv,
            lower=self._lower(),
            upper=staging.upper,
            work=staging.work,
            env=self._with_epoch((*step.proxies, *step.env)),
            platform=self._stage.image.platform,
            user=step.user,
            workdir=step.workdir,
            network=network(step.network),
            privileged=step.security == "insecure",
        )
        request = limited(with_asked(request, step), self._around.limits, step.timeout)
        if self._around.host_ca:
            from builder.hostca import with_host_ca

            request = with_host_ca(request)
        self._execute_mounted(step, request, line)
        if idmap.single():
            from builder.adoption import adopt

            adopt(step.user, self._lower(), staging)

    def _execute_mounted(self, step: ExecStep, request: ExecRequest, line: StepLine) -> None:
        if not step.mounts:
            self._execute(request, step.script, line, step.text)
            return
        around = self._around
        waiting = partial(around.cache.waiting_for_mount, line)
        mounts = StepMounts(
            around.store, self._sources, around.secrets, around.agents, self._chain_of, waiting
        )
        with mounts.lent(step, request) as complete:
            self._execute(complete, step.script, line, step.text)

    def _packages(self, step: PackagesStep, key: str, line: StepLine, staging: Staging) -> None:
        from builder import packagerun
        from builder.executor import ExecRequest

        around = self._around
        request = ExecRequest(
            argv=(),
            lower=self._lower(),
            upper=staging.upper,
            work=staging.work,
            env=self._with_epoch((*step.proxies, *step.env)),
            platform=self._stage.image.platform,
            network=network(step.network),
        )
        request = limited(with_asked(request, step), around.limits)
        if around.host_ca:
            from builder.hostca import with_host_ca

            request = with_host_ca(request)
        waiting = partial(around.cache.waiting_for_mount, line)
        prepared = packagerun.prepared(step, around.store, staging, request, waiting)
        with prepared as complete, self._output(line) as output:
            errors = packagerun.Errors(step.manager, output)
            result = run_until_cancelled(around, complete, errors)
        if result.status and result.limit:
            raise failed(complete, result, line.keyword, step.text)
        packagerun.remember(around.store, key, packagerun.finish(step, staging, result, errors))

    def _prepare_test(self, step: TestStep, line: StepLine) -> tuple[StepKey, Work]:
        from builder.testing import run_suite, suite_digest

        suite = suite_digest(step.span.file, step.suite) if step.suite else ""
        key = check_key(step, self._chain_id, self._platform, suite)

        def work(staging: Staging) -> None:
            if step.suite:
                recipe, platform = step.span.file, self._platform
                with self._output(line) as output:
                    run_suite(recipe, platform, step, self._lower(), staging, output, self._around)
            else:
                self._exec_test(step, line, staging)

        return key, work

    def _exec_test(self, step: TestStep, line: StepLine, staging: Staging) -> None:
        from builder.executor import ExecRequest
        from builder.scope import DEFAULT_PATH, split_variable

        env = dict(split_variable(pair) for pair in step.config.env)
        env.setdefault("PATH", DEFAULT_PATH)
        request = ExecRequest(
            argv=step.argv,
            lower=self._lower(),
            upper=staging.upper,
            work=staging.work,
            env=self._with_epoch(tuple(env.items())),
            platform=self._stage.image.platform,
            user=step.config.user,
            workdir=step.config.working_dir or "/",
            network=network(step.network),
        )
        request = limited(with_asked(request, step), self._around.limits, step.timeout)
        self._execute(request, step.script, line, step.name or step.text)

    def _execute(self, request: ExecRequest, script: bytes | None, line: StepLine, what: str) -> None:
        if script is not None:
            from builder.executor import Mount

            path = "/dev/pipes/script"
            mount = Mount("file", path, read_only=True, mode=0o755, data=script)
            request = replace(request, argv=(path,), mounts=(*request.mounts, mount))
        with self._output(line) as output:
            result = run_until_cancelled(self._around, request, output)
        if result.status:
            raise failed(request, result, line.keyword, what)

    def _copy(self, step: CopyStep, tree_id: ChainID | None, staging: Staging) -> None:
        from builder.accounts import resolve_owner
        from builder.placement import Placement, place
        from cache.ownership import write_table

        mode = parse_chmod(step.chmod) if step.chmod else None
        self._sources.fetch(step, content=True)
        with self._around.reading:
            sources = self._sources.select(step, tree_id, staging)
        with self._writable(staging, alone=step.link) as root_fd:
            owner = resolve_owner(root_fd, step.chown) if step.chown else None
            placement = Placement(step.dest, step.into_directory, owner, mode)
            write_table(staging.upper, place(sources, step.documents, root_fd, placement))

    def _workdir(self, step: WorkdirStep, staging: Staging) -> None:
        from builder.accounts import resolve_owner
        from builder.destination import make_directory

        with self._writable(staging) as root_fd:
            make_directory(root_fd, step.path, resolve_owner(root_fd, step.user) if step.user else None)

    def _writable(self, staging: Staging, *, alone: bool = False) -> MountedRoot:
        """Return the root filesystem to write to; `alone`: as if nothing were below."""
        return MountedRoot(() if alone else self._lower(), staging)

    def _lower(self) -> tuple[str, ...]:
        return self._around.store.layers.lowerdirs(self._chain_id) if self._chain_id else ()

    def _output(self, line: StepLine) -> AbstractContextManager[Output]:
        """Return where the step's output goes: on, with secrets masked."""
        from builder.masking import masked

        emit = self._around.emit
        mask = self._around.secrets.learn()
        return masked(mask, lambda stream, data: emit(StepOutput(line.number, stream, data)))

    def _chain_of(self, tree: Base) -> ChainID:
        return self._trees[tree].chain_id or EMPTY

    def _with_epoch(self, env: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        epoch = self._around.epoch
        if epoch is None or any(name == "SOURCE_DATE_EPOCH" for name, _ in env):
            return env
        return (*env, ("SOURCE_DATE_EPOCH", str(epoch)))

    def _time(self, created: int) -> int:
        return created if self._around.epoch is None else self._around.epoch

    def _base_chain(self) -> ChainID | None:
        # A stage upon a stage stands on what that one stands on.
        return self._base.base if isinstance(self._stage.base, StageBase) else self._base.chain_id

    def _image(self) -> ImageConfig:
        return assemble(
            self._base.image,
            self._stage.image,
            history=self._history,
            diff_ids=self._diff_ids,
            created=self._time(self._newest),
        )
