"""Layers of a registry's base stay there until somebody reads them; and what cannot be had is made again."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures.registry import Registry

pytestmark = pytest.mark.peer("docker-registry", "busybox")

BASE = """FROM scratch
COPY busybox /bin/busybox
COPY base.rec /etc/base
ENV GREETING=hello
"""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with base:1 of two layers, pushed from a store that is gone."""
    with Registry(os.fspath(tmp_path / "registry")) as running:
        maker = Pybuild(str(tmp_path / "maker"), str(tmp_path))
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, tmp_path / "busybox")
        maker.write("base.rec", BASE)
        maker("build", "base.rec", "-t", f"{running.address}/base:1", "--push")
        yield running


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    """pybuild on an empty store, in a directory with one file to copy."""
    (tmp_path / "work").mkdir()
    found = Pybuild(str(tmp_path / "store"), str(tmp_path / "work"))
    found.write("file", "content")
    return found


def fetched(registry: Registry, since: int = 0) -> int:
    """Return how many blobs that are no config somebody has asked for, after `since` of them."""
    asked = re.findall(r'"GET /v2/base/blobs/sha256:([0-9a-f]+) HTTP', registry.read_log())
    return len(dict.fromkeys(asked)) - 1 - since


def overlays(pybuild: Pybuild) -> int:
    return len(os.listdir(os.path.join(pybuild.root, "overlay2"))) - 1


def test_a_base_that_nothing_is_run_on_stays_in_its_registry(pybuild: Pybuild, registry: Registry) -> None:
    recipe = f"FROM {registry.address}/base:1\nENV A=b\nFROM scratch\nCOPY file /new\n"
    pybuild.build(recipe)
    image = pybuild.build(f"FROM {registry.address}/base:1\nENV A=b\n", "-t", "app")
    assert fetched(registry) == 0
    assert overlays(pybuild) == 1
    assert len(pybuild.json("inspect", "app")[0]["RootFS"]["Layers"]) == 2
    assert "app" in pybuild("images")
    assert len(pybuild("history", "app").splitlines()) > 3
    assert pybuild.json("layers", "app", "--json")
    assert pybuild.build(f"FROM {registry.address}/base:1\nENV A=b\n") == image
    pybuild("prune")
    assert pybuild.json("inspect", "app")[0]["Id"] == image
    assert fetched(registry) == 0


def test_a_step_that_runs_on_it_gets_its_layers(pybuild: Pybuild, registry: Registry) -> None:
    recipe = f'FROM {registry.address}/base:1\nRUN ["/bin/busybox", "cp", "/etc/base", "/copied"]\n'
    image = pybuild.build(recipe, "-t", "app", SOURCE_DATE_EPOCH="1")
    assert fetched(registry) == 2
    assert overlays(pybuild) == 3
    assert pybuild("run", "app", "/bin/busybox", "cat", "/copied") == BASE
    other = Pybuild(pybuild.root + "-eager", pybuild.cwd)
    other("pull", f"{registry.address}/base:1")
    assert other.build(recipe, SOURCE_DATE_EPOCH="1") == image


def test_an_output_has_all_layers(pybuild: Pybuild, registry: Registry) -> None:
    pybuild.build(f"FROM {registry.address}/base:1\nENV A=b\n", "-t", "app")
    assert fetched(registry) == 0
    pybuild("save", "app", "-o", "app.tar")
    assert fetched(registry) == 2
    other = Pybuild(pybuild.root + "-other", pybuild.cwd)
    other.build(f"FROM {registry.address}/base:1\nENV A=c\n", "-o", "type=dir,dest=out")
    assert Path(pybuild.cwd, "out/etc/base").read_text() == BASE


def test_what_was_pruned_away_comes_back(pybuild: Pybuild, registry: Registry) -> None:
    recipe = f"FROM {registry.address}/base:1\nCOPY --from={registry.address}/base:1 /etc/base /again\n"
    image = pybuild.build(recipe, SOURCE_DATE_EPOCH="1")
    assert fetched(registry) == 2
    pybuild("rmi", "--force", pybuild.json("inspect", f"{registry.address}/base:1")[0]["Id"])
    pybuild("prune")
    assert overlays(pybuild) == 0
    assert pybuild.build(recipe, SOURCE_DATE_EPOCH="1") == image


def test_a_layer_that_its_registry_lost_is_said_so(pybuild: Pybuild, registry: Registry) -> None:
    address = registry.address
    pybuild.build(f"FROM {address}/base:1\nENV A=b\n", "-t", "app")
    for path in Path(os.path.dirname(registry.log)).rglob("blobs/sha256/*/*/data"):
        if path.stat().st_size > 10_000:
            path.unlink()
    pybuild.write("next.rec", f'FROM {address}/base:1\nRUN ["/bin/busybox", "true"]\n')
    done = pybuild.try_("build", "next.rec")
    assert done.code == 3
    assert "layer/unavailable" in done.err
    assert "registry/not-found" in done.err
    assert "Traceback" not in done.err
    done = pybuild.try_("run", "app", "/bin/busybox", "true")
    assert done.code == 125
    assert "layer/unavailable" in done.err


def test_a_layer_that_is_another_one_is_refused(pybuild: Pybuild, registry: Registry) -> None:
    pybuild.write("next.rec", f'FROM {registry.address}/base:1\nRUN ["/bin/busybox", "true"]\n')
    for path in Path(os.path.dirname(registry.log)).rglob("blobs/sha256/*/*/data"):
        if path.stat().st_size > 10_000:
            path.write_bytes(bytes(path.stat().st_size))
    done = pybuild.try_("build", "next.rec")
    assert done.code == 3
    assert "Traceback" not in done.err
    assert overlays(pybuild) == 0
