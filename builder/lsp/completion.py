"""What may stand at the cursor: instructions, flags, the options of mounts, stages, variables, files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from builder.lsp.document import Document, Range
from builder.lsp.files import Found, files
from grammar.bases import TRANSPORTS
from grammar.construct import MANAGERS, REPEATABLE
from grammar.expand import SPACES
from grammar.mounts import SHARING
from grammar.recover import Line
from grammar.reference import FLAGS, INSTRUCTIONS, Entry
from grammar.reference_values import (
    DIRECTIVES,
    FLAG_VALUES,
    MOUNT_OPTIONS,
    MOUNT_SYNONYMS,
    MOUNT_TYPES,
    PLATFORM_ARGUMENTS,
)
from grammar.signals import NAMES

_WORD = re.compile(f"[^{re.escape(SPACES)}]*")
_VARIABLE = re.compile(r"\$(\{?)([A-Za-z0-9_]*)$")
_RULES = re.compile(r"#[ \t]*(?:check=(?:.*;)?(?:skip|experimental)|pybuild:[ \t]*skip)=(?:.*,)?[ \t]*(\w*)$")
_DIRECTIVE = re.compile(r"#[ \t]*([a-z]*)$")
_SWITCHES = frozenset(("--link", "--parents", "--keep-git-dir", "--unpack"))
_NO_TRIGGER = frozenset(("FROM", "ONBUILD", "MAINTAINER", "TEST", "INCLUDE", "PACKAGES"))


@dataclass(frozen=True, slots=True)
class Item:
    """Something to insert: `text` in place of `range`. `kind` is keyword, flag, value, stage, variable, file
    or folder."""

    label: str
    kind: str
    text: str
    range: Range
    detail: str = ""
    documentation: str = ""


class _Here:
    """What is typed so far: the words before the cursor's, and the part of that word to be replaced."""

    def __init__(self, document: Document, offset: int, line: Line | None, prefix: str) -> None:
        self.document = document
        self.offset = offset
        self.number = line.first if line else document.place(offset)[0]
        match = _WORD.match(prefix[::-1])
        assert match is not None, "it may be empty"
        self.current = match[0][::-1]
        words = prefix[: len(prefix) - len(self.current)].split()
        self.trigger = bool(words) and words[0].upper() == "ONBUILD"
        if self.trigger:
            words.pop(0)
        self.keyword = words[0].upper() if words else ""
        given = words[1:]
        self.flags: list[str] = []
        while given and given[0].startswith("--"):
            self.flags.append(given.pop(0))
        self.arguments = given

    def item(
        self, label: str, kind: str, typed: str, text: str | None = None, detail: str = "", more: str = ""
    ) -> Item:
        """Return what replaces `typed`, the end of what stands before the cursor."""
        where = Range(self.offset - len(typed), self.offset)
        return Item(label, kind, label if text is None else text, where, detail, more)


def completions(document: Document, offset: int) -> list[Item]:
    """Return what may stand at `offset`, whatever begins it already; editors filter."""
    number, column = document.place(offset)
    line = document.line_at(number)
    physical = document.lines[number - 1][: column - 1]
    here = _Here(document, offset, line, physical)
    if line is not None and number >= line.bodies:
        return list(_variables(here))
    if physical.lstrip(SPACES).startswith("#"):
        return list(_comment(here, physical, top=not _below_instruction(document, number)))
    if line is not None:
        here = _Here(document, offset, line, _typed(line, number, column))
    return list(_offered(here))


def _below_instruction(document: Document, number: int) -> bool:
    lines = document.reading.lines
    return bool(lines) and lines[0].first < number


def _typed(line: Line, number: int, column: int) -> str:
    """Return what stands in a logical line before a place in it."""
    logical = line.logical
    end = len(logical.text)
    for at, start in enumerate(logical.starts):
        if logical.numbers[at] == number:
            end = min(max(start + column - logical.columns[at], start), end)
            break
        if logical.numbers[at] > number:
            end = start
            break
    return logical.text[:end]


def _offered(here: _Here) -> Iterator[Item]:
    if not here.keyword:
        for keyword, entry in INSTRUCTIONS.items():
            if not (here.trigger and keyword in _NO_TRIGGER):
                yield here.item(
                    keyword, "keyword", here.current, keyword + " ", entry.syntax, _documentation(entry)
                )
    elif here.current.startswith("-") and not here.arguments:
        yield from _flags(here)
    elif _VARIABLE.search(here.current):
        yield from _variables(here)
    else:
        argument = _ARGUMENTS.get(here.keyword)
        if argument is not None:
            yield from argument(here)


def _documentation(entry: Entry) -> str:
    return f"```dockerfile\n{entry.syntax}\n```\n{entry.text}"


def _flags(here: _Here) -> Iterator[Item]:
    name, equals, value = here.current.partition("=")
    known = FLAGS.get(here.keyword, {})
    if not equals:
        given = {flag.partition("=")[0] for flag in here.flags}
        for flag, entry in known.items():
            if flag not in given or flag in REPEATABLE:
                text = flag if flag in _SWITCHES else flag + "="
                yield here.item(flag, "flag", here.current, text, entry.syntax, _documentation(entry))
    elif name == "--mount" and name in known:
        yield from _mount(here, value)
    elif _VARIABLE.search(value) and name != "--from":
        yield from _variables(here)
    elif name == "--from" and name in known:
        yield from _stages(here, value)
    elif name == "--testinfra" and name in known:
        yield from _files(here, value, (".py",))
    elif name in known:
        yield from _values(here, value, FLAG_VALUES.get(name, ()))


