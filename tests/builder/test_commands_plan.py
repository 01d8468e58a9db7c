"""pybuild plan: it says beforehand what a build then does, and leaves no trace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.tool_fixtures.nobody import as_nobody

RECIPE = """\
FROM box AS one
WORKDIR /work
COPY a.txt /work/
RUN cat a.txt > b.txt
ENV A=1
FROM box
COPY --from=one /work/b.txt /b.txt
COPY <<EOF /c.txt
$A
EOF
ADD a.txt /d.txt
RUN cp /b.txt /e.txt
TEST test -s /e.txt
CMD ["sh"]
"""


@pytest.fixture
def project(pybuild: Pybuild) -> Pybuild:
    pybuild.write("a.txt", "a\n")
    pybuild.write("test.rec", RECIPE)
    return pybuild


def real(stage: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a stage's steps but those that change the config alone."""
    return [step for step in stage["steps"] if step["outcome"] != "config"]


def steps(pybuild: Pybuild, *argv: str) -> list[tuple[str, str]]:
    """Return the first word and the outcome of the steps of test.rec."""
    plan = pybuild.json("plan", "--format=json", *(argv or ("test.rec",)))
    return [(step["text"].split()[0], step["outcome"]) for stage in plan["stages"] for step in real(stage)]


def outcomes(pybuild: Pybuild, *argv: str) -> list[str]:
    return [outcome for _, outcome in steps(pybuild, *argv)]


def finished(pybuild: Pybuild) -> dict[str, str]:
    """Build test.rec; return the keys of its steps and what became of them."""
    done = pybuild.try_("build", "test.rec", "--progress=json")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.err.splitlines() if line]
    return {event["key"]: event["outcome"] for event in events if event["event"] == "step_finished"}


def test_what_was_built_is_planned_as_cached_with_the_keys_of_the_build(project: Pybuild) -> None:
    keys = finished(project)
    plan = project.json("plan", "--format=json", "test.rec")
    planned = [step for stage in plan["stages"] for step in real(stage)]
    assert [step["outcome"] for step in planned] == ["cached"] * 8
    assert {step["key"] for step in planned} == set(keys)
    assert plan["store"] is True
    assert [stage["base_known"] for stage in plan["stages"]] == [True, True]
    assert plan["stages"][1]["needs"] == [plan["stages"][0]["id"]]


def test_before_the_first_build_the_first_step_runs_and_the_others_depend_on_it(project: Pybuild) -> None:
    project.write("test.rec", RECIPE.replace("FROM box\n", "FROM one\n"))
    assert steps(project) == [
        ("WORKDIR", "runs"),
        ("COPY", "depends"),
        ("RUN", "depends"),
        ("COPY", "depends"),
        ("COPY", "depends"),
        ("ADD", "depends"),
        ("RUN", "depends"),
        ("TEST", "depends"),
    ]


def test_a_changed_file_is_named_and_what_the_plan_says_runs_is_what_runs(project: Pybuild) -> None:
    project("build", "test.rec")
    project.write("a.txt", "b\n")
    plan = project.json("plan", "--format=json", "test.rec")
    first = real(plan["stages"][0])
    assert [step["outcome"] for step in first] == ["cached", "runs", "depends"]
    assert first[1]["reason"] == "COPY a.txt changed: a.txt"
    became = finished(project)
    assert [became[step["key"]] for step in first[:2]] == ["cached", "ran"]


def test_a_changed_command_and_no_cache_are_told_as_reasons(project: Pybuild) -> None:
    project("build", "test.rec")
    project.write("test.rec", RECIPE.replace("cat a.txt > b.txt", "cat a.txt >> b.txt"))
    assert outcomes(project)[:3] == ["cached", "cached", "runs"]
    assert "the command changed" in project("plan", "test.rec")
    assert outcomes(project, "--no-cache", "test.rec")[0] == "runs"
    assert "--no-cache" in project("plan", "--no-cache", "test.rec")


def test_only_what_the_target_needs_is_planned(project: Pybuild) -> None:
    plan = project.json("plan", "--format=json", "--target=one", "test.rec")
    assert (plan["target"], [stage["name"] for stage in plan["stages"]]) == ("one", ["one"])
    done = project.try_("plan", "--target=ona", "test.rec")
    assert done.code == 2
    assert "Did you mean one?" in done.err


def test_a_base_that_is_not_in_the_store_is_unknown(project: Pybuild) -> None:
    project.write("test.rec", "FROM nowhere.example/none:1\nRUN make\nTEST true\n")
    assert outcomes(project) == ["unknown", "unknown"]
    text = project("plan", "test.rec")
    assert "FROM nowhere.example/none:1, which is not in the store" in text
    project.write("test.rec", "FROM box\nRUN make\n")
    assert outcomes(project, "--pull", "test.rec") == ["unknown"]


def test_a_recipe_as_a_base_is_planned_too(project: Pybuild) -> None:
    project.write("base/base.rec", "FROM box\nCOPY x /x\n")
    project.write("base/x", "x")
    project.write("test.rec", "FROM ./base/base.rec\nRUN cat /x\n")
    plan = project.json("plan", "--format=json", "test.rec")
    assert [stage["recipe"] for stage in plan["stages"]] == ["base/base.rec", "test.rec"]
    assert plan["stages"][1]["needs"] == [plan["stages"][0]["id"]]
    project("build", "test.rec")
    assert outcomes(project) == ["cached", "cached"]
    project.write("base/x", "y")
    assert outcomes(project) == ["runs", "depends"]


