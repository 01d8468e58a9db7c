"""What can be wrong with a recipe."""

from grammar.source import Source, Span, excerpt, printable


class RecipeError(Exception):
    """A mistake in a recipe: a stable code, a message, the place, and a hint where one helps (exit code
    2)."""

    code = "recipe/error"

    def __init__(
        self, message: str, span: Span | None = None, *, hint: str | None = None, code: str | None = None
    ) -> None:
        # What it quotes of the recipe must not act upon a terminal.
        message = printable(message)
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint
        if code is not None:
            self.code = code


def render(error: RecipeError, source: Source | None = None) -> str:
    """Return `error` as text for people: message and code, place, the lines there if `source` is given, and
    the hint.
    """
    out = [f"{error.message} [{error.code}]"]
    span = error.span
    if span is not None:
        out.append(f"  at {span.file}:{span.line}:{span.column}")
        if source is not None and source.name == span.file:
            out.append(excerpt(source, span))
        out += [f"  included from {each.file}:{each.line}" for each in span.chain]
    if error.hint:
        out.append(f"hint: {error.hint}")
    return "\n".join(out)
