"""`pybuild push`: skopeo and podman find in the registry what the store has."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures import images
from tests.registry_fixtures.counting import CountingProxy
from tests.registry_fixtures.faulty import Fault, FaultyProxy
from tests.registry_fixtures.registry import Registry

pytestmark = pytest.mark.peer("docker-registry", "skopeo")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(os.fspath(tmp_path_factory.mktemp("push") / "registry")) as running:
        yield running


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    found = Pybuild(str(tmp_path / "store"), str(tmp_path))
    found.write("app.rec", "FROM scratch\nCOPY app.rec /app.rec\nLABEL a=b\n")
    return found


def inspect(registry: Registry, name: str) -> dict[str, Any]:
    told = images.skopeo(
        "inspect", "--raw", "--config", "--tls-verify=false", f"docker://{registry.address}/{name}"
    )
    found: dict[str, Any] = json.loads(told)
    return found


def test_an_image_goes_under_its_own_name(pybuild: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/own/app:1"
    image_id = pybuild("app.rec", "-t", name, "--quiet").strip()
    pushed = pybuild("push", name)
    assert pushed.startswith(f"Pushed {name}@sha256:")
    digest = pushed.strip().rpartition("@")[2]
    assert inspect(registry, "own/app:1")["config"]["Labels"] == {"a": "b"}
    raw = json.loads(images.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert raw["config"]["digest"] == image_id
    again = pybuild("push", "--quiet", "--digestfile", "digest", name)
    assert again.strip() == digest
    assert Path(pybuild.cwd, "digest").read_text() == digest


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_image_goes_under_another_name(
    pybuild: Pybuild, registry: Registry, compression: str, tmp_path: Path
) -> None:
    image_id = pybuild("app.rec", "--quiet").strip()
    name = f"docker://{registry.address}/other/app:{compression}"
    pybuild("push", "--quiet", "--compression", compression, image_id, name)
    raw = json.loads(images.skopeo("inspect", "--raw", "--tls-verify=false", name))
    assert raw["layers"][0]["mediaType"].endswith(f"tar+{compression}")
    images.skopeo("copy", "--src-tls-verify=false", name, f"oci:{tmp_path}/copied:app")
    other = Pybuild(str(tmp_path / "other"), str(tmp_path))
    pulled = other("pull", "--quiet", name.removeprefix("docker://"))
    assert pulled.strip() == image_id


@pytest.mark.parametrize("how", [["--push"], ["-o", "type=image,push=true"], ["-o", "type=registry"]])
def test_a_build_pushes_what_it_made_under_all_of_its_names(
    pybuild: Pybuild, registry: Registry, how: list[str]
) -> None:
    names = [f"{registry.address}/built/app:{tag}-{len(how[-1])}" for tag in ("1", "latest")]
    done = pybuild.try_("app.rec", "-t", names[0], "-t", names[1], *how, "--metadata-file", "told")
    assert done.code == 0, done.err
    assert f"pushed {names[0]}, {names[1]}" in done.err
    told = json.loads(Path(pybuild.cwd, "told").read_text())
    for name in names:
        raw = images.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
        assert json.loads(raw)["config"]["digest"] == told["image.id"]
        assert f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}" == told["containerimage.digest"]


def test_a_build_that_pushes_asks_the_registry_each_time(pybuild: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/again/app:1"
    pybuild("app.rec", "-t", name, "--push", "--quiet")
    done = pybuild.try_("app.rec", "-t", name, "--push")
    assert f"pushed {name}" in done.err


def test_several_platforms_go_as_an_index(pybuild: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/several/app:1"
    pybuild("app.rec", "-t", name, "--platform", "linux/amd64,linux/arm64", "--push", "--annotation", "a=b")
    raw = json.loads(images.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    assert [each["platform"]["architecture"] for each in raw["manifests"]] == ["amd64", "arm64"]
    arm = json.loads(
        images.skopeo(
            "inspect", "--override-arch=arm64", "--config", "--tls-verify=false", f"docker://{name}"
        )
    )
    assert arm["architecture"] == "arm64"


@pytest.mark.parametrize(
    "words",
    [
        ["--push"],
        ["-t", "x", "-o", "type=registry,dest=x"],
        ["-t", "x", "-o", "type=image"],
        ["-t", "x", "-o", "type=registry,compression=none"],
        ["-t", "x", "-o", "type=oci,dest=x,push=true"],
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_built(pybuild: Pybuild, words: list[str]) -> None:
    failed = pybuild.try_("app.rec", *words)
    assert failed.code == 2
    assert "[usage/output]" in failed.err
    assert pybuild("images", "--quiet") == ""


def test_what_cannot_be_pushed_is_an_error(pybuild: Pybuild, registry: Registry) -> None:
    image_id = pybuild("app.rec", "-t", "mine", "--quiet").strip()
    digest = "sha256:" + "0" * 64
    for words, code in (
        (("push", image_id), "usage/arguments"),
        (("push", "nothing", f"{registry.address}/x"), "image/unknown"),
        (("push", "mine", f"{registry.address}/x@{digest}"), "usage/place"),
        (("push", "mine", "localhost:1/x"), "registry/unreachable"),
    ):
        failed = pybuild.try_(*words)
        assert f"[{code}]" in failed.err, failed.err
        assert failed.code == (3 if code.startswith("registry/") else 2)


def test_what_the_registry_has_elsewhere_is_not_sent(
    pybuild: Pybuild, registry: Registry, tmp_path: Path
) -> None:
    """Neither what a base was pulled from another repository, however that is compressed, nor what has gone
    to one."""
    pybuild.write("base.rec", "FROM scratch\nCOPY base.rec /base.rec\n")
    pybuild("base.rec", "-t", f"{registry.address}/lent/base:1", "--push")
    other = Pybuild(str(tmp_path / "other"), str(tmp_path))
    with CountingProxy(registry.port) as proxy:
        other.write("own.rec", f"FROM {proxy.address}/lent/base:1\nCOPY app.rec /app.rec\n")
        # A layer and the config; nothing; the layer alone.
        for repository, count, kind in (("app", 2, "gzip"), ("again", 0, "gzip"), ("small", 1, "zstd")):
            proxy.reopen()
            name = f"{proxy.address}/lent/{repository}:1"
            other("own.rec", "-t", name, "-o", f"type=registry,compression={kind}")
            assert len(proxy.uploaded()) == count
            images.skopeo(
                "copy", "--src-tls-verify=false", f"docker://{registry.address}/lent/{repository}:1",
                f"dir:{tmp_path}/{repository}",
            )  # fmt: skip


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_another_repository_does_not_lend_is_sent(
    pybuild: Pybuild, registry: Registry, status: int
) -> None:
    """Who may not read there may write here; and what was there may be gone."""
    with FaultyProxy(registry.port) as proxy:
        pybuild("app.rec", "-t", f"{proxy.address}/mine/one-{status}:1", "--push")
        proxy.faults.append(Fault("status", f"mine%2Fone-{status}", times=99, status=status))
        pybuild("app.rec", "-t", f"{proxy.address}/mine/two-{status}:1", "--push")
        assert proxy.faults[0].times < 99
    assert inspect(registry, f"mine/two-{status}:1")["config"]["Labels"] == {"a": "b"}
