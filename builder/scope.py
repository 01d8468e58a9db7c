"""The variables that a point of a recipe sees: build arguments, platform arguments, ENV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cache.oci.platform import Platform
from grammar.ast import Recipe, Word
from grammar.errors import RecipeError
from grammar.expand import expand, expand_words

if TYPE_CHECKING:
    from grammar.source import Span

PROXY_ARGUMENTS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Arguments that need no ARG, and enter neither key nor history (Dockerfile reference, predefined ARGs)."""

LIMIT = 64 * 1024 * 1024
"""Characters that all words of a stage may expand to."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Scope:
    """Names and values, the last one set wins. `used` collects the build arguments that something
    declared.
    """

    __slots__ = ("_expanded", "used", "values")

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = dict(values or {})
        self.used: set[str] = set()
        self._expanded = 0

    def lookup(self, name: str) -> str | None:
        """Return the value of `name`, or None where it is not set."""
        return self.values.get(name)

    def expand(self, word: Word, escape: str) -> str:
        """Return `word` with variables replaced and quotes removed. Raises RecipeError."""
        return self._counted(expand(word.text, self.lookup, escape=escape, span=word.span), word.span)

    def expand_all(self, words: Iterable[Word], escape: str) -> tuple[str, ...]:
        """Return what the words expand to, split where an unquoted value has blanks."""
        out: list[str] = []
        for word in words:
            found = expand_words(word.text, self.lookup, escape=escape, span=word.span)
            self._counted("".join(found), word.span)
            out += found
        return tuple(out)

    def expand_document(self, content: str, span: Span) -> str:
        """Return the content of a heredoc with variables replaced. Raises RecipeError."""
        from grammar.expand import expand_document

        return self._counted(expand_document(content, self.lookup, span=span), span)

    def _counted(self, text: str, span: Span) -> str:
        """Return `text`, unless all that was expanded is too much: one line may use a long value many
        times.
        """
        self._expanded += len(text)
        if self._expanded > LIMIT:
            message = f"what the words up to here expand to is more than {LIMIT >> 20} MiB"
            raise RecipeError(message, span, code="recipe/too-large")
        return text


def split_variable(pair: str) -> tuple[str, str]:
    """Return name and value of an entry of a config's Env. An image may have one without `=`: it is empty."""
    name, _, value = pair.partition("=")
    return name, value


def build_arguments(arguments: Iterable[tuple[str, str]]) -> set[str]:
    """Return the names among `arguments` that need an ARG."""
    return {name for name, _ in arguments} - PROXY_ARGUMENTS


def global_scope(
    recipe: Recipe, platform: Platform, build_platform: Platform, arguments: Iterable[tuple[str, str]]
) -> Scope:
    """Return what FROM lines see: the platform arguments, and the ARGs before the first FROM."""
    given = dict(arguments)
    scope = Scope(_platform_arguments(platform, build_platform))
    for name in scope.values:
        if name in given:
            scope.values[name] = given[name]
            scope.used.add(name)
    for arg in recipe.global_args:
        for pair in arg.pairs:
            name = pair.key.text
            if name in given:
                scope.values[name] = given[name]
                scope.used.add(name)
            elif pair.value is not None:
                scope.values[name] = scope.expand(pair.value, recipe.directives.escape)
    return scope


def _platform_arguments(platform: Platform, build_platform: Platform) -> dict[str, str]:
    values: dict[str, str] = {}
    for prefix, each in (("TARGET", platform), ("BUILD", build_platform)):
        values[prefix + "PLATFORM"] = str(each)
        values[prefix + "OS"] = each.os
        values[prefix + "ARCH"] = each.architecture
        values[prefix + "VARIANT"] = each.variant
    return values
