"""(Recipe, arguments, base configs) -> Plan. Pure: what it needs is handed to it.

`outline` says which stages the target needs, and what they stand on; `settle` does so too, and has the bases
resolved, whose ONBUILD may need more; `plan` then makes the steps. Semantics as in the Dockerfile reference,
where BuildKit differs as BuildKit has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from builder.errors import PlanError
from builder.namedcontexts import NamedContext, NamedContexts, NamedStage, RemoteContext, files_step, find
from builder.plansize import PlanSize
from builder.runmounts import SCRATCH
from builder.scope import Scope, build_arguments, global_scope
from builder.shortnames import full_name
from builder.stagestate import StageState, initial_config
from builder.steps import (
    Asked,
    Base,
    ImageBase,
    LocalTree,
    Plan,
    PlannedStage,
    RecipeBase,
    Scratch,
    StageBase,
    Tree,
)
from cache.errors import FormatError
from cache.oci.platform import Platform
from cache.oci.reference import Reference
from cache.oci.spec import ImageConfig
from grammar.ast import Copy, From, Instruction, Onbuild, Recipe, Run, Stage, Word
from grammar.includes import spliced
from grammar.source import Span
from grammar.suggest import did_you_mean
from grammar.validate import find_stage

NOTHING_ASKED = Asked()


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the command line adds to a recipe. `target`: a stage's name or number, None for the last one.
    `no_cache`: stages (name or number) whose steps all run. `contexts`: what names of images and stages mean
    instead.
    """

    platform: Platform
    build_platform: Platform
    arguments: tuple[tuple[str, str], ...] = ()
    target: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    asked: Asked = NOTHING_ASKED
    no_cache: tuple[str, ...] = ()
    contexts: NamedContexts = ()

    @property
    def own(self) -> bool:
        """Whether they make a recipe's stages others than those of the recipe as a base."""
        return bool(self.arguments or self.labels or self.no_cache or self.contexts)


@dataclass(frozen=True, slots=True)
class OutlinedStage:
    """A stage that the target needs. `trees` are what its COPYs and mounts read from, by what `from` says.
    `triggers` are what the base's ONBUILD wants to be done first, as if it stood in the FROM line. `files`: a
    directory that is the base, on `Scratch`. `replaced`: a named context has its place, whole.
    """

    stage: Stage
    base: Base
    platform: Platform
    trees: tuple[tuple[str, Tree], ...]
    triggers: tuple[Instruction, ...] = ()
    files: LocalTree | None = None
    replaced: bool = False

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        return () if self.replaced else self.stage.instructions

    @property
    def needs(self) -> tuple[int, ...]:
        trees = [tree for _, tree in self.trees]
        return tuple(sorted({b.index for b in (self.base, *trees) if isinstance(b, StageBase)}))

    @property
    def name(self) -> str:
        return stage_name(self.stage)


@dataclass(frozen=True, slots=True)
class Outline:
    """The stages that the target needs, each after those that it needs itself."""

    recipe: Recipe
    stages: tuple[OutlinedStage, ...]
    scope: Scope

    @property
    def bases(self) -> tuple[ImageBase | RecipeBase, ...]:
        """Every image that must be had before `plan`, once each."""
        wanted: dict[ImageBase | RecipeBase, None] = {}
        for outlined in self.stages:
            for base in (outlined.base, *(tree for _, tree in outlined.trees)):
                if isinstance(base, (ImageBase, RecipeBase)):
                    wanted.setdefault(base)
        return tuple(wanted)


Triggers = Mapping[int, tuple[Instruction, ...]]
"""By the number of the stage: what the ONBUILD of its base asks for."""


def outline(recipe: Recipe, options: PlanOptions, triggers: Triggers = MappingProxyType({})) -> Outline:
    """Return what `options.target` needs. Raises PlanError: no such stage, a cycle."""
    scope = global_scope(recipe, options.platform, options.build_platform, options.arguments)
    target = _find_target(recipe, options.target)
    return Outline(recipe, _needed(recipe, scope, options, target, triggers), scope)


