"""TEST --testinfra: suites run on the root filesystem that the stage has by then, and leave nothing in it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from builder.errors import HostError, PlanError, StepFailed
from tests.build_fixtures.project import Project

TEXT = """\
FROM base
ENV GREETING=hello
RUN echo x > /x; chmod 640 /x
USER app
TEST --testinfra=tests/test_x.py
"""

SUITE = """\
def test_file(host):
    assert host.file("/x").exists
    assert host.file("/x").mode == 0o640
    assert host.file("/x").user == "root"

def test_environment_and_user(host):
    assert host.check_output("echo $GREETING") == "hello"
    assert host.check_output("id -un") == "app"
    assert host.run("echo out; echo err >&2; exit 3").rc == 3

def test_writes_last_until_the_suite_is_done(host):
    host.check_output("echo kept > /tmp/kept")
    assert host.check_output("cat /tmp/kept") == "kept"
    host.check_output("sleep 1000 > /dev/null 2>&1 &")
    assert "sleep 1000" in host.check_output("ps")
"""


def failure(project: Project, text: str = TEXT, *options: str) -> Any:
    with pytest.raises((StepFailed, PlanError, HostError)) as caught:
        project.build(text, *options)
    assert caught.value.span is not None
    return caught.value


def test_a_suite_passes_once_and_is_remembered(project: Project) -> None:
    project.write("tests/test_x.py", SUITE)
    outcome = project.build(TEXT)
    assert outcome.outcomes == ["ran", "passed"]
    assert "3 passed" in outcome.output
    assert "tmp/kept" not in project.files(outcome)
    assert project.build(TEXT).outcomes == ["cached", "cached"]
    assert not os.path.exists(project.path("tests/__pycache__"))
    assert project.unsound() == []


def test_a_suite_that_changed_runs_again(project: Project) -> None:
    project.write("tests/test_x.py", SUITE)
    project.build(TEXT)
    project.write(
        "tests/test_x.py", SUITE + "\ndef test_more(host):\n    assert host.file('/bin/sh').exists\n"
    )
    again = project.build(TEXT)
    assert again.outcomes == ["cached", "passed"]
    assert again.reasons == ["the suite changed"]
    project.write("tests/conftest.py", "X = 1\n")
    assert project.build(TEXT).outcomes == ["cached", "passed"]


def test_a_suite_that_fails_fails_the_build(project: Project) -> None:
    project.write(
        "tests/test_x.py", "def test_x(host):\n    assert host.file('/y').exists, 'there is no y'\n"
    )
    error = failure(project, TEXT, "-t", "named")
    assert (error.code, error.exit_code) == ("test/failed", 1)
    assert project.command("images").stdout.count("named") == 0


@pytest.mark.parametrize(
    ("suite", "code"),
    [("", "test/empty"), ("import nothing_like_this\n", "test/failed"), ("def (", "test/failed")],
)
def test_a_suite_that_tests_nothing(project: Project, suite: str, code: str) -> None:
    project.write("tests/test_x.py", suite)
    assert failure(project).code == code


def test_a_suite_that_is_not_there(project: Project) -> None:
    error = failure(project)
    assert error.code == "test/missing"
    assert error.exit_code == 2


def test_a_directory_of_suites(project: Project) -> None:
    project.write("tests/test_x.py", SUITE)
    project.write("tests/sub/test_y.py", "def test_y(host):\n    assert host.file('/bin').is_directory\n")
    outcome = project.build(TEXT.replace("tests/test_x.py", "tests"))
    assert "4 passed" in outcome.output
    project.write("tests/data.txt", "what a test compares with")
    assert project.build(TEXT.replace("tests/test_x.py", "tests")).outcomes == ["cached", "passed"]


def test_what_the_host_s_pytest_is_told_changes_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No configuration beside the suite, and no plugin that happens to be installed."""
    project.write("tests/test_x.py", SUITE)
    project.write("tests/pytest.ini", "[pytest]\naddopts = --no-such-option\n")
    project.write("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '--no-such-option'\n")
    assert project.build(TEXT).outcomes[-1] == "passed"
