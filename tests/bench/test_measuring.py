"""What is read from /proc, what is charged to a command, and the suite as a whole, in small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from bench import cgroup, command, mounts, processes
from bench.command import Command, CommandFailed
from bench.curves import CURVES
from bench.machine import file_system, processor
from bench.rounds import Effort, Subject, interleaved
from bench.workloads import WORKLOADS

_STAT = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 200 0 0 150 50 300 100 20 0 1 0 12345 1000 10 18446744\n"


def python(program: str) -> Command:
    return Command([sys.executable, "-I", "-c", program])


def test_a_stat_line_is_read_whatever_the_program_is_called() -> None:
    assert processes.parse_state(_STAT) == "S"


def test_the_proportional_set_size_is_in_bytes() -> None:
    assert processes.parse_pss("00400000-7fff ---p [rollup]\nRss:   2000 kB\nPss:   1234 kB\n") == 1234 * 1024
    assert processes.parse_pss("") == 0


def test_a_tree_has_a_process_and_its_descendants() -> None:
    with subprocess.Popen(["sh", "-c", "echo; sleep 60 & wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        assert command.wait_until(lambda: len(list(processes.tree([shell.pid]))) == 2, 30)
        pids = list(processes.tree([shell.pid]))
        assert pids[0] == shell.pid
        assert processes.memory_of_trees([shell.pid]) > 0
        for pid in pids:
            os.kill(pid, 9)


def test_a_process_that_is_gone_uses_nothing() -> None:
    done = subprocess.Popen(["true"])
    done.wait()
    assert processes.memory_of_trees([done.pid]) == 0


def test_cpu_stat_and_the_hierarchy_are_read() -> None:
    assert cgroup.parse_usage("usage_usec 1500000\nuser_usec 1\n") == 1.5
    assert cgroup.parse_usage("") is None
    mounted = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert cgroup.hierarchy(mounted) == "/sys/fs/cgroup/unified"
    assert cgroup.hierarchy("proc /proc proc rw 0 0\n") is None


_BUSY = "end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def test_processor_time_of_descendants_nobody_waits_for_is_counted(tmp_path: os.PathLike[str]) -> None:
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        + textwrap.indent(_BUSY + "os._exit(0)\n", "    ")
        + "os.close(write)\nos.read(read, 1)\n"
    )
    with cgroup.entered() as counted:
        sample = command.measured([python(program)], [], os.path.join(tmp_path, "log"))
    assert counted
    assert sample.cpu is not None
    assert sample.cpu >= 0.3


def test_what_a_daemon_does_meanwhile_is_counted(tmp_path: os.PathLike[str]) -> None:
    with (
        cgroup.entered(),
        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-c",
                f"import time\nwhile input():\n    {textwrap.indent(_BUSY, '    ')[4:]}    print(flush=True)",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as daemon,
    ):
        cgroup.move_daemon(daemon.pid)
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        before = cgroup.used(daemons=True)
        daemon.stdin.write("go\n")
        daemon.stdin.flush()
        daemon.stdout.readline()
        after = cgroup.used(daemons=True)
        daemon.kill()
    assert after is not None
    assert before is not None
    assert after - before >= 0.3


def test_peak_memory_is_that_of_all_processes_at_one_time(tmp_path: os.PathLike[str]) -> None:
    child = "import time; held = b'x' * (40 << 20); time.sleep(0.4)"
    parent = (
        "import subprocess, sys; held = b'x' * (20 << 20);"
        f" subprocess.run([sys.executable, '-I', '-c', '''{child}'''], check=True)"
    )
    peak = command.peak_memory([python(parent)], [], os.path.join(tmp_path, "log"))
    assert 60 << 20 <= peak < 140 << 20


def test_a_command_that_fails_says_what_it_said(tmp_path: os.PathLike[str]) -> None:
    failing = Command(["sh", "-c", "echo first; echo last >&2; exit 3"])
    with pytest.raises(CommandFailed, match=r"(?s)ended with 3.*first\nlast"):
        command.run(failing, os.path.join(tmp_path, "log"))


def test_runs_are_interleaved_and_prepared_and_a_failure_takes_only_its_subject_out(
    tmp_path: os.PathLike[str],
) -> None:
    order: list[str] = []

    def subject(name: str, program: str) -> Subject:
        return Subject(name, "peer", lambda run: [Command([program])], lambda run: order.append(name))

    subjects = [subject("a", "true"), subject("b", "true"), subject("c", "false")]
    effort = Effort(rounds=3, budget=60)
    found = interleaved(subjects, effort, os.path.join(tmp_path, "log"), lambda line: None)
    assert order == ["a", "b", "c", "b", "a", "a", "b", "a", "b"]
    assert [len(one.samples) for one in found] == [3, 3, 0]
    assert [one.peak is not None for one in found] == [True, True, False]
    assert found[2].failure is not None
    assert "`false` ended with 1" in found[2].failure


def test_the_processor_and_the_file_system_are_named() -> None:
    assert processor("processor : 0\nmodel name\t: A Chip\nmodel name : B\n") == "A Chip"
    assert processor("") == "unknown processor"
    mountinfo = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:5 / /tmp rw shared:1 - tmpfs tmpfs rw\n"
        "3 1 0:6 / /tmpfoo rw - xfs /dev/sdb rw\n"
    )
    assert file_system(mountinfo, "/tmp/x") == "tmpfs"
    assert file_system(mountinfo, "/tmpx") == "ext4"
    assert file_system("1 0 7:1 / / rw - ext4 /dev/loop3 rw\n", "/x") == "ext4, new, in a file"


def test_mounts_below_a_directory_are_named_newest_first() -> None:
    mountinfo = (
        "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 / /d/x rw - ext4 a rw\n"
        "3 2 8:1 / /d/x/y\\040z rw - ext4 a rw\n4 1 8:1 / /dd rw - ext4 a rw\n"
    )
    assert mounts.below(mountinfo, "/d") == ["/d/x/y z", "/d/x"]


def test_every_workload_has_a_name_of_its_own_and_a_goal() -> None:
    names = [one.name for one in WORKLOADS]
    assert len(set(names)) == len(names)
    assert all(one.goals and one.title for one in WORKLOADS)
    assert len({curve.name for curve in CURVES}) == len(CURVES)


def own_mounts() -> str:
    with open("/proc/self/mountinfo") as file:
        return file.read()


def suite(checkout: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.peer("buildah")
@pytest.mark.peer("umoci")
@pytest.mark.peer("skopeo")
def test_the_suite_measures_and_reports_and_leaves_nothing(
    tmp_path: os.PathLike[str], checkout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, to = os.path.join(tmp_path, "tmp"), os.path.join(tmp_path, "results")
    os.mkdir(temporary)
    monkeypatch.setenv("TMPDIR", temporary)
    before = own_mounts()
    words = ["--runs", "1", "--scale", "0.01", "--no-plots", "--peer", "buildah", "--results", to]
    for workload in ("no-op", "copy-cold"):
        words += ["--workload", workload]
    suite(checkout, "bench.run", *words)
    with open(os.path.join(to, "results.json")) as file:
        document = json.load(file)
    for workload in document["workloads"]:
        assert workload["failure"] is None
        peers = [one for one in workload["series"] if one["kind"] != "floor"]
        assert [one["name"] for one in peers] == ["pybuild", "buildah"]
        for one in workload["series"]:
            assert one["failure"] is None
            assert len(one["wall_seconds"]) == len(one["cpu_seconds"]) == 1
        assert all(one["peak_bytes"] > 1 << 20 for one in peers)
    with open(os.path.join(to, "RESULTS.md")) as file:
        assert "× buildah" in file.read()
    assert os.listdir(temporary) == []
    assert own_mounts() == before
    compared = suite(
        checkout, "bench.compare", os.path.join(to, "results.json"), os.path.join(to, "results.json")
    )
    assert compared.count("| 1.00 | 1.00 | 1.00 | 1.00 |") == 2
