"""A step's network: the loopback interface, and the files in /etc that go with it. Imported by the
launcher.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import TYPE_CHECKING

from builder.users import read

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


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


def resolver() -> str:
    """Return the host's /etc/resolv.conf, for a step in the host's network."""
    return read("/etc/resolv.conf")
