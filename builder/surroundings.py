"""What all stages of a build share, and how one of their commands is run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from builder.events import Emit
from builder.limits import UNLIMITED, Limits
from builder.steps import PackagesStep

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from builder.executor import ExecRequest, ExecResult, Executor, Output
    from builder.inspection import Inspection
    from builder.parallel import Cancellation
    from builder.secrets import Secrets
    from builder.sharedcache import SharedCache
    from builder.ssh import Agents
    from builder.stepcache import StepCache
    from cache.oci.digest import ChainID
    from cache.store import Store


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all stages of a build share."""

    store: Store
    emit: Emit
    cache: StepCache
    executor: Callable[[], Executor]
    epoch: int | None
    host_ca: bool
    numbers: Callable[[], int]
    secrets: Secrets
    agents: Agents
    packages: list[PackagesRun]
    packages_anew: bool
    cancellation: Cancellation
    reading: AbstractContextManager[object]
    """Entered while sources are looked at: by one stage at a time."""
    limits: Limits = UNLIMITED
    inspection: Inspection | None = None
    shared: SharedCache | None = None


@dataclass(frozen=True, slots=True)
class PackagesRun:
    """A PACKAGES that was run, or found: its key, on the state `parent`, in which recipe and stage."""

    recipe: str
    stage: str
    platform: str
    step: PackagesStep
    parent: ChainID | None
    key: str


def run_until_cancelled(around: Surroundings, request: ExecRequest, output: Output) -> ExecResult:
    """Run a command. Raises Cancelled if the build ends meanwhile: the command is dead then."""
    running = around.executor().start(request, output)
    with around.cancellation.ending(partial(running.kill, signal.SIGKILL)):
        result = running.wait()
    around.cancellation.check()
    return result
