"""How a recipe is written: case, continuation, forms that only old recipes have."""

from __future__ import annotations

from grammar.ast import Env, Expose, Label, Maintainer, Onbuild, Word
from grammar.expand import SPACES
from grammar.rules.rule import rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.recover import Line
    from grammar.rules.rule import Finding, Subject


@rule("StageNameCasing", "warning", "Stage names should be lower case")
def stage_name_casing(subject: Subject) -> Iterator[Finding]:
    for stage in subject.real_stages:
        written = stage.from_.text.split()[-1] if stage.name else ""
        if written != written.lower():
            line = subject.line(stage.from_)
            span = line.tokens[-2].span if line else stage.from_.span
            yield span, f"the stage's name {written} should be lower case", f"Write {written.lower()}."


@rule("FromAsCasing", "warning", "FROM and AS should be in the same case")
def from_as_casing(subject: Subject) -> Iterator[Finding]:
    for line in subject.reading.lines:
        if not line.tokens or line.tokens[0].type != "FROM":
            continue
        keyword = str(line.tokens[0].value)
        for token in line.tokens:
            if token.type == "AS":
                written = token.value.text if isinstance(token.value, Word) else "AS"
                if written != _like(keyword, "AS"):
                    yield (
                        token.span,
                        f"{written} is not in the case of {keyword}",
                        f"Write {_like(keyword, 'AS')}.",
                    )


def _like(model: str, word: str) -> str:
    return word.lower() if model == model.lower() else word.upper()


@rule("ConsistentInstructionCasing", "warning", "All instructions should be in the same case")
def consistent_instruction_casing(subject: Subject) -> Iterator[Finding]:
    found = [token for line in subject.reading.lines for token in line.tokens[:1] if token.type != "UNKNOWN"]
    written = [str(token.value) for token in found]
    lower = sum(word == word.lower() for word in written) > sum(word == word.upper() for word in written)
    for token, word in zip(found, written, strict=True):
        wanted = word.lower() if lower else word.upper()
        if word != wanted:
            most = "lower" if lower else "upper"
            yield token.span, f"{word}: most instructions here are in {most} case", f"Write {wanted}."


@rule("NoEmptyContinuation", "warning", "A continued instruction should have no empty lines in it")
def no_empty_continuation(subject: Subject) -> Iterator[Finding]:
    for line in subject.reading.lines:
        number = _empty_line(line, subject.lines)
        if number:
            span = line.logical.span(0, 0).replace(line=number, column=1, end_line=number, end_column=2)
            yield (
                span,
                "an empty line in a continued instruction",
                "Remove it: it does not end the instruction, though it looks as if it did.",
            )


def _empty_line(line: Line, lines: list[str]) -> int:
    numbers = line.logical.numbers
    return next((n for n in range(numbers[0], numbers[-1]) if not lines[n - 1].strip(SPACES)), 0)


@rule("MaintainerDeprecated", "warning", "MAINTAINER is deprecated: a label names the author")
def maintainer_deprecated(subject: Subject) -> Iterator[Finding]:
    for stage in subject.stages:
        for instruction in stage.instructions:
            if isinstance(instruction, Maintainer):
                yield (
                    instruction.span,
                    "MAINTAINER is deprecated",
                    f'Write LABEL org.opencontainers.image.authors="{instruction.name}".',
                )


@rule("LegacyKeyValueFormat", "warning", "ENV and LABEL should be written with =")
def legacy_key_value_format(subject: Subject) -> Iterator[Finding]:
    for stage in subject.stages:
        for instruction in stage.instructions:
            told = instruction.trigger if isinstance(instruction, Onbuild) else instruction
            if isinstance(told, Env | Label) and told.legacy:
                key, value = told.pairs[0].key.text, told.pairs[0].value
                text = value.text if value else ""
                shown = f'"{text}"' if " " in text and '"' not in text else text
                yield (
                    told.span,
                    f"{told.keyword} without = is the old form",
                    f"Write {told.keyword} {key}={shown}.",
                )


@rule("ExposeProtoCasing", "warning", "The protocol of EXPOSE should be lower case")
def expose_proto_casing(subject: Subject) -> Iterator[Finding]:
    for stage in subject.stages:
        for instruction in stage.instructions:
            for port in instruction.ports if isinstance(instruction, Expose) else ():
                protocol = port.text.rpartition("/")[2] if "/" in port.text else ""
                if port.plain and protocol != protocol.lower():
                    yield (
                        port.span,
                        f"the protocol {protocol} should be lower case",
                        f"Write {port.text.lower()}.",
                    )


@rule("ExposeInvalidFormat", "warning", "EXPOSE names ports of the container alone")
def expose_invalid_format(subject: Subject) -> Iterator[Finding]:
    for stage in subject.stages:
        for instruction in stage.instructions:
            for port in instruction.ports if isinstance(instruction, Expose) else ():
                if port.plain and ":" in port.text:
                    yield (
                        port.span,
                        f"EXPOSE {port.text}: an address or a port of the host has no effect",
                        f"Write EXPOSE {port.text.rpartition(':')[2]}: ports are published by `run`.",
                    )
