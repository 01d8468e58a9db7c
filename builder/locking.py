"""Making lock files: what a recipe's names stand for now, asked where they come from; and whether what is
locked is so still.

The whole recipe is locked, not what one target needs, and each recipe that it stands on, in a file of its
own. Registries are asked for manifests and configs, never for layers. What mmdebstrap makes is known when it
is made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.bases import split_scheme
from builder.bases.images import find
from builder.errors import PlanError
from builder.lockedbases import pinned_reference, store_name, stored
from builder.lockfile import BasePin, FilePin, GitPin, LockFile, PackagesPin, Pin, lock_path, read_lock
from builder.locks import (
    Locks,
    base_name,
    is_fixed,
    packages_pin_key,
    pin_of,
    remote_kind,
)
from builder.plan import PlanOptions, plan, settle
from builder.recipes import refuse_cycle
from builder.steps import CopyStep, ImageBase, PackagesStep, RecipeBase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from builder.baseresolver import BaseResolver
    from builder.events import Emit
    from builder.recipes import RecipeLoader
    from builder.remotes.address import Address
    from builder.remotes.fetching import Remotes
    from builder.steps import Plan, PlannedStage
    from builder.surroundings import PackagesRun
    from cache.oci.spec import ImageConfig
    from cache.store import Store
    from grammar.ast import Recipe


@dataclass(frozen=True, slots=True)
class Update:
    """Which pins are asked for anew: all of the recipe's own, or those of these names in every recipe."""

    everything: bool = False
    names: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Whether `name` is one of the names: in full, or without its tag."""
        return any(given in (name, name.partition("@")[0].rpartition(":")[0]) for given in self.names)


class Making:
    """The lock file of one recipe in the making."""

    def __init__(self, recipe: str, old: LockFile | None, *, anew: bool) -> None:
        self.recipe = recipe
        self.path = lock_path(recipe)
        self.old = old
        self.anew = anew
        self.pins: dict[tuple[type, tuple[str, ...]], Pin] = {}
        self.unknown: dict[tuple[str, ...], int] = {}
        """PACKAGES lines of which it has to be learnt what they install, and their stages' numbers."""
        self.problems: list[str] = []
        """What is missing, or has moved, in words."""

    @property
    def heeded(self) -> LockFile:
        """What holds for a build that is to learn what is unknown."""
        new = self.new
        known = tuple(pin for pin in new.packages if pin.key not in self.unknown)
        return replace(new, packages=known)

    @property
    def new(self) -> LockFile:
        """What the lock file will be: with `anew`, nothing but what the recipe names now."""
        start = LockFile() if self.anew or self.old is None else self.old
        return start.with_pins(self.pins.values())

    def changes(self) -> Iterator[str]:
        """Tell how the new file differs from the old one."""
        before = {(type(pin), pin.key): pin for pin in self.old.pins} if self.old else {}
        after = {(type(pin), pin.key): pin for pin in self.new.pins}
        for key in sorted(before.keys() | after.keys(), key=lambda each: (each[0].__name__, each[1])):
            old, new = before.get(key), after.get(key)
            if old == new:
                continue
            if new is None:
                yield f"- {_name(old)}"
            elif old is None:
                yield f"+ {_name(new)} {new.shown}"
            else:
                yield f"~ {_name(new)} {old.shown} -> {new.shown}"


