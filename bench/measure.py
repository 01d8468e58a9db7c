"""Timing with hyperfine: one run of each command, in turn, round after round.

hyperfine runs all repetitions of a command before the next one, so a machine that is busy for a minute would
be held against one of them. Asked for one run of each, several times, it interleaves them.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

FLOOR = "python3 -I -c pass"

_HYPERFINE = ("hyperfine", "-N", "--runs", "1", "--style", "none")
"""-N: no shell between hyperfine and the command, whose start would be timed as well."""


@dataclass(frozen=True, slots=True)
class Times:
    """Wall times of whole commands, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


@dataclass(frozen=True, slots=True)
class Subject:
    """A command to be timed. `command(round)` gives its words; `environment` is added to this process's."""

    name: str
    command: Callable[[int], list[str]]
    environment: dict[str, str]


def interleaved(subjects: list[Subject], rounds: int) -> dict[str, Times]:
    """Time each subject `rounds` times, the order turned round after each round.

    Raises CalledProcessError if a command fails: hyperfine says which one then.
    """
    seconds: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for number in range(rounds):
        order = subjects if number % 2 == 0 else subjects[::-1]
        for subject in order:
            seconds[subject.name].append(_once(subject, number))
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def _once(subject: Subject, number: int) -> float:
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        subprocess.run(
            [*_HYPERFINE, "--export-json", result.name, shlex.join(subject.command(number))],
            check=True,
            env={**os.environ, **subject.environment},
        )
        times: list[float] = json.load(result)["results"][0]["times"]
    return times[0]


def python_floor() -> Subject:
    """The start of the interpreter that runs pybuild, with nothing to do: no Python program takes less."""
    return Subject(FLOOR, lambda number: [sys.executable, "-I", "-c", "pass"], {})


def lstat_pass(directory: str) -> float:
    """Return the seconds that it takes to lstat everything below `directory`, the best of five."""

    def walk(path: str) -> None:
        with os.scandir(path) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    walk(entry.path)

    def timed() -> float:
        start = time.perf_counter()
        walk(directory)
        return time.perf_counter() - start

    return min(timed() for _ in range(5))
