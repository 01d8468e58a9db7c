"""Who the processes of a step take themselves for, where the kernel has but one id for them all
(credentials(7)).

Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from builder import caller

_KEEP = 0xFFFFFFFF


class Credentials(NamedTuple):
    """Real, effective and saved ids, and the supplementary groups."""

    uids: tuple[int, int, int] = (0, 0, 0)
    gids: tuple[int, int, int] = (0, 0, 0)
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, identity: tuple[int, int, tuple[int, ...]]) -> Credentials:
        """Return those of a process that has a user's ids and groups alone; the kernel sorts the latter."""
        uid, gid, groups = identity
        return cls((uid,) * 3, (gid,) * 3, tuple(sorted(groups)))

    def ids(self, call: str) -> tuple[int, int, int]:
        """Return those ids that a call of this name is about."""
        return self.uids if call.endswith("uid") else self.gids

    def with_groups(self, groups: tuple[int, ...]) -> Credentials:
        """Return what setgroups(2) makes of them. Raises PermissionError."""
        if self.uids[1] != 0:
            raise PermissionError(errno.EPERM, "")
        return self._replace(groups=groups)

    def changed(self, call: str, values: list[int]) -> Credentials:
        """Return what the call makes of them: setuid(2), setreuid(2), setresuid(2), setfsuid(2), and those of
        groups. Raises PermissionError.
        """
        old = self.ids(call)
        kind = call.removeprefix("set")[:-3]
        privileged = self.uids[1] == 0
        wanted = values[: {"": 1, "fs": 1, "re": 2, "res": 3}[kind]]
        if kind == "fs":  # the file system's id is not told apart from the effective one
            return self
        if not privileged and not _allowed(kind, old, wanted):
            raise PermissionError(errno.EPERM, "")
        new = _changed(kind, old, wanted, privileged)
        return self._replace(uids=new) if call.endswith("uid") else self._replace(gids=new)


def _allowed(kind: str, old: tuple[int, int, int], wanted: list[int]) -> bool:
    """Whether a process without privileges may have these (kernel/sys.c)."""
    real, effective, saved = old
    if kind == "":
        return wanted[0] in (real, saved)
    first = (real, effective, _KEEP) if kind == "re" else (*old, _KEEP)
    return wanted[0] in first and {*old, _KEEP}.issuperset(wanted[1:])


def _changed(
    kind: str, old: tuple[int, int, int], wanted: list[int], privileged: bool
) -> tuple[int, int, int]:
    real, _, saved = old
    if kind == "":
        return (wanted[0],) * 3 if privileged else (real, wanted[0], saved)
    values = [before if value == _KEEP else value for before, value in zip(old, wanted, strict=False)]
    if kind == "res":
        return values[0], values[1], values[2]
    # setreuid(2): the saved id follows if the real one is set, or the effective one to another than it.
    follows = wanted[0] != _KEEP or (wanted[1] != _KEEP and wanted[1] != real)
    return values[0], values[1], values[1] if follows else saved


class Processes:
    """The processes that have changed who they are, and those that descend from them."""

    def __init__(self, proc: int) -> None:
        """`proc`: the /proc to look at, open."""
        self._proc = proc
        self._known: dict[int, tuple[str, Credentials | None]] = {}
        self._any = False

    def of(self, thread: int) -> Credentials | None:
        """Return who the process of `thread` takes itself for; None: for whom it is, root."""
        if not self._any:
            return None
        process, parent, start = _look(self._proc, thread)
        known = self._known.get(process)
        if known is not None and known[0] == start:
            return known[1]
        # It was forked by its parent, or by one that is dead, and then by whom knows: it is root.
        credentials = self.of(parent) if parent > 1 else None
        self._known[process] = (start, credentials)
        return credentials

    def set(self, thread: int, credentials: Credentials) -> None:
        """Note who the process of `thread` takes itself for from now on."""
        process, _, start = _look(self._proc, thread)
        self._any = True
        self._known[process] = (start, credentials)


def _look(proc: int, thread: int) -> tuple[int, int, str]:
    """Return the process of a thread, its parent, and its start time (proc_pid_stat(5))."""
    process = thread
    for line in caller.read(proc, f"{thread}/status").split("\n"):
        if line.startswith("Tgid:"):
            process = int(line.split()[1])
            break
    words = caller.read(proc, f"{process}/stat").rpartition(")")[2].split()
    return process, int(words[1]), words[19]
