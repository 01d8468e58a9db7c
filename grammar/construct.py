"""Rules of recipe.lark to AST nodes: for each rule a method of its name, called when the parser has matched
it.

Here is checked what belongs to one instruction and needs more than its tokens' order; validate.py looks at
the whole.
"""

from __future__ import annotations

from grammar import ast
from grammar.durations import parse_duration
from grammar.errors import RecipeError
from grammar.expand import SPACES
from grammar.mounts import parse_mount
from grammar.suggest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from grammar.lexer import Token

REPEATABLE = frozenset(("--mount", "--exclude", "--include", "--mirror"))
MANAGERS = ("apt", "apk", "dnf", "pip", "npm")
_DURATION = "Write a number with its unit: 500ms, 30s, 1m30s, 1h."
_STAGE_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class _Line:
    """The tokens of one instruction: its keyword, its flags by name, and the rest."""

    def __init__(self, children: list[Any]) -> None:
        keyword: Token = children[0]
        self.keyword = keyword
        self.flags: dict[str, list[Token]] = {}
        self.rest: list[Any] = []
        for child in children[1:]:
            flag = getattr(child, "flag", "")
            if not flag:
                self.rest.append(child)
                continue
            given = self.flags.setdefault(flag, [])
            if given and flag not in REPEATABLE:
                raise RecipeError(f"{flag} is given twice", child.span, code="recipe/flag")
            given.append(child)
        logical = keyword.logical
        start, end = keyword.at, len(logical.text.rstrip(SPACES))
        self.span = logical.span(start, end)
        self.text = logical.text[start + len(str(keyword.value)) : end].lstrip(SPACES)

    def values(self, flag: str) -> tuple[ast.Word, ...]:
        """Return the values of all `flag`s. Raises RecipeError for one without `=`."""
        out: list[ast.Word] = []
        for token in self.flags.get(flag, ()):
            if not isinstance(token.value, ast.Word):
                raise RecipeError(
                    f"{flag} needs a value", token.span, hint=f"Write {flag}=VALUE.", code="recipe/flag"
                )
            out.append(token.value)
        return tuple(out)

    def value(self, flag: str) -> ast.Word | None:
        """Return the value of `flag`, or None if it is not given."""
        values = self.values(flag)
        return values[0] if values else None

    def switch(self, flag: str) -> bool | None:
        """Return whether the boolean `flag` is set; None if it is not given."""
        if flag not in self.flags:
            return None
        token = self.flags[flag][0]
        if token.value is None:
            return True
        text = token.value.text if isinstance(token.value, ast.Word) else ""
        if text.lower() not in ("true", "false"):
            raise RecipeError(f"{flag} is true or false, not {text!r}", token.span, code="recipe/flag")
        return text.lower() == "true"

    def choice(self, flag: str, choices: Sequence[str]) -> str | None:
        """Return the value of `flag`, which is one of `choices`; None if it is not given."""
        word = self.value(flag)
        if word is None:
            return None
        if word.text not in choices:
            hint = did_you_mean(word.text, choices) or f"{flag} is one of {', '.join(choices)}."
            raise RecipeError(f"{flag}={word.text} is unknown", word.span, hint=hint, code="recipe/flag")
        return word.text


