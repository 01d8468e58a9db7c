"""Docker's default seccomp profile, compiled to classic BPF (seccomp(2); moby/profiles,
seccomp/default.json).

A call that the profile names is allowed, one that it leaves out is EPERM, and one that is newer than the
profile is ENOSYS, as runc makes it, so that a C library falls back to what it did before. The profile's
32-bit sub-architecture is covered; x32 is not: its numbers are ENOSYS.
"""

from __future__ import annotations

import struct
from errno import ENOSYS, EPERM
from typing import TYPE_CHECKING

from builder.syscalls import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    Interval = tuple[int, int]
    Instruction = tuple[int, int, int, int]
    Rule = int | tuple[Interval, ...]
    """What the filter returns; or the values of the first argument that are allowed, ascending intervals."""

KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
DENY = _ERRNO | EPERM
UNKNOWN = _ERRNO | ENOSYS

AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_COMPAT = {"x86_64": "i386", "aarch64": "arm"}

_NEEDS = {
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_ADMIN": "bpf clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
    "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl "
    "quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
}
"""Calls that one of these capabilities opens. (The profile names SYS_PACCT; the kernel's name is
SYS_ACCT.)
"""

_FAMILIES = ((0, 11), (13, 18), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45))
"""socket(2) domains: all but AF_VSOCK, which reaches the hypervisor, AF_ALG, and retired or in-kernel
ones.
"""

_PERSONALITIES = ((0, 0), (8, 8), (0x20000, 0x20000), (0x20008, 0x20008), (0xFFFFFFFF, 0xFFFFFFFF))

NAMESPACES = 0x7E020000
"""Every CLONE_NEW* flag: a user namespace gives its maker all capabilities, and with them much of the
kernel.
"""

_NO_NAMESPACES: Rule = ()
"""The rule of clone(2): its first argument must have none of these flags."""

_LOAD_WORD, _JUMP, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_FROM, _JUMP_ANY, _RETURN = (
    0x20,
    0x05,
    0x15,
    0x25,
    0x35,
    0x45,
    0x06,
)
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data

_compiled: dict[tuple[str, frozenset[str]], bytes] = {}


def compile_filter(machine: str, capabilities: Iterable[str]) -> bytes:
    """Return the profile for `machine` and a process with `capabilities` (no CAP_) as an array of struct
    sock_filter.

    Computed once for each set of capabilities.
    """
    key = machine, frozenset(capabilities)
    if key not in _compiled:
        _compiled[key] = _assemble(_program(*key))
    return _compiled[key]


def _program(machine: str, capabilities: frozenset[str]) -> list[Instruction]:
    program = [(_LOAD_WORD, 0, 0, _ARCHITECTURE)]
    for architecture in (machine, _COMPAT[machine]):
        body = [(_LOAD_WORD, 0, 0, _NUMBER), *_tree(_intervals(rules(architecture, capabilities)))]
        program += [(_JUMP_EQUAL, 1, 0, AUDIT_ARCH[architecture]), (_JUMP, 0, 0, len(body)), *body]
    return [*program, (_RETURN, 0, 0, KILL_PROCESS)]


def rules(architecture: str, capabilities: frozenset[str]) -> dict[int, Rule]:
    """Return the rule of each call that the profile names, by its number."""
    number = numbers(architecture)
    rules: dict[str, Rule] = dict.fromkeys(number, ALLOW)
    for names in _NEEDS.values():
        rules.update(dict.fromkeys(names.split(), DENY))
    rules["socket"] = _FAMILIES
    rules["personality"] = _PERSONALITIES
    rules["clone3"] = UNKNOWN  # its flags are behind a pointer: glibc must fall back to clone
    for capability, names in _NEEDS.items():
        if capability in capabilities:
            rules.update(dict.fromkeys(names.split(), ALLOW))
    if "SYS_ADMIN" not in capabilities:
        rules["clone"] = _NO_NAMESPACES
    return {number[name]: rule for name, rule in rules.items() if name in number}


def _intervals(rules: dict[int, Rule]) -> list[tuple[int, Rule]]:
    """Return (first number, rule) for each run of numbers with one rule, ascending, over all numbers."""
    newest = max(n for n in rules if n < 0xF0000)  # arm has a few private calls from there on
    changes: list[tuple[int, Rule]] = []
    points = sorted({0, newest + 1, *rules, *(n + 1 for n in rules)})
    for point in points:
        rule = rules.get(point, DENY if point <= newest else UNKNOWN)
        if not changes or changes[-1][1] != rule:
            changes.append((point, rule))
    return changes


def _tree(intervals: list[tuple[int, Rule]]) -> list[Instruction]:
    """Return a binary search for the number in the accumulator, each leaf of which returns."""
    if len(intervals) == 1:
        return _leaf(intervals[0][1])
    middle = len(intervals) // 2
    left, right = _tree(intervals[:middle]), _tree(intervals[middle:])
    first = intervals[middle][0]
    if len(left) < 256:
        return [(_JUMP_FROM, len(left), 0, first), *left, *right]
    return [
        (_JUMP_FROM, 0, 1, first),
        (_JUMP, 0, 0, len(left)),
        *left,
        *right,
    ]  # a conditional jump has 8 bits


def _leaf(rule: Rule) -> list[Instruction]:
    if isinstance(rule, int):
        return [(_RETURN, 0, 0, rule)]
    # The low word is all that the kernel looks at: domain and persona have 32 bits, and so have clone's
    # flags.
    load = (_LOAD_WORD, 0, 0, _FIRST_ARGUMENT)
    allow, deny = (_RETURN, 0, 0, ALLOW), (_RETURN, 0, 0, DENY)
    if rule == _NO_NAMESPACES:
        return [load, (_JUMP_ANY, 1, 0, NAMESPACES), allow, deny]
    tests: list[Instruction] = []
    for done, (low, high) in enumerate(rule):
        end = 2 * (len(rule) - done) - 1
        tests += [(_JUMP_FROM, 0, end, low), (_JUMP_GREATER, 0, end, high)]
    return [load, *tests, deny, allow]


def _assemble(program: list[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
