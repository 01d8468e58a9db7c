"""Running a command as a user who may do nothing, without a home and a store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_SCRIPT = """
import contextlib, io, os, sys
from builder.cli import run
# The interpreter may stand in root's home: what is imported late is imported before privileges go.
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    run(sys.argv[1:])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


def as_nobody(directory: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `pybuild argv` in `directory` as nobody, to whom that directory is made readable."""
    for each in (directory, *directory.parents):
        if each not in (Path("/"), Path("/tmp")) and each.stat().st_uid == os.getuid():
            each.chmod(each.stat().st_mode | 0o055)
    environment = {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, *argv], cwd=directory, env=environment, capture_output=True, text=True
    )