class Constructor:
    """The callbacks of the parser."""

    def recipe(self, children: list[Any]) -> ast.Recipe:
        stages: list[ast.Stage] = []
        directives = ast.Directives()
        arguments: list[ast.Arg] = []
        for child in children:
            if isinstance(child, ast.Stage):
                stages.append(child.replace(index=len(stages)))
            elif isinstance(child, ast.Directives):
                directives = child
            else:
                arguments.append(child)
        return ast.Recipe("", directives, tuple(arguments), tuple(stages))

    def fragment(self, children: list[Any]) -> ast.Fragment:
        directives = ast.Directives()
        if children and isinstance(children[0], ast.Directives):
            directives = children.pop(0)
        return ast.Fragment("", directives, tuple(children))

    def trigger(self, children: list[Any]) -> ast.Instruction:
        instruction: ast.Instruction = children[0]
        return instruction

    def directives(self, children: list[Token]) -> object:
        return children[0].value

    def stage(self, children: list[Any]) -> ast.Stage:
        return ast.Stage(children[0], children[0].name, 0, tuple(children[1:]))

    def from_(self, children: list[Any]) -> ast.From:
        line = _Line(children)
        image = line.rest[0].value
        name = None
        if len(line.rest) == 3:
            word: ast.Word = line.rest[2].value
            name = word.text.lower()
            if not "a" <= name[0] <= "z" or not _STAGE_NAME_CHARACTERS.issuperset(name):
                raise RecipeError(
                    f"{word.text!r} cannot name a stage",
                    word.span,
                    hint="A stage's name is a letter, then letters, digits, '-', '_' and '.'.",
                    code="recipe/stage-name",
                )
        return ast.From(
            line.span,
            line.text,
            image,
            name,
            platform=line.value("--platform"),
            variant=line.value("--variant"),
            include=line.values("--include"),
            mirror=line.values("--mirror"),
            keyring=line.value("--keyring"),
        )

    def arg(self, children: list[Any]) -> ast.Arg:
        line = _Line(children)
        return ast.Arg(line.span, line.text, _pairs(line))

    def env(self, children: list[Any]) -> ast.Env:
        line = _Line(children)
        return ast.Env(line.span, line.text, _pairs(line), line.rest[0].type == "NAME")

    def label(self, children: list[Any]) -> ast.Label:
        line = _Line(children)
        return ast.Label(line.span, line.text, _pairs(line), line.rest[0].type == "NAME")

    def run(self, children: list[Any]) -> ast.Run:
        line = _Line(children)
        command: ast.Command = line.rest[0]
        if not command.args:
            raise RecipeError("RUN needs a command", line.span, code="recipe/syntax")
        return ast.Run(
            line.span,
            line.text,
            command,
            tuple([parse_mount(word) for word in line.values("--mount")]),
            line.choice("--network", ("default", "none", "host")),
            line.choice("--security", ("sandbox", "insecure")),
            _timeout(line.value("--timeout")),
        )

    def command(self, children: list[Any]) -> ast.Command:
        if not hasattr(children[0], "type"):
            return ast.Command(False, tuple([word.text for word in children[0]]))
        heredocs = tuple([token.value for token in children[1:]])
        text: ast.Word = children[0].value
        alone = len(heredocs) == 1 and children[1].span == text.span
        return ast.Command(True, (text.text,), heredocs, alone)

    def exec(self, children: list[Token]) -> list[object]:
        return [token.value for token in children if token.type == "STRING"]

    def files(self, children: list[Any]) -> list[Any]:
        """Return words and heredocs in order."""
        return children[0] if isinstance(children[0], list) else [token.value for token in children]

    def copy(self, children: list[Any]) -> ast.Copy:
        line = _Line(children)
        sources, dest, heredocs = _files(line)
        from_ = line.value("--from")
        if from_ is not None and "$" in from_.text[:-1]:
            raise RecipeError(
                "--from takes no variable",
                from_.span,
                hint=f"Give it a stage of its own: FROM {from_.text} AS source, then COPY --from=source.",
                code="recipe/flag",
            )
        return ast.Copy(
            line.span,
            line.text,
            sources,
            dest,
            heredocs,
            from_,
            line.value("--chown"),
            line.value("--chmod"),
            bool(line.switch("--link")),
            bool(line.switch("--parents")),
            line.values("--exclude"),
        )

    def add(self, children: list[Any]) -> ast.Add:
        line = _Line(children)
        sources, dest, heredocs = _files(line)
        return ast.Add(
            line.span,
            line.text,
            sources,
            dest,
            heredocs,
            line.value("--chown"),
            line.value("--chmod"),
            bool(line.switch("--link")),
            bool(line.switch("--parents")),
            line.values("--exclude"),
            line.value("--checksum"),
            bool(line.switch("--keep-git-dir")),
            line.switch("--unpack"),
        )

    def workdir(self, children: list[Any]) -> ast.Workdir:
        line = _Line(children)
        return ast.Workdir(line.span, line.text, line.rest[0].value)

    def user(self, children: list[Any]) -> ast.User:
        line = _Line(children)
        return ast.User(line.span, line.text, line.rest[0].value)

    def expose(self, children: list[Any]) -> ast.Expose:
        line = _Line(children)
        return ast.Expose(line.span, line.text, tuple([token.value for token in line.rest]))

    def volume(self, children: list[Any]) -> ast.Volume:
        line = _Line(children)
        words = line.rest[0] if isinstance(line.rest[0], list) else [token.value for token in line.rest]
        if not words:
            raise RecipeError("VOLUME needs a path", line.span, code="recipe/syntax")
        paths = [word.replace(text=word.text.strip()) for word in words]
        for path in paths:
            if not path.text:
                raise RecipeError("a volume's path is empty", path.span, code="recipe/syntax")
        return ast.Volume(line.span, line.text, tuple(paths))

    def cmd(self, children: list[Any]) -> ast.Cmd:
        line = _Line(children)
        return ast.Cmd(line.span, line.text, line.rest[0])

    def entrypoint(self, children: list[Any]) -> ast.Entrypoint:
        line = _Line(children)
        return ast.Entrypoint(line.span, line.text, line.rest[0])

    def shell(self, children: list[Any]) -> ast.Shell:
        line = _Line(children)
        if not line.rest[0]:
            raise RecipeError("SHELL needs a program", line.span, code="recipe/syntax")
        return ast.Shell(line.span, line.text, tuple([word.text for word in line.rest[0]]))

    def healthcheck(self, children: list[Any]) -> ast.Healthcheck:
        line = _Line(children)
        command: ast.Command | None = line.rest[1] if len(line.rest) > 1 else None
        if command is not None and not command.args:
            raise RecipeError("HEALTHCHECK CMD needs a command", line.span, code="recipe/healthcheck")
        return ast.Healthcheck(
            line.span,
            line.text,
            command,
            interval=_interval(line.value("--interval"), "--interval"),
            timeout=_interval(line.value("--timeout"), "--timeout"),
            start_period=_interval(line.value("--start-period"), "--start-period"),
            start_interval=_interval(line.value("--start-interval"), "--start-interval"),
            retries=_retries(line.value("--retries")),
        )

    def stopsignal(self, children: list[Any]) -> ast.Stopsignal:
        line = _Line(children)
        return ast.Stopsignal(line.span, line.text, line.rest[0].value)

    def onbuild(self, children: list[Any]) -> ast.Onbuild:
        line = _Line(children)
        trigger: ast.Instruction = line.rest[0]
        if isinstance(trigger, ast.Run) and trigger.timeout is not None:
            raise RecipeError(
                "ONBUILD cannot defer a RUN with --timeout",
                trigger.span,
                hint="The image keeps the line for any builder to run, and others have no such flag.",
                code="recipe/onbuild",
            )
        return ast.Onbuild(line.span, line.text, trigger)

    def maintainer(self, children: list[Any]) -> ast.Maintainer:
        line = _Line(children)
        return ast.Maintainer(line.span, line.text, line.rest[0].value.text)

    def test(self, children: list[Any]) -> ast.Test:
        line = _Line(children)
        command: ast.Command | None = line.rest[0] if line.rest else None
        testinfra = line.value("--testinfra")
        if testinfra is None and (command is None or not command.args):
            raise RecipeError(
                "TEST needs a command",
                line.span,
                hint='Write TEST command, TEST ["program", "argument"] or TEST --testinfra=tests/test_it.py.',
                code="recipe/syntax",
            )
        if testinfra is not None and command is not None:
            raise RecipeError(
                "TEST runs either a command or a testinfra suite",
                line.span,
                hint="Make two TESTs of it.",
                code="recipe/syntax",
            )
        timeout = _timeout(line.value("--timeout"))
        return ast.Test(line.span, line.text, command, testinfra, line.value("--name"), timeout)

    def include(self, children: list[Any]) -> ast.Include:
        line = _Line(children)
        path: ast.Word = line.rest.pop(0).value
        if "$" in path.text:
            raise RecipeError(
                "INCLUDE takes no variable in its path",
                path.span,
                hint="What is included is known before any variable has a value.",
                code="recipe/include",
            )
        pairs = _pairs(line)
        for at, pair in enumerate(pairs):
            if any(pair.key.text == other.key.text for other in pairs[:at]):
                raise RecipeError(f"INCLUDE gives {pair.key.text} twice", pair.span, code="recipe/include")
        return ast.Include(line.span, line.text, path, pairs)

    def packages(self, children: list[Any]) -> ast.Packages:
        line = _Line(children)
        manager: ast.Word = line.rest[0].value
        if manager.text not in MANAGERS:
            raise RecipeError(
                f"unknown package manager: {manager.text}",
                manager.span,
                hint=did_you_mean(manager.text, MANAGERS) or f"PACKAGES knows {', '.join(MANAGERS)}.",
                code="recipe/packages",
            )
        packages = tuple([token.value for token in line.rest[1:]])
        return ast.Packages(line.span, line.text, manager.text, packages)


