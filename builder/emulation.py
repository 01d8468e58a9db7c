"""How steps for another architecture run here: the kernel hands their programs to QEMU (qemu-user(1)).

Either this host has registered that (binfmt_misc, with flag F, so that it works in any root), or the sandbox
does it for the one step, in a user namespace of its own: see builder/binfmt.py and docs/platforms.md. On the
host nothing is registered, ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from builder.elf import MACHINES, Machine, pattern, program
from builder.errors import HostError
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from builder.executor import ExecRequest

PACKAGE = "qemu-user-static"
_PLACES = ("/usr/bin", "/usr/local/bin", "/usr/libexec/qemu-binfmt")
_PT_INTERP = 3


@dataclass(frozen=True, slots=True)
class Emulator:
    """A program of this host that runs those whose first bytes are `magic`, as far as the bits of `mask`
    count. `name` is that of the entry in binfmt_misc.
    """

    path: str
    name: str
    magic: bytes
    mask: bytes


class Emulation:
    """Knows how programs of other architectures run. `run` runs a command in a sandbox, and returns whether
    it could be started and succeeded. Safe from several threads.
    """

    def __init__(self, run: Callable[[ExecRequest], bool]) -> None:
        self._run = run
        self._known: dict[str, Emulator | None] = {}
        self._lock = Lock()

    def emulator(self, platform: Platform) -> Emulator | None:
        """Return what steps for `platform` need to run; None if the kernel runs their programs as they are.

        Raises HostError (host/emulation) if there is nothing that could.
        """
        if platform.os != "linux":
            message = f"steps for {platform} do not run on Linux"
            raise HostError(message, code="host/emulation", hint="COPY and ADD work for any platform")
        name = platform.normalised().architecture
        with self._lock:
            if name not in self._known:
                self._known[name] = self._find(name)
            return self._known[name]

    def _find(self, architecture: str) -> Emulator | None:
        machine = MACHINES.get(architecture)
        if machine is None:
            raise HostError(f"steps for linux/{architecture} cannot be run here", code="host/emulation")
        if self._runs(machine):
            return None
        path = find_qemu(machine)
        if path is None:
            raise HostError(
                f"steps for linux/{architecture} need qemu-{machine.qemu}-static, and it is not there",
                code="host/emulation",
                hint=f"apt-get install {PACKAGE}",
            )
        return Emulator(path, f"qemu-{machine.qemu}", *pattern(machine))

    def _runs(self, machine: Machine) -> bool:
        """Return whether the kernel, or a handler that the host has registered, runs the machine's programs
        in a root where there is nothing else.
        """
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="pybuild-") as directory:
            return any(self._run(replace(each, network="none")) for each in trials(directory, machine))


def trials(directory: str, machine: Machine) -> tuple[ExecRequest, ExecRequest]:
    """Make a root with nothing but a program for the machine in the empty `directory`; return how to run it:
    on an overlay, and without one where this host has none.
    """
    from builder import mountpoints
    from builder.executor import ExecRequest

    path = os.path.join(directory, "program")
    with open(path, "wb") as file:
        file.write(program(machine))
    os.chmod(directory, 0o755)
    os.chmod(path, 0o755)
    mountpoints.make(directory, mountpoints.wanted(()))
    return (
        ExecRequest(argv=("/program",), lower=(directory,)),
        ExecRequest(argv=("/program",), prepared=directory),
    )


def find_qemu(machine: Machine) -> str | None:
    """Return the path of the emulator: one that needs no libraries, since a step's root has none for it."""
    from shutil import which

    places = os.pathsep.join(filter(None, (os.environ.get("PATH"), *_PLACES)))
    for name in (f"qemu-{machine.qemu}-static", f"qemu-{machine.qemu}"):
        path = which(name, path=places)
        if path is not None and _is_static(path):
            return path
    return None


def _is_static(path: str) -> bool:
    """Return whether a program needs no dynamic loader (elf(5), PT_INTERP)."""
    import sys

    try:
        with open(path, "rb") as file:
            header = file.read(64)
            if header[:4] != b"\x7fELF" or header[4] != 2:
                return header[:4] == b"\x7fELF"
            place, size, count = (int.from_bytes(header[a:b], sys.byteorder) for a, b in _PROGRAM_HEADERS)
            file.seek(place)
            table = file.read(size * count)
    except OSError:
        return False
    kinds = (int.from_bytes(table[at : at + 4], sys.byteorder) for at in range(0, len(table), size or 1))
    return _PT_INTERP not in kinds


_PROGRAM_HEADERS = ((32, 40), (54, 56), (56, 58))
"""Where e_phoff, e_phentsize and e_phnum are in a header of 64 bits."""
