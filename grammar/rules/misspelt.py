"""What is valid, and most likely a mistake: a name that is nearly the one of something else."""

from __future__ import annotations

import re

from grammar.ast import Copy, Run, Word
from grammar.expand import SPACES
from grammar.rules.rule import rule
from grammar.source import Span
from grammar.suggest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.ast import Stage
    from grammar.rules.rule import Finding, Subject

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT = re.compile(r"#[ \t\f]*([a-zA-Z][a-zA-Z0-9]*)[ \t\f]*=[ \t\f]*(.+?)[ \t\f]*")
_DIRECTIVES = {
    "syntax": re.compile(r"\S+[/:]\S+"),
    "escape": re.compile(r"[\\`]"),
    "check": re.compile(r"(?:skip|error|experimental)=.*"),
}
"""The parser directives, and what their values look like."""


@rule("MisspeltStage", "warning", "An image should not have nearly the name of a stage")
def misspelt_stage(subject: Subject) -> Iterator[Finding]:
    """Only names without a tag, a digest or a registry: somebody who writes these means an image."""
    names = [stage.name for stage in subject.real_stages if stage.name]
    if not names:
        return
    for stage in subject.real_stages:
        earlier = [each.name for each in subject.stages[: stage.index] if each.name]
        if not stage.from_.image.text.isdecimal():
            yield from _near("FROM ", stage.from_.image, earlier, stage)
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and instruction.from_ is not None:
                yield from _near("--from=", instruction.from_, names, stage)
            elif isinstance(instruction, Run):
                for mount in instruction.mounts:
                    word = mount.option("from")
                    if word is not None:
                        yield from _near("from=", word, names, stage)


def _near(before: str, word: Word, names: list[str], stage: Stage) -> Iterator[Finding]:
    if word.text.lower() in (*names, "scratch") or word.text.isdecimal() or not _BARE.fullmatch(word.text):
        return
    near = nearest(word.text, [name for name in names if name != stage.name])
    if near:
        yield word.span, f"{before}{word.text} is an image: no stage has this name", f"Did you mean {near}?"


@rule("DirectiveIgnored", "warning", "A comment that looks like a parser directive should be one")
def directive_ignored(subject: Subject) -> Iterator[Finding]:
    """Looks at the lines above the first instruction."""
    lines = subject.reading.lines
    first = lines[0].first if lines else 1
    in_force = _in_force(subject.lines)
    for number, line in enumerate(subject.lines[: first - 1], 1):
        match = _COMMENT.fullmatch(line.strip(SPACES))
        name = nearest(match[1], _DIRECTIVES) if match else None
        if match is None or name is None or not _DIRECTIVES[name].fullmatch(match[2]):
            continue
        written = match[1].lower()
        if number <= in_force:
            continue
        span = Span(subject.reading.source.name, number, 1, number, len(line) + 1)
        if written != name:
            yield span, f"{match[1]} is no parser directive: this is a comment", f"Did you mean {name}?"
        else:
            hint = "Directives stand at the very top, before any comment, empty line or instruction."
            yield span, f"this {name} directive is a comment: it stands too late", hint


def _in_force(lines: list[str]) -> int:
    """Return how many lines at the top are directives."""
    for number, line in enumerate(lines):
        match = _COMMENT.fullmatch(line.strip(SPACES))
        if match is None or match[1].lower() not in _DIRECTIVES:
            return number
    return len(lines)
