"""System calls that are put to another process before they happen: seccomp_unotify(2).

A filter sends the calls of `names` to a descriptor, from which a supervisor takes them and says what they
return. Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from builder import linux, seccomp
from builder.syscalls import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

_NEW_LISTENER = 1 << 3
_USER_NOTIF = 0x7FC00000
_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102
_CONTINUE = 1
_NOTIFICATION = "=QIIiIQ6Q"  # struct seccomp_notif
_LOAD, _EQUAL, _ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_FLAGS = {"open": 1, "openat": 2}
"""Which argument has the flags."""
_ARCHITECTURES = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}


class Call(NamedTuple):
    """A system call of thread `thread` that waits for an answer."""

    id: int
    thread: int
    name: str
    arguments: tuple[int, ...]


def install(names: Iterable[str], native: Iterable[str], *, opens: bool = False) -> int:
    """Have the calls `names` of this process, and of those that it starts, put to the descriptor that is
    returned; those of `native` only where they are of the machine's own architecture. open(2) and openat(2)
    are put to it only where they may make a file, unless `opens`.
    """
    program = _program(os.uname().machine, tuple(names), tuple(native), {} if opens else _FLAGS)
    return linux.seccomp_filter(program, _NEW_LISTENER)


def receive(fd: int) -> Call | None:
    """Return the next call, None if the one that was there is gone."""
    data = bytearray(80)
    try:
        fcntl.ioctl(fd, _RECEIVE, data)
    except FileNotFoundError:  # its process was killed meanwhile
        return None
    identity, thread, _, number, architecture, _, *arguments = struct.unpack(_NOTIFICATION, data)
    name = _names()[architecture].get(number, "")
    return Call(identity, thread, name, tuple(arguments))


def answer(fd: int, call: Call, value: int = 0, error: int = 0) -> None:
    """Let the call return `value`, or fail with the errno `error`."""
    _send(fd, struct.pack("=QqiI", call.id, value, -error, 0))


def proceed(fd: int, call: Call) -> None:
    """Let the kernel carry the call out."""
    _send(fd, struct.pack("=QqiI", call.id, 0, 0, _CONTINUE))


def valid(fd: int, call: Call) -> bool:
    """Return whether the call waits still: what was read of its thread was read of that thread."""
    try:
        fcntl.ioctl(fd, _VALID, struct.pack("=Q", call.id))
    except FileNotFoundError:
        return False
    return True


def _send(fd: int, response: bytes) -> None:
    with suppress(FileNotFoundError):  # nobody waits any more
        fcntl.ioctl(fd, _SEND, response)


def _program(machine: str, names: tuple[str, ...], native: tuple[str, ...], flagged: dict[str, int]) -> bytes:
    program = [(_LOAD, 0, 0, 4)]
    for architecture in _ARCHITECTURES[machine]:
        table = numbers(architecture)
        both = names + native if architecture == machine else names
        wanted = sorted(table[name] for name in both if name in table and name not in flagged)
        body = [(_LOAD, 0, 0, 0)]
        for name, argument in flagged.items():
            if name in both and name in table:
                flags = [(_LOAD, 0, 0, 16 + 8 * argument), (_ANY, 0, 1, os.O_CREAT)]
                leave = [(_RETURN, 0, 0, _USER_NOTIF), (_RETURN, 0, 0, seccomp.ALLOW)]
                body += [(_EQUAL, 0, 4, table[name]), *flags, *leave]
        for done, number in enumerate(wanted):
            body.append((_EQUAL, len(wanted) - done, 0, number))
        body += [(_RETURN, 0, 0, seccomp.ALLOW), (_RETURN, 0, 0, _USER_NOTIF)]
        program += [(_EQUAL, 0, len(body), seccomp.AUDIT_ARCH[architecture]), *body]
    program.append((_RETURN, 0, 0, seccomp.ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


_known: dict[int, dict[int, str]] = {}


def _names() -> dict[int, dict[int, str]]:
    if not _known:
        for architecture in _ARCHITECTURES[os.uname().machine]:
            table = numbers(architecture)
            _known[seccomp.AUDIT_ARCH[architecture]] = {number: name for name, number in table.items()}
    return _known
