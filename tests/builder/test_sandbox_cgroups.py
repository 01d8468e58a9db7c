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


# Where groups are made


def surroundings(tmp_path: Path, cgroup: str, mountinfo: str, **files: str) -> dict[str, tuple[str, int]]:
    """Return where groups would be made by these files of /proc/self, each place from `tmp_path` on. In
    `mountinfo`, AT is `tmp_path`. `files` have the controllers of groups of version 2, by path.
    """
    (tmp_path / "proc").mkdir(parents=True)
    (tmp_path / "proc/cgroup").write_text(cgroup)
    (tmp_path / "proc/mountinfo").write_text(mountinfo.replace("AT", str(tmp_path)))
    for path, words in files.items():
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        (tmp_path / path / "cgroup.controllers").write_text(words + "\n")
        for name in ("cgroup.procs", "cgroup.subtree_control"):
            (tmp_path / path / name).write_text("")
    found = cgroups.controllers(str(tmp_path / "proc"))
    return {
        name: (os.path.relpath(place.directory, tmp_path), place.version) for name, place in found.items()
    }


V2 = "30 23 0:26 / AT/cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
ALL = "cpuset cpu io memory pids"
SCOPE = "user.slice/user-1000.slice/user@1000.service/app.slice"


def test_version_2_beside_the_group_that_systemd_delegates(tmp_path: Path) -> None:
    """A user's service manager owns app.slice; pybuild runs in a scope within it, which has processes."""
    found = surroundings(
        tmp_path,
        f"0::/{SCOPE}/run-7.scope\n",
        V2,
        **{f"cg/{SCOPE}": "memory pids", f"cg/{SCOPE}/run-7.scope": "memory pids", "cg": ALL},
    )
    # cpu is not delegated: `usable` says so.
    assert found == {"memory": (f"cg/{SCOPE}", 2), "pids": (f"cg/{SCOPE}", 2)}
    assert cgroups.usable(str(tmp_path / "proc")) == {
        "memory": "",
        "cpu": "there is no such controller here",
        "pids": "",
    }


def test_version_2_in_the_kernels_root_group(tmp_path: Path) -> None:
    found = surroundings(tmp_path, "0::/\n", V2, cg=ALL)
    assert found == dict.fromkeys(("memory", "cpu", "pids"), ("cg", 2))
    (tmp_path / "cg/cgroup.procs").write_text("1\n")
    assert set(cgroups.usable(str(tmp_path / "proc")).values()) == {""}


def test_version_2_in_the_only_group_of_a_container(tmp_path: Path) -> None:
    """It looks like the root, but the kernel lets it have no children with controllers."""
    surroundings(tmp_path, "0::/\n", V2, cg=ALL)
    (tmp_path / "cg/cgroup.events").write_text("populated 1\n")
    (tmp_path / "cg/cgroup.procs").write_text("1\n")
    assert all("has processes in it" in why for why in cgroups.usable(str(tmp_path / "proc")).values())
    (tmp_path / "cg/cgroup.subtree_control").write_text("memory")
    assert cgroups.usable(str(tmp_path / "proc"))["memory"] == ""


def test_version_1_below_our_own_group_and_the_hybrid(tmp_path: Path) -> None:
    found = surroundings(
        tmp_path,
        "5:memory:/a/b\n4:cpu,cpuacct:/\n3:name=systemd:/x\n2:freezer:/\n0::/x\n",
        "31 1 0:1 / AT/memory rw - cgroup cgroup rw,memory\n"
        "32 1 0:2 / AT/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 1 0:3 / AT/freezer rw - cgroup cgroup rw,freezer\n"
        "34 1 0:4 / AT/unified rw - cgroup2 cgroup2 rw\n",
        unified="",
    )
    assert found == {"memory": ("memory/a/b", 1), "cpu": ("cpu,cpuacct", 1)}


def test_version_1_as_a_container_has_it(tmp_path: Path) -> None:
    """Its own group is bound there: the mount's root is that group, and its path has a blank in it."""
    found = surroundings(
        tmp_path,
        "5:memory:/docker/1\n4:pids:/docker/1/below\n3:cpu:/docker/12\n",
        "31 1 0:1 /docker/1 AT/my\\\\040memory rw - cgroup cgroup rw,memory\n"
        "32 1 0:2 /docker/1 AT/pids rw - cgroup cgroup rw,pids\n"
        "33 1 0:3 /docker/1 AT/cpu rw - cgroup cgroup rw,cpu\n".replace("\\\\", "\\"),
    )
    # Ours of cpu is another one than that which can be seen.
    assert found == {"memory": ("my memory", 1), "pids": ("pids/below", 1)}


def test_no_cgroups(tmp_path: Path) -> None:
    mountinfo = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    assert surroundings(tmp_path, "0::/\n", mountinfo) == {}
    assert len(set(cgroups.usable(str(tmp_path / "proc")).values())) == 1


def test_here_every_limit_can_be_had() -> None:
    assert cgroups.usable() == {"memory": "", "cpu": "", "pids": ""}
