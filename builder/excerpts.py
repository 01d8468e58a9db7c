"""How an error is shown to a person, and which exit code it gives (docs/errors.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.events import BuildFailed
    from grammar.source import Source, Span

BUILT, FAILED, WRONG, UNREACHABLE, UNABLE = 0, 1, 2, 3, 4
"""The exit codes: done; a step or test failed; the recipe or the command line is wrong; a registry, base or
archive could not be had; the store or the host cannot do it."""

_LARGEST_SOURCE = 1 << 20
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def exit_code(error: BaseException) -> int:
    """Return the exit code that `error` ends the process with."""
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return own
    if isinstance(error, KeyboardInterrupt):
        return 130
    from cache.errors import FormatError, RegistryError
    from grammar.errors import RecipeError

    if isinstance(error, RecipeError):
        return WRONG
    if isinstance(error, FormatError | RegistryError):
        return UNREACHABLE
    return UNABLE


def render_error(error: BaseException, sources: Iterable[Source] = ()) -> str:
    """Return `error` as several lines without a last line end: message, place, excerpt, hint.

    `error` has `message`, `code`, `hint` and `span` as far as its kind has them. The excerpt is taken from
    the source in `sources` that the span names, else from the file of that name.
    """
    from builder.progress.printable import printable

    message = getattr(error, "message", None) or str(error) or type(error).__name__
    code = getattr(error, "code", None)
    head, *more = [printable(line.expandtabs(4)) for line in str(message).rstrip().split("\n")]
    lines = [f"error: {head}" + (f" [{code}]" if isinstance(code, str) else "")]
    lines += [f"  {line}" for line in more]
    span: Span | None = getattr(error, "span", None)
    if span is not None:
        lines.append(f"  at {printable(span.file)}:{span.line}:{span.column}")
        lines += [f"    {line}" for line in _excerpt(span, sources, getattr(error, "source", None))]
        lines += [f"  included from {printable(each.file)}:{each.line}" for each in span.chain]
    hint = getattr(error, "hint", None)
    if hint:
        first, *rest = [printable(line) for line in str(hint).rstrip().split("\n")]
        lines.append(f"  hint: {first}")
        lines += [f"        {line}" for line in rest]
    return "\n".join(lines)


def failure(error: BaseException, sources: Iterable[Source] = ()) -> BuildFailed:
    """Return the event that tells a display of `error`, its report included."""
    from builder.events import BuildFailed

    code = getattr(error, "code", None)
    span: Span | None = getattr(error, "span", None)
    return BuildFailed(
        code=code if isinstance(code, str) else "build/error",
        message=str(getattr(error, "message", None) or error or type(error).__name__),
        exit_code=exit_code(error),
        hint=getattr(error, "hint", None) or "",
        file=span.file if span is not None else "",
        line=span.line if span is not None else 0,
        column=span.column if span is not None else 0,
        report=render_error(error, sources),
        included_from=tuple(f"{each.file}:{each.line}" for each in span.chain) if span is not None else (),
    )


def _excerpt(span: Span, sources: Iterable[Source], own: Source | None) -> list[str]:
    from grammar.source import excerpt

    known = [*sources, *([own] if own is not None else [])]
    source = next((one for one in known if one.name == span.file), None) or _read(span.file)
    if source is None:
        return []
    # Not the credentials of a URL: what is shown goes into logs. As long as they are, so that carets stay.
    text = _CREDENTIALS.sub(lambda found: "x" * len(found[0]), excerpt(source, span))
    return text.split("\n") if text else []


def _read(name: str) -> Source | None:
    import stat

    from grammar.source import Source

    try:
        # Not blocking: the name may have become a FIFO since it was read.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return Source(name, os.read(descriptor, _LARGEST_SOURCE).decode("utf-8", "replace"))
    except OSError:
        return None
    finally:
        os.close(descriptor)
