"""openat2(2): open a path below a directory such that the kernel itself holds it there.

Python has no wrapper for it. The kernel has it since 5.6; the mounts that the builder uses need a newer one.
"""

from __future__ import annotations

import ctypes
import os

_SYS_OPENAT2 = 437  # the same on every architecture: it came after their tables were united
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_DIRECTORY = _OpenHow(
    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
    0,
    _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_XDEV,
)


def open_directory(root: int, path: bytes) -> int:
    """Open the directory `path` below the one that is open as `root`; no component of it may be a symlink.

    Raises OSError: ENOENT, ENOTDIR; ELOOP for a symlink, EXDEV for a way out of `root` or into a mount.
    """
    while True:
        result: int = _syscall(_SYS_OPENAT2, root, path, ctypes.byref(_DIRECTORY), ctypes.sizeof(_OpenHow))
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != 4:  # EINTR
            raise OSError(code, os.strerror(code), os.fsdecode(path))
