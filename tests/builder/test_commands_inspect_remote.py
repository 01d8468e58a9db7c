"""`pybuild inspect --remote`: images and artifacts of a real docker-registry, against skopeo's view of
them.
"""

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
from tests.registry_fixtures.faulty import Fault, FaultyProxy
from tests.registry_fixtures.registry import Registry

pytestmark = pytest.mark.peer("docker-registry", "skopeo", "umoci")

LAYERS = [{"bin/tool": b"#!/bin/sh\n"}, {"etc/conf": b"x=1\n" * 1000}]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def _descriptor(data: bytes, kind: str, **more: object) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": kind, "digest": digest, "size": len(data), **more}


class Scene:
    """A registry with app:1 and app:arm, app:all for both, app:signature, which refers to app:1."""

    def __init__(self, directory: str, registry: Registry) -> None:
        self.registry = registry
        layout = images.make_layout(os.path.join(directory, "layout"), LAYERS)
        images.make_layout(layout, LAYERS, tag="arm", architecture="arm64")
        images.push(layout, registry, "app:1")
        images.push(layout, registry, "app:arm", tag="arm")
        self.manifests = {
            tag: images.read_blob(layout, images.manifest_digest(layout, tag)) for tag in ("latest", "arm")
        }
        members = [
            _descriptor(data, MANIFEST, platform={"os": "linux", "architecture": architecture})
            for data, architecture in zip(self.manifests.values(), ("amd64", "arm64"), strict=True)
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": members, "annotations": {"a": "index"}}
        self.index = json.dumps(index).encode()
        registry.put_manifest("app", "all", index)
        for data in (b"{}", b"signed"):
            registry.put_blob("app", data)
        signature = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/x.signature",
            "config": _descriptor(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [_descriptor(b"signed", "application/x.signed")],
            "subject": _descriptor(self.manifests["latest"], MANIFEST),
        }
        registry.put_manifest("app", "signature", signature)
        self.signature = _descriptor(
            json.dumps(signature).encode(),
            MANIFEST,
            artifactType="application/x.signature",
            annotations={"by": "ada"},
        )
        self.listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [self.signature]}

    def name(self, tag: str) -> str:
        return f"{self.registry.address}/app:{tag}"

    def digest(self, tag: str) -> str:
        return str(_descriptor(self.manifests[tag], "")["digest"])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = os.fspath(tmp_path_factory.mktemp("remote"))
    with Registry(os.path.join(directory, "registry")) as running:
        yield Scene(directory, running)


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(str(tmp_path / "store"), str(tmp_path))


def test_an_image_is_shown_without_its_layers(pybuild: Pybuild, scene: Scene) -> None:
    before = len(scene.registry.read_log().splitlines())
    (found,) = pybuild.json("inspect", "--remote", scene.name("1"))
    asked = scene.registry.read_log().splitlines()[before:]
    assert sum("/blobs/" in line and '"GET ' in line for line in asked) == 1, "the config alone"
    assert not os.path.exists(pybuild.root), "and no store is made for it"
    theirs = json.loads(images.skopeo("inspect", "--tls-verify=false", f"docker://{scene.name('1')}"))
    assert found["Digest"] == found["ManifestDigest"] == theirs["Digest"]
    assert (found["Architecture"], found["Os"]) == (theirs["Architecture"], theirs["Os"])
    assert [layer["Digest"] for layer in found["Layers"]] == theirs["Layers"]
    assert found["CompressedSize"] == sum(
        layer["size"] for layer in json.loads(scene.manifests["latest"])["layers"]
    )
    assert found["Config"]["Env"] == theirs["Env"]
    assert found["RepoDigests"] == [f"{scene.registry.address}/app@{theirs['Digest']}"]
    pybuild("pull", scene.name("1"))
    (local,) = pybuild.json("inspect", scene.name("1"))
    for key in ("Id", "Created", "Config", "RootFS"):
        assert found[key] == local[key]


