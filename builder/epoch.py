"""The epoch of a build: the time that its files and its image bear, so that the same commit gives the same
image id.

See docs/decisions/epoch.md, and https://reproducible-builds.org/specs/source-date-epoch/.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from builder.errors import UsageError

LATEST = 253_402_300_799
"""The last second of the year 9999: RFC 3339, which an image's `created` is written in, has no later one."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """`seconds` since 1970, None where real times stay. `work_tree`: the directory whose commit was asked
    for, "" where none was; `commit`: that commit, "" if the work tree is not clean."""

    seconds: int | None
    work_tree: str = ""
    commit: str = ""


def find_epoch(timestamps: str, context: str | None, commit_time: int | None = None) -> Epoch:
    """Return the epoch. `commit_time`: the context is a commit of that time, and no work tree.

    `timestamps`: `clamp` (SOURCE_DATE_EPOCH, else the commit time of the clean git work tree that `context`
    is in, else none), `keep` (none), or a number of seconds. Raises UsageError.
    """
    if timestamps == "keep":
        return Epoch(None)
    if timestamps != "clamp":
        return Epoch(_seconds(timestamps, "--timestamps", "keep, clamp, or a number of seconds since 1970"))
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        return Epoch(_seconds(given, "SOURCE_DATE_EPOCH", "a number of seconds since 1970"))
    if commit_time is not None:
        return Epoch(min(commit_time, LATEST))
    if context is None or not _in_work_tree(os.path.abspath(context)):
        return Epoch(None)
    return _commit(context)


def _seconds(text: str, what: str, expected: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > LATEST:
        raise UsageError(f"{what}={text!r}: expected {expected}", code="usage/timestamps")
    return int(text)


def _commit(context: str) -> Epoch:
    from builder.direct import answer_of, ask_git, git_output

    directory = os.path.abspath(context)
    commit = answer_of(ask_git(directory))
    if not commit:
        return Epoch(None, directory)
    seconds = git_output(directory, ("log", "-1", "--format=%ct", commit)).strip()
    return Epoch(int(seconds), directory, commit) if seconds.isdecimal() else Epoch(None, directory)


def _in_work_tree(directory: str) -> bool:
    """Look for .git as git does, so that no process is started where there is none."""
    while True:
        if os.path.lexists(os.path.join(directory, ".git")):
            return True
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent


def git_markers(directory: str) -> list[str]:
    """Return the paths whose absence says that `directory` is in no work tree."""
    found = []
    while True:
        found.append(os.path.join(directory, ".git"))
        parent = os.path.dirname(directory)
        if parent == directory:
            return found
        directory = parent
