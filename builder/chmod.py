"""--chmod: octal, or symbolic as chmod(1) has it."""

from __future__ import annotations

import re
from collections.abc import Callable

from builder.errors import PlanError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXst]*)+)\Z")
_ACTION = re.compile(r"([-+=])([rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def parse_chmod(text: str) -> Callable[[int], int]:
    """Return a function from a file's permission bits to the new ones. Raises PlanError for what is no
    mode.
    """
    if re.fullmatch(r"[0-7]{1,4}", text):
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


def _apply(mode: int, clauses: list[tuple[str, list[tuple[str, str]]]]) -> int:
    for who, actions in clauses:
        for operator, permissions in actions:
            mode = _change(mode, who.replace("a", "ugo") or "ugo", operator, permissions)
    return mode


def _change(mode: int, who: str, operator: str, permissions: str) -> int:
    bits = 0
    mask = 0
    for one in set(who):
        shift = _SHIFT[one]
        mask |= 7 << shift
        for permission in permissions:
            if permission == "X":
                bits |= (1 << shift) if mode & 0o111 else 0
            elif permission in _BITS:
                bits |= _BITS[permission] << shift
            elif permission == "s" and one in "ug":
                bits |= 0o4000 if one == "u" else 0o2000
    if "t" in permissions:
        bits |= 0o1000
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    return mode & ~mask | bits
