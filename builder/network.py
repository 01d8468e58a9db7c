"""A step's network: the loopback interface, and the files in /etc that go with it. Imported by the
launcher.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

from builder.errors import HostError
from builder.users import read

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_TRIES, _INTERVAL = 2000, 5  # milliseconds

FORWARDED_RESOLVER = "169.254.1.3"
"""Where pasta, or slirp4netns, answers for a name server at the host's loopback: an address that nothing else
has.
"""


def loopback_up() -> None:
    """Bring up `lo` in this network namespace (netdevice(7)); the kernel gives it its addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def hosts(hostname: str, extra: Iterable[tuple[str, str]]) -> str:
    """Return /etc/hosts: what BuildKit writes, and the given (name, address) pairs. It does not depend on
    the host's.
    """
    lines = [f"127.0.0.1\tlocalhost {hostname}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{name}" for name, address in extra]
    return "\n".join(lines) + "\n"


def resolver(*, private: bool = False) -> str:
    """Return the host's /etc/resolv.conf. In a `private` network, a resolver at the host's loopback is asked
    through an address of pasta's (builder/privatenetwork.py).
    """
    text = read("/etc/resolv.conf")
    if not private or not is_resolver_ours():
        return text
    lines = [line for line in text.splitlines() if line.split()[:1] != ["nameserver"]]
    return "\n".join([f"nameserver {FORWARDED_RESOLVER}", *lines]) + "\n"


def is_resolver_ours() -> bool:
    """Return whether all of the host's name servers are at its loopback, as systemd-resolved is."""
    words = [line.split() for line in read("/etc/resolv.conf").splitlines()]
    servers = [line[1] for line in words if line[:1] == ["nameserver"] and len(line) > 1]
    return all(server.startswith("127.") or server == "::1" for server in servers)


def offer(control: socket.socket) -> None:
    """Hand this network namespace to the builder, for a way out."""
    from builder import reports

    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    reports.send(control, (reports.NETWORK,), fd)
    os.close(fd)


def await_outside(control: socket.socket) -> None:
    """Return when this network has a default route. Raises HostError if it does not get one."""
    import select

    poll = select.poll()
    poll.register(control, select.POLLIN)
    for _ in range(_TRIES):
        if _has_default_route():
            return
        if poll.poll(_INTERVAL):
            text = control.recv(1 << 12).decode(errors="replace")
            raise _no_way_out(text or "nobody makes it")
    raise _no_way_out("it is not set up in time")


def _has_default_route() -> bool:
    # Both have a head, or none, and another first column: interface and destination; destination, its bits.
    for path, at, words in (
        ("/proc/self/net/route", 1, ("00000000", "00000000")),
        ("/proc/self/net/ipv6_route", 0, ("0" * 32, "00")),
    ):
        for line in _lines(path):
            fields = line.split()
            if fields[at] != words[0] or fields[-1] == "lo":
                continue
            if (fields[7] if at else fields[1]) == words[1]:
                return True
    return False


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()
    except OSError:  # a kernel without IPv6
        return []


def _no_way_out(reason: str) -> HostError:
    return HostError(f"the private network has no way out: {reason}", code="host/network")
