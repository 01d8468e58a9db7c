"""What an editor shows of the thing under the pointer: the reference of instructions, flags and mounts;
where variables and stages come from."""

from __future__ import annotations

import re

from builder.lsp.document import Document, Range
from builder.lsp.stages import shown, stage_at
from builder.lsp.variables import Declaration, variable_at
from grammar.lexer import KEYWORDS, Token
from grammar.recover import Line
from grammar.reference import FLAGS, INSTRUCTIONS, Entry
from grammar.reference_values import (
    DIRECTIVES,
    MOUNT_OPTIONS,
    MOUNT_SYNONYMS,
    MOUNT_TYPES,
    PLATFORM_ARGUMENTS,
)

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_LONGEST = 400

Hover = tuple[str, Range]
"""Markdown, and what it is about."""


def hover(document: Document, offset: int) -> Hover | None:
    """Return what to show for the place `offset`."""
    line = document.line_at(document.place(offset)[0])
    if line is None:
        return _comment(document, offset)
    if document.logical_offset(line, offset) is not None:
        found = _instruction(document, line, offset) or _flag(document, line, offset)
        if found is not None:
            return found
    return _stage(document, offset) or _variable(document, offset)


def _instruction(document: Document, line: Line, offset: int) -> Hover | None:
    for token in line.tokens[:2]:
        where = document.range(token.span)
        if token.type in KEYWORDS and isinstance(token.value, str) and where.touches(offset):
            return _entry(INSTRUCTIONS[token.type]), where
    # A line that cannot be read, such as one whose document is not closed yet, has no tokens.
    logical = line.logical
    match = None if line.tokens else _WORD.match(logical.text)
    if match is None or logical.keyword not in INSTRUCTIONS:
        return None
    where = document.range(logical.span(*match.span()))
    return (_entry(INSTRUCTIONS[logical.keyword]), where) if where.touches(offset) else None


def _flag(document: Document, line: Line, offset: int) -> Hover | None:
    token = next((t for t in line.tokens if t.flag and document.range(t.span).touches(offset)), None)
    if token is None:
        return None
    where = document.range(token.span)
    entry = FLAGS.get(token.logical.keyword, {}).get(token.flag)
    if entry is None:
        return None
    if offset <= where.start + len(token.flag):
        return _entry(entry), Range(where.start, where.start + len(token.flag))
    return _mount_option(document, token, offset) if token.flag == "--mount" else None


def _mount_option(document: Document, token: Token, offset: int) -> Hover | None:
    """Return what an option of `--mount`, or the type, means."""
    field = mount_field(document, token, offset)
    key, _, value = document.slice(field).partition("=")
    if offset > field.start + len(key):
        text = MOUNT_TYPES.get(value.lower()) if key.lower() == "type" else None
        return (f"**{value.lower()}** mount: {text}", field) if text else None
    name = MOUNT_SYNONYMS.get(key.lower(), key.lower())
    if name == "type":
        kinds = "\n".join(f"- `{kind}`: {text}" for kind, text in MOUNT_TYPES.items())
        return f"```\ntype=TYPE\n```\n{kinds}", field
    option = MOUNT_OPTIONS.get(name)
    if option is None:
        return None
    written = name if option.switch else f"{name}={name.upper()}"
    only = f"\n\nFor {', '.join(option.types)} mounts." if option.types else ""
    return f"```\n{written}\n```\n{option.text}{only}", field


def mount_field(document: Document, token: Token, offset: int) -> Range:
    """Return the place of the option of a `--mount` flag that stands at `offset`."""
    where = document.range(token.span)
    start = max(document.text.rfind(",", where.start, offset), where.start + len(token.flag)) + 1
    end = document.text.find(",", max(offset, start), where.end)
    return Range(start, end if end >= 0 else where.end)


def _entry(entry: Entry) -> str:
    return f"```dockerfile\n{entry.syntax}\n```\n{entry.text}"


def _stage(document: Document, offset: int) -> Hover | None:
    found = stage_at(document, offset)
    if found is None:
        return None
    index, where = found
    mark = document.stages[index]
    number = document.place(mark.from_.start)[0]
    return (
        f"```dockerfile\nFROM {_cut(mark.stage.from_.text)}\n```\n{shown(mark.stage)}, line {number}",
        where,
    )


def _variable(document: Document, offset: int) -> Hover | None:
    variables = document.variables
    found = variable_at(document, offset)
    if found is not None:
        name, where = found
        declared = variables.declaration_of(name, offset)
        if declared is not None:
            return _declared(document, declared), where
        if name in PLATFORM_ARGUMENTS:
            return (
                f"**{name}**: {PLATFORM_ARGUMENTS[name]}. Set by pybuild; a stage declares it by ARG.",
                where,
            )
        return None
    for declarations in variables.by_name.values():
        for declared in declarations:
            if declared.range.touches(offset):
                return _declared(document, declared), declared.range
    return None


def _declared(document: Document, declared: Declaration) -> str:
    value = f"={declared.value.text}" if declared.value is not None else ""
    lines = [f"```dockerfile\n{declared.keyword} {declared.name}{_cut(value)}\n```", f"Line {declared.line}."]
    outside = document.variables.outside(declared)
    if outside is not None:
        lines.append(f"Its default is that of line {outside.line}.")
    elif declared.value is None and declared.name in PLATFORM_ARGUMENTS:
        lines.append(f"Set by pybuild: {PLATFORM_ARGUMENTS[declared.name]}.")
    known = document.variables.value(declared)
    if known is not None:
        what = "Value" if declared.keyword == "ENV" else "Value, unless `--build-arg` sets another"
        lines.append(f"{what}: {_code(known)}")
    return "\n\n".join(lines)


def _code(text: str) -> str:
    text = _cut(text).replace("\n", "\\n")
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if text else "(empty)"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _comment(document: Document, offset: int) -> Hover | None:
    """Return what a directive, or a rule that a comment names, means."""
    number, column = document.place(offset)
    text = document.lines[number - 1] if number <= len(document.lines) else ""
    if not text.lstrip().startswith("#"):
        return None
    match = next((m for m in _WORD.finditer(text) if m.start() <= column - 1 <= m.end()), None)
    if match is None:
        return None
    start = offset - (column - 1)
    where = Range(start + match.start(), start + match.end())
    before = text[: match.start()].strip()
    if before == "#" and text[match.end() :].lstrip().startswith("=") and match[0].lower() in DIRECTIVES:
        return f"```\n# {match[0].lower()}=…\n```\n{DIRECTIVES[match[0].lower()]}", where
    from grammar.rules import all_rules

    rule = all_rules().get(match[0])
    return (f"**{rule.name}** ({rule.severity}): {rule.summary}.", where) if rule else None
