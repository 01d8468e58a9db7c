"""Signals for containers that run, and how they are ended: with time to do it themselves, then without."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from builder import containerstate, userns
from builder.errors import HostError, UsageError

if TYPE_CHECKING:
    from cache.containers import Container, ContainerStore

_INTERVAL = 0.02  # seconds between looks at a container that is to end


def number_of(text: str) -> int:
    """Return the number of a signal, by its name or number (grammar/signals.py). Raises UsageError."""
    from grammar.signals import is_signal

    if text.isascii() and text.isdecimal() and 0 < int(text) < 65:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if is_signal(text) and not text.isdecimal():
        base, mark, more = name[:5], name[5:6], name[6:]
        if mark and base in ("RTMIN", "RTMAX"):
            # What the C library keeps for itself stands before its SIGRTMIN; docker counts from there, too.
            return int(signal.SIGRTMIN) + int(more) if mark == "+" else int(signal.SIGRTMAX) - int(more)
        found = signal.Signals.__members__.get("SIG" + name)
        if found is not None:
            return int(found)
    raise UsageError(f"{text} is no signal", code="usage/value", hint="for example TERM, SIGINT, 9")


def send(store: ContainerStore, container: Container, number: int) -> None:
    """Send a signal to the container's command. Raises UsageError if it does not run."""
    state = containerstate.load(store.directory(container.id))
    if state is None and store.is_running(container.id):
        # Another runtime runs it, or it has just been made: who holds it passes signals on.
        _send_holder(store, container, number)
        return
    state = containerstate.running(store, container)
    if userns.is_root():
        _send(container, state, number)
        return
    # The container's user namespace can be entered but once, and there are other containers in others.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            userns.join(containerstate.open_process(container, state.init))
            _send(container, state, number)
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise HostError(
            f"container {container.name or container.id[:12]} cannot be sent a signal", code="host/privileges"
        )


def stop(store: ContainerStore, container: Container, seconds: float) -> None:
    """Have the container end: its stop signal, and SIGKILL if that did not help in `seconds`. One that has
    ended is no error.
    """
    end = time.monotonic() + seconds
    try:
        send(store, container, number_of(container.stop_signal or "TERM"))
        while store.is_running(container.id):
            if time.monotonic() >= end:
                send(store, container, signal.SIGKILL)
                store.wait(container.id)
            time.sleep(_INTERVAL)
    except UsageError as error:
        if error.code != "container/stopped":
            raise
        store.wait(container.id)


def _send_holder(store: ContainerStore, container: Container, number: int) -> None:
    from builder.terminal import PASSED_ON

    if number == signal.SIGKILL:
        store.kill(container.id)
    else:
        store.signal(container.id, number if number in PASSED_ON else signal.SIGTERM)


def _send(container: Container, state: containerstate.State, number: int) -> None:
    pidfd = containerstate.open_process(container, state.command)
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise containerstate.not_running(container) from None
    finally:
        os.close(pidfd)
