"""`pybuild pull`, from a real docker-registry."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures import images
from tests.registry_fixtures.counting import CountingProxy
from tests.registry_fixtures.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.peer("docker-registry", "skopeo", "umoci")

LAYERS = [{"bin/tool": b"#!/bin/sh\n"}, {"etc/conf": b"x=1\n"}]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with app:1, app:arm, and app:all for both platforms."""
    directory = os.fspath(tmp_path_factory.mktemp("pull"))
    with Registry(os.path.join(directory, "registry")) as running:
        layout = images.make_layout(os.path.join(directory, "layout"), LAYERS)
        images.make_layout(layout, LAYERS, tag="arm", architecture="arm64")
        images.push(layout, running, "app:1")
        images.push(layout, running, "app:arm", tag="arm")
        members = [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": images.manifest_digest(layout, tag),
                "size": len(images.read_blob(layout, images.manifest_digest(layout, tag))),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for tag, architecture in (("latest", "amd64"), ("arm", "arm64"))
        ]
        kind = "application/vnd.oci.image.index.v1+json"
        running.put_manifest("app", "all", {"schemaVersion": 2, "mediaType": kind, "manifests": members})
        yield running


@pytest.fixture
def puller(tmp_path: Path) -> Pybuild:
    """pybuild on an empty store, in a home without logins."""
    return Pybuild(str(tmp_path / "store"), str(tmp_path))


def test_a_pulled_image_is_there_by_its_name_and_by_its_digest(puller: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/app:1"
    said = puller("pull", name)
    assert said.startswith(f"Pulled {name}@sha256:")
    found = puller.json("inspect", name)[0]
    assert len(found["RootFS"]["Layers"]) == 2
    digest = said.strip().partition("@")[2]
    assert puller.json("inspect", f"{registry.address}/app@{digest}")[0]["Id"] == found["Id"]
    for spelt in (name, f"docker://{name}", f"docker-image://{name}"):
        assert puller("pull", "-q", spelt) == found["Id"] + "\n"


def test_the_policy_says_when_the_registry_is_asked(puller: Pybuild, tmp_path: Path) -> None:
    layout = images.make_layout(os.fspath(tmp_path / "layout"), LAYERS)
    images.make_layout(layout, [*LAYERS, {"new": b""}], tag="second")
    with Registry(os.fspath(tmp_path / "registry")) as registry:
        name = images.push(layout, registry, "app")
        assert puller.try_("pull", "--policy=never", name).code == 2
        first = puller("pull", "-q", name)
        images.push(layout, registry, "app", tag="second")
        for policy in ("missing", "never"):
            assert puller("pull", "-q", f"--policy={policy}", name) == first
        second = puller("pull", "-q", "--policy=newer", name)
        assert second != first
    assert puller("pull", "-q", "--policy=newer", name) == second
    gone = puller.try_("pull", "--policy=newer", name)
    assert "the one in the store is taken" in gone.err
    assert puller.try_("pull", name).code == 3


def test_a_platform_is_chosen_and_all_go_by_one_name(puller: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/app:all"
    arm = puller("pull", "-q", "--platform", "linux/arm64", name).strip()
    assert puller.json("inspect", arm)[0]["Architecture"] == "arm64"
    index = puller("pull", "-q", "--all-platforms", name).strip()
    found = puller.json("inspect", name)[0]
    assert found["Index"] == index
    assert sorted(found["Platforms"]) == ["linux/amd64", "linux/arm64"]
    assert puller("pull", "-q", "--platform", "linux/amd64,linux/arm64", name).strip() == index
    puller("pull", "--all-platforms", f"{registry.address}/app:1")
    assert puller.try_("pull", "--all-platforms", "--platform", "linux/amd64", name).code == 2


def test_one_name_that_is_not_there_does_not_keep_the_others(puller: Pybuild, registry: Registry) -> None:
    done = puller.try_("pull", "-q", f"{registry.address}/none", f"{registry.address}/app:1")
    assert done.code == 3 and "registry/not-found" in done.err
    assert done.out.startswith("sha256:")
    for wrong in ("UPPER", "oci-archive:///x", "mmdebstrap://bookworm"):
        assert puller.try_("pull", wrong).code in (2, 3)


def test_a_build_takes_what_was_pulled(puller: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/app:1"
    puller("pull", name)
    before = registry.read_log().count("GET /v2/")
    puller.build(f"FROM {name}\nLABEL a=b\n", "-t", "child")
    assert registry.read_log().count("GET /v2/") == before


def test_logins_of_a_named_file_are_used(puller: Pybuild, tmp_path: Path) -> None:
    layout = images.make_layout(os.fspath(tmp_path / "layout"), LAYERS)
    with Registry(os.fspath(tmp_path / "registry"), login=True) as registry:
        name = f"{registry.address}/app:1"
        words = ["--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"]
        subprocess.run(["skopeo", "copy", *words, f"oci:{layout}:latest", f"docker://{name}"], check=True)
        logins = str(tmp_path / "logins.json")
        assert puller.try_("pull", name, HOME=str(tmp_path)).code == 3
        words = ["-u", USER, "--password-stdin", "--authfile", logins]
        puller("login", *words, registry.address, stdin=PASSWORD)
        assert puller("pull", "-q", "--authfile", logins, name, HOME=str(tmp_path)).startswith("sha256:")


def test_a_mirror_that_pybuild_toml_names_has_it_all(
    puller: Pybuild, registry: Registry, tmp_path: Path
) -> None:
    """Manifest, config and layers come from there, for a pull and for a build; the registry itself, which is
    not even there, is asked for what the mirror lacks alone."""
    for name in (f"{registry.address}/app:1", f"{registry.address}/other:1"):
        images.skopeo(
            "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
            f"docker://{registry.address}/app:1", f"docker://{name.replace('/', '/hub/', 1)}",
        )  # fmt: skip
    with CountingProxy(registry.port) as proxy:
        puller.write(
            "pybuild.toml", f'[registries."registry.invalid"]\nmirrors = ["http://{proxy.address}/hub"]\n'
        )
        assert puller("pull", "registry.invalid/app:1").startswith("Pulled registry.invalid/app:1@sha256:")
        assert len(proxy.downloaded()) == 3
        puller.write("own.rec", "FROM registry.invalid/other:1\nCOPY own.rec /own.rec\n")
        puller("own.rec", "-o", "type=dir,dest=out")
        assert (tmp_path / "out/etc/conf").read_text() == "x=1\n"
        assert {each.path.split("/")[2] for each in proxy.exchanges} == {"hub"}
    lacking = puller.try_("pull", "registry.invalid/none:1")
    assert lacking.code == 3
    assert "registry.invalid" in lacking.err
