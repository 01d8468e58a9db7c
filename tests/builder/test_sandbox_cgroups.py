"""Limits of memory, processes and processors: they hold, are said to be what ended a command, and leave no
group behind. Needs root, busybox and cgroups that can be written.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from builder import cgroups
from builder.sandbox import Sandbox
from tests.builder.test_sandbox_death import eventually
from tests.sandbox_fixtures.scene import Scene

pytestmark = pytest.mark.peer("busybox")


def groups(launcher: int) -> set[str]:
    """The groups that a launcher has made, and that are still there."""
    places = {place.directory for place in cgroups.controllers().values()}
    assert places, "no cgroup can be made here"
    prefix = f"pybuild-{launcher}-"
    return {f"{at}/{name}" for at in places for name in os.listdir(at) if name.startswith(prefix)}


def child_of(pid: int) -> int:
    """The one child of a process (proc_tid_children(5))."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.fixture
def launcher(sandbox: Sandbox) -> int:
    return sandbox._launcher._pid


def test_a_command_out_of_memory_is_killed_and_why_is_said(scene: Scene) -> None:
    outcome = scene.sh("dd if=/dev/zero of=/dev/null bs=200M count=1", memory=64 << 20)
    assert outcome.status == 128 + signal.SIGKILL
    assert outcome.result.limit == "memory"
    assert scene.sh("dd if=/dev/zero of=/dev/null bs=200M count=1").status == 0


def test_init_outlives_a_command_that_takes_all_memory_and_forks(scene: Scene) -> None:
    outcome = scene.sh(
        "for i in 1 2 3; do dd if=/dev/zero of=/dev/null bs=200M & done; wait; echo still here",
        memory=96 << 20,
    )
    assert outcome.result.limit == "memory"
    assert "still here" in outcome.stdout


def test_no_more_processes_than_the_limit(scene: Scene) -> None:
    outcome = scene.sh("for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done", pids=5)
    assert outcome.status != 0
    assert outcome.result.limit == "pids"


def test_the_quota_of_processors_is_the_kernel_s(scene: Scene, launcher: int) -> None:
    """What the kernel is told, not how long something takes."""
    file = "cpu.cfs_quota_us" if cgroups.controllers()["cpu"].version == 1 else "cpu.max"
    seen: list[str] = []

    def look(stream: str, data: bytes) -> None:
        (group,) = groups(launcher)
        seen.append(Path(group, file).read_text().split()[0])
        running.kill(signal.SIGKILL)

    running = scene.executor.start(scene.request("sh", "-c", "echo up; sleep 300", cpus=0.25), look)
    running.wait()
    assert seen == ["25000"]


def test_only_the_controllers_that_are_asked_for_are_entered(scene: Scene) -> None:
    lines = scene.run("cat", "/proc/self/cgroup", pids=10).lines
    assert [line.split(":")[1] for line in lines if "pybuild-" in line] in (["pids"], [""])
    assert not any("pybuild-" in line for line in scene.run("cat", "/proc/self/cgroup").lines)


def test_no_group_is_left(scene: Scene, launcher: int) -> None:
    scene.sh("true", memory=64 << 20, pids=100, cpus=1.0)
    assert scene.sh("exit 3", pids=100).status == 3
    assert eventually(lambda: not groups(launcher))


BUILDER = """
import sys
from builder.executor import ExecRequest
from builder.sandbox import Sandbox
base, directory = sys.argv[1:]
request = ExecRequest(("sh", "-c", "echo up; sleep 300"), lower=(base,), env=(("PATH", "/bin"),), pids=20)
Sandbox().run(request, lambda stream, data: print(data.decode(), end="", flush=True))
"""


@pytest.mark.parametrize("victim", ["builder", "launcher"])
def test_a_killed_builder_leaves_no_group(busybox_root: str, tmp_path: Path, victim: str) -> None:
    """A launcher that is killed itself cannot clean up: the next one that makes a group does."""
    command = [sys.executable, "-c", BUILDER, busybox_root, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"up\n"
        launcher = child_of(builder.pid)
        assert groups(launcher)
        os.kill(builder.pid if victim == "builder" else launcher, signal.SIGKILL)
    if victim == "launcher":
        # A launcher of its own: each sweeps but once.
        with Sandbox() as other:
            Scene(other, busybox_root, str(tmp_path)).sh("true", pids=20)
    assert eventually(lambda: not groups(launcher))


def test_a_group_of_somebody_who_lives_is_not_swept() -> None:
    name = next(cgroups.names())
    place = cgroups.controllers()["pids"].directory
    os.mkdir(f"{place}/{name}")
    try:
        cgroups.sweep()
        assert os.path.isdir(f"{place}/{name}")
    finally:
        os.rmdir(f"{place}/{name}")
