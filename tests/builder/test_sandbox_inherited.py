"""A command is the same whoever starts pybuild: what its process inherits is put right. Needs root,
busybox.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import rootfs
from tests.sandbox_fixtures.scene import USR, Scene

pytestmark = [pytest.mark.peer("busybox"), pytest.mark.peer("perl")]

NONE = resource.RLIM_INFINITY
WANTED = {
    "Max cpu time": (NONE, NONE),
    "Max file size": (NONE, NONE),
    "Max data size": (NONE, NONE),
    "Max stack size": (8 << 20, NONE),
    "Max resident set": (NONE, NONE),
    "Max processes": (NONE, NONE),
    "Max open files": (1024, 524288),
    "Max locked memory": (8 << 20, 8 << 20),
    "Max address space": (NONE, NONE),
    "Max msgqueue size": (819200, 819200),
    "Max nice priority": (0, 0),
    "Max realtime priority": (0, 0),
    "Max realtime timeout": (NONE, NONE),
    "Max core file size": (1, 1),
}
NUMBERS = {
    "Max cpu time": resource.RLIMIT_CPU,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max data size": resource.RLIMIT_DATA,
    "Max stack size": resource.RLIMIT_STACK,
    "Max resident set": resource.RLIMIT_RSS,
    "Max processes": resource.RLIMIT_NPROC,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
    "Max address space": resource.RLIMIT_AS,
    "Max msgqueue size": resource.RLIMIT_MSGQUEUE,
    "Max nice priority": resource.RLIMIT_NICE,
    "Max realtime priority": resource.RLIMIT_RTPRIO,
    "Max realtime timeout": resource.RLIMIT_RTTIME,
    "Max core file size": resource.RLIMIT_CORE,
}
SYS_RESOURCE = 24
"""The capability that can raise hard limits (linux/capability.h). Not every root has it."""

CHILD = """
import json, sys
from builder.executor import ExecRequest
from builder.sandbox import Sandbox
base, script = sys.argv[1:]
out = []
request = ExecRequest(("sh", "-c", script), lower=(base,), env=(("PATH", "/bin"),))
with Sandbox() as sandbox:
    result = sandbox.run(request, lambda stream, data: out.append(data.decode()))
print(json.dumps([result.status, "".join(out)]))
"""


def seen(base: str, script: str, before: Callable[[], None]) -> str:
    """Return what a script prints in the sandbox of a process that has done `before`."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, base, script], preexec_fn=before, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    status, output = json.loads(done.stdout)
    assert status == 0, output
    return str(output)


def void(_: object) -> None:
    """Return nothing, whatever the argument did."""


def limits_of(text: str) -> dict[str, tuple[int, int]]:
    """Return the limits in the text of a /proc/PID/limits."""

    def number(word: str) -> int:
        return NONE if word == "unlimited" else int(word)

    rows = [line for line in text.splitlines() if line.startswith("Max ")]
    return {row[:26].strip(): (number(row[26:47].strip()), number(row[47:68].strip())) for row in rows}


def attainable(name: str, hard_before: int) -> tuple[int, int]:
    """Return the limit that can be had: without the capability, no hard limit is raised."""
    soft, hard = WANTED[name]
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line)
    raises = int(effective.split()[1], 16) >> SYS_RESOURCE & 1
    if raises or hard_before == NONE or (hard != NONE and hard <= hard_before):
        return soft, hard
    return (hard_before if soft == NONE else min(soft, hard_before)), hard_before


def test_the_limits_are_those_that_are_documented(scene: Scene) -> None:
    found = limits_of(scene.run("cat", "/proc/self/limits").stdout)
    for name in WANTED:
        assert found[name] == attainable(name, resource.getrlimit(NUMBERS[name])[1]), name


