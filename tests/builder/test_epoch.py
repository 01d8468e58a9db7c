"""The epoch: the same commit gives the same image id on any machine, and none costs the cache."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from builder.epoch import Epoch, find_epoch
from builder.errors import UsageError
from tests.build_fixtures.project import Outcome, Project

TEXT = """\
FROM base
COPY src/ /src/
RUN mkdir /made; date > /dev/null; echo x > /made/f; ln -s f /made/l; echo $SOURCE_DATE_EPOCH > /told
WORKDIR /work
"""
COMMIT_TIME = 1_650_000_000


def git(directory: str, *words: str) -> None:
    when = f"{COMMIT_TIME} +0000"
    environment = {
        **os.environ,
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_DATE": when,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", directory, *name, *words], env=environment, check=True, capture_output=True)


def newest(project: Project, outcome: Outcome) -> int:
    """The newest mtime of what the recipe made, in seconds."""
    found = project.files(outcome)
    own = [
        status for path, status in found.items() if path.partition("/")[0] in ("src", "made", "told", "work")
    ]
    return int(max(status.st_mtime for status in own))


def test_two_fresh_stores_give_the_same_image(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("src/a", "a", mtime=time.time() - 5)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1600000000")
    first = project.build(TEXT)
    assert (newest(project, first), project.read(first, "told")) == (1_600_000_000, b"1600000000\n")
    times = {first.image.created, *(entry.created for entry in first.image.history)}
    assert times == {"2020-09-13T12:26:40Z"}
    time.sleep(1.1)
    os.utime(project.path("src/a"))
    second = project.build(TEXT, root=os.path.join(project.directory, "other"))
    assert second.built.ran == first.built.ran
    assert second.built.image_id == first.built.image_id


def test_another_epoch_costs_no_cache(project: Project) -> None:
    project.write("src/a", "a")
    first = project.build(TEXT, "--timestamps=1600000000")
    second = project.build(TEXT, "--timestamps=1600000001")
    assert second.outcomes == ["cached"] * 3
    assert second.image.created == "2020-09-13T12:26:41Z"
    assert second.image.diff_ids == first.image.diff_ids


def test_without_an_epoch_real_times_stay_and_a_hit_gives_the_same_image(project: Project) -> None:
    project.write("src/a", "a")
    start = int(time.time())
    first = project.build(TEXT, "--timestamps=keep")
    assert newest(project, first) >= start
    assert project.read(first, "told") == b"\n"
    assert first.image.created is not None
    assert first.image.created >= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))
    time.sleep(1.1)
    assert project.build(TEXT, "--timestamps=keep").built.image_id == first.built.image_id


def test_a_variable_that_the_recipe_sets_is_left_alone(project: Project) -> None:
    outcome = project.build(
        "FROM base\nENV SOURCE_DATE_EPOCH=7\nRUN echo $SOURCE_DATE_EPOCH > /t\n", "--timestamps=9"
    )
    assert project.read(outcome, "t") == b"7\n"


def test_older_files_keep_their_time(project: Project) -> None:
    project.write("src/a", "a", mtime=1_000_000_000)
    outcome = project.build(TEXT, "--timestamps=1600000000")
    assert project.files(outcome)["src/a"].st_mtime == 1_000_000_000


def test_a_clean_work_tree_s_commit_gives_the_epoch(project: Project) -> None:
    project.write("src/a", "a")
    project.recipe(TEXT)
    context = project.context
    git(context, "init", "-q")
    assert find_epoch("clamp", context) == Epoch(None, context)
    git(context, "add", ".")
    assert find_epoch("clamp", context) == Epoch(None, context)
    git(context, "commit", "-q", "-m", "x")
    found = find_epoch("clamp", context)
    assert (found.seconds, found.work_tree, len(found.commit)) == (COMMIT_TIME, context, 40)
    assert find_epoch("clamp", project.path("src")).seconds == COMMIT_TIME
    assert find_epoch("keep", context) == Epoch(None)
    assert find_epoch("5", context) == Epoch(5)
    outcome = project.build(TEXT)
    assert outcome.image.created == "2022-04-15T05:20:00Z"
    project.write("src/new", "untracked")
    assert find_epoch("clamp", context).seconds is None
    os.unlink(project.path("src/new"))
    project.write("src/a", "changed")
    assert find_epoch("clamp", context).seconds is None
    assert find_epoch("clamp", project.directory) == Epoch(None)


def test_the_environment_beats_the_commit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12")
    assert find_epoch("clamp", project.context) == Epoch(12)
    assert find_epoch("keep", project.context) == Epoch(None)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert find_epoch("clamp", project.context) == Epoch(None)


def test_a_context_cannot_have_git_run_a_program(project: Project) -> None:
    """What a repository's own configuration would start (core.fsmonitor) is not started."""
    project.write("a", "a")
    git(project.context, "init", "-q")
    git(project.context, "add", ".")
    git(project.context, "commit", "-q", "-m", "x")
    trap = project.write("../trap", f"#!/bin/sh\ntouch {project.directory}/sprung\n", 0o755)
    git(project.context, "config", "core.fsmonitor", trap)
    find_epoch("clamp", project.context)
    assert not os.path.exists(f"{project.directory}/sprung")


@pytest.mark.parametrize(
    "text", ["yesterday", "-1", "1.5", "1_000", " 5", "+5", "٣", "253402300800", "9" * 40, "0x10"]
)
def test_what_is_no_time_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        find_epoch(text, None)
    assert caught.value.code == "usage/timestamps"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError):
        find_epoch("clamp", None)


def test_the_first_and_the_last_second(project: Project) -> None:
    first = project.build("FROM base\nRUN echo > /x\n", "--timestamps=0")
    assert first.image.created == "1970-01-01T00:00:00Z"
    assert project.files(first)["x"].st_mtime == 0
    last = project.build("FROM base\nRUN echo 2 > /x\n", "--timestamps=253402300799")
    assert last.image.created == "9999-12-31T23:59:59Z"
