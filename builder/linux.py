"""The system calls that Python's os module lacks: thin, typed, without policy. The only ctypes of the
builder.

Every function raises OSError with the kernel's errno. Numbers and structures are those of Linux's uapi
headers; the section 2 man page of each call says the rest. ctypes is imported at the first call, so that a
build which runs nothing does not pay for it.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

from builder.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable

AT_FDCWD = -100
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

_MOST_RACES = 1000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_SET_FD = 5
_FSCONFIG_CMD_CREATE = 6
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1
_KEYCTL_JOIN_SESSION_KEYRING = 1

# From 424 on, a call has the same number on every architecture.
_NUMBERS_SINCE_5_1 = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_NUMBERS = {
    "x86_64": {
        "fstatfs": 138,
        "capget": 125,
        "fchownat": 260,
        "newfstatat": 262,
        "statx": 332,
        "capset": 126,
        "keyctl": 250,
        "mount": 165,
        "personality": 135,
        "rt_sigaction": 13,
        "pivot_root": 155,
        "prctl": 157,
        "seccomp": 317,
        "sethostname": 170,
        "setns": 308,
        "syncfs": 306,
        "umount2": 166,
        "unshare": 272,
    },
    "aarch64": {
        "fstatfs": 44,
        "capget": 90,
        "fchownat": 54,
        "newfstatat": 79,
        "statx": 291,
        "capset": 91,
        "keyctl": 219,
        "mount": 40,
        "personality": 92,
        "rt_sigaction": 134,
        "pivot_root": 41,
        "prctl": 167,
        "seccomp": 277,
        "sethostname": 161,
        "setns": 268,
        "syncfs": 267,
        "umount2": 39,
        "unshare": 97,
    },
}

_UNDER_LINUX32 = {"i686": "x86_64", "armv8l": "aarch64"}
"""What personality(2) PER_LINUX32 has a 64-bit machine called."""

_Argument = int | bytes | None
_syscall: Callable[..., int] | None = None
_errno: Callable[[], int]
_numbers: dict[str, int] = {}


def load() -> None:
    """Make the first call cheap: import ctypes, bind syscall(2). Raises HostError on an architecture
    without numbers.
    """
    global _syscall, _errno, _numbers
    import ctypes

    machine = os.uname().machine
    if sys.maxsize > 1 << 32:
        machine = _UNDER_LINUX32.get(machine, machine)
    if machine not in _NUMBERS:
        raise HostError(
            f"pybuild cannot run steps on {machine}",
            code="host/architecture",
            hint="it runs them on x86_64 and aarch64",
        )
    _numbers = _NUMBERS_SINCE_5_1 | _NUMBERS[machine]
    function = ctypes.CDLL(None, use_errno=True).syscall
    # Every argument is passed as a register's full width: c_void_p takes integers, bytes and None alike.
    function.argtypes = (ctypes.c_long, *[ctypes.c_void_p] * 6)
    function.restype = ctypes.c_long
    _errno = ctypes.get_errno
    _syscall = function


def _call(name: str, *arguments: _Argument, about: str | None = None) -> int:
    if _syscall is None:
        load()
    assert _syscall is not None
    result = _syscall(_numbers[name], *arguments, *(0,) * (6 - len(arguments)))
    if result < 0:
        error = _errno()
        raise OSError(error, f"{name}: {os.strerror(error)}", about)
    return result


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    words = (os.fsencode(source), os.fsencode(target), os.fsencode(kind))
    _call("mount", *words, flags, os.fsencode(data), about=target)


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    _call("umount2", os.fsencode(target), flags, about=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _call("pivot_root", os.fsencode(new_root), os.fsencode(put_old))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _call("unshare", flags)


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    _call("setns", fd, kind)


def sethostname(name: str) -> None:
    """sethostname(2)."""
    encoded = os.fsencode(name)
    _call("sethostname", encoded, len(encoded), about=name)


def fsopen(kind: str) -> int:
    """fsopen(2): return the fd of a file system that is being configured."""
    return _call("fsopen", os.fsencode(kind), _FSOPEN_CLOEXEC, about=kind)


def fsconfig_flag(fd: int, key: str) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG."""
    _call("fsconfig", fd, _FSCONFIG_SET_FLAG, key.encode(), about=key)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING. The kernel takes at most 255 bytes (EINVAL)."""
    _call("fsconfig", fd, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), about=value)


def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """fsconfig(2), FSCONFIG_SET_FD."""
    _call("fsconfig", fd, _FSCONFIG_SET_FD, key.encode(), None, value, about=key)


def fsmount(fd: int, attributes: int) -> int:
    """fsconfig(2), FSCONFIG_CMD_CREATE, then fsmount(2): return the fd of a mount that is attached
    nowhere.
    """
    _call("fsconfig", fd, _FSCONFIG_CMD_CREATE, None, None, 0)
    return _call("fsmount", fd, _FSMOUNT_CLOEXEC, attributes)


def open_tree(fd: int, path: str, flags: int) -> int:
    """open_tree(2): with OPEN_TREE_CLONE, return the fd of a detached bind mount."""
    return _call("open_tree", fd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC, about=path)


def move_mount(fd: int, target_fd: int) -> None:
    """move_mount(2): attach the mount `fd` on what `target_fd` is open on."""
    _call("move_mount", fd, b"", target_fd, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(fd: int, path: str, flags: int, attributes: int) -> None:
    """mount_setattr(2): set `attributes` (MOUNT_ATTR_*), clear none."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    _call("mount_setattr", fd, os.fsencode(path), flags, attr, len(attr), about=path)


