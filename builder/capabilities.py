"""Linux capabilities: their names, and the set that Docker gives (capabilities(7); moby,
oci/caps/defaults.go).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from builder import linux
from builder.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
"""In the order of their numbers in linux/capability.h."""

DEFAULT = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
]
"""Docker's default."""


def mask(names: Iterable[str]) -> int:
    """Return the set as the kernel writes it: bit n for capability n. Raises HostError on an unknown name."""
    result = 0
    for name in names:
        plain = name.upper().removeprefix("CAP_")
        if plain not in NAMES:
            raise HostError(f"unknown capability {name}", code="host/capability")
        result |= 1 << NAMES.index(plain)
    return result


def limit(allowed: int) -> None:
    """Take every capability that is not in `allowed` from this process's bounding and inheritable sets.

    After the next execve, root has what is left of the bounding set, and anybody else nothing (Docker since
    20.10.14 leaves inheritable and ambient sets empty). Needs SETPCAP.
    """
    for number in range(64):
        if allowed >> number & 1:
            continue
        try:
            linux.prctl(linux.PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break  # the kernel knows no more of them
    effective, permitted, _ = linux.capget()
    linux.capset(effective, permitted, 0)


def keep(allowed: int) -> None:
    """Take every capability that is not in `allowed` from what this process itself may do."""
    effective, permitted, inheritable = linux.capget()
    linux.capset(effective & allowed, permitted & allowed, inheritable)