def _pairs(line: _Line) -> tuple[ast.Pair, ...]:
    """Return the pairs of ENV, LABEL, ARG and INCLUDE. Raises RecipeError for one without a name."""
    if len(line.rest) == 2 and line.rest[1].type == "VALUE":
        key, value = (token.value for token in line.rest)
        return (ast.Pair(key, value, key.span.to(value.span)),)
    out: list[ast.Pair] = []
    for token in line.rest:
        pair = token.value if token.type == "PAIR" else ast.Pair(token.value, None, token.span)
        if not pair.key.text:
            raise RecipeError(
                f"a name is missing before the = in {line.keyword.value}", pair.span, code="recipe/syntax"
            )
        out.append(pair)
    return tuple(out)


def _files(line: _Line) -> tuple[tuple[ast.Word, ...], ast.Word, tuple[ast.Heredoc, ...]]:
    """Return the sources, the destination and the documents of COPY and ADD."""
    items: list[ast.Word | ast.Heredoc] = line.rest[0]
    keyword = str(line.keyword.value).upper()
    if len(items) < 2:
        raise RecipeError(
            f"{keyword} needs a source and a destination",
            line.span,
            hint=f"The last path is where to: {keyword} SOURCE DESTINATION.",
            code="recipe/syntax",
        )
    dest = items[-1]
    if isinstance(dest, ast.Heredoc):
        raise RecipeError(
            f"{keyword} cannot write to a heredoc",
            line.span,
            hint="The destination stands last: COPY <<name /path.",
            code="recipe/syntax",
        )
    sources = tuple([item for item in items[:-1] if isinstance(item, ast.Word)])
    return sources, dest, tuple([item for item in items if isinstance(item, ast.Heredoc)])


