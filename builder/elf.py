"""What programs of an architecture look like to the kernel: ELF headers (elf(5)), and the smallest program.

Imported where a step for another architecture is to run, and by `pybuild doctor`. Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_IDENTITY = 16
_BASE = 0x400000


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture as ELF has it, and as QEMU calls it. `flags` are e_flags, `instructions` those of
    exit(0), as words of 32 bits, or as bytes.
    """

    qemu: str
    bits: int
    number: int
    flags: int
    instructions: tuple[int, ...] | bytes
    big_endian: bool = False


_MIPS64_EXIT = (0x240213C2, 0x24040000, 0x0000000C)
_MIPS_EXIT = (0x24020FA1, 0x24040000, 0x0000000C)
_PPC_EXIT = (0x38000001, 0x38600000, 0x44000002)

MACHINES = {
    "386": Machine("i386", 32, 3, 0, bytes.fromhex("b80100000031dbcd80")),
    "amd64": Machine("x86_64", 64, 62, 0, bytes.fromhex("b83c00000031ff0f05")),
    "arm": Machine("arm", 32, 40, 0x05000400, (0xE3A00000, 0xE3A07001, 0xEF000000)),
    "arm64": Machine("aarch64", 64, 183, 0, (0xD2800000, 0xD2800BA8, 0xD4000001)),
    "loong64": Machine("loongarch64", 64, 258, 0x43, (0x02800004, 0x0281740B, 0x002B0000)),
    "mips": Machine("mips", 32, 8, 0x70001005, _MIPS_EXIT, big_endian=True),
    "mips64": Machine("mips64", 64, 8, 0x80000005, _MIPS64_EXIT, big_endian=True),
    "mips64le": Machine("mips64el", 64, 8, 0x80000005, _MIPS64_EXIT),
    "mipsle": Machine("mipsel", 32, 8, 0x70001005, _MIPS_EXIT),
    "ppc64": Machine("ppc64", 64, 21, 2, _PPC_EXIT, big_endian=True),
    "ppc64le": Machine("ppc64le", 64, 21, 2, _PPC_EXIT),
    "riscv64": Machine("riscv64", 64, 243, 5, (0x00000513, 0x05D00893, 0x00000073)),
    "s390x": Machine("s390x", 64, 22, 0, bytes.fromhex("a72900000a01"), big_endian=True),
}
"""By Go's name of the architecture, as images have it."""


def pattern(machine: Machine) -> tuple[bytes, bytes]:
    """Return the first bytes of this machine's programs, executable or position-independent, and which bits
    of them count (binfmt-misc.rst, "magic" and "mask"): not the operating system's ABI and its version.
    """
    order = ">" if machine.big_endian else "<"
    magic = _identity(machine) + struct.pack(order + "HH", 2, machine.number)
    ident = b"\xff" * 7 + b"\0" * 2 + b"\xff" * 7
    # 2 is ET_EXEC, 3 is ET_DYN.
    return magic, ident + struct.pack(order + "HH", 0xFFFE, 0xFFFF)


def program(machine: Machine) -> bytes:
    """Return a program that does nothing and ends with exit code 0."""
    order = ">" if machine.big_endian else "<"
    code = machine.instructions
    if not isinstance(code, bytes):
        code = b"".join(struct.pack(order + "I", word) for word in code)
    wide = machine.bits == 64
    header, segment = (64, 56) if wide else (52, 32)
    size = header + segment + len(code)
    address = "Q" if wide else "I"
    elf = struct.pack(
        f"{order}HHI3{address}I6H",
        *(2, machine.number, 1, _BASE + header + segment, header, 0),
        *(machine.flags, header, segment, 1, 0, 0, 0),
    )
    readable, executable = 4, 1
    place = (0, _BASE, _BASE, size, size)
    flags = readable | executable
    if wide:
        load = struct.pack(order + "II6Q", 1, flags, *place, 0x10000)
    else:
        load = struct.pack(order + "8I", 1, *place, flags, 0x10000)
    return _identity(machine) + elf + load + code


def _identity(machine: Machine) -> bytes:
    words = (0x7F, *b"ELF", 2 if machine.bits == 64 else 1, 2 if machine.big_endian else 1, 1)
    return bytes(words).ljust(_IDENTITY, b"\0")