def settle(
    recipe: Recipe,
    options: PlanOptions,
    config_of: Callable[[ImageBase | RecipeBase], ImageConfig],
    parse_trigger: Callable[[str], Instruction],
) -> tuple[Outline, dict[Base, ImageConfig]]:
    """Return the outline, and the config of each of its bases.

    `config_of` resolves a base: it is called once for each. `parse_trigger` makes an instruction of an
    ONBUILD trigger; what triggers copy from is needed too. Raises what these raise, and PlanError.
    """
    triggers: Triggers = {}
    configs: dict[Base, ImageConfig] = {}
    while True:
        outlined = outline(recipe, options, triggers)
        for base in outlined.bases:
            if base not in configs:
                configs[base] = config_of(base)
        found = _triggers(outlined, configs, parse_trigger)
        if found == triggers:
            return outlined, configs
        triggers = found


def plan(outline: Outline, options: PlanOptions, bases: Mapping[Base, ImageConfig]) -> Plan:
    """Return the steps of every stage of `outline`. `bases` has the config of each of `outline.bases`."""
    states: dict[int, StageState] = {}
    planned: list[PlannedStage] = []
    warnings: list[tuple[str, str, Span | None]] = []
    no_cache = {_find_stage(outline.recipe, name) for name in options.no_cache}
    size = PlanSize()
    for outlined in outline.stages:
        state = _stage_state(outline, outlined, options, bases, states)
        state.trees = dict(outlined.trees)
        state.asked = options.asked
        if outlined.files is not None:
            state.steps.append(files_step(outlined.files, outlined.stage.from_.span))
        for instruction in (*outlined.triggers, *outlined.instructions):
            size.apply(state, instruction)
        states[outlined.stage.index] = state
        planned.append(
            PlannedStage(
                index=outlined.stage.index,
                name=outlined.name,
                base=outlined.base,
                steps=tuple(state.steps),
                config=state.config,
                image=replace(state.image, config=state.config),
                needs=outlined.needs,
                no_cache=outlined.stage.index in no_cache,
            )
        )
    last = planned[-1]
    if options.labels:
        planned[-1] = _with_labels(last, options.labels)
    unused = (
        build_arguments(options.arguments) - outline.scope.used - {u for s in states.values() for u in s.used}
    )
    for name in sorted(unused):
        warnings.append(("arg/unused", f"--build-arg {name}: no ARG of the recipe declares it", None))
    return Plan(outline.recipe.source, tuple(planned), last.name, tuple(warnings))


def stage_name(stage: Stage) -> str:
    """Return what messages call the stage: its name, or `stage-N` as with BuildKit."""
    return stage.name or f"stage-{stage.index}"


def near_stage(recipe: Recipe, image: str) -> str | None:
    """Return the hint that the name of an image, which cannot be had, is nearly that of a stage."""
    if any(mark in image for mark in ":@/."):
        return None
    return did_you_mean(image, [stage.name for stage in recipe.stages if stage.name])


def _stage_state(
    outline: Outline,
    outlined: OutlinedStage,
    options: PlanOptions,
    bases: Mapping[Base, ImageConfig],
    states: Mapping[int, StageState],
) -> StageState:
    scope = outline.scope
    escape = outline.recipe.directives.escape
    if isinstance(outlined.base, StageBase):
        return states[outlined.base.index].child(outlined.name)
    scratch = isinstance(outlined.base, Scratch)
    image = initial_config(outlined.platform) if scratch else bases[outlined.base]
    return StageState.start(outlined.name, image, scope, dict(options.arguments), escape)


def _triggers(
    outline: Outline, configs: Mapping[Base, ImageConfig], parse_trigger: Callable[[str], Instruction]
) -> Triggers:
    """Return what ONBUILD asks for. It is not passed on: a stage on this one has none of it."""
    found: dict[int, tuple[Instruction, ...]] = {}
    stages = {outlined.stage.index: outlined for outlined in outline.stages}
    for outlined in outline.stages:
        # A named context that has the place of a stage is taken as it is; what stands on it does the rest.
        texts = () if outlined.replaced else _on_build(outlined.base, stages, configs)
        if texts:
            span = outlined.stage.from_.span
            found[outlined.stage.index] = tuple(parse_trigger(text).replace(span=span) for text in texts)
    return found