def openat2(fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2).

    Where something on the host is renamed or mounted while a `..` is resolved, the kernel cannot tell whether
    that led out, and says EAGAIN. Raises that, too, but not before many tries.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_MOST_RACES):
        try:
            return _call("openat2", fd, os.fsencode(path), how, len(how), about=path)
        except BlockingIOError:
            continue
    return _call("openat2", fd, os.fsencode(path), how, len(how), about=path)


def fchownat(fd: int, path: str, uid: int, gid: int, flags: int) -> None:
    """fchownat(2): with AT_EMPTY_PATH and no path, of what an O_PATH descriptor is open on, be it a symbolic
    link.
    """
    _call("fchownat", fd, os.fsencode(path), uid, gid, flags)


def newfstatat(fd: int) -> bytes:
    """newfstatat(2) with AT_EMPTY_PATH: return the struct stat, which has 144 bytes at most."""
    data = bytes(bytearray(144))  # one that nobody else holds, since the kernel writes into it
    _call("newfstatat", fd, b"", data, AT_EMPTY_PATH)
    return data


def statx(fd: int, flags: int, mask: int) -> bytes:
    """statx(2) with AT_EMPTY_PATH: return the struct statx."""
    data = bytes(bytearray(256))
    _call("statx", fd, b"", flags | AT_EMPTY_PATH, mask, data)
    return data


def filesystem_type(fd: int) -> int:
    """fstatfs(2): return f_type, a magic number of linux/magic.h."""
    data = bytes(bytearray(120))  # one that nobody else holds, since the kernel writes into it
    _call("fstatfs", fd, data)
    return int(struct.unpack_from("=q", data)[0])


def close_range(first: int, last: int) -> None:
    """close_range(2)."""
    _call("close_range", first, last)


def syncfs(fd: int) -> None:
    """syncfs(2)."""
    _call("syncfs", fd)


def prctl(option: int, value: _Argument = 0) -> int:
    """prctl(2)."""
    return _call("prctl", option, value)


def default_action(number: int) -> None:
    """sigaction(2): set the default action, of a signal that the C library keeps for itself, too."""
    _call("rt_sigaction", number, bytes(32), None, 8)


def personality(persona: int) -> None:
    """personality(2): set it."""
    _call("personality", persona)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this thread. The masks have bit n set for capability n."""
    words = [mask >> shift & 0xFFFFFFFF for shift in (0, 32) for mask in (effective, permitted, inheritable)]
    _call("capset", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", *words))


def capget() -> tuple[int, int, int]:
    """capget(2) of this thread: return the masks (effective, permitted, inheritable)."""
    data = bytes(bytearray(24))  # one that nobody else holds, since the kernel writes into it
    _call("capget", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), data)
    low_e, low_p, low_i, high_e, high_p, high_i = struct.unpack("=6I", data)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def seccomp_filter(program: bytes, flags: int) -> int:
    """seccomp(2), SECCOMP_SET_MODE_FILTER: `program` is an array of struct sock_filter. Return the fd of its
    listener, where the flags ask for one.
    """
    import ctypes

    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return _call("seccomp", _SECCOMP_SET_MODE_FILTER, flags, header)


def join_new_session_keyring() -> None:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING, anonymous."""
    _call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None)
