"""The filter of system calls that builder/seccomp.py compiles, as a document of the runtime-spec
(config-linux.md, "Seccomp"): for runtimes that make their own program of it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from builder import seccomp
from builder.syscalls import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_COMPAT = {"x86_64": "i386", "aarch64": "arm"}


def document(machine: str, capabilities: Iterable[str]) -> dict[str, Any]:
    """Return the `linux.seccomp` object for a process with `capabilities` (no CAP_)."""
    known = frozenset(capabilities)
    rules: dict[str, seccomp.Rule] = {}
    for architecture in (machine, _COMPAT[machine]):
        names = {number: name for name, number in numbers(architecture).items()}
        rules |= {names[number]: rule for number, rule in seccomp.rules(architecture, known).items()}
    plain = sorted(name for name, rule in rules.items() if rule == seccomp.ALLOW)
    calls: list[dict[str, Any]] = [{"names": plain, "action": _ALLOW}]
    for name, rule in sorted(rules.items()):
        if rule == seccomp.UNKNOWN:
            calls.append({"names": [name], "action": _ERRNO, "errnoRet": errno.ENOSYS})
        elif isinstance(rule, tuple):
            calls += _conditional(name, rule)
    return {
        "defaultAction": _ERRNO,
        "defaultErrnoRet": errno.EPERM,
        "architectures": list(_ARCHITECTURES[machine]),
        "syscalls": calls,
    }


def _conditional(name: str, intervals: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    """A rule for each value of the first argument: those that are allowed are few."""
    if not intervals:  # clone(2), without any flag for a new namespace
        masked = {"index": 0, "value": seccomp.NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        return [{"names": [name], "action": _ALLOW, "args": [masked]}]
    values = [value for low, high in intervals for value in range(low, high + 1)]
    return [
        {"names": [name], "action": _ALLOW, "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}
        for value in values
    ]
