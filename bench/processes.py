"""What memory process trees hold, from proc(5).

Memory is the proportional set size (PSS): a page that several processes map is counted once altogether, so a
builder that forks is measured alike with one that has threads. The page cache is nobody's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

_DENSE_SECONDS, _PAUSE = 0.2, 0.005
"""A command is looked at without pause for so long, as it may be short; then with a pause between looks."""


def parse_state(stat: str) -> str:
    """Return the state that a /proc/PID/stat tells."""
    return stat.rpartition(")")[2].split()[0]  # the command's name before may hold anything


def parse_pss(rollup: str) -> int:
    """Return the bytes that a /proc/PID/smaps_rollup calls Pss; 0 where it has no such line."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: str) -> str:
    """Return the text of a file of /proc; nothing, if its process is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def tree(roots: Iterable[int]) -> Iterator[int]:
    """Yield the processes `roots` and all their descendants that live."""
    todo = list(roots)
    seen: set[int] = set()
    while todo:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        yield pid
        todo += children(pid)


def children(pid: int) -> list[int]:
    """Return the children of all threads of `pid`."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [
        int(child) for thread in threads for child in _read(f"/proc/{pid}/task/{thread}/children").split()
    ]


def memory_of_trees(roots: Iterable[int]) -> int:
    """Return the bytes that the trees of `roots` hold now."""
    return sum(parse_pss(_read(f"/proc/{pid}/smaps_rollup")) for pid in tree(roots))


def ended_children() -> list[int]:
    """Return those children of this process that have ended and were not waited for."""
    pids = children(os.getpid())
    return [pid for pid in pids if (stat := _read(f"/proc/{pid}/stat")) and parse_state(stat) == "Z"]


class Watch:
    """While it is entered, the trees of `roots` are looked at again and again; `peak` is the most they
    held.
    """

    def __init__(self, roots: list[int]) -> None:
        self.peak = 0
        self._roots = roots
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        dense = time.monotonic() + _DENSE_SECONDS
        while not self._over.is_set():
            self.peak = max(self.peak, memory_of_trees(self._roots))
            if time.monotonic() > dense:
                self._over.wait(_PAUSE)
