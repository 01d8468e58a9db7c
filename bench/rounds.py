"""Interleaved runs: one of each subject in turn, round after round, so that a machine that is busy for a
minute is held against nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.command import Command, CommandFailed, measured, peak_memory
from bench.samples import Kind, Sample, Series


def _nothing(number: int) -> None:
    """What needs no preparation."""


def _no_daemon() -> list[int]:
    return []


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: `commands(run)`, after `before(run)`, which is not measured.

    `daemons()`: the processes that work for the commands and are not their descendants.
    """

    name: str
    kind: Kind
    commands: Callable[[int], Sequence[Command]]
    before: Callable[[int], None] = _nothing
    daemons: Callable[[], list[int]] = _no_daemon


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done: `rounds` runs of each subject, but no further one once it has taken `budget`
    seconds.
    """

    rounds: int
    budget: float
    memory: bool = True

    def goes_on(self, samples: Sequence[Sample]) -> bool:
        """Say whether a subject that has `samples` is to be run once more."""
        spent = sum(sample.wall for sample in samples)
        return not samples or (len(samples) < self.rounds and spent + samples[-1].wall <= self.budget)


def interleaved(
    subjects: Sequence[Subject], effort: Effort, log: str, say: Callable[[str], None]
) -> list[Series]:
    """Measure each subject, the order turned round after each round, and then its peak memory in a run of its
    own.

    A subject that fails is out; its series says why. `say` is told what is done.
    """
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    failures: dict[str, str] = {}
    run = 0
    for number in range(effort.rounds):
        for subject in subjects if number % 2 == 0 else subjects[::-1]:
            done = samples[subject.name]
            if subject.name in failures or not effort.goes_on(done):
                continue
            run += 1
            try:
                subject.before(run)
                os.sync()  # what the one before has written is not to be written out in this one's time
                done.append(measured(subject.commands(run), subject.daemons(), log))
            except CommandFailed as failure:
                failures[subject.name] = str(failure)
                done.clear()
                say(f"  {subject.name}: failed: {failure}")
                continue
            processor = "" if done[-1].cpu is None else f", processor {done[-1].cpu:.3f} s"
            say(f"  {subject.name}: {done[-1].wall:.3f} s{processor}")
    peaks: dict[str, int] = {}
    for subject in subjects:
        if effort.memory and subject.name not in failures and subject.kind != "floor":
            run += 1
            subject.before(run)
            peaks[subject.name] = peak_memory(subject.commands(run), subject.daemons(), log)
            say(f"  {subject.name}: at most {peaks[subject.name] / 2**20:.0f} MiB")
    return [
        Series(s.name, s.kind, tuple(samples[s.name]), peaks.get(s.name), failures.get(s.name))
        for s in subjects
    ]
