"""The epoch of a build: the time that its files and its image bear, so that the same commit gives the same
image id.

See docs/decisions/0002-epoch.md, and https://reproducible-builds.org/specs/source-date-epoch/.
"""

from __future__ import annotations

import os

from builder.errors import UsageError


def find_epoch(timestamps: str, context: str | None) -> int | None:
    """Return the epoch in seconds, or None where real times stay.

    `timestamps`: `clamp` (SOURCE_DATE_EPOCH, else the commit time of the clean git work tree that `context`
    is in, else none), `keep` (none), or a number of seconds. Raises UsageError.
    """
    if timestamps == "keep":
        return None
    if timestamps != "clamp":
        return _seconds(timestamps, "--timestamps", "keep, clamp, or a number of seconds since 1970")
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        return _seconds(given, "SOURCE_DATE_EPOCH", "a number of seconds since 1970")
    return _commit_time(context) if context is not None else None


def _seconds(text: str, what: str, expected: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise UsageError(f"{what}={text!r}: expected {expected}", code="usage/timestamps")
    return value


def _commit_time(context: str) -> int | None:
    if not _in_work_tree(context):
        return None
    status = _git(context, "status", "--porcelain", "--untracked-files=normal", "--", ".")
    if status is None or status.strip():
        return None
    seconds = _git(context, "log", "-1", "--format=%ct")
    return int(seconds) if seconds and seconds.strip().isdecimal() else None


def _in_work_tree(directory: str) -> bool:
    """Look for .git as git does, so that no process is started where there is none."""
    while True:
        if os.path.lexists(os.path.join(directory, ".git")):
            return True
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent


def _git(directory: str, *arguments: str) -> str | None:
    import subprocess

    # A context is data: hooks, file-system monitors and pagers that its configuration names are not run.
    command = ["git", "-C", directory, "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