def test_of_an_index_the_image_for_the_platform_is_shown(pybuild: Pybuild, scene: Scene) -> None:
    (found,) = pybuild.json("inspect", "--remote", "--platform", "linux/arm64", scene.name("all"))
    assert found["Architecture"] == "arm64"
    assert found["Digest"] == f"sha256:{hashlib.sha256(scene.index).hexdigest()}"
    assert found["ManifestDigest"] == scene.digest("arm")
    assert found["Platforms"] == {"linux/amd64": scene.digest("latest"), "linux/arm64": scene.digest("arm")}
    assert found["Annotations"] == {"a": "index"}
    done = pybuild.try_("inspect", "--remote", "--platform", "linux/s390x", scene.name("all"))
    assert done.code == 3 and "registry/platform" in done.err


def test_raw_is_byte_by_byte_what_the_digest_is_of(pybuild: Pybuild, scene: Scene) -> None:
    assert pybuild("inspect", "--remote", "--raw", scene.name("all")).encode() == scene.index
    assert pybuild("inspect", "--remote", "--raw", scene.name("1")).encode() == scene.manifests["latest"]
    words = ("inspect", "--remote", "--raw", "--platform", "linux/arm64", scene.name("all"))
    assert pybuild(*words).encode() == scene.manifests["arm"]
    theirs = images.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{scene.name('all')}")
    assert theirs.encode() == scene.index


def test_an_artifact_says_what_it_is(pybuild: Pybuild, scene: Scene) -> None:
    (found,) = pybuild.json("inspect", "--remote", scene.name("signature"))
    assert found["ArtifactType"] == "application/x.signature"
    assert found["Subject"] == scene.digest("latest")
    assert "Config" not in found


def test_referrers_are_listed_by_the_api(pybuild: Pybuild, scene: Scene) -> None:
    path = f"/v2/app/referrers/{scene.digest('latest')}"
    body = json.dumps(scene.listed).encode()
    with FaultyProxy(scene.registry.port, Fault("status", path, status=200, body=body)) as proxy:
        (found,) = pybuild.json("inspect", "--remote", "--referrers", f"{proxy.address}/app:1")
        assert proxy.paths("/referrers/") == [path]
    assert found["Referrers"] == [
        {
            "Digest": scene.signature["digest"],
            "MediaType": MANIFEST,
            "ArtifactType": "application/x.signature",
            "Size": scene.signature["size"],
            "Subject": scene.digest("latest"),
            "Annotations": {"by": "ada"},
        }
    ]


def test_referrers_are_found_by_their_tag_where_there_is_no_api(pybuild: Pybuild, scene: Scene) -> None:
    words = ("inspect", "--remote", "--referrers", "--format", "{{json .Referrers}}")
    assert json.loads(pybuild(*words, scene.name("arm"))) == []
    scene.registry.put_manifest("app", scene.digest("latest").replace(":", "-"), scene.listed)
    (found,) = json.loads(pybuild(*words, scene.name("1")))
    assert found["Digest"] == scene.signature["digest"]


def test_several_names_and_a_format(pybuild: Pybuild, scene: Scene) -> None:
    words = ("inspect", "--remote", "--format", "{{.Architecture}} {{len .Layers}}")
    done = pybuild.try_(*words, scene.name("1"), scene.name("none"), scene.name("arm"))
    assert done.code == 3 and "registry/not-found" in done.err
    assert done.lines == ["amd64 2", "arm64 2"]


@pytest.mark.parametrize(
    "words",
    [
        ("--raw",),
        ("--referrers",),
        ("--authfile", "x"),
        ("--remote", "--type", "container"),
        ("--remote", "--raw", "--format", "json"),
    ],
)
def test_what_does_not_go_together(pybuild: Pybuild, words: tuple[str, ...]) -> None:
    assert pybuild.try_("inspect", *words, "localhost:1/x").code == 2
