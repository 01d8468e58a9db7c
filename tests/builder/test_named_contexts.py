"""--build-context: names of images and stages that mean something else."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from builder.errors import PlanError, UsageError
from builder.namedcontexts import context_name, find, parse_contexts
from builder.steps import ImageBase, LocalTree
from cache.oci.platform import Platform
from tests.build_fixtures.project import Project
from tests.command_fixtures.pybuild import Pybuild
from tests.remote_fixtures.git_server import GitServer
from tests.remote_fixtures.http_server import HttpServer

AMD64 = Platform("linux", "amd64")


@pytest.fixture
def dep(project: Project) -> str:
    """A directory with two files and an ignore file that leaves one of them out."""
    project.write("../dep/kept", "one")
    project.write("../dep/left-out", "two")
    project.write("../dep/.dockerignore", "left-out\n")
    return os.path.join(project.directory, "dep")


def test_copy_reads_a_directory_through_its_own_ignore_file(project: Project, dep: str) -> None:
    project.write("left-out", "of the context")
    recipe = "FROM base\nCOPY --from=dep . /dep/\nCOPY left-out /\n"
    built = project.build(recipe, "--build-context", f"dep={dep}")
    assert sorted(project.files(built, "dep/")) == ["dep/.dockerignore", "dep/kept"]
    assert project.read(built, "left-out") == b"of the context"
    assert project.files(built)["dep/kept"].st_uid == 0


def test_a_directory_counts_by_its_content(project: Project, dep: str) -> None:
    recipe = "FROM base\nCOPY --from=dep kept /kept\n"
    option = f"--build-context=dep={dep}"
    assert project.build(recipe, option).outcomes == ["ran"]
    project.write("../dep/kept", "one", mtime=1_700_000_000)
    assert project.build(recipe, option).outcomes == ["cached"]
    project.write("../dep/kept", "two")
    again = project.build(recipe, option)
    assert (again.outcomes, again.reasons) == (["ran"], ["COPY kept changed: kept"])
    project.write("../other/kept", "two")
    assert project.build(recipe, f"--build-context=dep={project.directory}/other").outcomes == ["cached"]


def test_from_a_directory_has_its_files_and_nothing_else(project: Project, dep: str) -> None:
    project.write("../dep/tool", "#!/bin/sh\n", mode=0o755)
    built = project.build("FROM dep\nLABEL a=b\n", "--build-context", f"dep={dep}")
    assert sorted(project.files(built)) == [".dockerignore", "kept", "tool"]
    assert project.files(built)["tool"].st_mode & 0o777 == 0o755
    assert len(built.image.diff_ids) == 1
    assert built.config.labels == (("a", "b"),)


def test_a_context_has_the_place_of_a_stage(project: Project, dep: str) -> None:
    recipe = (
        "FROM base AS Build\nRUN exit 1\nFROM base\nCOPY --from=build kept /kept\nCOPY --from=0 kept /k\n"
    )
    built = project.build(recipe, "--build-context", f"build={dep}")
    assert project.read(built, "kept") == project.read(built, "k") == b"one"
    below = project.build("FROM base AS build\nRUN exit 1\nFROM build\n", f"--build-context=build={dep}")
    assert "kept" in project.files(below)


def test_a_stage_or_a_recipe_has_the_place_of_an_image(project: Project) -> None:
    recipe = "FROM ../base/base.rec AS mine\nRUN echo hi > /hi\nFROM nowhere.example/none:1\nRUN cat /hi\n"
    built = project.build(recipe, "--build-context", "nowhere.example/none:1=target:mine")
    assert built.output.endswith("hi\n")
    other = os.path.join(project.directory, "base", "base.rec")
    built = project.build("FROM debian\nRUN echo there\n", "--build-context", f"debian:latest={other}")
    assert built.output == "there\n"
    with pytest.raises(PlanError) as caught:
        project.build(recipe, "--build-context", "nowhere.example/none:1=target:mime")
    assert (caught.value.code, caught.value.hint) == ("stage/unknown", "Did you mean mine?")


def test_a_layout_has_the_place_of_an_image_with_its_config_and_triggers(pybuild: Pybuild) -> None:
    recipe = "FROM box\nENV COLOUR=red\nONBUILD RUN echo $COLOUR > /told\n"
    pybuild.build(recipe, "-o", "type=oci-layout,dest=layout")
    context = "--build-context=mycorp/base=oci-layout://layout"
    pybuild.build("FROM mycorp/base:latest\n", context, "-t", "app")
    assert "COLOUR=red" in pybuild.json("inspect", "app")[0]["Config"]["Env"]
    assert pybuild("run", "--rm", "app", "cat", "/told") == "red\n"
    # In a stage's place the image is taken as it is; who stands on the stage has its triggers.
    pybuild.build("FROM scratch AS base\nFROM base\n", "--build-context=base=oci-layout://layout", "-t", "on")
    assert pybuild("run", "--rm", "on", "cat", "/told") == "red\n"
    pybuild.build("FROM mycorp/base\n", "--build-context=mycorp/base=docker-image://box", "-t", "app")
    assert "COLOUR=red" not in pybuild.json("inspect", "app")[0]["Config"]["Env"]


def test_a_mount_shows_a_directory(project: Project, dep: str) -> None:
    recipe = "FROM base\nRUN --mount=from=dep,target=/d cat /d/* > /told; ls /d >> /told\n"
    option = f"--build-context=dep={dep}"
    built = project.build(recipe, option)
    assert project.read(built, "told") == b"onekept\n"
    assert project.build(recipe, option).outcomes == ["cached"]
    project.write("../dep/left-out", "changed")
    assert project.build(recipe, option).outcomes == ["cached"]
    project.write("../dep/kept", "changed")
    assert project.build(recipe, option).outcomes == ["ran"]


def test_a_strangers_recipe_stands_on_what_the_command_line_names(pybuild: Pybuild, tmp_path: Path) -> None:
    pybuild.build("FROM box\n", "-o", "type=oci-layout,dest=layout")
    with GitServer(tmp_path / "served") as git:
        git.repository("p.git").commit({"Dockerfile": "FROM mine\nRUN echo built\n"})
        pybuild("build", f"{git.url}/p.git", "--build-context", "mine=oci-layout://layout", "-t", "built")
        layout = f"FROM oci-layout://{pybuild.cwd}/layout\n"
        git.repository("q.git").commit({"Dockerfile": layout})
        assert "[recipe/outside]" in pybuild.try_("build", f"{git.url}/q.git").err


def test_scratch_cannot_be_another(project: Project, dep: str) -> None:
    built = project.build("FROM scratch\nLABEL a=b\n", "--build-context", f"scratch={dep}")
    assert built.image.diff_ids == ()


def test_a_recipe_that_is_a_base_knows_nothing_of_them(project: Project, dep: str) -> None:
    project.recipe("FROM base\nCOPY --from=dep kept /\n", "below.rec")
    with pytest.raises(Exception, match="dep") as caught:
        project.build("FROM ./below.rec\n", "--build-context", f"dep={dep}", "--pull")
    assert getattr(caught.value, "span", None) is not None


def test_a_cached_build_notices_a_changed_file_of_a_directory(pybuild: Pybuild) -> None:
    path = pybuild.write("dep/file", "1")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    recipe = "FROM box\nCOPY --from=dep file /file\n"
    option = "--build-context=dep=dep"
    first = pybuild.build(recipe, option)
    assert [pybuild("build", "test.rec", option).strip() for _ in range(3)] == [first] * 3
    pybuild.write("dep/file", "2")
    second = pybuild("build", "test.rec", option).strip()
    assert second != first
    pybuild.write("dep/.dockerignore", "file\n")
    assert "[copy/ignored]" in pybuild.try_("build", "test.rec", option).err


def test_plan_looks_into_directories(pybuild: Pybuild) -> None:
    pybuild.write("dep/file", "1")
    recipe = "FROM box\nCOPY --from=dep file /file\n"
    pybuild.build(recipe, "--build-context=dep=dep")
    assert "1/1 cached" in pybuild("plan", "test.rec", "--build-context=dep=dep")
    pybuild.write("dep/file", "2")
    assert "COPY file changed: file" in pybuild("plan", "test.rec", "--build-context=dep=dep")


def test_the_configuration_names_contexts_from_its_own_directory(pybuild: Pybuild) -> None:
    pybuild.write("dep/file", "configured")
    pybuild.write("sub/dep/file", "given")
    pybuild.write("pybuild.toml", '[build-contexts]\ndep = "dep"\n')
    pybuild.build("FROM box\nCOPY --from=dep file /file\n", "-t", "app")
    assert pybuild("run", "--rm", "app", "cat", "/file") == "configured"
    pybuild("build", "test.rec", "--build-context", "dep=sub/dep", "-t", "app")
    assert pybuild("run", "--rm", "app", "cat", "/file") == "given"
    pybuild.write("pybuild.toml", "[build-contexts]\ndep = 1\n")
    assert "[config/value]" in pybuild.try_("build", "test.rec").err


@pytest.mark.parametrize(
    "text", ["dep", "=x", "dep=", "UPPER=.", "dep=./none", "dep=ftp://x/y", "dep=docker-image://UPPER"]
)
def test_what_makes_no_context_is_an_error(project: Project, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        project.build("FROM base\n", "--build-context", text)
    assert caught.value.code == "usage/build-context"


def test_a_repository_and_a_tar_behind_a_url_are_read_as_directories(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("kept", ".dockerignore"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            tar.addfile(entry, io.BytesIO(b"kept\n"))
    with GitServer(tmp_path / "served") as git, HttpServer() as server:
        git.repository("p.git").commit({"sub/file": "of git"})
        contexts = (
            f"--build-context=dep={git.url}/p.git#:sub",
            f"--build-context=base={server.serve('/files.tar', archive.getvalue())}",
        )
        recipe = "FROM base\nCOPY --from=dep . /dep/\n"
        image = pybuild.build(recipe, *contexts, "-o", "type=dir,dest=out")
        assert sorted(os.listdir(f"{pybuild.cwd}/out")) == [".dockerignore", "dep", "kept"]
        with open(f"{pybuild.cwd}/out/dep/file") as file:
            assert file.read() == "of git"
        assert pybuild("build", "test.rec", *contexts).strip() == image
        assert "2 cached" in pybuild.try_("build", "test.rec", *contexts).err
        done = pybuild.try_("plan", "test.rec", *contexts)
        assert (done.code, "[context/elsewhere]" in done.err) == (2, True)
    assert os.listdir(f"{pybuild.root}/tmp") == []


def test_names_are_those_of_images() -> None:
    assert context_name("docker.io/library/debian:latest") == context_name("debian") == "debian"
    assert context_name("debian:bookworm") == "debian:bookworm"
    contexts = parse_contexts({"docker.io/library/app": "docker-image://box"}, AMD64)
    assert contexts == (("app", ImageBase("box", AMD64)),)
    assert find(contexts, "app:latest") == ImageBase("box", AMD64)
    assert find(contexts, "app:1") is find(contexts, "no name") is None


def test_paths_are_meant_from_the_working_directory(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("dir")
    found = dict(parse_contexts({"a": "dir", "b": "oci-layout://dir:1@sha256:" + "0" * 64}, AMD64))
    here = os.fspath(tmp_path)
    assert found["a"] == LocalTree(f"{here}/dir", "a")
    assert found["b"] == ImageBase(f"oci-layout://{here}/dir:1@sha256:{'0' * 64}", AMD64)