def _on_build(
    base: Base, stages: Mapping[int, OutlinedStage], configs: Mapping[Base, ImageConfig]
) -> tuple[str, ...]:
    """Return the triggers that the ONBUILDs of `base` leave to what stands on it."""
    if isinstance(base, StageBase):
        below = stages[base.index]
        if below.replaced:
            return _on_build(below.base, stages, configs)
        return tuple(each.expression for each in spliced(below.instructions) if isinstance(each, Onbuild))
    return () if isinstance(base, Scratch) else configs[base].config.on_build


def _find_target(recipe: Recipe, target: str | None) -> int:
    return len(recipe.stages) - 1 if target is None else _find_stage(recipe, target)


def _find_stage(recipe: Recipe, target: str) -> int:
    stage = find_stage(recipe.stages, target)
    if stage is None:
        names = [stage_name(stage) for stage in recipe.stages]
        raise PlanError(
            f"no stage {target!r} in {recipe.source}",
            code="stage/unknown",
            hint=did_you_mean(target.lower(), names) or f"its stages: {', '.join(names)}",
        )
    return stage.index


def _needed(
    recipe: Recipe, scope: Scope, options: PlanOptions, target: int, triggers: Triggers
) -> tuple[OutlinedStage, ...]:
    """Return what stage `target` needs, depth first, so that each stage comes after those that it needs.

    With a stack of its own: a recipe may have more stages than the interpreter has frames.
    """
    done: dict[int, OutlinedStage] = {}
    outlined = _outlined(recipe, scope, options, target, triggers)
    opened = {target: (outlined, iter(outlined.needs))}
    while opened:
        index, (outlined, needs) = next(reversed(opened.items()))
        missing = next((needed for needed in needs if needed not in done), None)
        if missing is None:
            done[index] = outlined
            del opened[index]
        elif missing in opened:
            path = [*opened, missing]
            names = " -> ".join(stage_name(recipe.stages[i]) for i in path[path.index(missing) :])
            raise PlanError(
                f"stages need each other in a circle: {names}",
                code="stage/cycle",
                span=recipe.stages[missing].from_.span,
            )
        else:
            outlined = _outlined(recipe, scope, options, missing, triggers)
            opened[missing] = (outlined, iter(outlined.needs))
    return tuple(done.values())


def _outlined(
    recipe: Recipe, scope: Scope, options: PlanOptions, index: int, triggers: Triggers
) -> OutlinedStage:
    stage = recipe.stages[index]
    replaced = find(options.contexts, stage.name) if stage.name else None
    if replaced is not None:
        named, platform = _named(
            recipe, replaced, _stage_platform(recipe, scope, options, stage), stage.from_.span
        )
    else:
        named, platform = _base(recipe, scope, options, stage)
    files = named if isinstance(named, LocalTree) else None
    base: Base = Scratch() if isinstance(named, LocalTree) else named
    if replaced is not None:
        return OutlinedStage(stage, base, platform, (), (), files, replaced=True)
    asked = triggers.get(index, ())
    trees: dict[str, Tree] = {}
    for instruction in asked:
        for name in _from_names(instruction):
            # What a trigger says has no place in this recipe but the FROM that brought it.
            placed = name.replace(span=instruction.span)
            trees.setdefault(name.text, _tree(recipe, options, stage, placed, platform))
    for instruction in spliced(stage.instructions):
        for name in _from_names(instruction):
            trees.setdefault(name.text, _tree(recipe, options, stage, name, platform))
    return OutlinedStage(stage, base, platform, tuple(trees.items()), asked, files)


def _from_names(instruction: Instruction) -> list[Word]:
    """Return the words of an instruction that say what is copied or mounted from."""
    if isinstance(instruction, Copy):
        return [] if instruction.from_ is None else [instruction.from_]
    if isinstance(instruction, Run):
        words = [mount.option("from") for mount in instruction.mounts]
        return [word for word in words if word is not None and word.text not in ("", SCRATCH)]
    return []


