"""What the machine needs for the core of a workload: no builder that does the work takes less."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.command import Command
from bench.rounds import Subject

if TYPE_CHECKING:
    from bench.workloads.ground import Ground

PYTHON = "python3 -I -c pass"
CP = "cp -a"
SHA256SUM = "sha256sum"
TAR = "tar c | sha256sum"
MOUNTS = "overlay mounts and execs in C"

_SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mounts.c")
_LAYER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "empty.c")


def shell(script: str, directory: str) -> Command:
    """Return `script` as a command of sh that is run in `directory`."""
    return Command(["sh", "-ec", f"cd {shlex.quote(directory)}; {script}"])


def python() -> Subject:
    """The start of the interpreter that runs pybuild, with nothing to do: no Python program takes less."""
    return Subject(PYTHON, "floor", lambda run: [Command([sys.executable, "-I", "-c", "pass"])])


def cp(ground: Ground, tree: str) -> Subject:
    """A copy of `tree` with all that its files have, into the ground's directory."""
    target = ground.path("cp")
    return Subject(
        CP,
        "floor",
        lambda run: [Command(["cp", "-a", tree, target])],
        lambda run: shutil.rmtree(target, ignore_errors=True),
    )


def sha256sum(ground: Ground, files: Sequence[str]) -> Subject:
    """The checksums of `files`, by coreutils."""
    return Subject(SHA256SUM, "floor", lambda run: [Command(["sha256sum", *files])])


def sha256sum_of_tree(tree: str) -> Subject:
    """The checksums of all files below `tree`, by as few processes as the kernel takes arguments."""
    return Subject(
        SHA256SUM, "floor", lambda run: [shell("find . -type f -print0 | xargs -0 sha256sum", tree)]
    )


def tar_and_sha256sum(ground: Ground, tree: str) -> Subject:
    """An uncompressed tar of `tree` and its checksum: a DiffID, so to speak."""
    return Subject(TAR, "floor", lambda run: [shell("tar c . | sha256sum", tree)])


def mounts_and_execs(ground: Ground, steps: int) -> Subject:
    """As many overlay mounts as `steps`, each in a mount namespace of its own in which a program that does
    nothing is executed, one after the other, by a program in C that the suite compiles.
    """
    program, layer = ground.path("mounts"), ground.path("layer")
    os.mkdir(layer)
    ground.run(
        [
            Command(["cc", "-O2", "-o", program, _SOURCE]),
            Command(["cc", "-O2", "-static", "-o", os.path.join(layer, "empty"), _LAYER]),
        ]
    )
    work = ground.path("overlays")

    def before(run: int) -> None:
        shutil.rmtree(work, ignore_errors=True)
        os.mkdir(work)

    return Subject(MOUNTS, "floor", lambda run: [Command([program, layer, work, str(steps)])], before)
