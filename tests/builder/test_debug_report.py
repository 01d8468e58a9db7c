"""--on-failure=report: what somebody else needs who is to find out why a build failed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild

FAILING = """\
FROM box
ARG API_TOKEN=abc
ENV COLOUR=green PROXY=http://me:pass@proxy/ DB_PASSWORD=guess
WORKDIR /work
RUN --mount=type=secret,id=token \\
    echo "token: $(cat /run/secrets/token)" | tee leaked && \\
    echo more >> /etc/group && rm /etc/passwd && exit 3
"""
TOKEN = 't0ken-with-"quotes"-in-it'


@pytest.fixture
def failed(pybuild: Pybuild) -> Pybuild:
    pybuild.write("token", TOKEN)
    pybuild.write("test.rec", FAILING)
    done = pybuild.try_(
        "test.rec",
        "--on-failure=report",
        "--secret",
        "id=token,src=token",
        "--build-arg",
        "API_TOKEN=xyz123",
        "-t",
        "app",
    )
    assert done.code == 1
    assert done.err.endswith("report: pybuild-report\n")
    return pybuild


def read(pybuild: Pybuild, name: str, directory: str = "pybuild-report") -> str:
    return Path(pybuild.cwd, directory, name).read_text()


def test_it_has_what_is_needed_to_find_out(failed: Pybuild) -> None:
    assert sorted(os.listdir(f"{failed.cwd}/pybuild-report")) == [
        "README.md",
        "diff.patch",
        "diff.txt",
        "doctor.txt",
        "env.txt",
        "events.json",
        "log.txt",
    ]
    assert read(failed, "log.txt") == "token: ***\n"
    assert read(failed, "diff.txt").splitlines() == ["D /etc/passwd", "C /etc/group", "A /work/leaked"]
    patch = read(failed, "diff.patch")
    assert "+++ b/etc/group" in patch and "\n+more\n" in patch
    assert "--- a/etc/passwd" in patch and "\n+token: ***\n" in patch
    env = read(failed, "env.txt")
    assert "\nCOLOUR=green\n" in env and "directory: /work\n" in env
    assert "mount: type=secret target=/run/secrets/token id=token\n" in env
    events = json.loads(read(failed, "events.json"))
    assert [events[0]["event"], events[-1]["event"]] == ["build_started", "build_failed"]
    assert [e["status"] for e in events if e["event"] == "step_finished" and e["outcome"] == "failed"] == [3]
    assert "overlay" in read(failed, "doctor.txt")
    readme = read(failed, "README.md")
    assert "test.rec:5" in readme and "exit code 3" in readme
    assert f"$ cd {failed.cwd}\n" in readme
    assert "$ pybuild test.rec --on-failure=report" in readme
    assert "- box: sha256:" in readme


def test_it_has_no_secret(failed: Pybuild) -> None:
    directory = f"{failed.cwd}/pybuild-report"
    for word in ("t0ken", "xyz123", "me:pass", "guess"):
        found = subprocess.run(["grep", "-r", word, directory], capture_output=True, text=True)
        assert found.stdout == ""


def test_the_command_in_it_gives_the_failure_again(failed: Pybuild) -> None:
    lines = [line[2:] for line in read(failed, "README.md").splitlines() if line.startswith("$ ")]
    command = next(line for line in lines if line.startswith("pybuild test.rec"))
    words = command.removeprefix("pybuild ").split()
    assert "API_TOKEN=***" in words or "'API_TOKEN=***'" in words
    words = [word for word in words if "API_TOKEN" not in word and word != "--build-arg"]
    done = failed.try_(*words)
    assert done.code == 1 and "exit code 3" in done.err


def test_a_later_report_replaces_it_and_nothing_else_is_overwritten(failed: Pybuild) -> None:
    failed("debug", "--report", "pybuild-report")
    assert read(failed, "log.txt") == "token: ***\n"
    assert json.loads(read(failed, "events.json"))[0]["event"] == "build_started"
    failed.write("mine/thing", "mine")
    done = failed.try_("debug", "--report", "mine")
    assert (done.code, "usage/write" in done.err) == (2, True)
    assert os.listdir(f"{failed.cwd}/mine") == ["thing"]


def test_where_a_secret_cannot_be_known_no_contents_are_written(failed: Pybuild) -> None:
    os.unlink(f"{failed.cwd}/token")
    failed("debug", "--report", "later")
    assert "diff.patch" not in os.listdir(f"{failed.cwd}/later")
    assert "t0ken" not in "".join(read(failed, name, "later") for name in os.listdir(f"{failed.cwd}/later"))


def test_a_build_that_fails_before_any_step_has_a_report_too(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", "FROM box\nCOPY nothing /\n")
    done = pybuild.try_("debug", "--on-failure=report", "--report", "out", "test.rec")
    assert done.code == 2
    assert sorted(os.listdir(f"{pybuild.cwd}/out")) == ["README.md", "doctor.txt", "events.json"]
    assert "COPY nothing" in read(pybuild, "README.md", "out")


def test_a_build_that_succeeds_has_none(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", "FROM box\nRUN true\n")
    pybuild("test.rec", "--on-failure=report")
    assert not os.path.exists(f"{pybuild.cwd}/pybuild-report")


def test_a_ci_system_is_told_of_it(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", "FROM box\nRUN false\n")
    assert "--on-failure=report" in pybuild.try_("test.rec", CI="true").err
    assert "--on-failure=report" not in pybuild.try_("test.rec").err


def test_links_and_special_files_are_not_followed(pybuild: Pybuild) -> None:
    pybuild.write("test.rec", "FROM box\nRUN ln -s /etc/passwd /link; mkfifo /fifo; ln -s / /up; false\n")
    pybuild.try_("test.rec", "--on-failure=report")
    assert read(pybuild, "diff.txt").splitlines() == ["A /fifo", "A /link", "A /up"]
    assert read(pybuild, "diff.patch") == ""