def _base(
    recipe: Recipe, scope: Scope, options: PlanOptions, stage: Stage
) -> tuple[Base | LocalTree, Platform]:
    from_ = stage.from_
    escape = recipe.directives.escape
    name = scope.expand(from_.image, escape)
    if not name:
        raise PlanError(
            f"FROM {from_.image.text}: the name of the base is empty",
            code="from/empty",
            span=from_.span,
            hint="give the ARG a default, or set it with --build-arg",
        )
    platform = _stage_platform(recipe, scope, options, stage)
    if name == "scratch":
        return Scratch(), platform
    # By name only, and of two the later one: as BuildKit has it.
    lower = name.lower()
    for earlier in reversed(recipe.stages[: stage.index]):
        if earlier.name == lower:
            return StageBase(earlier.index), platform
    context = find(options.contexts, name)
    if context is not None:
        return _named(recipe, context, platform, from_.span)
    name = full_name(name, options.asked.aliases)
    return image_or_recipe(name, platform, _transport_options(from_, scope, escape), from_.span), platform


def _stage_platform(recipe: Recipe, scope: Scope, options: PlanOptions, stage: Stage) -> Platform:
    word = stage.from_.platform
    found = None if word is None else _platform(scope.expand(word, recipe.directives.escape), word.span)
    return found or options.platform


def _named(
    recipe: Recipe, context: NamedContext, platform: Platform, span: Span
) -> tuple[Base | LocalTree, Platform]:
    """Return what a named context is to a stage for `platform`, or to a COPY in it."""
    if isinstance(context, NamedStage):
        return StageBase(_find_stage(recipe, context.stage)), platform
    if isinstance(context, LocalTree):
        return context, platform
    if isinstance(context, RemoteContext):
        raise PlanError(
            "what --build-context names is elsewhere, and nothing is fetched here",
            code="context/elsewhere",
            span=span,
        )
    return replace(context, platform=platform, span=span), platform


def _platform(text: str, span: Span) -> Platform | None:
    try:
        return Platform.parse(text) if text else None
    except FormatError as error:
        message = f"--platform: {error.message}"
        raise PlanError(message, code="from/platform", hint=error.hint, span=span) from None


def image_or_recipe(
    name: str, platform: Platform, options: tuple[tuple[str, str], ...], span: Span
) -> ImageBase | RecipeBase:
    """Return the base that `name` means: a recipe's path (with `#stage`), or an image's reference."""
    path, mark, target = name.partition("#")
    if "://" not in name and (path.startswith(("./", "../", "/")) or path.endswith(".rec")):
        return RecipeBase(path, target if mark else None, platform, span)
    if "://" not in name:
        try:
            Reference.parse(name)
        except FormatError as error:
            raise PlanError(error.message, code="from/name", hint=error.hint, span=span) from None
    return ImageBase(name, platform, options, span)


def _transport_options(from_: From, scope: Scope, escape: str) -> tuple[tuple[str, str], ...]:
    given: list[tuple[str, str]] = []
    if from_.variant is not None:
        given.append(("variant", scope.expand(from_.variant, escape)))
    given += [("include", scope.expand(word, escape)) for word in from_.include]
    given += [("mirror", scope.expand(word, escape)) for word in from_.mirror]
    if from_.keyring is not None:
        given.append(("keyring", scope.expand(from_.keyring, escape)))
    return tuple(given)


def _tree(recipe: Recipe, options: PlanOptions, stage: Stage, name: Word, platform: Platform) -> Tree:
    """Return what `from=name` of a COPY or a mount in `stage` reads from."""
    found = find_stage(recipe.stages, name.text)
    if found is stage:
        raise PlanError(
            f"from={name.text}: a stage cannot copy from itself", code="stage/cycle", span=name.span
        )
    if found is not None:
        context = find(options.contexts, found.name) if found.name else None
        # A directory in place of the stage need not become a layer first.
        return context if isinstance(context, LocalTree) else StageBase(found.index)
    if name.text.isdecimal():
        raise PlanError(
            f"from={name.text}: there is no stage {name.text}", code="stage/unknown", span=name.span
        )
    context = find(options.contexts, name.text)
    if context is not None:
        named, _ = _named(recipe, context, platform, name.span)
        if not isinstance(named, Scratch):
            return named
    return image_or_recipe(full_name(name.text, options.asked.aliases), platform, (), name.span)


def _with_labels(stage: PlannedStage, labels: tuple[tuple[str, str], ...]) -> PlannedStage:
    merged = dict(stage.config.labels) | dict(labels)
    config = replace(stage.config, labels=tuple(sorted(merged.items())))
    return replace(stage, config=config, image=replace(stage.image, config=config))
