"""Limits of what a build may take: they end it or its command, the error says which one did, and nothing is
left. Needs root, busybox and cgroups that can be written.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.config import Config
from builder.errors import StepFailed, UsageError
from builder.events import StepFinished
from builder.limits import Limits, add_options, duration, limits, memory
from grammar.durations import parse_duration
from tests.build_fixtures.project import Project
from tests.command_fixtures.pybuild import ARGV, Pybuild
from tests.sandbox_fixtures.scene import mount_table, processes

pytestmark = pytest.mark.peer("busybox")

GIT = "FROM scratch\nADD git://{0}/repository.git /\n"
EATS = "sort /dev/zero"
"""A command that takes all memory it can get, and at once."""
FORKS = "for i in 1 2 3 4 5 6 7 8 9; do sleep 3141 & done; wait"


def failing(project: Project, text: str, *options: str) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        project.build(text, *options)
    assert caught.value.exit_code == 1
    return caught.value


# Of a command


@pytest.mark.parametrize(
    ("keyword", "noun"), [("RUN --timeout=300ms", "the command"), ("TEST --timeout=300ms", "the test")]
)
def test_what_takes_longer_than_its_line_allows_is_killed(project: Project, keyword: str, noun: str) -> None:
    error = failing(project, f"FROM base\n{keyword} sleep 31415 & sleep 31416\n")
    assert error.code == "step/timeout"
    assert error.message.startswith(f"{noun} timed out after 300ms ({keyword.split()[0]} --timeout): ")
    assert (error.status, error.limit) == (137, "timeout")
    assert error.span is not None
    assert error.span.line == 2
    assert processes("3141") == []
    assert project.unsound() == []


def test_a_suite_that_takes_too_long_is_killed(project: Project) -> None:
    project.write("t/test_slow.py", "def test_it(host):\n    host.run('sleep 31417')\n")
    error = failing(project, "FROM base\nTEST --timeout=3s --testinfra=t/test_slow.py\n")
    assert (error.code, error.limit) == ("step/timeout", "timeout")
    assert "the suite timed out after 3s (TEST --timeout): " in error.message
    assert processes("31417") == []


def test_more_memory_than_it_may_have(project: Project) -> None:
    error = failing(project, f"FROM base\nRUN {EATS}\n", "--memory=64m")
    assert (error.code, error.status, error.limit) == ("step/memory", 137, "memory")
    assert error.message == f"the command was killed: it used more than --memory 64m: RUN {EATS}"
    error = failing(project, f"FROM base\nTEST {EATS} || exit 7\n", "-m", "65536k")
    assert (error.code, error.status, error.limit) == ("step/memory", 7, "memory")
    assert "failed with exit code 7, and processes of it were killed: it used more than" in error.message
    assert project.unsound() == []


def test_more_processes_than_it_may_have(project: Project) -> None:
    error = failing(project, f"FROM base\nRUN {FORKS}\n", "--pids-limit=5")
    assert (error.code, error.limit) == ("step/pids", "pids")
    assert "more processes and threads than --pids-limit 5: RUN for" in error.message


def test_of_a_limit_that_a_command_got_over_nothing_is_said(project: Project) -> None:
    outcome = project.build(f"FROM base\nRUN {EATS} || echo survived > /it\n", "--memory=64m")
    assert project.read(outcome, "it") == b"survived\n"
    assert all(event.limit == "" for event in outcome.events if isinstance(event, StepFinished))


def test_a_failure_within_the_limits_is_as_ever(project: Project) -> None:
    error = failing(project, "FROM base\nRUN --timeout=1h exit 3\n", "--memory=1g", "--pids-limit=100")
    assert (error.code, error.message, error.limit) == (
        "step/failed",
        "the command failed with exit code 3: RUN --timeout=1h exit 3",
        "",
    )


def test_packages_have_the_limits_too(project: Project) -> None:
    """A package manager that is none: what counts is what becomes of it."""
    project.write("apt-get", f"#!/bin/sh\n{EATS}\n", mode=0o755)
    for name in ("dpkg-query", "apt-mark"):
        project.write(name, "#!/bin/sh\n", mode=0o755)
    text = "FROM base\nCOPY apt-get dpkg-query apt-mark /bin/\nPACKAGES apt hello\n"
    assert failing(project, text, "--memory=64m").code == "step/memory"


def test_a_suite_has_the_limits_too(project: Project) -> None:
    suite = f"def test_it(host):\n    assert host.run({EATS!r}).rc == 137\n"
    project.write("t/test_memory.py", suite)
    project.build("FROM base\nTEST --testinfra=t/test_memory.py\n", "--memory=64m")


def test_processors_are_limited(project: Project) -> None:
    """What the kernel is told is for test_sandbox_cgroups.py; here, that it is told."""
    seen = project.build("FROM base\nRUN cat /proc/self/cgroup\n", "--cpus=0.5").output
    assert "pybuild-" in seen
    assert "pybuild-" not in project.build("FROM base\nRUN cat /proc/self/cgroup; :\n").output


def test_limits_are_in_no_key(project: Project) -> None:
    text = "FROM base\nRUN {} echo made > /it\nTEST {} true\n"
    first = project.build(text.format("", ""))
    again = project.build(
        text.format("--timeout=5m", "--timeout=1m"), "--memory=1g", "--cpus=2", "--pids-limit=99"
    )
    assert again.outcomes == ["cached", "cached"]
    assert again.built.image_id == first.built.image_id


def test_what_was_killed_is_run_again(project: Project) -> None:
    text = "FROM base\nRUN --timeout={} sleep 0.5; echo made > /it\n"
    failing(project, text.format("100ms"))
    assert project.build(text.format("1h")).outcomes == ["ran"]


# Of a build


def test_a_build_that_takes_too_long_ends_and_leaves_nothing(project: Project) -> None:
    project.build("FROM base\n")
    recipe = project.recipe(
        "FROM ../base/base.rec AS one\nRUN sleep 31418 & sleep 31418\nFROM base\nCOPY --from=one / /\n"
    )
    done = project.command("build", recipe, "-t", "late", "--timeout=2500ms", "--progress=plain")
    assert done.returncode == 1, done.stderr
    assert "error: the build timed out after 2s500ms (--timeout) [build/timeout]" in done.stderr
    assert f"hint: it was at RUN sleep 31418 & sleep 31418 ({recipe}:2)" in done.stderr
    assert processes("3141") == []
    assert project.directory not in mount_table()
    assert project.unsound() == []
    assert project.command("images", "-q").stdout == ""


def test_every_stage_that_runs_then_is_named(project: Project) -> None:
    project.build("FROM base\n")  # so that nothing but the two is left to do
    stages = "".join(f"FROM ../base/base.rec AS s{n}\nRUN sleep 3142{n}\n" for n in (1, 2))
    recipe = project.recipe(stages + "FROM base\nCOPY --from=s1 / /\nCOPY --from=s2 / /\n")
    done = project.command("build", recipe, "--timeout=4s", "--progress=json", "-j2")
    assert done.returncode == 1, done.stderr
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["event"], last["code"], last["exit_code"]) == ("build_failed", "build/timeout", 1)
    assert last["hint"].count("RUN sleep 3142") == 2
    assert processes("3142") == []
    assert project.unsound() == []


@pytest.mark.parametrize("text", ["FROM {0}/nothing:1\n", "FROM scratch\nADD http://{0}/file /\n", GIT])
@pytest.mark.parametrize("command", ["build", "verify", "lock"])
def test_a_download_that_never_comes_is_given_up(project: Project, text: str, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        recipe = project.recipe(text.format(f"127.0.0.1:{server.getsockname()[1]}"))
        done = project.command(command, recipe, "--timeout=1")
    assert done.returncode == 1, done.stderr
    assert "the build timed out after 1s (--timeout) [build/timeout]" in done.stderr
    assert "Traceback" not in done.stderr
    assert ("hint: it was at ADD " in done.stderr) == ("ADD" in text and command == "build")
    assert os.listdir(os.path.join(project.store_root, "tmp")) == []


def test_a_build_in_time_is_as_ever(project: Project) -> None:
    recipe = project.recipe("FROM base\nRUN sleep 0.2\n")
    done = project.command("build", recipe, "--timeout=10m", "-q")
    assert (done.returncode, done.stdout[:7]) == (0, "sha256:")


# What is asked for


def asked(*words: str, **configured: str) -> Limits:
    parser = argparse.ArgumentParser()
    add_options(parser, of="it", timeout="time")
    return limits(parser.parse_args(words), Config(**configured))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (("-m", "64m"), "memory", 64 << 20),
        (("--memory=2g",), "memory", 2 << 30),
        (("--memory=100b",), "memory", 100),
        (("--memory=0",), "memory", None),
        (("--cpus=1.5",), "cpus", 1.5),
        (("--cpus=0",), "cpus", None),
        (("--pids-limit=10",), "pids", 10),
        (("--pids-limit=-1",), "pids", None),
        (("--timeout=90",), "timeout", 90),
        (("--timeout=1m30s",), "timeout", 90),
        (("--timeout=0",), "timeout", None),
    ],
)
def test_options_as_docker_and_podman_spell_them(words: tuple[str, ...], field: str, value: object) -> None:
    assert getattr(asked(*words), field) == value


@pytest.mark.parametrize(
    "word",
    [
        *("--memory=", "--memory=much", "--memory=-1", "--cpus=-1", "--cpus=nan", "--cpus=inf", "--cpus=x"),
        *(
            "--pids-limit=-2",
            "--pids-limit=1.5",
            "--pids-limit=9999999999",
            "--timeout=-1s",
            "--timeout=soon",
        ),
    ],
)
def test_nonsense_is_refused(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked(word)
    assert caught.value.code == "usage/value"
    assert word.partition("=")[0] in caught.value.message


def test_the_command_line_outweighs_the_configuration() -> None:
    configured = {"memory": "1g", "cpus": "2", "pids": "7", "timeout": "1h"}
    assert asked(**configured) == Limits(1 << 30, 2.0, 7, 3600)
    words = ("--memory=0", "--cpus=1", "--pids-limit=0", "--timeout=5m")
    assert asked(*words, **configured) == Limits(None, 1.0, None, 300)


def test_the_configuration_limits_a_build(project: Project) -> None:
    Path(project.context, "pybuild.toml").write_text('[limits]\nmemory = "64m"\n')
    recipe = project.recipe(f"FROM base\nRUN {EATS}\n")
    done = project.command("build", recipe)
    assert done.returncode == 1
    assert "[step/memory]" in done.stderr
    events = project.command("build", recipe, "--progress=json").stderr.splitlines()
    (failed,) = [each for each in map(json.loads, events) if each.get("outcome") == "failed"]
    assert (failed["limit"], failed["status"]) == ("memory", 137)


@given(st.integers(0, 10**15))
def test_durations_are_written_as_they_are_read(time: int) -> None:
    assert parse_duration(duration(time / 1e9)) == round(time / 1e9 * 1e9)


@pytest.mark.parametrize("text", ["1b", "100b", "1k", "1023k", "64m", "1536m", "2g"])
def test_sizes_are_written_as_they_are_read(text: str) -> None:
    assert memory(asked("-m", text).memory) == text


# Where limits cannot be had


def test_without_cgroups_a_limit_is_an_error_and_no_limit_is_none(project: Project) -> None:
    recipe = project.recipe("FROM base\nRUN --timeout=1h true\n")

    def build(*options: str) -> subprocess.CompletedProcess[str]:
        command = shlex.join([*ARGV, "build", recipe, *options])
        hidden = "while umount -R /sys/fs/cgroup 2>/dev/null; do :; done; exec " + command
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", hidden],
            env=project.environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    done = build("--memory=1g")
    assert done.returncode == 4, done.stderr
    assert "error: steps cannot be limited (memory): there is no such controller here" in done.stderr
    assert "[host/cgroups]" in done.stderr
    assert build().returncode == 0


# Containers


@pytest.mark.parametrize(
    ("options", "command", "told"),
    [
        (
            ("-m", "64m"),
            "dd if=/dev/zero of=/dev/null bs=200M count=1",
            "the container was killed: it used more than --memory 64m",
        ),
        (("--timeout", "1"), "sleep 31423", "the container was killed: it ran longer than --timeout 1s"),
    ],
)
def test_a_container_that_a_limit_kills(
    pybuild: Pybuild, options: tuple[str, ...], command: str, told: str
) -> None:
    done = pybuild.try_("run", "--rm", *options, "box", "sh", "-c", f"{command}; exit $?")
    assert done.code == 137
    assert done.err.splitlines()[-1] == f"pybuild: {told}"
    assert processes("31423") == []


# no_new_privs


def test_setuid_programs_gain_nothing_where_it_is_asked(project: Project) -> None:
    flag = "sed -n 's/NoNewPrivs:.//p' /proc/self/status"
    text = f"FROM base\nRUN {flag}\nTEST {flag}\n"
    option = "--security-opt=no-new-privileges"
    assert project.build(text).output.split() == ["0", "0"]
    assert project.build(text, option).output.split() == ["1", "1"]
    assert project.build(text, option).outcomes == ["cached", "cached"]
    assert project.build(text).outcomes == ["cached", "cached"]
    assert project.build(text, "--security-opt", "no-new-privileges=false").outcomes == ["cached", "cached"]
    with pytest.raises(UsageError):
        project.build(text, "--security-opt=seccomp=unconfined")


def test_no_new_privileges_by_configuration(project: Project) -> None:
    Path(project.context, "pybuild.toml").write_text("no-new-privileges = true\n")
    recipe = project.recipe("FROM base\nRUN sed -n '/NoNew/p' /proc/self/status\n")
    assert "NoNewPrivs:\t1" in project.command("build", recipe, "--progress=plain").stderr


def test_no_new_privileges_of_a_container(pybuild: Pybuild) -> None:
    words = ("box", "grep", "NoNewPrivs", "/proc/self/status")
    assert pybuild("run", "--rm", *words) == "NoNewPrivs:\t0\n"
    assert pybuild("run", "--rm", "--security-opt", "no-new-privileges:true", *words) == "NoNewPrivs:\t1\n"
