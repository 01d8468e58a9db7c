"""Everything that a change must pass, on two processors at a time: `tests/run.py [PYTEST'S ARGUMENTS]`, as
root.

One part are ruff, mypy, and those tests that build nothing; in a mount namespace of its own, for the tests of
the other part look at what is mounted. What it says is printed when both have ended. With arguments, one
pytest has them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
BUILD_NOTHING = ("grammar", "golden", "cache", "bench")
BIN = os.path.dirname(sys.executable)
PYTEST = os.path.join(BIN, "pytest")
"""Not `python -m pytest`, which would find the checkout's packages before those that are installed."""


def linted() -> tuple[tuple[str, ...], ...]:
    """Return the commands that look at the sources alone."""
    ruff = os.path.join(BIN, "ruff")
    return (ruff, "check"), (ruff, "format", "--check"), (sys.executable, "-m", "mypy")


def quick() -> int:
    """Run what builds nothing; return how many commands failed."""
    tests = [os.path.join(TESTS, name) for name in BUILD_NOTHING]
    own = ("unshare", "--mount", "--propagation", "private")
    failed = [
        command
        for command in (*linted(), (*own, PYTEST, *tests))
        if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode != 0
    ]
    for command in failed:
        print(f"failed: {' '.join(command)}", flush=True)
    return len(failed)


def main(words: list[str]) -> int:
    """Run all, or what `words` say; return the exit code."""
    if words == ["--quick"]:
        return quick()
    if words:
        return subprocess.run([PYTEST, *words], cwd=ROOT).returncode
    rest = [f"--ignore={os.path.join(TESTS, name)}" for name in BUILD_NOTHING]
    with tempfile.TemporaryFile() as told:
        other = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--quick"],
            stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
        try:
            failed = subprocess.run([PYTEST, *rest], cwd=ROOT).returncode != 0
            failed |= other.wait() != 0
        finally:
            if other.poll() is None:
                os.killpg(other.pid, signal.SIGTERM)
        told.seek(0)
        sys.stdout.flush()
        sys.stdout.buffer.write(told.read())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
