"""Stages that need nothing of each other, at the same time.

What hits is found in the caller's thread, stage by stage, which is quicker than any thread can be started;
from the first step on that has to run, a stage goes on in a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from builder.events import Emit, Event
    from builder.stage import StageResult


class Cancelled(Exception):
    """Another stage failed, or the build was interrupted: this one is not to go on. Nobody is told of it."""


class Cancellation:
    """What ends all stages of a build. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, Callable[[], None]] = {}
        self._count = 0
        self.asked = False

    def check(self) -> None:
        """Raise Cancelled if the stages are to end."""
        if self.asked:
            raise Cancelled

    def forget(self) -> None:
        """Let stages begin anew, after all have ended."""
        self.asked = False

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have `end` called, by whichever thread, if the stages are to end while this is entered."""
        with self._lock:
            self._count += 1
            number = self._count
            self._ends[number] = end
            asked = self.asked
        try:
            if asked:
                end()
            yield
        finally:
            with self._lock:
                del self._ends[number]

    def cancel(self) -> None:
        """End all stages."""
        with self._lock:
            self.asked = True
            ends = tuple(self._ends.values())
        for end in ends:
            end()


def in_turn(emit: Emit) -> Emit:
    """Return `emit`, called by one thread at a time."""
    lock = threading.Lock()

    def emit_in_turn(event: Event) -> None:
        with lock:
            emit(event)

    return emit_in_turn


class Run(Protocol):
    """A stage in the making."""

    def hits(self) -> bool:
        """Go on as long as steps hit; return whether the stage is complete."""

    def run(self) -> StageResult:
        """Go on to the end."""


class Node(Protocol):
    """A stage in a graph: its number, and the numbers of those that it needs."""

    @property
    def index(self) -> int: ...

    @property
    def needs(self) -> tuple[int, ...]: ...


N = TypeVar("N", bound=Node)


class Stages:
    """Runs the stages of a plan, `jobs` at a time."""

    def __init__(self, jobs: int, cancellation: Cancellation) -> None:
        self._jobs = jobs
        self._cancellation = cancellation
        self._done: SimpleQueue[tuple[int, StageResult | None, BaseException | None]] = SimpleQueue()
        self._threads: dict[int, threading.Thread] = {}

    def run(
        self,
        stages: Sequence[N],
        start: Callable[[N], StageResult | Run],
        finished: Callable[[N, StageResult], None],
    ) -> None:
        """Run `stages`, each after those that it needs. `start` returns its run, or what it is if that is
        known; `finished` is told of each: both in this thread. Raises what the first one raises that fails,
        when all have ended.
        """
        waiting = {stage.index: stage for stage in stages}
        running: dict[int, N] = {}
        held: list[tuple[N, Run]] = []
        try:
            while waiting or running or held:
                self._begin(waiting, running, held, start, finished)
                if not (running or held):
                    continue
                alone = len(held) == 1 and not self._ready(waiting, held, running)
                if held and not running and (alone or self._jobs == 1):
                    stage, run = held.pop(0)
                    finished(stage, run.run())  # no thread is needed
                    continue
                while held and len(running) < self._jobs:
                    stage, run = held.pop(0)
                    running[stage.index] = stage
                    self._spawn(stage.index, run)
                index, result, error = self._done.get()
                if error is not None:
                    raise error
                assert result is not None
                finished(running.pop(index), result)
        except BaseException:
            self._end()
            raise

    def _begin(
        self,
        waiting: dict[int, N],
        running: Mapping[int, N],
        held: list[tuple[N, Run]],
        start: Callable[[N], StageResult | Run],
        finished: Callable[[N, StageResult], None],
    ) -> None:
        """Start every stage that can be, and finish those that hit throughout."""
        while ready := self._ready(waiting, held, running):
            for stage in ready:
                del waiting[stage.index]
                found = start(stage)
                if not _is_run(found):
                    finished(stage, found)  # type: ignore[arg-type]
                elif found.hits():  # type: ignore[union-attr]
                    finished(stage, found.run())  # type: ignore[union-attr]
                else:
                    held.append((stage, found))  # type: ignore[arg-type]

    def _ready(
        self,
        waiting: Mapping[int, N],
        held: Sequence[tuple[N, Run]],
        running: Mapping[int, N],
    ) -> list[N]:
        unfinished = {*waiting, *running, *(stage.index for stage, _ in held)}
        return [stage for stage in waiting.values() if unfinished.isdisjoint(stage.needs)]

    def _spawn(self, index: int, run: Run) -> None:
        def work() -> None:
            try:
                self._done.put((index, run.run(), None))
            except BaseException as error:
                self._done.put((index, None, error))

        thread = threading.Thread(target=work, name=f"stage {index}", daemon=True)
        self._threads[index] = thread
        thread.start()

    def _end(self) -> None:
        """End what still runs, and wait for it."""
        self._cancellation.cancel()
        for thread in self._threads.values():
            while thread.is_alive():
                _interrupt(thread)
                thread.join(0.1)


def _interrupt(thread: threading.Thread) -> None:
    """Raise Cancelled in `thread`, wherever it is: it may be in the middle of copying a large tree."""
    import ctypes

    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Cancelled))


def _is_run(found: object) -> bool:
    return hasattr(found, "hits")
