"""What the image says about how to be run."""

from __future__ import annotations

from grammar.ast import Cmd, Entrypoint, Healthcheck, Instruction, Shell, User, Workdir
from grammar.includes import spliced
from grammar.rules.rule import rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.rules.rule import Finding, Subject

_ROOT = ("root", "0")


@rule("JSONArgsRecommended", "warning", "CMD and ENTRYPOINT should be JSON arrays, so that signals arrive")
def json_args_recommended(subject: Subject) -> Iterator[Finding]:
    shells: set[int] = set()
    for stage in subject.stages:
        parent = subject.parent(stage)
        # Whoever sets a SHELL wants it.
        own = any(isinstance(each, Shell) for each in spliced(stage.instructions))
        if own or (parent and parent.index in shells):
            shells.add(stage.index)
            continue
        for instruction in stage.instructions:
            if isinstance(instruction, Cmd | Entrypoint) and instruction.command.shell:
                yield (
                    instruction.span,
                    f"{instruction.keyword} in shell form: signals go to the shell, not to the program",
                    f'Write {instruction.keyword} ["program", "argument"].',
                )


@rule("WorkdirRelativePath", "warning", "A relative WORKDIR should stand on an absolute one", whole=True)
def workdir_relative_path(subject: Subject) -> Iterator[Finding]:
    based: set[int] = set()
    for stage in subject.stages:
        parent = subject.parent(stage)
        absolute = (parent is not None and parent.index in based) or stage.from_.image.text == "scratch"
        for instruction in spliced(stage.instructions):
            if not isinstance(instruction, Workdir):
                continue
            text = instruction.path.text.strip("\"'")
            if text.startswith(("/", "$")) or text[1:3] in (":\\", ":/"):
                absolute = True
            elif not absolute and not instruction.span.chain:
                yield (
                    instruction.path.span,
                    f"WORKDIR {instruction.path.text} depends on where the base image is",
                    f"Write WORKDIR /{text.removeprefix('./')}, or set an absolute WORKDIR first.",
                )
        if absolute:
            based.add(stage.index)


@rule(
    "MultipleInstructionsDisallowed",
    "warning",
    "Of several CMD, ENTRYPOINT, HEALTHCHECK only the last counts",
)
def multiple_instructions(subject: Subject) -> Iterator[Finding]:
    for stage in subject.stages:
        last: dict[str, Instruction] = {}
        for instruction in spliced(stage.instructions):
            if isinstance(instruction, Cmd | Entrypoint | Healthcheck):
                earlier = last.get(instruction.keyword)
                # What a fragment brings along is there to be overridden.
                if earlier is not None and not earlier.span.chain:
                    line = (instruction.span.chain or (instruction.span,))[-1].line
                    yield (
                        earlier.span,
                        f"this {earlier.keyword} has no effect: line {line} has another one",
                        "Remove one of them.",
                    )
                last[instruction.keyword] = instruction


@rule("RunsAsRoot", "warning", "The last USER should not be root")
def runs_as_root(subject: Subject) -> Iterator[Finding]:
    if subject.fragment:
        return
    users = [each for each in spliced(subject.stages[-1].instructions) if isinstance(each, User)]
    if users and not users[-1].span.chain and users[-1].user.text.partition(":")[0] in _ROOT:
        yield (
            users[-1].user.span,
            "the image's containers run as root",
            "Change back to another user once root is not needed any more.",
        )
