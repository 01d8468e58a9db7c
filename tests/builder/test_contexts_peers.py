"""A git context, and ADD of a URL, give what they give with Debian's buildah (which has no ADD of
repositories).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential import archive, builders, case
from tests.differential.compare import Difference, differences
from tests.remote_fixtures.git_server import GitServer
from tests.remote_fixtures.http_server import HttpServer

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


class Bench:
    """pybuild and buildah, which build the same."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("pybuild", "peer"):
            (directory / name).mkdir()
        self.ours = builders.Pybuild(str(directory / "pybuild"))
        self.theirs = builders.Buildah(str(directory / "peer"))
        self.started = int(time.time()) - 2

    def compare(self, recipe: str) -> list[Difference]:
        """Build a recipe with both on an empty context; return what differs."""
        scene = self.directory / "scene"
        (scene / "context").mkdir(parents=True)
        (scene / "Dockerfile").write_text(recipe)
        one = case.Case("scene")
        return self._differences(*(each.build(one, str(scene)) for each in (self.ours, self.theirs)))

    def compare_contexts(self, url: str) -> list[Difference]:
        """Build the context behind `url` with both; return what differs."""
        ours, theirs = f"{self.directory}/ours.tar", f"{self.directory}/theirs.tar"
        for path in (ours, theirs):
            if os.path.exists(path):
                os.unlink(path)
        options = ("--timestamps", "keep", "-o", f"type=docker,dest={ours}")
        done = builders._run(
            [*self.ours._argv, "build", url, *options], self.ours._environment, str(self.directory)
        )
        one = builders.Built(None if done.returncode else ours, done.stdout)
        words = ["buildah", "build", "--layers=false", "--format", "docker", "--identity-label=false"]
        words += ["-t", f"docker-archive:{theirs}:case:latest", url]
        done = builders._run(words, self.theirs._environment, str(self.directory))
        return self._differences(one, builders.Built(None if done.returncode else theirs, done.stdout))

    def _differences(self, ours: builders.Built, theirs: builders.Built) -> list[Difference]:
        assert ours.archive is not None, ours.output
        assert theirs.archive is not None, theirs.output
        return differences(archive.read(ours.archive), archive.read(theirs.archive), self.started)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "bench").mkdir()
    found = Bench(tmp_path / "bench")
    try:
        yield found
    finally:
        found.theirs.close()


@pytest.fixture
def git(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served") as found:
        repository = found.repository("app")
        recipe = "FROM scratch\nCOPY . /app/\n"
        repository.commit(
            {"Dockerfile": recipe, "web/Dockerfile": recipe, "web/run.sh": "#!/bin/sh\n", "file": "x"}
        )
        repository.path.joinpath("web/run.sh").chmod(0o755)
        os.symlink("web/run.sh", repository.path / "link")
        repository.commit({"a b": "blank"})
        yield found


def unexpected(found: list[Difference]) -> list[Difference]:
    """Return what is not known to differ: buildah keeps .git, its files have the time of the checkout
    (BuildKit's, too), and it says no working directory."""
    return [
        each
        for each in found
        if not each.where.startswith(("/app/.git", "WorkingDir"))
        and not (each.aspect.endswith("mtime") and each.theirs == "now")
    ]


@pytest.mark.peer("buildah")
def test_a_git_context(bench: Bench, git: GitServer) -> None:
    for url in (f"{git.url}/app.git", f"{git.url}/app.git#main:web"):
        found = bench.compare_contexts(url)
        assert unexpected(found) == []
        assert found != []


@pytest.mark.peer("buildah")
def test_add_of_a_url(bench: Bench) -> None:
    with HttpServer() as web:
        url, tar = (
            web.serve("/dir/file.txt", b"content", modified=DATE),
            web.serve("/x.tar.gz", b"\x1f\x8b\x08"),
        )
        lines = (f"{url} /into/", f"{url} /as", f"--chmod=0750 --chown=3:4 {url} /run", f"{tar} /")
        found = bench.compare("FROM scratch\n" + "".join(f"ADD {line}\n" for line in lines))
    assert unexpected(found) == []