def _interval(word: ast.Word | None, flag: str) -> int | None:
    """Return a HEALTHCHECK's time in nanoseconds. Docker refuses what is shorter than a millisecond, but for
    0.
    """
    if word is None:
        return None
    time = parse_duration(word.text) if word.text else 0
    if time is None:
        raise _wrong_flag(flag, word, "is no duration", _DURATION)
    if time and time < 1_000_000:
        raise _wrong_flag(flag, word, "is less than 1ms", None)
    return time


def _timeout(word: ast.Word | None) -> int | None:
    """Return the time that a command may take, in nanoseconds."""
    time = parse_duration(word.text) if word is not None else None
    if word is not None and (time is None or time < 1_000_000):
        problem = "is no duration" if time is None else "is less than 1ms"
        raise RecipeError(f"--timeout={word.text} {problem}", word.span, hint=_DURATION, code="recipe/flag")
    return time


def _retries(word: ast.Word | None) -> int | None:
    if word is None or not word.text:
        return None
    digits = word.text.removeprefix("+")
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 10 or int(digits) > 0x7FFFFFFF:
        raise _wrong_flag("--retries", word, "is no count", None)
    return int(digits)


def _wrong_flag(flag: str, word: ast.Word, what: str, hint: str | None) -> RecipeError:
    return RecipeError(f"{flag}={word.text} {what}", word.span, hint=hint, code="recipe/healthcheck")
