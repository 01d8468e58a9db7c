"""The direct way: a build that is there already is answered without being planned, and never wrongly."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Done, Pybuild

RECIPE = """\
FROM box
ARG NAME=nobody
COPY src /src
COPY l*/[a-m]* /picked/
RUN echo $NAME > /name
"""

PROBE = """\
import sys
from builder.direct import attempt
code = attempt(sys.argv[1:])
print(code, *sorted(set(sys.modules) & set(sys.argv[0].split(","))))
"""
"""Tries the direct way alone: prints None where it is not taken."""


class Project:
    """A recipe and its context, built again and again."""

    def __init__(self, pybuild: Pybuild) -> None:
        self.pybuild = pybuild
        self.argv = ["build", "app.rec", "-t", "app"]
        pybuild.write("app.rec", RECIPE)
        pybuild.write("src/a", "a\n")
        pybuild.write("src/deep/b", "b\n")
        pybuild.write("lib/first", "first\n")
        pybuild.write("lib/other", "other\n")

    @property
    def cwd(self) -> str:
        return self.pybuild.cwd

    def build(self, **env: str) -> Done:
        return self.pybuild.try_(*self.argv, **env)

    def is_direct(self, **env: str) -> bool:
        """Return whether the next build would be answered directly."""
        done = subprocess.run(
            (sys.executable, "-c", PROBE, *self.argv),
            env=self.pybuild.environment(**env),
            cwd=self.cwd,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[-1].split()[0] == "0"

    def settle(self, **env: str) -> Done:
        """Build until there is a receipt; return what the last build that needed none of it said."""
        time.sleep(0.12)
        for _ in range(3):
            done = self.build(**env)
            assert done.code == 0, done.err
            if self.is_direct(**env):
                return done
        raise AssertionError(f"no receipt is left: {done.err}")

    def forget(self) -> None:
        """Take all receipts away."""
        with sqlite3.connect(f"{self.pybuild.root}/pybuild.db") as database:
            database.execute("DELETE FROM receipts")
        database.close()


@pytest.fixture
def project(pybuild: Pybuild) -> Project:
    return Project(pybuild)


def test_the_same_build_again_prints_the_same(project: Project) -> None:
    usual = project.settle()
    direct = project.build()
    assert direct.out == usual.out
    assert direct.err.splitlines()[:-1] == usual.err.splitlines()[:-1]
    assert direct.err.splitlines()[-1].split(" in ")[0] == usual.err.splitlines()[-1].split(" in ")[0]
    assert "0 steps run" in direct.err
    assert "0.0s" in direct.err


def test_the_direct_way_imports_next_to_nothing(project: Project) -> None:
    project.settle()
    costly = (
        "dataclasses,argparse,lark,rich,json,re,typing,logging,subprocess,urllib3,tempfile,inspect,zstandard"
    )
    done = subprocess.run(
        (sys.executable, "-S", "-c", PROBE.replace("sys.argv[0]", repr(costly)), *project.argv),
        env={**project.pybuild.environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=project.cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"


def test_each_option_that_wants_the_build_carried_out_gets_it(project: Project) -> None:
    project.settle()
    for options in (
        ["--no-cache"],
        ["--explain"],
        ["--iidfile", "id"],
        ["--metadata-file", "metadata"],
        ["-o", "type=tar,dest=out.tar"],
        ["--progress", "json"],
    ):
        time.sleep(0.12)
        project.argv = ["build", "app.rec", "-t", "app", *options]
        for _ in range(2):
            assert project.build().code == 0
        assert not project.is_direct(), options
    assert os.path.exists(f"{project.cwd}/out.tar")


def test_outputs_of_the_configuration_are_written_each_time(project: Project) -> None:
    project.pybuild.write("pybuild.toml", 'outputs = ["type=tar,dest=out.tar"]\n')
    time.sleep(0.12)
    for _ in range(3):
        assert project.build().code == 0
        os.unlink(f"{project.cwd}/out.tar")


@pytest.mark.parametrize("options", [["-q"], ["--target", "0"], ["-t", "b", "-t", "c:1"]])
def test_names_and_ids_are_those_of_the_usual_way(project: Project, options: list[str]) -> None:
    project.argv = ["build", "app.rec", *options]
    usual = project.settle()
    direct = project.build()
    assert direct.out == usual.out
    assert ("-q" in options) == (direct.err == "")


Change = Callable[[Project], object]


def rewrite(project: Project) -> None:
    """The same size and mtime: only ctime tells."""
    path = f"{project.cwd}/src/a"
    status = os.stat(path)
    with open(path, "w") as file:
        file.write("A\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_link(project: Project) -> None:
    os.unlink(f"{project.cwd}/src/a")
    os.symlink("deep/b", f"{project.cwd}/src/a")


def remove_layer(project: Project) -> None:
    chain = project.pybuild.json("inspect", "app")[0]["RootFS"]["ChainIDs"][-1]
    shutil.rmtree(f"{project.pybuild.root}/layerdb/sha256/{chain.removeprefix('sha256:')}")


def prune_all(project: Project) -> None:
    project.pybuild("rmi", "app")
    project.pybuild("prune")


CHANGES: dict[str, Change] = {
    "a byte of the recipe": lambda p: p.pybuild.write("app.rec", RECIPE.replace("nobody", "nobodY")),
    "the content of a file": rewrite,
    "the mode of a file": lambda p: os.chmod(f"{p.cwd}/src/a", 0o600),
    "the mode of a directory": lambda p: os.chmod(f"{p.cwd}/src/deep", 0o700),
    "a new file": lambda p: p.pybuild.write("src/deep/new", ""),
    "a file less": lambda p: os.unlink(f"{p.cwd}/src/deep/b"),
    "a file of another kind": replace_by_link,
    "a file that a wildcard selects": lambda p: p.pybuild.write("lib/last", ""),
    "a directory that a wildcard selects": lambda p: p.pybuild.write("light/extra", ""),
    "an ignore file": lambda p: p.pybuild.write(".dockerignore", "src/deep\n"),
    "an ignore file of the recipe": lambda p: p.pybuild.write("app.rec.dockerignore", "src/a\n"),
    "a configuration": lambda p: p.pybuild.write("pybuild.toml", '[build-args]\nNAME = "toml"\n'),
    "a label by hand": lambda p: p.pybuild.write("app.rec", RECIPE + "LABEL a=b\n"),
    "the name of the base": lambda p: p.pybuild("tag", "other", "box"),
    "the name of the result": lambda p: p.pybuild("tag", "box", "app"),
    "the result removed": lambda p: p.pybuild("rmi", "app"),
    "a layer removed by hand": remove_layer,
    "a layer pruned": prune_all,
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_any_change_the_usual_way_is_taken(project: Project, change: str) -> None:
    project.pybuild.build("FROM box\nRUN echo other > /other\n", "-t", "other")
    before = project.settle()
    CHANGES[change](project)
    assert not project.is_direct()
    done = project.build()
    assert done.code == 0, done.err
    project.forget()
    assert project.build().out == done.out
    restored = {"the name of the result", "the result removed", "a layer removed by hand", "a layer pruned"}
    if change not in restored:
        assert done.out != before.out
    if change != "the name of the result":
        assert project.pybuild("images", "-q", "--no-trunc", "app") == done.out


@pytest.mark.parametrize("name", ["SOURCE_DATE_EPOCH", "NAME"])
def test_the_environment_counts(project: Project, name: str) -> None:
    if name == "NAME":
        project.argv += ["--build-arg", "NAME"]
    first = project.settle(**{name: "1500000000"})
    assert not project.is_direct(**{name: "1600000000"})
    assert not project.is_direct()
    second = project.build(**{name: "1600000000"})
    assert second.code == 0
    assert second.out != first.out


def test_the_commit_and_the_state_of_the_work_tree_count(project: Project) -> None:
    def git(*argv: str) -> None:
        author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", project.cwd, *author, *argv], check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    clean = project.settle()
    project.pybuild.write("unrelated", "1")
    assert not project.is_direct()
    dirty = project.settle()
    assert project.is_direct()
    git("add", ".")
    git("commit", "-qm", "two")
    assert not project.is_direct()
    assert project.build().code == 0
    assert clean.code == dirty.code == 0
    shutil.rmtree(f"{project.cwd}/.git")
    assert not project.is_direct()
    project.settle()
    git("init", "-q")
    assert not project.is_direct()


def test_what_symbolic_links_lead_to_counts(project: Project, tmp_path: Path) -> None:
    """The recipe, the ignore file and the context itself may be links."""
    cwd = project.cwd
    os.rename(f"{cwd}/app.rec", f"{cwd}/real.rec")
    os.symlink("middle.rec", f"{cwd}/app.rec")
    os.symlink("real.rec", f"{cwd}/middle.rec")
    os.symlink(cwd, tmp_path / "link")
    project.argv = ["build", "app.rec", str(tmp_path / "link"), "-t", "app"]
    project.settle()
    project.pybuild.write("real.rec", RECIPE + "LABEL changed=yes\n")
    assert not project.is_direct()
    project.settle()
    project.pybuild.write("second.rec", RECIPE + "LABEL changed=again\n")
    os.unlink(f"{cwd}/middle.rec")
    os.symlink("second.rec", f"{cwd}/middle.rec")
    assert not project.is_direct()
    project.settle()
    assert project.pybuild.json("inspect", "app")[0]["Config"]["Labels"] == {"changed": "again"}
    shutil.copytree(cwd, tmp_path / "copy", symlinks=True)
    os.unlink(tmp_path / "link")
    os.symlink(tmp_path / "copy", tmp_path / "link")
    assert not project.is_direct()


def test_no_receipt_is_left_while_a_file_is_too_young(project: Project) -> None:
    project.settle()
    path = f"{project.cwd}/src/a"
    future = time.time() + 1000
    os.utime(path, (future, future))
    for _ in range(3):
        project.build()
        assert not project.is_direct()
    project.forget()
    os.utime(path, (1, 1))
    project.build()  # it changed a moment ago, by its ctime
    done = project.build()
    assert done.code == 0


def test_another_command_line_or_directory_is_another_build(project: Project, tmp_path: Path) -> None:
    project.settle()
    argv = project.argv
    for other in ([*argv, "-t", "b"], [*argv, "--label", "a=b"], ["app.rec", "-t", "app"]):
        project.argv = other
        assert not project.is_direct(), other
    project.argv = argv
    shutil.copytree(project.cwd, tmp_path / "copy")
    project.pybuild.cwd = str(tmp_path / "copy")
    assert not project.is_direct()


def test_a_receipt_that_makes_no_sense_is_passed_over(project: Project) -> None:
    usual = project.settle()
    for blob in (b"", b"nonsense", b"\xfb\x00\x00\x00\x00", b"{0", b"i\x01\x00\x00\x00"):
        with sqlite3.connect(f"{project.pybuild.root}/pybuild.db") as database:
            database.execute("UPDATE receipts SET value = ?", (blob,))
        database.close()
        done = project.build()
        assert (done.code, done.out) == (0, usual.out)
        assert "Traceback" not in done.err


def edit(project: Project, choose: random.Random) -> str:
    """Change something, or nothing, as people and their tools do."""
    names = ["src/a", "src/deep/b", "src/new", "lib/first", "lib/other", "lib/mid", "ls/x", "other"]
    name = choose.choice(names)
    path = f"{project.cwd}/{name}"
    kind = choose.choice(
        ["write", "write", "remove", "chmod", "touch", "move", "recipe", "ignore", "name", "none"]
    )
    if kind == "write":
        if os.path.islink(path):
            os.unlink(path)
        project.pybuild.write(name, choose.choice("xyz"))
    elif kind == "recipe":
        project.pybuild.write(
            "app.rec", RECIPE + choose.choice(["", "LABEL a=1\n", "LABEL a=2\n", "RUN echo more > /m\n"])
        )
    elif kind == "ignore":
        project.pybuild.write(
            ".dockerignore", choose.choice(["", "src/a\n", "lib\n!lib/first\n", "**/deep\n"])
        )
    elif kind == "name":
        project.pybuild(*choose.choice([["tag", "box", "app"], ["tag", "app", "kept"]]))
    elif kind != "none" and os.path.lexists(path):
        if kind == "remove":
            os.unlink(path)
        elif kind == "chmod":
            os.chmod(path, choose.choice([0o600, 0o644, 0o755]))
        elif kind == "touch":
            os.utime(path, (choose.randrange(10**9), choose.randrange(10**9)))
        else:
            os.rename(path, f"{project.cwd}/src/{choose.choice(['a', 'new', 'deep/moved'])}")
    return f"{kind} {name}"


@pytest.mark.parametrize("seed", range(2))
def test_the_direct_result_is_always_that_of_the_usual_way(project: Project, seed: int) -> None:
    choose = random.Random(seed)
    project.settle()
    direct = 0
    done_so_far: list[str] = []
    for _ in range(10):
        done_so_far.append(edit(project, choose))
        if choose.random() < 0.6:
            time.sleep(0.13)
        for _ in range(choose.choice([1, 2, 3])):
            direct += project.is_direct()
            answer = project.build()
        project.forget()
        usual = project.build()
        assert (answer.code, answer.out) == (usual.code, usual.out), done_so_far
        if usual.code == 0:
            assert project.pybuild("images", "-q", "app", "--no-trunc") == usual.out
    assert direct
