"""Planning a recipe on bases that are made up: always the same ones, so that plans and keys can be golden."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.plan import PlanOptions, plan, settle
from builder.steps import ImageBase, RecipeBase
from cache.oci.platform import Platform
from cache.oci.spec import ContainerConfig, ImageConfig
from grammar.parser import parse_trigger
from grammar.source import Source

if TYPE_CHECKING:
    from builder.steps import Plan
    from grammar.ast import Instruction, Recipe

AMD64 = Platform("linux", "amd64")
CONFIG = ContainerConfig(
    user="root",
    env=("PATH=/usr/bin:/bin", "INHERITED=yes"),
    cmd=("/bin/inherited",),
    working_dir="/inherited",
    labels=(("of", "the base"),),
)
TRIGGERS = ("ENV TRIGGERED=yes", "COPY . /triggered/", "RUN make triggered")
"""What the ONBUILD of a base has whose name ends in `onbuild`."""


def options(**given: object) -> PlanOptions:
    """Return what the command line says, by default nothing."""
    return PlanOptions(**{"platform": AMD64, "build_platform": AMD64, **given})  # type: ignore[arg-type]


def base_config(base: ImageBase | RecipeBase) -> ImageConfig:
    """Return the config that a base has."""
    triggered = isinstance(base, ImageBase) and base.reference.endswith("onbuild")
    platform = base.platform if isinstance(base, ImageBase) else AMD64
    config = ContainerConfig(
        user=CONFIG.user,
        env=CONFIG.env,
        cmd=CONFIG.cmd,
        working_dir=CONFIG.working_dir,
        labels=CONFIG.labels,
        on_build=TRIGGERS if triggered else (),
    )
    return ImageConfig(platform.architecture, platform.os, platform.variant, config=config)


def trigger(text: str) -> Instruction:
    """Return the instruction that an ONBUILD trigger is."""
    return parse_trigger(Source("ONBUILD", text))


def planned(recipe: Recipe, **given: object) -> Plan:
    """Return the plan of `recipe`. Raises PlanError, RecipeError."""
    chosen = options(**given)
    outlined, configs = settle(recipe, chosen, base_config, trigger)
    return plan(outlined, chosen, configs)
