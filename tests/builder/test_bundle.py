"""`pybuild bundle` and `run --runtime`: runc and crun run an image as pybuild does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.sandbox_fixtures.scene import mount_table, processes

SHOW = """\
id; echo $A $PWD $HOME; umask
grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status
for path in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper; do
  (echo x > $path) 2> /dev/null && echo wrote $path
done
cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l
unshare -U true 2> /dev/null || echo no user namespace
mknod /dev/disk b 254 0 && { cat /dev/disk > /dev/null 2>&1 || echo no disk; }
exit 4
"""


def runtime(name: str, pybuild: Pybuild, bundle: str) -> subprocess.CompletedProcess[str]:
    argv = [name, "--root", f"{pybuild.cwd}/state", "run", "--bundle", bundle, f"pybuild-test-{os.getpid()}"]
    if name == "crun":  # refuses the two versions of cgroups beside each other that this host may have
        argv.insert(1, "--cgroup-manager=disabled")
        unified = "/sys/fs/cgroup/unified"
        mount = f"mount --bind {unified} /sys/fs/cgroup; " if os.path.isdir(unified) else ""
        argv = ["unshare", "-m", "--propagation=private", "sh", "-c", f'{mount}exec "$@"', "-", *argv]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def bundle(pybuild: Pybuild) -> str:
    """The bundle of an image that shows what it may."""
    pybuild.write("show", SHOW, 0o755)
    recipe = 'FROM box\nENV A=b\nWORKDIR /srv\nCOPY show /show\nCMD ["sh", "/show"]\n'
    pybuild.build(recipe, "-t", "app")
    pybuild("bundle", "app", "bundle")
    return f"{pybuild.cwd}/bundle"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.peer(name)) for name in ("runc", "crun")]
)
def test_a_runtime_runs_it_as_pybuild_does(pybuild: Pybuild, bundle: str, name: str) -> None:
    ours = pybuild.try_("run", "--rm", "app")
    theirs = runtime(name, pybuild, bundle)
    assert (ours.code, theirs.returncode) == (4, 4), theirs.stderr
    dropped = {"no disk"} if name == "crun" else set()  # without cgroups, it keeps no device away
    assert set(theirs.stdout.splitlines()) | dropped == set(ours.out.splitlines()) | dropped


@pytest.mark.peer("runc")
def test_options_get_there(pybuild: Pybuild) -> None:
    pybuild.write("file", "data\n")
    options = (
        "-u",
        "app",
        "-e",
        "X=y",
        "-w",
        "/mnt",
        "--ulimit",
        "nofile=100",
        "--read-only",
        "--cap-drop=ALL",
    )
    mounts = ("-v", "./file:/mnt/file:ro", "--tmpfs", "/scratch:size=1m", "--hostname", "here")
    script = "id -u; echo $X $PWD; ulimit -n; cat file; touch /scratch/x && echo wrote; touch /no; hostname"
    pybuild("bundle", *options, *mounts, "box", "bundle", "sh", "-c", script)
    done = runtime("runc", pybuild, f"{pybuild.cwd}/bundle")
    assert done.stdout == "1000\ny /mnt\n100\ndata\nwrote\nhere\n"
    assert "Read-only file system" in done.stderr


def test_it_is_a_document_of_the_specification(bundle: str) -> None:
    with open(f"{bundle}/config.json") as file:
        config = json.load(file)
    assert config["ociVersion"].startswith("1.")
    assert config["root"] == {"path": "rootfs", "readonly": False}
    assert config["process"]["args"] == ["sh", "/show"]
    assert os.path.isfile(f"{bundle}/rootfs/show")
    names = {name for rule in config["linux"]["seccomp"]["syscalls"] for name in rule["names"]}
    assert {"read", "execve", "clone"} < names
    assert "mount" not in names


def test_nothing_is_overwritten(pybuild: Pybuild, bundle: str) -> None:
    done = pybuild.try_("bundle", "app", "bundle")
    assert (done.code, "[usage/write]" in done.err) == (2, True)


@pytest.mark.peer("runc")
def test_run_by_runc(pybuild: Pybuild) -> None:
    before = mount_table()
    done = pybuild.try_(
        "run", "--name", "c", "--runtime", "runc", "box", "sh", "-c", "echo x > /x; cat /x; exit 3"
    )
    assert (done.code, done.out) == (3, "x\n"), done.err
    assert pybuild("diff", "c") == "A /x\n"
    assert mount_table() == before
    assert "[run/runtime]" in pybuild.try_("run", "--runtime", "runc", "-d", "box").err


@pytest.mark.peer("runc")
def test_nothing_of_runc_outlives_pybuild(pybuild: Pybuild) -> None:
    process = pybuild.start("run", "--rm", "--runtime", "runc", "box", "sh", "-c", "echo up; sleep 98767")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    end = time.monotonic() + 20
    while processes("98767"):
        assert time.monotonic() < end
    pybuild("run", "--rm", "--runtime", "runc", "box", "true")
    found = [
        each for each, names, _ in os.walk("/sys/fs/cgroup") for name in names if f"-{process.pid}-" in name
    ]
    assert found == []


@pytest.mark.peer("runc")
def test_stop_reaches_what_runc_runs(pybuild: Pybuild) -> None:
    script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"
    process = pybuild.start("run", "--name", "c", "--runtime", "runc", "box", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    pybuild("stop", "c")
    process.communicate(timeout=20)
    assert process.returncode == 3
    assert pybuild("wait", "c") == "3\n"
