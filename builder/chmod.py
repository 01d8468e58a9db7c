"""--chmod: octal, or symbolic as chmod(1) has it.

What BuildKit takes: BSD's setmode(3) under a umask of 0, so that an operator without u, g, o or a before it
is for all three.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Sequence

from builder.errors import PlanError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXstugo]*)+)\Z")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o007, "a": 0o6777}
_STICKY = 0o1000

Clause = tuple[str, list[tuple[str, str]]]


def parse_chmod(text: str) -> Callable[[int], int]:
    """Return a function from a file's st_mode to its new permission bits. Raises PlanError for what is no
    mode."""
    if re.fullmatch(r"[0-7]+", text) and int(text, 8) <= 0o7777:
        mode = int(text, 8)
        return lambda _: mode
    clauses = [_CLAUSE.match(part) for part in text.split(",")]
    if not text or not all(clauses):
        raise PlanError(
            f"--chmod={text}: not a mode",
            code="copy/chmod",
            hint="write it in octal (755) or as chmod does (u+rwX,go=rX)",
        )
    parsed = [(m.group(1), _ACTION.findall(m.group(2))) for m in clauses if m is not None]
    return lambda mode: _apply(mode, parsed)


def _apply(status: int, clauses: Sequence[Clause]) -> int:
    mode = stat.S_IMODE(status)
    # X asks for what was there at first, whatever the clauses before it have done.
    searchable = stat.S_ISDIR(status) or mode & 0o111
    for who, actions in clauses:
        for operator, permissions in actions:
            mode = _change(mode, who or "a", operator, permissions, 0o111 if searchable else 0)
    return mode


def _change(mode: int, who: str, operator: str, permissions: str, conditional: int) -> int:
    mask = 0
    for one in who:
        mask |= _WHO[one]
    given = 0
    for one in permissions:
        if one in _BITS:
            given |= _BITS[one]
        elif one == "X":
            given |= 0o111 if operator == "-" else conditional
        elif one == "s":
            given |= 0o6000
        elif one in _SHIFT:
            given |= (mode >> _SHIFT[one] & 7) * 0o111
    changed = given & mask
    if "t" in permissions and who != "o":
        changed |= _STICKY
    if operator == "+":
        return mode | changed
    if operator == "-":
        return mode & ~changed
    return mode & ~mask | changed
