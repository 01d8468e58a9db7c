"""Programs of another architecture: Debian's busybox for arm64, and small ones made of instructions."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import replace

from builder.elf import MACHINES, program

ARM64 = MACHINES["arm64"]

_APPLETS = "sh cat chmod chown echo grep id ls mkdir mknod ping printf sed stat tr true uname"
APPLETS = _APPLETS.split()


def fetch_busybox(directory: str) -> str:
    """Extract Debian's busybox for arm64 below `directory`; return its path."""
    root = os.path.join(directory, "root")
    options = ["--mode=root", "--variant=extract", "--architectures=arm64", "--include=busybox-static"]
    subprocess.run(["mmdebstrap", *options, "bookworm", root], check=True, capture_output=True)
    return os.path.join(root, "bin/busybox")


def _svc(number: int) -> tuple[int, int]:
    """mov x8, number; svc #0."""
    return 0xD2800008 | number << 5, 0xD4000001


def _mov(register: int, value: int) -> int:
    return 0xD2800000 | value << 5 | register


def _adr(register: int, distance: int) -> int:
    return 0x10000000 | (distance & 3) << 29 | (distance >> 2) << 5 | register


_EXIT = _svc(93)

TELLS_USER = program(replace(ARM64, instructions=(*_svc(175), *_EXIT)))
"""geteuid(), as the exit code."""

BECOMES_ROOT = program(replace(ARM64, instructions=(_mov(0, 0), *_svc(146), *_EXIT)))
"""setuid(0); the exit code is 0 if it may."""

CAPABILITY = bytes.fromhex("0100000280000000000000000000000000000000")
"""VFS_CAP_REVISION_2, effective, CAP_SETUID."""


def _gives_capability(path: bytes) -> bytes:
    code = 9 * 4
    data = path + b"\0" + b"security.capability\0" + CAPABILITY
    places = (code, code + len(path) + 1, code + len(path) + 21)
    arguments = [_adr(register, place - 4 * register) for register, place in enumerate(places)]
    words = (*arguments, _mov(3, len(CAPABILITY)), _mov(4, 0), *_svc(5), *_EXIT)
    return program(replace(ARM64, instructions=struct.pack("<9I", *words) + data))


GIVES_CAPABILITY = _gives_capability(b"/becomes-root")
"""setxattr("/becomes-root", "security.capability", …)."""
