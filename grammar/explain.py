"""A syntax error in words: what stands there, what should, and what somebody may have meant."""

from __future__ import annotations

from grammar.errors import RecipeError
from grammar.lexer import FLAGS, KEYWORDS, Token
from grammar.source import Source, Span
from grammar.suggest import did_you_mean, nearest

_TERMINALS = {
    "WORD": "a word",
    "TEXT": "a value",
    "NAME": "a name",
    "PAIR": "KEY=value",
    "VALUE": "a value",
    "HEREDOC": "a heredoc",
    "LSQB": "a JSON array",
    "STRING": "a string",
    "RSQB": "]",
    "AS": "AS",
    "CMD": "CMD",
    "NONE": "NONE",
    "_END": "the end of the line",
}

_MEANINGS = {
    ("FROM", "WORD"): "an image, a stage or a recipe",
    ("FROM", "NAME"): "a stage's name",
    ("RUN", "TEXT"): "a command",
    ("CMD", "TEXT"): "a command",
    ("ENTRYPOINT", "TEXT"): "a command",
    ("HEALTHCHECK", "TEXT"): "a command",
    ("TEST", "TEXT"): "a command",
    ("COPY", "WORD"): "a path",
    ("ADD", "WORD"): "a path or a URL",
    ("WORKDIR", "TEXT"): "a directory",
    ("USER", "TEXT"): "a user",
    ("STOPSIGNAL", "TEXT"): "a signal",
    ("MAINTAINER", "TEXT"): "a name",
    ("EXPOSE", "WORD"): "a port",
    ("VOLUME", "WORD"): "a path",
    ("ARG", "NAME"): "a name",
    ("ENV", "NAME"): "a name",
    ("LABEL", "NAME"): "a name",
    ("INCLUDE", "WORD"): "the path of a fragment",
    ("PACKAGES", "WORD"): "a package manager and the packages",
}

_EXAMPLES = {
    "FROM": "FROM debian:bookworm AS build",
    "ARG": "ARG VERSION=1.0",
    "ENV": "ENV LANG=C.UTF-8",
    "LABEL": 'LABEL version="1.0"',
    "RUN": "RUN make install",
    "COPY": "COPY src/ /app/",
    "ADD": "ADD https://example.org/file.tar.gz /opt/",
    "WORKDIR": "WORKDIR /app",
    "USER": "USER app",
    "EXPOSE": "EXPOSE 8080/tcp",
    "VOLUME": "VOLUME /data",
    "CMD": 'CMD ["app", "--serve"]',
    "ENTRYPOINT": 'ENTRYPOINT ["/usr/bin/app"]',
    "SHELL": 'SHELL ["/bin/bash", "-c"]',
    "HEALTHCHECK": "HEALTHCHECK --interval=30s CMD curl -f http://localhost/",
    "STOPSIGNAL": "STOPSIGNAL SIGTERM",
    "ONBUILD": "ONBUILD RUN make",
    "MAINTAINER": "MAINTAINER Ann Author <ann@example.org>",
    "TEST": "TEST curl -f http://localhost:8080/",
    "INCLUDE": "INCLUDE common.rec VERSION=1.0",
    "PACKAGES": "PACKAGES apt curl ca-certificates",
}


def explain(source: Source, start: str, token: Token | None, expected: set[str]) -> RecipeError:
    """Return the error for `token` (None: the end of the file), where the grammar allows the terminals
    `expected`.
    """
    if token is None or token.type == "$END":
        return _at_end(source, start)
    if token.type == "UNKNOWN":
        return _unknown_instruction(token)
    if token.flag:
        return _wrong_flag(token, expected)
    if token.type in KEYWORDS and "_END" not in expected and token.span.line == token.span.end_line:
        return _misplaced(start, token, expected)
    return _wrong_argument(token, expected)


def _at_end(source: Source, start: str) -> RecipeError:
    last = len(source.lines)
    span = Span(source.name, last, 1, last, 2)
    if start == "trigger":
        return RecipeError("the ONBUILD trigger is empty", span, code="recipe/onbuild")
    return RecipeError(
        "the recipe has no FROM: there is nothing to build",
        span,
        hint="A recipe begins with its base: FROM debian:bookworm, FROM ./base.rec or FROM scratch.",
        code="recipe/empty",
    )


def _unknown_instruction(token: Token) -> RecipeError:
    word = str(token.value)
    hint = did_you_mean(word, sorted(KEYWORDS))
    if hint is None and "=" in word and word.partition("=")[0].isidentifier():
        hint = "Is this a line of an ENV or ARG? Then the line before must end with a \\."
    if hint is None:
        hint = "If this belongs to the instruction before, that one's last line must end with a \\."
    shown = word if len(word) <= 40 else word[:40] + "…"
    return RecipeError(
        f"unknown instruction: {shown}", token.span, hint=hint, code="recipe/unknown-instruction"
    )


