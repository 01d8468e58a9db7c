"""Which architectures' programs run in steps on this host, and how: tried for real."""

from __future__ import annotations

from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from builder.elf import MACHINES, Machine
from builder.emulation import PACKAGE, Emulation, trials
from builder.errors import BuildError, HostError
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from builder.executor import ExecRequest
    from builder.sandbox import Sandbox

_COMPATIBLE = (("amd64", "386"), ("arm64", "arm"))
"""Processors of the first kind can run programs for the second."""


def architectures() -> tuple[dict[str, list[str]], str, str]:
    """Return how -> names of architectures, what is wrong with the emulation ("" for nothing), and what to
    do about it. Leaves nothing behind. Needs root, or a user namespace.
    """
    from builder.sandbox import Sandbox

    found: dict[str, list[str]] = {}
    problem = remedy = ""
    with Sandbox() as sandbox:
        emulation = Emulation(lambda request: _runs(sandbox, request))
        for name, machine in MACHINES.items():
            how, error = _how(sandbox, emulation, name, machine)
            if how:
                found.setdefault(how, []).append(name)
            elif error is not None and not problem:
                problem, remedy = error.message, error.hint or ""
    return found, problem, remedy


def _how(sandbox: Sandbox, emulation: Emulation, name: str, machine: Machine) -> tuple[str, HostError | None]:
    platform = Platform("linux", name)
    try:
        if emulation.emulator(platform) is None:
            own = Platform.host().architecture
            native = name == own or (own, name) in _COMPATIBLE
            return ("as they are" if native else "by a handler of this host"), None
        refused: HostError | None = None
        with TemporaryDirectory(prefix="pybuild-") as directory:
            for request in trials(directory, machine):
                try:
                    sandbox.run(replace(request, platform=platform), lambda stream, data: None)
                    return "by QEMU", None
                except HostError as error:
                    refused = refused or error
        return "", refused
    except HostError as error:
        return "", error
    except BuildError as error:
        return "", HostError(error.message, code="host/emulation", hint=f"another {PACKAGE}")


def _runs(sandbox: Sandbox, request: ExecRequest) -> bool:
    try:
        return sandbox.run(request, lambda stream, data: None).status == 0
    except BuildError:
        return False
