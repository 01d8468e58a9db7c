"""What a build shows of itself.

Observers of builder.events. Progress goes to stderr; results are not its business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, Self, TextIO, get_args

if TYPE_CHECKING:
    from types import TracebackType

    from builder.events import Event

Mode = Literal["auto", "tty", "plain", "json", "quiet"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Display(Protocol):
    """Shows events as they come. A display never raises, not even when its reader has gone."""

    def emit(self, event: Event) -> None:
        """Show `event`. Called from one thread at a time."""

    def close(self) -> None:
        """Leave the terminal as it was found. Closing twice is harmless."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_display(
    mode: Mode, stream: TextIO, *, explain: bool = False, clock: Callable[[], float] = time.monotonic
) -> Display:
    """Return the display for `mode` that writes to `stream`.

    auto is tty on a terminal that can move its cursor and that no CI system holds, else plain. tty into
    anything but a terminal is plain too: no escape code ever goes into a pipe. `explain` has every step say
    why it hit or missed the cache. `clock` gives seconds, and is there for tests.
    """
    from builder.progress.sink import Sink

    if mode == "json":
        from builder.progress.json import JsonDisplay

        return JsonDisplay(Sink(stream), clock=clock)
    if mode == "quiet":
        from builder.progress.quiet import QuietDisplay

        return QuietDisplay(Sink(stream))
    if mode != "plain" and _can_redraw(stream, ask_environment=mode == "auto"):
        from builder.progress.tty import TtyDisplay

        return TtyDisplay(Sink(stream), explain=explain, colour=not os.environ.get("NO_COLOR"), clock=clock)
    from builder.progress.plain import PlainDisplay

    return PlainDisplay(Sink(stream), explain=explain, clock=clock)


def _can_redraw(stream: TextIO, *, ask_environment: bool) -> bool:
    try:
        if not stream.isatty():
            return False
    except ValueError:  # closed
        return False
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        return False
    # CI systems that allocate a pty still only keep a log.
    return not (ask_environment and os.environ.get("CI", "") not in ("", "0", "false"))
