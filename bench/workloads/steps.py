"""Builds whose RUNs do next to nothing: what a step costs as such."""

from __future__ import annotations

from dataclasses import dataclass

from bench import floors
from bench.goals import Goal
from bench.peers.protocol import Build, Builder
from bench.rounds import Subject
from bench.workloads.ground import BASE, Ground, after, cold_archives, cold_builds, from_nothing


def trivial(steps: int) -> str:
    """Return a recipe of that many RUNs that write a few bytes each."""
    return f"FROM {BASE}\n" + "".join(f"RUN echo {number} > /step-{number}\n" for number in range(steps))


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """A rebuild in which no step has anything to do: what is paid each time for having built already.

    `first`: the one right after the build that ran the steps; else one of many.
    """

    first: bool = False
    steps: int = 10
    goals: tuple[Goal, ...] = (Goal(0.3),)

    @property
    def name(self) -> str:
        return "no-op-first" if self.first else "no-op"

    @property
    def title(self) -> str:
        return f"{'First rebuild' if self.first else 'Rebuild'} of {self.steps} steps, nothing changed"

    def subjects(self, ground: Ground) -> list[Subject]:
        recipe = ground.write("context/Dockerfile", trivial(self.steps - 1) + "COPY greeting.txt /\n")
        ground.write("context/greeting.txt", "hello\n")
        build = Build(recipe, f"bench-{self.name}")

        def subject(peer: Builder) -> Subject:
            def built() -> None:
                peer.forget()
                ground.run(peer.build(build))

            def each(run: int) -> None:
                if self.first:
                    built()

            return after(peer, built, lambda run: peer.build(build), each)

        return [*map(subject, ground.builders), floors.python()]


@dataclass(frozen=True, slots=True)
class TrivialSteps:
    """Steps that do next to nothing: what is paid for each, sandbox, commit and record."""

    steps: int
    goals: tuple[Goal, ...]
    archive: bool = False

    @property
    def name(self) -> str:
        return f"{'archive' if self.archive else 'run'}-{self.steps}"

    @property
    def title(self) -> str:
        return f"{self.steps} trivial RUNs, {'build and archive' if self.archive else 'build'}"

    def subjects(self, ground: Ground) -> list[Subject]:
        build = Build(ground.write("context/Dockerfile", trivial(self.steps)), f"bench-{self.name}")
        subjects = (cold_archives if self.archive else cold_builds)(ground, build)
        return [*subjects, floors.mounts_and_execs(ground, self.steps)]


@dataclass(frozen=True, slots=True)
class Growth:
    """The same with few and with many steps: whether a step costs more, the more there are below it."""

    few: int = 50
    many: int = 400
    name: str = "growth"

    @property
    def title(self) -> str:
        return f"Trivial RUNs, {self.few} and {self.many}"

    @property
    def goals(self) -> tuple[Goal, ...]:
        # "not by more than half" a step, said of the whole builds
        return (Goal(1.5 * self.many / self.few, (self._name(self.few),), self._name(self.many)),)

    def subjects(self, ground: Ground) -> list[Subject]:
        peer = ground.ours

        def subject(steps: int) -> Subject:
            build = Build(ground.write(f"{steps}/Dockerfile", trivial(steps)), f"bench-{steps}")
            return from_nothing(peer, lambda run: peer.build(build), self._name(steps))

        return [subject(self.few), subject(self.many)]

    def _name(self, steps: int) -> str:
        return f"pybuild, {steps} steps"


@dataclass(frozen=True, slots=True)
class Stages:
    """Stages that do not need each other, and whose RUNs wait most of the time, as for a network."""

    seconds: tuple[float, ...] = (2.0, 1.9, 1.8, 1.7)
    name: str = "stages"
    alone: str = "pybuild, the longest alone"

    @property
    def title(self) -> str:
        return f"{len(self.seconds)} independent stages"

    @property
    def goals(self) -> tuple[Goal, ...]:
        return (Goal(1.1, (self.alone,)),)

    def subjects(self, ground: Ground) -> list[Subject]:
        def build(where: str, seconds: tuple[float, ...]) -> Build:
            return Build(ground.write(f"{where}/Dockerfile", self._recipe(seconds)), f"bench-{where}")

        longest = build("longest", (max(self.seconds),))
        ours = ground.ours
        return [
            *cold_builds(ground, build("stages", self.seconds)),
            from_nothing(ours, lambda run: ours.build(longest), self.alone),
        ]

    def _recipe(self, seconds: tuple[float, ...]) -> str:
        stages = "".join(
            f"FROM {BASE} AS stage{number}\nRUN sleep {time} && echo {number} > /made\n"
            for number, time in enumerate(seconds)
        )
        copies = "".join(f"COPY --from=stage{number} /made /{number}\n" for number in range(len(seconds)))
        return f"{stages}FROM {BASE}\n{copies}"
