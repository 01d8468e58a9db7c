"""Signals for containers that run, and how they are ended: with time to do it themselves, then without."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from builder import containerstate, userns
from builder.errors import HostError, UsageError

if TYPE_CHECKING:
    from cache.containers import Container, ContainerStore


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
    try:
        state = containerstate.running(store, container)
        send(store, container, number_of(container.stop_signal or "TERM"))
        pidfd = containerstate.open_process(container, state.init)
    except UsageError as error:
        if error.code != "container/stopped":
            raise
    else:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            kill(store, container)
        os.close(pidfd)
    store.wait(container.id)


def kill(store: ContainerStore, container: Container) -> None:
    """Send SIGKILL to the container's command; one that has ended is no error."""
    try:
        send(store, container, signal.SIGKILL)
    except UsageError as error:
        if error.code != "container/stopped":
            raise


def _send(container: Container, state: containerstate.State, number: int) -> None:
    pidfd = containerstate.open_process(container, state.command)
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise containerstate.not_running(container) from None
    finally:
        os.close(pidfd)
