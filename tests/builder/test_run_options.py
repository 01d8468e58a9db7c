"""What the command line asks for all commands: network, hosts, limits, privileges; and what `plan` makes
of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from builder.asked import extra_host, ulimit
from builder.errors import PlanError, UsageError
from tests.build_fixtures.project import Project

LINKS = "ls /sys/class/net | wc -l"
CAPABILITIES = "sed -n 's/CapEff:.//p' /proc/self/status"


# Network


@pytest.mark.parametrize(
    ("option", "flag", "isolated"),
    [
        ((), "", False),
        ((), "--network=none", True),
        (("--network=none",), "", True),
        (("--network=none",), "--network=default", True),
        (("--network=none",), "--network=host", False),
        (("--network=host",), "--network=none", True),
        (("--network=default",), "", False),
    ],
)
def test_the_network_of_a_step(project: Project, option: tuple[str, ...], flag: str, isolated: bool) -> None:
    outcome = project.build(f"FROM base\nRUN {flag} readlink /proc/self/ns/net > /seen\n", *option)
    host = os.readlink("/proc/self/ns/net")
    assert (project.read(outcome, "seen").decode().strip() != host) == isolated


def test_the_network_is_asked_for_all_recipes_and_tests(project: Project) -> None:
    project.write("other/o.rec", "FROM ../../base/base.rec\nRUN readlink /proc/self/ns/net\n")
    outcome = project.build(
        "FROM ./other/o.rec\nRUN readlink /proc/self/ns/net\nTEST readlink /proc/self/ns/net\n",
        "--network=none",
    )
    seen = outcome.output.split()
    assert len(seen) == 3
    assert os.readlink("/proc/self/ns/net") not in seen


def test_without_a_network_the_key_is_that_of_the_flag(project: Project) -> None:
    project.build("FROM base\nRUN --network=none true\nRUN true\n")
    assert project.build("FROM base\nRUN true\nRUN true\n", "--network=none").outcomes == ["cached", "same"]
    assert project.build("FROM base\nRUN true\nRUN true\n", "--network=host").outcomes == ["same", "cached"]


# Privileges


def test_insecure_needs_to_be_allowed_and_has_all_privileges(project: Project) -> None:
    text = f"FROM base\nRUN --security=insecure {CAPABILITIES}; test -e /dev/kmsg\nRUN {CAPABILITIES}\n"
    with pytest.raises(PlanError) as caught:
        project.build(text)
    assert caught.value.code == "run/insecure"
    assert "--allow security.insecure" in (caught.value.hint or "")
    outcome = project.build(text, "--allow=security.insecure")
    every, few = (int(word, 16) for word in outcome.output.split())
    assert every.bit_count() >= 38
    assert few.bit_count() == 14
    with pytest.raises(PlanError):
        project.build(text)


def test_security_sandbox_is_what_there_is_without_it(project: Project) -> None:
    assert project.build(f"FROM base\nRUN {CAPABILITIES}\n").outcomes == ["ran"]
    assert project.build(f"FROM base\nRUN --security=sandbox {CAPABILITIES}\n").outcomes == ["cached"]
    allowed = "--allow=network.host,security.insecure"
    assert project.build(f"FROM base\nRUN --network=host {CAPABILITIES}\n", allowed).outcomes == ["cached"]
    assert project.build(f"FROM base\nRUN --security=insecure {CAPABILITIES}\n", allowed).outcomes == ["same"]


def test_there_is_no_such_entitlement(project: Project) -> None:
    with pytest.raises(UsageError) as caught:
        project.build("FROM base\n", "--allow=security.insecur")
    assert caught.value.code == "usage/allow"
    assert caught.value.hint == "Did you mean security.insecure?"


# Hosts and limits


def test_hosts_limits_and_shared_memory(project: Project) -> None:
    text = "FROM base\nRUN cat /etc/hosts; ulimit -n; ulimit -Hn; stat -f -c '%b %S' /dev/shm\n"
    options = (
        "--add-host=mirror:10.0.0.7",
        "--add-host=six=[fe80::1]",
        "--add-host=me:host-gateway",
        "--ulimit=nofile=100:200",
        "--shm-size=1m",
    )
    lines = project.build(text + text.partition("\n")[2].replace("RUN", "TEST"), *options).output.splitlines()
    half = len(lines) // 2
    assert lines[:half] == lines[half:]
    assert lines[2:half] == [
        "10.0.0.7\tmirror",
        "fe80::1\tsix",
        "127.0.0.1\tme",
        "100",
        "200",
        "256 4096",
    ]


def test_of_hosts_the_names_are_in_the_key_and_of_limits_all(project: Project) -> None:
    def build(*options: str) -> str:
        return project.build("FROM base\nRUN true\n", *options).outcomes[0]

    assert build() == "ran"
    assert build("--add-host=a:1.1.1.1") == "same"
    assert build("--add-host=a:2.2.2.2") == "cached"
    assert build("--add-host=b:2.2.2.2") == "same"
    assert build("--ulimit=nofile=100") == "same"
    assert build("--ulimit=nofile=50", "--ulimit=nofile=100") == "cached"
    assert build("--ulimit=nofile=101") == "same"
    assert build("--shm-size=1m") == "same"
    assert build("--shm-size=1024k") == "cached"
    assert build() == "cached"


@pytest.mark.parametrize("text", ["a", "a:", ":1.1.1.1", "a:1.1.1", "a b:1.1.1.1", "a:b"])
def test_hosts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        extra_host(text)
    assert caught.value.code == "usage/add-host"


def test_addresses_of_hosts() -> None:
    assert extra_host("a:::1") == ("a", "::1")
    assert extra_host("a=[::1]") == ("a", "::1")


@pytest.mark.parametrize(
    "text", ["", "nofile", "nofile=", "nofile=x", "nofile=2:1", "nofile=-2", "files=1", "nofile=-1:5"]
)
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ulimit(text)
    assert caught.value.code == "usage/value"


def test_limits() -> None:
    assert ulimit("nofile=-1") == ("nofile", -1, -1)
    assert ulimit("nproc=5:-1") == ("nproc", 5, -1)


def test_the_configuration_says_it_too(project: Project) -> None:
    project.write(
        "pybuild.toml",
        'network = "none"\nadd-hosts = ["mirror:10.0.0.7"]\nulimits = ["nofile=100"]\nshm-size = "1m"\n',
    )
    project.recipe(
        "FROM base\nRUN cat /etc/hosts; ulimit -n; stat -f -c %b /dev/shm; readlink /proc/self/ns/net\n"
    )
    config = ("--config", project.path("pybuild.toml"), "--progress=plain")
    done = project.command("app.rec", *config)
    assert done.returncode == 0, done.stderr
    assert "10.0.0.7\tmirror" in done.stderr
    assert os.readlink("/proc/self/ns/net") not in done.stderr
    assert [line.split()[-1] for line in done.stderr.splitlines()].count("100") == 1
    done = project.command("app.rec", *config, "--network=host", "--ulimit=nofile=99")
    assert os.readlink("/proc/self/ns/net") in done.stderr


# pybuild plan


def plan(project: Project, *options: str) -> list[dict[str, Any]]:
    done = project.command("plan", "app.rec", "--format=json", *options)
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    return [step for stage in stages for step in stage["steps"] if step["text"].startswith("RUN")]


def test_plan_has_the_keys_of_the_build(project: Project) -> None:
    project.write("src/f", "1")
    text = (
        "FROM ../base/base.rec AS tools\nRUN echo tool > /tool\n"
        "FROM base\n"
        "RUN --mount=source=src,target=/src cat /src/f\n"
        "RUN --mount=from=tools,target=/tools --mount=from=tools,source=/tool,target=/tool cat /tool\n"
        "RUN --mount=type=cache,target=/c,from=tools --mount=type=secret,id=x --mount=type=ssh true\n"
        "RUN --security=insecure --network=default true\n"
    )
    options = (
        "--allow=security.insecure",
        "--network=none",
        "--add-host=a:1.1.1.1",
        "--ulimit=nofile=100",
        "--shm-size=1m",
    )
    project.recipe(text)
    assert {step["outcome"] for step in plan(project, *options)} == {"runs"}
    project.build(text, *options)
    planned = plan(project, *options)
    assert [step["outcome"] for step in planned] == ["cached"] * 5
    assert [step["reads"] for step in planned] == [None, None, "tools", "tools", None]
    project.write("src/f", "2")
    changed = plan(project, *options)
    assert changed[1]["outcome"] == "runs"
    assert changed[1]["reason"] == "what is mounted on /src changed: src/f"


def test_plan_says_what_it_cannot_know(project: Project) -> None:
    text = (
        "FROM ../base/base.rec AS tools\nRUN echo tool > /tool\n"
        "FROM base\nRUN --mount=from=tools,source=/tool,target=/tool true\n"
        "FROM base\nRUN --mount=from=1,source=/etc,target=/e true\n"
    )
    project.build(text, "--target=tools")
    project.recipe(text)
    assert plan(project, "--target=1")[-1]["reason"] == "nobody has looked yet at what it mounts"
    assert plan(project)[-1]["reason"] == "what it mounts comes of a step that would run"


def test_plan_refuses_what_the_build_refuses(project: Project) -> None:
    project.recipe("FROM base\nRUN --security=insecure true\n")
    done = project.command("plan", "app.rec")
    assert (done.returncode, "run/insecure" in done.stderr) == (2, True)


# The same build again, from its receipt


def test_a_receipt_knows_what_bind_mounts_read(project: Project) -> None:
    project.write("src/f", "1")
    project.write("elsewhere", "1")
    project.recipe("FROM base\nRUN --mount=source=src,target=/src cat /src/f > /seen\n")
    time.sleep(0.2)  # what has just been written is not remembered
    words = ("build", "app.rec", "--progress=plain")
    for _ in range(2):
        assert project.command(*words).returncode == 0
    probe = "import sys; from builder.direct import attempt; sys.exit(attempt(sys.argv[1:]) is None)"
    direct = [sys.executable, "-c", probe, *words]
    here: dict[str, Any] = {"cwd": project.context, "env": project.environment, "stdin": subprocess.DEVNULL}
    assert subprocess.run(direct, **here, capture_output=True).returncode == 0
    project.write("elsewhere", "2")
    assert subprocess.run(direct, **here, capture_output=True).returncode == 0
    project.write("src/f", "2")
    assert subprocess.run(direct, **here, capture_output=True).returncode == 1
    assert " 1 step" in project.command(*words).stderr
