"""What is measured, in the order in which it is measured, and what is to be reached."""

from __future__ import annotations

from bench.floors import CP, SHA256SUM
from bench.goals import Goal
from bench.workloads.files import BigFile, CopyTree, SmallFiles
from bench.workloads.ground import Workload
from bench.workloads.images import Export, Pull, Push
from bench.workloads.java import Java
from bench.workloads.steps import Growth, NothingToDo, Stages, TrivialSteps

WORKLOADS: tuple[Workload, ...] = (
    NothingToDo(),
    NothingToDo(first=True),
    TrivialSteps(50, (Goal(0.5),)),
    TrivialSteps(120, (Goal(0.5),)),  # Docker's daemon and buildah take no more than 128 layers
    TrivialSteps(200, (Goal(0.5),)),
    Growth(),
    TrivialSteps(50, (Goal(0.4),), archive=True),
    SmallFiles(),
    BigFile(),
    CopyTree("cold", (Goal(0.3), Goal(1.5, (CP, SHA256SUM)))),
    CopyTree("unchanged", (Goal(0.3),)),
    CopyTree("changed", (Goal(0.3),)),
    Export("gzip", (Goal(0.3),)),
    Export("zstd", (Goal(0.7),)),
    Push((Goal(0.5, ("BuildKit",)), Goal(0.5, ("skopeo",)))),
    Pull((Goal(0.5, ("BuildKit",)), Goal(0.5, ("skopeo",)))),
    Stages(),
    Java(False, (Goal(0.5),)),
    Java(True, (Goal(0.5),)),
)
