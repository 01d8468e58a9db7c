"""Variables: which a word uses, and which there are without anybody's doing."""

from __future__ import annotations

import re

from grammar.errors import RecipeError
from grammar.expand import expand

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grammar.ast import Word

PLATFORM_ARGUMENTS = frozenset(
    prefix + name
    for prefix in ("TARGET", "BUILD")
    for name in ("PLATFORM", "OS", "ARCH", "VARIANT", "OSVERSION")
)
"""Set in FROM lines; in a stage once an ARG without a default declares them."""

PROXY_ARGUMENTS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)

_HANDLED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*):?[-+?]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def variables(word: Word, escape: str) -> list[str]:
    """Return the variables that `word` needs: not those that it says something about being unset of
    (`${v:-default}`)."""
    if "$" not in word.text:
        return []
    used: dict[str, None] = {}

    def note(name: str) -> str:
        used.setdefault(name)
        return "x"

    try:
        expand(word.text, note, escape=escape)
    except RecipeError:
        return []
    handled = set(_HANDLED.findall(word.text))
    return [name for name in used if name not in handled and _NAME.fullmatch(name)]
