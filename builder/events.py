"""What a build tells the world while it goes on: frozen events, sideways from the data.

docs/events.md documents them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ran", "cached", "same", "empty", "passed", "failed"]
"""ran: the step was run; cached: a record was found; same: run again, with the result of an earlier layer
(early cutoff); empty: metadata only; passed: a test that was run and passed; failed."""


@dataclass(frozen=True, slots=True)
class BuildStarted:
    """A build begins. `steps` counts those of all stages that the target needs."""

    recipe: str
    target: str
    stages: int
    steps: int


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins on its base, which stands in the store by now."""

    stage: str
    base: str
    steps: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins. `number` counts from 1 within its stage; `step` is unique within the build."""

    step: int
    stage: str
    number: int
    of: int
    text: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class StepRunning:
    """No record was found: the step's command is about to run. `reason` says why (what `--explain` shows)."""

    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that the step's command wrote to `stream`, cut anywhere."""

    step: int
    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step ended. `reason` says why it hit or missed; `seconds` is its wall time; `size` its layer's
    bytes as a tar. `limit`: which one it ran into if it failed: memory, pids or timeout."""

    step: int
    outcome: Outcome
    seconds: float
    reason: str = ""
    key: str = ""
    diff_id: str = ""
    chain_id: str = ""
    size: int = 0
    status: int = 0
    limit: str = ""


@dataclass(frozen=True, slots=True)
class StageFinished:
    """All steps of a stage are done."""

    stage: str
    chain_id: str


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A long transfer, unpacking or compression begins. `total` in bytes, None where unknown.

    Told again for a transfer under way, it has come to another part of its work.
    """

    transfer: str
    label: str
    total: int | None


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """`done` bytes of a transfer are through."""

    transfer: str
    done: int


@dataclass(frozen=True, slots=True)
class TransferFinished:
    """A transfer is complete, and verified where it has a digest."""

    transfer: str
    done: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know that stops nothing. `level` is 'info' or 'warning'."""

    level: Literal["info", "warning"]
    code: str
    message: str
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class OutputWritten:
    """An exporter has put its output in place."""

    kind: str
    dest: str
    size: int


@dataclass(frozen=True, slots=True)
class BuildFinished:
    """The image stands in the store. Counts are of steps; `seconds` is the wall time of the build."""

    image_id: str
    names: tuple[str, ...]
    seconds: float
    ran: int
    cached: int


@dataclass(frozen=True, slots=True)
class BuildFailed:
    """The build ends without an image.

    `code` is one of docs/errors.md, `exit_code` what the process ends with. `report` is the error as a person
    reads it: message, place, excerpt of the recipe, hint; several lines. `included_from` are the INCLUDEs
    that brought the place to where it is, as file:line, the nearest first.
    """

    code: str
    message: str
    exit_code: int
    hint: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    report: str = ""
    included_from: tuple[str, ...] = ()


Event = (
    BuildStarted
    | StageStarted
    | StepStarted
    | StepRunning
    | StepOutput
    | StepFinished
    | StageFinished
    | TransferStarted
    | TransferProgress
    | TransferFinished
    | Notice
    | OutputWritten
    | BuildFinished
    | BuildFailed
)

Emit = Callable[[Event], None]
"""Where events go. Called from one thread at a time; must not raise."""
