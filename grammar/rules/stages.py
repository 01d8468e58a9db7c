"""Stages: their names, their platforms, what is said about them."""

from __future__ import annotations

from grammar.ast import Arg
from grammar.rules.rule import rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.rules.rule import Finding, Subject
    from grammar.source import Span

_RESERVED = ("scratch", "context")


@rule("DuplicateStageName", "warning", "Two stages should not have the same name")
def duplicate_stage_name(subject: Subject) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for stage in subject.real_stages:
        if stage.name in seen:
            yield (
                stage.from_.span,
                f"there is a stage {stage.name} already, in line {seen[stage.name]}",
                "Give each stage a name of its own: which of two is meant depends on who asks.",
            )
        elif stage.name:
            seen[stage.name] = stage.from_.span.line


@rule("ReservedStageName", "warning", "A stage should not be called scratch or context")
def reserved_stage_name(subject: Subject) -> Iterator[Finding]:
    for stage in subject.real_stages:
        if stage.name in _RESERVED:
            yield stage.from_.span, f"{stage.name} means something else", "Give the stage another name."


@rule("RedundantTargetPlatform", "warning", "FROM --platform=$TARGETPLATFORM says what is so anyway")
def redundant_target_platform(subject: Subject) -> Iterator[Finding]:
    for stage in subject.real_stages:
        platform = stage.from_.platform
        if platform is not None and platform.text in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield platform.span, f"--platform={platform.text} is what FROM does anyway", "Remove the flag."


@rule("FromPlatformFlagConstDisallowed", "warning", "FROM --platform should not be a constant")
def from_platform_flag_const(subject: Subject) -> Iterator[Finding]:
    for stage in subject.real_stages:
        platform = stage.from_.platform
        if platform is None or "$" in platform.text:
            continue
        # A stage that is named for its platform is one of several, which a variable picks from.
        architecture = platform.text.split("/")[1:2]
        if not (stage.name and architecture and architecture[0] in stage.name):
            yield (
                platform.span,
                f"--platform={platform.text} is a constant: it counts whatever platform is asked for",
                "Leave it out, or use $BUILDPLATFORM for a stage that cross-compiles.",
            )


@rule(
    "InvalidDefinitionDescription",
    "warning",
    "A comment right above a stage or an ARG should begin with its name",
    experimental=True,
)
def invalid_definition_description(subject: Subject) -> Iterator[Finding]:
    for names, what, span in _definitions(subject):
        above = subject.lines[span.line - 2].strip() if span.line > 1 else ""
        if not above.startswith("#") or not above.strip("#").strip() or _is_directive(subject, span.line - 1):
            continue
        if above.lstrip("#").split()[0].lower() not in [name.lower() for name in names]:
            where = span.replace(
                line=span.line - 1, end_line=span.line - 1, column=1, end_column=len(above) + 1
            )
            yield (
                where,
                f"this comment does not describe the {what} {names[0]}",
                f"Write # {names[0]} and what it is for, or put an empty line below the comment.",
            )


def _definitions(subject: Subject) -> Iterator[tuple[list[str], str, Span]]:
    arguments = [
        *subject.recipe.global_args,
        *(each for stage in subject.stages for each in stage.instructions if isinstance(each, Arg)),
    ]
    for argument in arguments:
        yield [pair.key.text for pair in argument.pairs], "argument", argument.span
    for stage in subject.real_stages:
        if stage.name:
            yield [stage.name], "stage", stage.from_.span


def _is_directive(subject: Subject, number: int) -> bool:
    lines = subject.reading.lines
    if not lines or number >= lines[0].first:
        return False
    return all(line.lstrip().startswith("#") and "=" in line for line in subject.lines[:number])