def _mount(here: _Here, typed: str) -> Iterator[Item]:
    *before, last = typed.split(",")
    pairs = [field.partition("=") for field in before]
    given = {MOUNT_SYNONYMS.get(key.lower(), key.lower()): value for key, _, value in pairs}
    kind = given.get("type", "bind")
    key, equals, value = last.partition("=")
    key = MOUNT_SYNONYMS.get(key.lower(), key.lower())
    if not equals:
        if "type" not in given:
            yield here.item("type", "flag", last, "type=", "type=TYPE")
        for name, option in MOUNT_OPTIONS.items():
            if name not in given and (not option.types or kind in option.types):
                text = name if option.switch else f"{name}="
                yield here.item(name, "flag", last, text, f"for {kind}", option.text)
    elif key == "type":
        for name, meaning in MOUNT_TYPES.items():
            yield here.item(name, "value", value, None, "", meaning)
    elif key == "from":
        yield from _stages(here, value)
    elif _VARIABLE.search(value):
        yield from _variables(here)
    elif key == "sharing":
        yield from _values(here, value, SHARING)
    elif key == "source" and kind == "bind" and "from" not in given:
        yield from _files(here, value, ())


def _values(here: _Here, typed: str, values: Iterable[str]) -> Iterator[Item]:
    for value in values:
        yield here.item(value, "value", typed)


def _stages(here: _Here, typed: str) -> Iterator[Item]:
    """Offer the stages above the cursor: by name, or by number where they have none."""
    above = [mark for mark in here.document.stages if mark.stage.from_.span.line < here.number]
    # The last one is the cursor's own, unless it is in a FROM, which knows names only.
    above = [mark for mark in above if mark.name] if here.keyword == "FROM" else above[:-1]
    for mark in above:
        name = mark.stage.name or str(mark.stage.index)
        yield here.item(name, "stage", typed, None, f"FROM {mark.stage.from_.text}"[:100])


def _variables(here: _Here) -> Iterator[Item]:
    match = _VARIABLE.search(here.current)
    if match is None:
        return
    variables = here.document.variables
    close = "}" if match[1] and here.document.text[here.offset : here.offset + 1] != "}" else ""
    known = variables.names(here.number)
    for name, declared in known.items():
        value = variables.value(declared)
        detail = f"{declared.keyword}, line {declared.line}"
        yield here.item(
            name, "variable", match[2], name + close, detail, "" if value is None else value[:400]
        )
    if here.keyword in ("FROM", "ARG"):
        for name, meaning in PLATFORM_ARGUMENTS.items():
            if name not in known:
                yield here.item(name, "variable", match[2], name + close, "set by pybuild", meaning)


def _files(here: _Here, typed: str, endings: tuple[str, ...], *, inside: bool = False) -> Iterator[Item]:
    typed = typed.rpartition('"')[2]
    for found in files(here.document.path, typed, endings, inside=inside):
        yield here.item(found.name, "folder" if found.directory else "file", typed, _path(found))


def _path(found: Found) -> str:
    return found.path + "/" * found.directory


def _from(here: _Here) -> Iterator[Item]:
    if here.arguments:
        if len(here.arguments) == 1:
            yield here.item("AS", "keyword", here.current, "AS ")
        return
    if here.current.startswith((".", "/")):
        yield from _files(here, here.current, (".rec",))
        return
    yield from _stages(here, here.current)
    yield here.item("scratch", "value", here.current, None, "nothing")
    yield here.item("./", "folder", here.current, None, "a recipe")
    for transport in TRANSPORTS:
        yield here.item(f"{transport}://", "value", here.current)


def _copied(here: _Here) -> Iterator[Item]:
    if not any(flag.startswith("--from=") for flag in here.flags):
        yield from _files(here, here.current, (), inside=True)


def _included(here: _Here) -> Iterator[Item]:
    if not here.arguments:
        yield from _files(here, here.current, (".rec",))


def _first(*values: str) -> Callable[[_Here], Iterator[Item]]:
    """Return what offers `values` as the first argument."""

    def offered(here: _Here) -> Iterator[Item]:
        if not here.arguments:
            yield from _values(here, here.current, values)

    return offered


def _declared(here: _Here) -> Iterator[Item]:
    """Offer what an ARG may take up: what stands before the first FROM, and what pybuild sets."""
    if "=" in here.current:
        return
    for name, declarations in here.document.variables.by_name.items():
        if declarations[0].stage < 0 and declarations[0].line < here.number:
            yield here.item(
                name,
                "variable",
                here.current,
                None,
                f"{declarations[0].keyword}, line {declarations[0].line}",
            )
    for name, meaning in PLATFORM_ARGUMENTS.items():
        yield here.item(name, "variable", here.current, None, "set by pybuild", meaning)


_ARGUMENTS: dict[str, Callable[[_Here], Iterator[Item]]] = {
    "FROM": _from,
    "COPY": _copied,
    "ADD": _copied,
    "INCLUDE": _included,
    "ARG": _declared,
    "HEALTHCHECK": _first("CMD", "NONE"),
    "PACKAGES": _first(*MANAGERS),
    "STOPSIGNAL": _first(*(f"SIG{name}" for name in sorted(NAMES))),
    "SHELL": _first('["/bin/sh", "-c"]', '["/bin/bash", "-o", "pipefail", "-c"]'),
}


def _comment(here: _Here, physical: str, *, top: bool) -> Iterator[Item]:
    """Offer directives, and the names of rules to skip."""
    match = _RULES.search(physical)
    if match is not None:
        from grammar.rules import all_rules

        for name, rule in all_rules().items():
            yield here.item(name, "value", match[1], None, rule.severity, rule.summary)
        return
    match = _DIRECTIVE.search(physical)
    if match is not None and top:
        for name, meaning in DIRECTIVES.items():
            yield here.item(name, "keyword", match[1], f"{name}=", "directive", meaning)
