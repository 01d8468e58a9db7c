"""The lock files that a build heeds: which pin holds for what, and what is missing. docs/lock.md says it in
full. Each recipe has a lock file of its own, beside it; so a base is the same for all that stand on it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from builder.bases import split_scheme
from builder.events import Emit, Notice
from builder.lockfile import BasePin, FilePin, GitPin, LockError, LockFile, lock_path, read_lock
from builder.steps import CopyStep, PackagesStep, Step

if TYPE_CHECKING:
    from builder.remotes.address import Address
    from builder.steps import ImageBase, Plan, PlannedStage
    from grammar.source import Span

Mode = Literal["used", "locked", "none"]
"""`used`: pins hold, and what has none is asked for. `locked`: all must have one, and be it still. `none`:
there is none."""


class RecipeLock:
    """The lock file of the recipe at `recipe`. `file` is None if there is none, `changed` when it was last
    written, in seconds since 1970.
    """

    def __init__(self, recipe: str, mode: Mode, emit: Emit, file: LockFile | None = None) -> None:
        """`file`: what is to be heeded in place of what is on the disk."""
        self.recipe = recipe
        self.path = lock_path(recipe)
        self.strict = mode == "locked"
        self.file = file
        self.changed = 0.0
        self._emit = emit
        self._told: set[str] = set()
        if file is None and mode != "none" and recipe != "-":
            self.file = read_lock(self.path)
            if self.file is not None:
                self.changed = os.stat(self.path).st_mtime

    def base(self, base: ImageBase) -> BasePin | None:
        """Return what `base` has to be, None if it may be anything. Raises LockError (lock/missing)."""
        if is_fixed(base):
            return None
        name = base_name(base)
        pin = None if self.file is None else self.file.base(name, str(base.platform))
        if pin is None:
            self.missing(name, base.span)
        return pin

    def pinned(self, kind: Literal["http", "git"], reference: str) -> str | None:
        """Return the pin of a file or repository, as of builder.remotes.fetching; None where it has none."""
        found = None if self.file is None else pin_of(self.file, kind, reference)
        if isinstance(found, GitPin):
            return " ".join(filter(None, (found.commit, found.ref, found.tag)))
        return None if found is None else found.checksum

    def applied(self, plan: Plan) -> Plan:
        """Return `plan` with the packages that PACKAGES has to install; look that there is a pin for all that
        ADD takes from elsewhere. Raises LockError (lock/missing).
        """
        for step in (step for stage in plan.stages for step in stage.steps):
            for _, address in step.remote if isinstance(step, CopyStep) else ():
                kind = remote_kind(address)
                if kind is not None and self.pinned(kind, address.reference) is None:
                    self.missing(address.reference, step.span)
        if self.file is None and not self.strict:
            return plan
        return replace(plan, stages=tuple(map(self._with_pins, plan.stages)))

    def _with_pins(self, stage: PlannedStage) -> PlannedStage:
        if not any(isinstance(step, PackagesStep) for step in stage.steps):
            return stage
        from builder.packages import line_of_step, with_pins

        known = {pin.key: pin for pin in self.file.packages} if self.file else {}
        steps: list[Step] = []
        for step in stage.steps:
            if isinstance(step, PackagesStep):
                pin = known.get(packages_pin_key(stage, step))
                if pin is None:
                    self.missing(f"PACKAGES {line_of_step(step)}", step.span)
                else:
                    step = with_pins(step, pin.installed)
            steps.append(step)
        return replace(stage, steps=tuple(steps))

    def missing(self, name: str, span: Span | None) -> None:
        """Say that `name` has no pin. Raises LockError (lock/missing) where each must have one."""
        hint = f"`pybuild lock {self.recipe}` adds it"
        if self.strict:
            what = f"{name} is not in {self.path}" if self.file else f"--locked: there is no {self.path}"
            raise LockError(what, code="lock/missing", span=span, hint=hint)
        if self.file is not None and name not in self._told:
            self._told.add(name)
            self._emit(
                Notice(
                    "info",
                    "lock/gap",
                    f"{name} is not in {self.path}; {hint}",
                    span.file if span else "",
                    span.line if span else 0,
                )
            )

    def moved(self, pin: BasePin, now: str, where: str, span: Span | None) -> LockError:
        """Return the error that says what a base was when it was locked, and what it is `now`, `where`."""
        return LockError(
            f"{pin.name} has moved: it is locked as {pin.shown}, and is {now} {where}",
            code="lock/moved",
            span=span,
            hint=f"`pybuild lock --update={pin.name} {self.recipe}` locks what it is now; --no-lock builds "
            "with that once",
        )


class Locks:
    """The lock files of one build, each read once."""

    def __init__(self, mode: Mode, emit: Emit) -> None:
        self._mode = mode
        self._emit = emit
        self._known: dict[str, RecipeLock] = {}
        self._current: RecipeLock | None = None

    def of(self, recipe: str) -> RecipeLock:
        """Return the lock file of `recipe`. Raises LockError (lock/malformed)."""
        if recipe not in self._known:
            self._known[recipe] = RecipeLock(recipe, self._mode, self._emit)
        return self._known[recipe]

    def put(self, recipe: str, file: LockFile) -> None:
        """Let `file` be the lock file of `recipe`."""
        self._known[recipe] = RecipeLock(recipe, self._mode, self._emit, file)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where lock files were looked for."""
        return () if self._mode == "none" else tuple(lock.path for lock in self._known.values())

    def enter(self, recipe: str) -> RecipeLock:
        """Let `pinned` speak for `recipe`, whose steps are next; return its lock file."""
        self._current = self.of(recipe)
        return self._current

    def pinned(self, kind: Literal["http", "git"], reference: str) -> str | None:
        """Return the pin of a file or repository of the recipe that was entered."""
        return None if self._current is None else self._current.pinned(kind, reference)


def pin_of(file: LockFile, kind: Literal["http", "git"], reference: str) -> FilePin | GitPin | None:
    """Return the pin of a file or repository, None if there is none."""
    if kind == "http":
        return next((pin for pin in file.files if pin.url == reference), None)
    return next((pin for pin in file.repositories if pin.url == reference), None)


def packages_pin_key(stage: PlannedStage, step: PackagesStep) -> tuple[str, ...]:
    """Return the key of the pin that a PACKAGES line has in a lock file."""
    from builder.packages import line_of_step

    return (stage.name, line_of_step(step), str(stage.image.platform))


def remote_kind(address: Address) -> Literal["http", "git"] | None:
    """Return which kind of pin an address needs; None if the recipe says itself what it is."""
    from builder.remotes.address import HttpAddress

    if isinstance(address, HttpAddress):
        return None if address.checksum else "http"
    return None if address.commit else "git"


def base_name(base: ImageBase) -> str:
    """Return what a base is called in a lock file: an image by its short name, all else as FROM has it."""
    scheme, location = split_scheme(base.reference)
    if scheme == "docker-image":
        from cache.oci.reference import Reference

        return Reference.parse(location).familiar
    options = "&".join(f"{name}={value}" for name, value in base.options)
    return f"{scheme}://{location}" + (f"?{options}" if options else "")


def is_fixed(base: ImageBase) -> bool:
    """Whether a base has a digest in its name, and so is the same for ever."""
    return "@sha" in split_scheme(base.reference)[1]
