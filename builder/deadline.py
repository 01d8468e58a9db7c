"""The time that a whole build may take (--timeout).

It ends as it does by Ctrl-C: the main thread is interrupted, wherever it is, and everything that ends a build
then does so now. What runs is killed, downloads are given up, nothing is named or written.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from builder.errors import BuildError
from builder.events import Event, StepFinished, StepRunning, StepStarted

if TYPE_CHECKING:
    from types import FrameType


class TimedOut(BuildError):
    """The build took longer than it may."""

    code = "build/timeout"
    exit_code = 1


class _Expired(KeyboardInterrupt):
    """The time is up."""


@contextmanager
def deadline(seconds: float | None, events: Iterable[Event] = ()) -> Iterator[None]:
    """Raise TimedOut in what is done here when it takes longer than `seconds`; None for no limit. To be
    called in the main thread. `events`, as they are then, tell which steps ran.
    """
    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, _expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Expired:
        from builder.limits import duration

        running = "\n".join(_running(events))
        message = f"the build timed out after {duration(seconds)} (--timeout)"
        raise TimedOut(message, hint=running and f"it was at {running}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _expire(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Expired


def _running(events: Iterable[Event]) -> list[str]:
    """Return the lines of the steps that run; where none does, of those that have begun: what ADD fetches, it
    fetches before.
    """
    texts: dict[int, str] = {}
    running: dict[int, str] = {}
    for event in events:
        if isinstance(event, StepStarted):
            texts[event.step] = f"{event.text} ({event.file}:{event.line})"
        elif isinstance(event, StepRunning):
            running[event.step] = texts[event.step]
        elif isinstance(event, StepFinished):
            running.pop(event.step, None)
            del texts[event.step]
    return [*(running or texts).values()]