class Locking:
    """Locks a recipe, and those that it stands on. With `check`, nothing is made: it is compared."""

    def __init__(
        self,
        store: Store,
        bases: BaseResolver,
        loader: RecipeLoader,
        options: PlanOptions,
        emit: Emit,
        *,
        update: Update,
        check: bool = False,
    ) -> None:
        self._store = store
        self._bases = bases
        self._loader = loader
        self._options = options
        self._emit = emit
        self._update = update
        self._check = check
        self._makings: dict[str, Making] = {}
        self._remotes: Remotes | None = None
        self._whole: set[str] = set()

    def run(self, recipe: str) -> tuple[Making, ...]:
        """Return the lock files of `recipe` and of those that it stands on; its own is the first. Raises
        what planning and asking raise.
        """
        self._makings[recipe] = self._open(recipe, anew=self._update.everything and not self._check)
        try:
            self._recipe(recipe, self._options, ())
        finally:
            if self._remotes is not None:
                self._remotes.close()
        return tuple(self._makings.values())

    def _open(self, recipe: str, *, anew: bool) -> Making:
        return Making(recipe, read_lock(lock_path(recipe)), anew=anew)

    def _recipe(self, path: str, options: PlanOptions, above: tuple[str, ...]) -> ImageConfig:
        making = self._makings.get(path)
        if making is None:
            making = self._makings[path] = self._open(path, anew=False)
        recipe = self._loader.load(path)
        planned = self._plan(making, recipe, options, above)
        if path not in self._whole and (above or options.target is None):
            self._whole.add(path)
            self._rest(making, recipe, options, above, {stage.index for stage in planned.stages})
        return planned.stages[-1].image

    def _rest(
        self, making: Making, recipe: Recipe, options: PlanOptions, above: tuple[str, ...], done: set[int]
    ) -> None:
        """Lock the stages that the target does not need, too: another build may want them."""
        from builder.events import Notice
        from grammar.errors import RecipeError

        for stage in reversed(recipe.stages):
            if stage.index in done:
                continue
            try:
                planned = self._plan(making, recipe, replace(options, target=str(stage.index)), above)
            except (PlanError, RecipeError) as error:
                message = f"stage {stage.name or stage.index} is left out: {error.message}"
                self._emit(Notice("warning", "lock/stage", message, making.recipe, stage.from_.span.line))
            else:
                done.update(each.index for each in planned.stages)

    def _plan(self, making: Making, recipe: Recipe, options: PlanOptions, above: tuple[str, ...]) -> Plan:
        real = os.path.realpath(making.recipe)

        def config_of(base: ImageBase | RecipeBase) -> ImageConfig:
            try:
                if isinstance(base, RecipeBase):
                    return self._recipe_base(base, making.recipe, (*above, real))
                return self._base(making, base)
            except Exception as error:
                if getattr(error, "span", None) is None:
                    error.span = base.span  # type: ignore[attr-defined]
                raise

        outlined, configs = settle(recipe, options, config_of, self._loader.trigger)
        planned = plan(outlined, options, configs)
        for stage in planned.stages:
            for step in stage.steps:
                for _, address in step.remote if isinstance(step, CopyStep) else ():
                    self._remote(making, address)
                if isinstance(step, PackagesStep):
                    self._packages(making, stage, step)
        return planned

    def _recipe_base(self, base: RecipeBase, recipe: str, above: tuple[str, ...]) -> ImageConfig:
        path = os.path.normpath(os.path.join(os.path.dirname(recipe), base.path))
        refuse_cycle(os.path.realpath(path), above, base.span)
        top = self._options
        options = PlanOptions(base.platform, top.build_platform, target=base.target, asked=top.asked)
        return self._recipe(path, options, above)

    # Bases

    def _base(self, making: Making, base: ImageBase) -> ImageConfig:
        if is_fixed(base):
            return self._config(base, base, making)
        name = base_name(base)
        made = making.pins.get((BasePin, (name, ""))) or making.pins.get(
            (BasePin, (name, str(base.platform)))
        )
        old = made or (making.old.base(name, str(base.platform)) if making.old else None)
        assert old is None or isinstance(old, BasePin)
        if self._check and made is None:
            return self._checked(making, base, old)
        if old is not None and (made or not (making.anew or self._update.has(name))):
            pin, config = old, self._config_of_pin(base, old, making)
        else:
            pin, config = self._look(base, making)
        making.pins[BasePin, pin.key] = pin
        return config

    def _look(self, base: ImageBase, making: Making) -> tuple[BasePin, ImageConfig]:
        """Return what a base is now, and its config."""
        name, platform = base_name(base), str(base.platform)
        scheme, location = split_scheme(base.reference)
        if scheme == "docker-image":
            own = self._own_image(base)
            if own is not None:
                return BasePin(name, platform, image=own[0]), own[1]
            digest, config = self._bases.registry.look(location, base.platform)
            return BasePin(name, digest=digest), config
        anew = True if scheme == "mmdebstrap" else None
        found = self._bases.find(base, os.path.dirname(making.recipe), pull=anew)
        if scheme == "mmdebstrap":
            from builder.bases.mmdebstrap import releases_of

            releases = releases_of(self._store, found.image_id)
            return BasePin(name, platform, image=found.image_id, releases=releases), found.config
        if found.digest is not None:
            return BasePin(name, platform, digest=found.digest), found.config
        return BasePin(name, platform, image=found.image_id), found.config

    def _own_image(self, base: ImageBase) -> tuple[str, ImageConfig] | None:
        """Return the image that a name means in the store if it is of this host: no registry's has it."""
        from cache.oci.reference import Reference

        name = store_name(base)
        found = find(self._store, name, base.platform)
        if found is None:
            return None
        pulled = Reference.parse(name).name + "@"
        if any(each.startswith(pulled) for each in self._store.images.names_of(found.image_id)):
            return None
        return found.image_id, found.config

    def _config_of_pin(self, base: ImageBase, pin: BasePin, making: Making) -> ImageConfig:
        known = stored(self._store, base, pin) if split_scheme(base.reference)[0] == "docker-image" else None
        if known is not None:
            return known.config
        if pin.digest and split_scheme(base.reference)[0] == "docker-image":
            return self._config(base, replace(base, reference=pinned_reference(base, pin)), making)
        return self._config(base, base, making)

    def _config(self, base: ImageBase, asked: ImageBase, making: Making) -> ImageConfig:
        scheme, location = split_scheme(asked.reference)
        if scheme == "docker-image":
            known = find(self._store, store_name(asked), base.platform)
            return known.config if known else self._bases.registry.look(location, base.platform)[1]
        return self._bases.find(asked, os.path.dirname(making.recipe)).config

    def _checked(self, making: Making, base: ImageBase, old: BasePin | None) -> ImageConfig:
        """Note whether a base is missing or has moved; return its config."""
        name = base_name(base)
        if old is None:
            making.problems.append(f"missing: {name}")
            return self._config(base, base, making)
        if old.releases:
            now = self._bases.releases(base, os.path.dirname(making.recipe))
            if now != old.releases:
                making.problems.append(f"moved: {name}: {' '.join(old.releases)} -> {' '.join(now)}")
            making.pins[BasePin, old.key] = old
            known = stored(self._store, base, old)
            return known.config if known else self._config(base, base, making)
        pin, config = self._look(base, making)
        if pin.shown != old.shown:
            making.problems.append(f"moved: {name}: {old.shown} -> {pin.shown}")
        making.pins[BasePin, old.key] = old
        return config

    # What ADD takes from elsewhere

    def _remote(self, making: Making, address: Address) -> None:
        kind = remote_kind(address)
        if kind is None:
            return
        key = (FilePin if kind == "http" else GitPin, (address.reference,))
        if key in making.pins:
            return
        old = pin_of(making.old, kind, address.reference) if making.old else None
        if old is not None and not (self._check or making.anew or self._update.has(address.reference)):
            making.pins[key] = old
            return
        new = self._ask(address)
        if self._check:
            if old is None:
                making.problems.append(f"missing: {address.reference}")
            elif old.shown != new.shown:
                making.problems.append(f"moved: {address.reference}: {old.shown} -> {new.shown}")
        making.pins[key] = new

    def _ask(self, address: Address) -> FilePin | GitPin:
        from builder.remotes.address import HttpAddress
        from builder.remotes.fetching import Remotes

        if self._remotes is None:
            self._remotes = Remotes(self._store, self._emit)
        if isinstance(address, HttpAddress):
            return FilePin(address.reference, self._remotes.file_digest(address))
        found = self._remotes.commit(address)
        return GitPin(address.reference, found.id, found.ref or "", found.tag or "")

    # What PACKAGES installs

    def _packages(self, making: Making, stage: PlannedStage, step: PackagesStep) -> None:
        key = packages_pin_key(stage, step)
        old = next((pin for pin in making.old.packages if pin.key == key), None) if making.old else None
        words = [step.manager, *(name for name, _ in step.packages)]
        if old is not None and not making.anew and not any(map(self._update.has, words)):
            making.pins[PackagesPin, key] = old
        elif self._check:
            if old is None:
                making.problems.append(f"missing: PACKAGES {key[1]}")
        else:
            making.unknown[key] = stage.index

    def learn(self, recipe: str, build: Callable[[PlanOptions, Locks], Sequence[PackagesRun]]) -> None:
        """Have `recipe` built where that alone tells what its PACKAGES install, and take that down. `build`
        builds a target, and returns what was installed.
        """
        if not any(making.unknown for making in self._makings.values()):
            return
        locks = Locks("used", lambda event: None)
        for making in self._makings.values():
            locks.put(making.recipe, making.heeded)
        own = self._makings[recipe].unknown
        targets: list[str | None] = [str(index) for index in sorted(set(own.values()))]
        targets = targets or [self._options.target]
        for target in targets:
            for run in build(replace(self._options, target=target), locks):
                self._learnt(run)
        from builder.events import Notice

        for making in self._makings.values():
            for stage, line, _ in making.unknown:
                message = (
                    f"PACKAGES {line} of stage {stage} was not run: `pybuild lock {making.recipe}` locks it"
                )
                self._emit(Notice("warning", "lock/gap", message, making.recipe))

    def _learnt(self, run: PackagesRun) -> None:
        from builder.keys import packages_key
        from builder.packagerun import installed_packages, remember
        from builder.packages import line_of_step, with_pins

        store, making = self._store, self._makings.get(run.recipe)
        installed = installed_packages(store, run.key)
        key = (run.stage, line_of_step(run.step), run.platform)
        if making is None or installed is None or making.unknown.pop(key, None) is None:
            return
        texts = tuple(f"{name}={version}" for name, version in sorted(installed))
        pin = PackagesPin(key[1], key[0], key[2], texts)
        making.pins[PackagesPin, key] = pin
        # What was installed is just what a build by the new lock file has to install: it need not do so
        # again.
        locked = packages_key(with_pins(run.step, texts), run.parent, run.platform)
        record = store.records.get(run.key, parts=True)
        if record is not None:
            remember(store, locked.key, tuple(sorted(installed)))
            store.records.put(replace(record, key=locked.key, parts=locked.parts))


def _name(pin: Pin | None) -> str:
    assert pin is not None
    return " ".join(filter(None, pin.key))


def stale(makings: Sequence[Making]) -> bool:
    """Whether anything is missing or has moved."""
    return any(making.problems for making in makings)