def test_soft_limits_of_the_caller_are_not_the_commands(busybox_root: str) -> None:
    odd = {
        "Max file size": 1 << 20,
        "Max open files": 250,
        "Max stack size": 1 << 20,
        "Max cpu time": 1000,
        "Max data size": 1 << 30,
        "Max processes": 500,
        "Max locked memory": 4096,
        "Max address space": 4 << 30,
    }

    def before() -> None:
        for name, soft in odd.items():
            resource.setrlimit(NUMBERS[name], (soft, resource.getrlimit(NUMBERS[name])[1]))

    found = limits_of(seen(busybox_root, "cat /proc/self/limits", before))
    for name in WANTED:
        assert found[name] == attainable(name, resource.getrlimit(NUMBERS[name])[1]), name


def test_hard_limits_of_the_caller_are_raised_where_it_may(busybox_root: str) -> None:
    def before() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, 600))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 31))

    found = limits_of(seen(busybox_root, "cat /proc/self/limits", before))
    assert found["Max open files"] == attainable("Max open files", 600)
    assert found["Max file size"] == attainable("Max file size", 1 << 31)


def test_a_limit_that_is_asked_for_is_in_place_of_the_default(scene: Scene) -> None:
    rlimits = (("nofile", 100, 200), ("stack", 1 << 20, 1 << 21))
    found = limits_of(scene.run("cat", "/proc/self/limits", rlimits=rlimits).stdout)
    assert (found["Max open files"], found["Max stack size"]) == ((100, 200), (1 << 20, 1 << 21))


def test_nothing_of_a_process_gets_into_a_core(scene: Scene) -> None:
    """core_pattern may name a program, which the kernel runs on the host whatever the limit, but for 1. Where
    a program lowers it, there is no memory in what it would get.
    """
    script = "cat /proc/self/coredump_filter; grep core /proc/self/limits"
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    for rlimits in ((), (("core", 0, 0),)):
        mask, limit = scene.sh(script, rlimits=rlimits).lines
        assert int(mask, 16) == 0
        assert limits_of(limit)["Max core file size"] == attainable("Max core file size", hard)
    assert scene.sh("sh -c 'kill -SEGV $$'; ls /", rlimits=()).written == []


def test_cores_that_are_asked_for_are_whole(scene: Scene) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = hard if hard > 0 else 0
    outcome = scene.run(
        "cat", "/proc/self/coredump_filter", rlimits=(("core", limit, -1 if hard < 0 else hard),)
    )
    assert (int(outcome.stdout, 16) == 0) == (hard == 0)


def test_signals_are_neither_ignored_nor_blocked(busybox_root: str) -> None:
    odd = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE, signal.SIGCHLD, signal.SIGQUIT)
    libc = ctypes.CDLL(None)
    sigaction = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
    ignore = struct.pack("4Q", 1, 0, 0, 0)

    def before() -> None:
        for number in (32, 33):  # glibc's own, which it does not let anybody set
            assert libc.syscall(sigaction, number, ignore, None, 8) == 0
        for number in odd:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM, signal.SIGRTMIN + 3})

    lines = seen(busybox_root, "exec cat /proc/self/status", before).splitlines()
    assert {line for line in lines if line.startswith(("SigBlk", "SigIgn"))} == {
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
    }


def test_the_umask_is_022(busybox_root: str) -> None:
    assert seen(busybox_root, "umask", lambda: void(os.umask(0o077))) == "0022\n"


@pytest.mark.parametrize("persona", [0x0040000, 0x0000008, 0x0200000])
def test_the_personality_is_linuxs(busybox_root: str, persona: int) -> None:
    """setarch(8): without randomisation, as a 32-bit machine, with another layout of memory."""
    libc = ctypes.CDLL(None)
    personality = seen(
        busybox_root, "cat /proc/self/personality; uname -m", lambda: libc.personality(persona)
    )
    assert personality.split() == ["00000000", os.uname().machine]


def test_the_surroundings_say_nothing_of_the_caller(busybox_root: str) -> None:
    assert "PYBUILD_SEEN" not in seen(busybox_root, "env", lambda: os.environ.update(PYBUILD_SEEN="1"))
    script = "ls /proc/self/fd; cut -d' ' -f7 /proc/self/stat"
    # Its three, and that of the directory which ls reads. No terminal controls it.
    assert seen(busybox_root, script, lambda: None).split() == ["0", "1", "2", "3", "0"]