def _wrong_flag(token: Token, expected: set[str]) -> RecipeError:
    keyword = token.logical.keyword
    allowed = sorted(flag for flag, terminal in FLAGS.items() if terminal in expected)
    near = nearest(token.flag, allowed)
    if near:
        hint = f"Did you mean {near}?"
    elif allowed:
        hint = f"{keyword} takes {_list(allowed, 'and')}."
    else:
        hint = f"{keyword} takes no flags."
    if keyword in ("CMD", "ENTRYPOINT") and not allowed:
        hint += f' To pass {token.flag} to a program, write {keyword} ["program", "{token.flag}"].'
    return RecipeError(
        f"{keyword} has no flag {token.flag}", token.span, hint=hint, code="recipe/unknown-flag"
    )


def _misplaced(start: str, token: Token, expected: set[str]) -> RecipeError:
    """An instruction that does not belong here."""
    keyword = token.type
    if start == "recipe" and "FROM" in expected and "RUN" not in expected:
        return RecipeError(
            f"{keyword} stands before the first FROM",
            token.span,
            hint="Only ARG may stand there: an instruction belongs to a stage, and FROM begins one.",
            code="recipe/no-stage",
        )
    if start == "fragment" and "ONBUILD" in expected:
        return RecipeError(
            "a fragment has no FROM",
            token.span,
            hint="INCLUDE splices into a stage. To build on another recipe, write FROM ./other.rec.",
            code="recipe/fragment",
        )
    if keyword == "ONBUILD":
        return RecipeError("ONBUILD cannot be chained", token.span, code="recipe/onbuild")
    return RecipeError(
        f"{keyword} cannot be an ONBUILD trigger",
        token.span,
        hint="Other builders must be able to run what stands in the image."
        if keyword in ("TEST", "INCLUDE", "PACKAGES")
        else None,
        code="recipe/onbuild",
    )


def _wrong_argument(token: Token, expected: set[str]) -> RecipeError:
    keyword = token.logical.keyword
    if keyword in ("ENV", "LABEL") and token.type == "NAME":
        return RecipeError(
            f"{keyword} expects KEY=value, not {_shown(token)}",
            token.span,
            hint=f'A value with blanks needs quotes: {keyword} KEY="two words".',
            code="recipe/syntax",
        )
    if keyword == "SHELL" and token.type == "TEXT":
        return RecipeError(
            "SHELL takes a JSON array",
            token.span,
            hint=f"For example: {_EXAMPLES['SHELL']}",
            code="recipe/syntax",
        )
    if keyword == "HEALTHCHECK" and token.type in ("TEXT", "WORD", "LSQB"):
        return _wrong_healthcheck(token)
    if keyword == "FROM" and token.type in ("WORD", "_END"):
        what = "the end of the line" if token.type == "_END" else _shown(token)
        wanted = (
            "a stage's name after AS"
            if "AS" not in expected and "_END" not in expected
            else "an image, or image AS name"
        )
        if token.type == "_END" and "PLATFORM_FLAG" in expected:
            wanted = "an image, a stage or a recipe"
        return RecipeError(
            f"FROM expects {wanted}, not {what}",
            token.span,
            hint=f"For example: {_EXAMPLES['FROM']}",
            code="recipe/syntax",
        )
    wanted = "an instruction" if keyword == "ONBUILD" else _list(_words(keyword, expected), "or")
    found = "the end of the line" if token.type == "_END" else _shown(token)
    message = f"{keyword} expects {wanted}, not {found}" if wanted else f"{keyword}: {found} is unexpected"
    return RecipeError(
        message, token.span, hint=f"For example: {_EXAMPLES.get(keyword)}", code="recipe/syntax"
    )


def _wrong_healthcheck(token: Token) -> RecipeError:
    text = getattr(token.value, "text", "")
    if token.type != "WORD":
        return RecipeError("HEALTHCHECK NONE takes no command", token.span, code="recipe/healthcheck")
    near = did_you_mean(text, ("CMD", "NONE"))
    hint = near or "Write CMD before the command: " + _EXAMPLES["HEALTHCHECK"]
    return RecipeError(
        f"HEALTHCHECK expects CMD or NONE, not {text}", token.span, hint=hint, code="recipe/healthcheck"
    )


def _words(keyword: str, expected: set[str]) -> list[str]:
    """Return the terminals that are worth naming, in words."""
    names = [name for name in _TERMINALS if name in expected]
    if len(names) > 1 and "_END" in names:
        names.remove("_END")
    return [
        _MEANINGS.get((keyword, name), _TERMINALS[name]) for name in names if name not in ("HEREDOC", "RSQB")
    ]


def _shown(token: Token) -> str:
    """Return what stands there, shortened."""
    text = getattr(token.value, "text", None)
    if text is None:
        key = getattr(token.value, "key", None)
        text = f"{key.text}=" if key is not None else str(token.value)
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _list(words: list[str], last: str) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