def test_recipes_in_a_circle_and_missing_sources_are_errors_with_their_place(project: Pybuild) -> None:
    project.write("test.rec", "FROM ./test.rec\n")
    done = project.try_("plan", "test.rec")
    assert (done.code, "[recipe/cycle]" in done.err) == (2, True)
    project.write("test.rec", "FROM box\nCOPY none /\n")
    done = project.try_("plan", "test.rec")
    assert (done.code, "test.rec:2:1" in done.err) == (2, True)


def snapshot(root: str) -> dict[str, tuple[int, ...]]:
    """Every path of a store with what a write would change: its size, mtime and inode.

    But for the index that SQLite keeps of a write-ahead log (-shm), which a reader shares with writers.
    """

    def entries() -> Iterator[tuple[str, tuple[int, ...]]]:
        for directory, names, files in os.walk(root):
            for name in ["", *names, *files]:
                status = os.lstat(os.path.join(directory, name))
                yield os.path.join(directory, name), (status.st_size, status.st_mtime_ns, status.st_ino)

    return {path: told for path, told in entries() if path != f"{root}/" and not path.endswith("-shm")}


def test_the_store_is_not_written(project: Pybuild) -> None:
    project("build", "test.rec")
    project.write("a.txt", "b\n")
    before = snapshot(project.root)
    project("plan", "test.rec")
    assert snapshot(project.root) == before


def test_a_damaged_or_foreign_store_is_no_obstacle(project: Pybuild) -> None:
    with open(f"{project.root}/pybuild.db", "wb") as file:
        file.write(b"no database" * 1000)
    for suffix in ("-wal", "-shm"):
        Path(f"{project.root}/pybuild.db{suffix}").unlink(missing_ok=True)
    text = project("plan", "test.rec")
    assert "what is cached is not known" in text
    with open(f"{project.root}/format", "w") as file:
        file.write("pybuild store 99\n")
    assert "a store of another format" in project("plan", "test.rec")


def test_nobody_plans_without_a_store_and_makes_none(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_text("FROM a:1 AS one\nRUN x\nFROM one\nCOPY --from=one /x /y\nCMD z\n")
    done = as_nobody(tmp_path, "plan", "a.rec", "--format=json")
    assert (done.returncode, done.stderr) == (0, "")
    plan: Any = json.loads(done.stdout)
    assert (plan["store"], plan["note"].startswith("there is no store at /nonexistent")) == (False, True)
    told = [step["outcome"] for stage in plan["stages"] for step in stage["steps"]]
    assert told == ["runs", "runs", "config"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rec"]


def test_a_store_that_may_not_be_read_is_as_good_as_none(tmp_path: Path, pybuild: Pybuild) -> None:
    place = tmp_path / "nobody"
    place.mkdir()
    (place / "a.rec").write_text("FROM box\nRUN x\n")
    done = as_nobody(place, "plan", "a.rec", "--root", pybuild.root)
    assert done.returncode == 0, done.stderr
    assert f"the store {pybuild.root} cannot be read" in done.stdout


def test_the_graph_has_an_edge_from_the_stage_that_is_copied_from(project: Pybuild) -> None:
    lines = project("plan", "--format=dot", "test.rec").splitlines()
    assert lines[0] == "digraph plan {"
    assert lines[-2:] == ["  s0_3 -> s1_1 [style=dashed];", "}"]
    assert "fillcolor=orange" in next(line for line in lines if "WORKDIR /work" in line)
    assert sum(line.endswith("{") for line in lines) == sum(line.strip() == "}" for line in lines)


def test_shared_caches_are_asked_for_what_the_store_does_not_know(pybuild: Pybuild, tmp_path: Path) -> None:
    """And nothing of what they say is kept: the build asks for itself."""
    text = "FROM scratch\nCOPY one /one\nCOPY two /two\nWORKDIR /w\n"
    for name in ("one", "two", "test.rec"):
        pybuild.write(name, text)
    cache = f"type=dir,path={tmp_path}/cache,trust=any,name=team"
    other = Pybuild(str(tmp_path / "other"), pybuild.cwd)
    other("build", "test.rec", "--cache-to", cache)
    pybuild("images")
    before = sorted(os.listdir(f"{pybuild.root}/layerdb/sha256"))
    assert outcomes(pybuild) == ["runs", "depends", "depends"]
    plan = pybuild.json("plan", "--format=json", "test.rec", "--cache-from", cache)
    told = [(step["outcome"], step["reason"]) for step in real(plan["stages"][0])]
    assert told == [("cached", "from team")] * 3
    assert outcomes(pybuild) == ["runs", "depends", "depends"]
    assert sorted(os.listdir(f"{pybuild.root}/layerdb/sha256")) == before
    nobody = cache.replace("trust=any", f"trust={tmp_path}/other.pub")
    pybuild("cache", "keygen", f"{tmp_path}/other")
    assert outcomes(pybuild, "test.rec", "--cache-from", nobody) == ["runs", "depends", "depends"]
    (tmp_path / "file").write_text("")
    down = f"type=dir,path={tmp_path}/file,trust=any"
    plan = pybuild.json("plan", "--format=json", "test.rec", "--cache-from", down)
    assert [step["outcome"] for step in real(plan["stages"][0])] == ["runs", "depends", "depends"]
    assert "is left out of this build" in plan["warnings"][0]["message"]
    assert pybuild.try_("plan", "test.rec", "--cache-from", down, "--cache-required").code != 0