def test_how_much_of_the_host_it_may_have_is_for_the_caller_to_say(busybox_root: str) -> None:
    (cpu, *_) = sorted(os.sched_getaffinity(0))

    def before() -> None:
        os.nice(7)
        os.sched_setaffinity(0, {cpu})

    script = "nproc; cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj"
    assert seen(busybox_root, script, before).split() == ["1", str(os.nice(0) + 7), "0"]


def test_the_oom_score_is_kept_where_it_protects_others(busybox_root: str) -> None:
    def before() -> None:
        Path("/proc/self/oom_score_adj").write_text("500")

    assert seen(busybox_root, "cat /proc/self/oom_score_adj", before) == "500\n"


# What Docker gives


def test_shm_and_mqueue_are_its_own(scene: Scene) -> None:
    outcome = scene.sh(
        "echo x > /dev/shm/mine; grep -E ' /dev/(shm|mqueue) ' /proc/self/mounts; ls /dev/mqueue"
    )
    shm, mqueue = sorted(outcome.lines, key=lambda line: "mqueue" in line)
    assert {"rw", "nosuid", "nodev", "noexec", "size=65536k"} <= set(shm.split()[3].split(","))
    assert shm.split()[2] == "tmpfs"
    assert mqueue.split()[2] == "mqueue"
    assert not os.path.exists("/dev/shm/mine")
    assert scene.sh("ls /dev/shm").stdout == ""
    modes = scene.run("stat", "-c", "%a", "/dev/shm", "/dev/mqueue").lines
    assert modes == ["1777", "1777"]


@pytest.mark.parametrize("path", rootfs.MASKED)
def test_masked_paths_are_empty(scene: Scene, path: str) -> None:
    outcome = scene.sh(f"test -e /{path} || exit 0; test -d /{path} && ls -A /{path} || cat /{path}")
    assert (outcome.status, outcome.stdout) == (0, "")


@pytest.mark.parametrize("path", [*rootfs.UNWRITABLE, "sys"])
def test_what_is_not_to_be_written_is_read_only(scene: Scene, path: str) -> None:
    lines = scene.run("cat", "/proc/self/mounts").lines
    found = [line.split()[3].split(",") for line in lines if line.split()[1] == f"/{path}"]
    assert len(found) == os.path.exists(f"/{path}")  # some kernels lack sysrq-trigger
    assert all({"ro", "nosuid", "nodev", "noexec"} <= set(options) for options in found)


def test_the_heat_of_every_processor_is_masked_where_it_can_be_read(tmp_path: Path) -> None:
    """On a tree like that of a machine which has it; a virtual one has not."""
    cpu = tmp_path / "sys/devices/system/cpu"
    for name in ("cpu0/thermal_throttle", "cpu12/thermal_throttle", "cpufreq", "cpuidle"):
        (cpu / name).mkdir(parents=True)
    root = os.open(tmp_path, os.O_PATH)
    try:
        found = {f"sys/devices/system/cpu/cpu{n}/thermal_throttle" for n in (0, 12)}
        assert set(rootfs._throttles(root)) == found
        (cpu / "cpu0/thermal_throttle").rmdir()
        assert rootfs._throttles(root) == []
    finally:
        os.close(root)


def test_securebits_and_keyrings(scene: Scene) -> None:
    """PR_GET_SECUREBITS is 27; request_key and add_key are refused, so that no keyring can be reached."""
    prctl, add_key = {"x86_64": (157, 248), "aarch64": (167, 217)}[os.uname().machine]
    script = f"print syscall({prctl}, 27, 0, 0, 0, 0), ' ', syscall({add_key}, 0, 0, 0, 0, 0) < 0 ? $!+0 : 0"
    assert scene.perl(script, mounts=(USR,)[:0]).stdout == "0 1"
