"""Programs that steps attack with, compiled once."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache

_HERE = os.path.dirname(os.path.abspath(__file__))
_LOADER = ("-O1", "-fPIC", "-shared", "-nostdlib", "-nostartfiles", "-fno-stack-protector", "-Wl,-e,_start")


def probe() -> bytes:
    """Return the static program that tries what its first argument says (probe.c)."""
    return _compiled("probe.c", "-O1", "-static", "-w")


def loader() -> bytes:
    """Return what stands in for an image's dynamic loader (loader.c)."""
    return _compiled("loader.c", *_LOADER)


@cache
def _compiled(name: str, *options: str) -> bytes:
    compiler = shutil.which("gcc")
    assert compiler is not None, "the escape suite needs gcc (apt-get install gcc libc6-dev)"
    with tempfile.TemporaryDirectory() as directory:
        made = os.path.join(directory, "program")
        command = [compiler, *options, "-o", made, os.path.join(_HERE, name)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        with open(made, "rb") as file:
            return file.read()
