"""COPY and ADD."""

from __future__ import annotations

import posixpath
import re

from grammar.ast import Add, Copy
from grammar.rules.rule import rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.rules.rule import Finding, Script, Subject

_ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz|tzst|tar\.[a-z0-9]+|gz|bz2|xz|zst)$", re.I)
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|git@|.*\.git(?:#.*)?$", re.I)

_INSTALLERS = (
    ("pip", "install"),
    ("pip3", "install"),
    ("uv", "sync"),
    ("poetry", "install"),
    ("npm", "install"),
    ("npm", "ci"),
    ("yarn", "install"),
    ("pnpm", "install"),
    ("bundle", "install"),
    ("composer", "install"),
    ("go", "mod"),
    ("cargo", "fetch"),
    ("apt-get", "install"),
    ("apk", "add"),
    ("dnf", "install"),
)


@rule("CopyIgnoredFile", "warning", "COPY of a file that the ignore file leaves out")
def copy_ignored_file(subject: Subject) -> Iterator[Finding]:
    if subject.ignored is None:
        return
    for stage in subject.stages:
        for instruction in stage.instructions:
            if not isinstance(instruction, Copy | Add) or getattr(instruction, "from_", None) is not None:
                continue
            for word in instruction.sources:
                path = posixpath.normpath("/" + word.text.lstrip("/")).lstrip("/")
                plain = word.plain and not set("*?[") & set(path) and not _REMOTE.match(word.text)
                if plain and path and subject.ignored(path):
                    yield (
                        word.span,
                        f"{instruction.keyword} {word.text}: the ignore file leaves it out of the context",
                        f"Add !{path} to the ignore file, or do not copy it.",
                    )


@rule("AddInsteadOfCopy", "warning", "COPY should be used for local files and directories")
def add_instead_of_copy(subject: Subject) -> Iterator[Finding]:
    for stage in subject.stages:
        for instruction in stage.instructions:
            if not isinstance(instruction, Add) or instruction.checksum or instruction.unpack is not None:
                continue
            special = [
                word for word in instruction.sources if "$" in word.text or _special(word.text.strip("\"'"))
            ]
            if not special and (instruction.sources or instruction.heredocs):
                yield (
                    instruction.span,
                    "ADD of local files: it may also fetch and unpack, and nothing here needs that",
                    "Write COPY.",
                )


def _special(source: str) -> bool:
    """Whether only ADD can take `source`."""
    return bool(_REMOTE.match(source) or _ARCHIVE.search(source) or "*" in source)


@rule("CopyBeforeInstall", "info", "Dependencies should be installed before the whole context is copied")
def copy_before_install(subject: Subject) -> Iterator[Finding]:
    scripts = {id(script.run): script for script in subject.scripts}
    for stage in subject.stages:
        for at, instruction in enumerate(stage.instructions):
            if not isinstance(instruction, Copy) or instruction.from_ is not None:
                continue
            if not any(word.text in (".", "./") for word in instruction.sources):
                continue
            below = [scripts[id(each)] for each in stage.instructions[at:] if id(each) in scripts]
            installer = next((each for script in below for each in _installs(script)), None)
            if installer:
                yield (
                    instruction.span,
                    f"every change in the context makes `{installer}` below run again",
                    "First copy what it reads (requirements.txt, package.json), install, then copy the rest.",
                )
            break


def _installs(script: Script) -> Iterator[str]:
    for command in script.commands:
        # `pip install .` needs the sources themselves.
        if (command.program, *command.arguments[:1]) in _INSTALLERS and "." not in command.arguments:
            yield f"{command.program} {command.arguments[0]}"


@rule("CopyThenChown", "info", "Owner and mode should be set by COPY, not by a RUN after it")
def copy_then_chown(subject: Subject) -> Iterator[Finding]:
    scripts = {id(script.run): script for script in subject.scripts}
    for stage in subject.stages:
        copied: dict[str, int] = {}
        for instruction in stage.instructions:
            if isinstance(instruction, Copy | Add):
                copied[instruction.dest.text.rstrip("/") or "/"] = instruction.span.line
            elif id(instruction) in scripts:
                yield from _changes(scripts[id(instruction)], copied)


def _changes(script: Script, copied: dict[str, int]) -> Iterator[Finding]:
    for command in script.commands:
        if command.program not in ("chown", "chmod"):
            continue
        for path in command.arguments:
            line = copied.get(path.rstrip("/")) if path.startswith("/") else None
            if line:
                yield (
                    script.span(command),
                    f"{command.program} of what line {line} copied stores those files a second time",
                    f"Write --{command.program}=… in line {line}.",
                )
