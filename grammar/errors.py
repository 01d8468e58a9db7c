"""What can be wrong with a recipe."""

from grammar.source import Span


class RecipeError(Exception):
    """A mistake in a recipe: a stable code, a message, the place, and a hint where one helps (exit code
    2)."""

    code = "recipe/error"

    def __init__(
        self, message: str, span: Span | None = None, *, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint
        if code is not None:
            self.code = code
