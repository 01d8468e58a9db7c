"""The Java recipe of this repository: a real build, with every step cached and with one source file
edited.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from bench import floors
from bench.goals import Goal
from bench.peers.protocol import Build, Builder
from bench.rounds import Subject
from bench.workloads.ground import Ground, after

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_RECIPES = os.path.join(os.path.dirname(_HERE), "recipes")
_BASES = {"bench-jdk": "jdk", "bench-jre": "jre"}
"""The images that bench/java/Dockerfile stands on: the stages of recipes/jdk.rec that they are."""
_EDITED = "main/java/notes/Answer.java"


@dataclass(frozen=True, slots=True)
class Java:
    """`edited`: a source file differs from run to run. The bases are built of Debian's packages, once."""

    edited: bool
    goals: tuple[Goal, ...]

    @property
    def name(self) -> str:
        return f"java-{'edited' if self.edited else 'cached'}"

    @property
    def title(self) -> str:
        return f"`java.rec`, {'one source file edited' if self.edited else 'every step cached'}"

    def subjects(self, ground: Ground) -> list[Subject]:
        shutil.copytree(os.path.join(_RECIPES, "java", "src"), ground.path("context/src"))
        recipe = shutil.copy(os.path.join(_HERE, "java", "Dockerfile"), ground.path("context"))
        build = Build(os.path.join(ground.path("context"), os.path.basename(recipe)), "bench-java")
        archives = _bases(ground)

        def subject(peer: Builder) -> Subject:
            def first() -> None:
                peer.forget()
                for name, archive in archives.items():
                    peer.load(archive, name)
                    ground.cleanup.callback(peer.loaded.pop, name)
                ground.run(peer.build(build))

            return after(peer, first, lambda run: peer.build(build), edit if self.edited else None)

        def edit(run: int) -> None:
            path = ground.path(os.path.join("context/src", _EDITED))
            with open(os.path.join(_RECIPES, "java", "src", _EDITED), encoding="utf-8") as file:
                text = file.read()
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{text}\nclass Edited{run} {{}}\n")

        return [*map(subject, ground.builders), *([] if self.edited else [floors.python()])]


def _bases(ground: Ground) -> dict[str, str]:
    """Build the bases and return their archives; they are kept for another workload of the same suite."""
    archives = {name: os.path.join(os.path.dirname(ground.directory), f"{name}.oci") for name in _BASES}
    for name, archive in archives.items():
        if not os.path.exists(archive):
            recipe = os.path.join(_RECIPES, "jdk.rec")
            build = Build(recipe, name, target=_BASES[name])
            ground.run(ground.ours.build_archive(build, f"{archive}.unfinished"))
            os.rename(f"{archive}.unfinished", archive)
    return archives
