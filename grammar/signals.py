"""Signal names, as STOPSIGNAL takes them (moby/sys/signal): those of Linux, whatever this machine runs."""

from __future__ import annotations

from grammar.errors import RecipeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grammar.source import Span

_NAMES = """
    HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CLD CONT STOP TSTP
    TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS UNUSED RTMIN RTMAX
"""
NAMES = frozenset(_NAMES.split())
_REALTIME = {"RTMIN+": 15, "RTMAX-": 14}


def is_signal(text: str) -> bool:
    """Return whether `text` is a signal's name, with or without SIG, or a number: Docker takes any but 0."""
    if text.isascii() and text.isdecimal():
        return len(text) < 10 and int(text) > 0
    name = text.upper().removeprefix("SIG")
    base, number = name[:6], name[6:]
    if base in _REALTIME and number.isascii() and number.isdecimal():
        return len(number) < 3 and 1 <= int(number) <= _REALTIME[base]
    return name in NAMES


def check_signal(text: str, span: Span | None) -> None:
    """Raise RecipeError (recipe/signal) if `text`, the expanded argument of STOPSIGNAL, is no signal."""
    if not is_signal(text):
        from grammar.suggest import did_you_mean

        hint = (
            did_you_mean(text.upper(), [f"SIG{name}" for name in sorted(NAMES)])
            or "For example: SIGTERM, SIGINT, 9."
        )
        raise RecipeError(f"{text} is no signal", span, hint=hint, code="recipe/signal")
