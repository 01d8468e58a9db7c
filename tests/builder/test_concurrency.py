"""Several builds of one store at once: each step runs once, whoever else dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tests.build_fixtures.project import Project

TEXT = """\
FROM base
COPY f /f
RUN echo begun; sleep 0.4; echo one > /one
RUN sleep 0.2; echo two > /two
TEST sleep 0.1
"""


def start(project: Project, recipe: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "builder.main", recipe, "--progress=plain", *options],
        cwd=project.context,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it does not come")


def ran(output: str) -> int:
    found = re.search(r"(\d+) steps? run", output)
    return int(found[1]) if found else 0


def test_of_two_builds_that_need_the_same_steps_each_step_runs_once(project: Project) -> None:
    project.write("f", "f")
    recipe = project.recipe(TEXT)
    builds = [start(project, recipe) for _ in range(3)]
    outputs = [build.communicate(timeout=120)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0, 0], outputs
    assert len({output.splitlines()[-1] for output in outputs}) == 1, "one image"
    # The base's COPY is a step too.
    assert sum(map(ran, outputs)) == 5, outputs
    assert project.unsound() == []


def test_a_build_that_is_killed_while_it_runs_a_step_lets_the_other_go_on(project: Project) -> None:
    project.write("f", "f")
    recipe = project.recipe(TEXT.replace("sleep 0.4", "test -e /f && sleep 3"))
    first = start(project, recipe)
    assert first.stdout is not None
    # plain output: the command's own line, not the one that shows the command
    for line in first.stdout:
        if line.rstrip().endswith("begun") and "echo" not in line:
            break
    second = start(project, recipe)
    assert second.stdout is not None
    for line in second.stdout:
        if "waiting" in line:
            break
    first.kill()
    output = second.communicate(timeout=120)[0]
    first.communicate()
    assert second.returncode == 0, output
    assert "RUN" in output
    assert project.unsound() == []
    again = project.command(recipe)
    assert again.returncode == 0
    assert again.stdout.strip() == output.splitlines()[-1]


def test_the_other_build_s_failure_is_its_own(project: Project) -> None:
    """A step that fails is run again by who waited for it: it may fail for that one's own reasons."""
    recipe = project.recipe("FROM base\nRUN echo begun; sleep 0.4; exit 9\n")
    builds = [start(project, recipe) for _ in range(2)]
    outputs = [build.communicate(timeout=120)[0] for build in builds]
    assert [build.returncode for build in builds] == [1, 1], outputs
    assert all("exit code 9" in output for output in outputs)


def test_an_interrupted_build_ends_its_step_and_leaves_nothing(project: Project) -> None:
    recipe = project.recipe("FROM base\nRUN echo begun; sleep 77\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        build = start(project, recipe)
        assert build.stdout is not None
        for line in build.stdout:
            if line.rstrip().endswith("begun") and "echo" not in line:
                break
        build.send_signal(number)
        build.communicate(timeout=60)
        assert build.returncode == 128 + number
        until(lambda: not _running("sleep\x0077"))
        assert project.unsound() == []


def _running(words: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if file.read().startswith(words):
                    return True
        except OSError:
            continue
    return False
