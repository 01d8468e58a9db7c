"""`pybuild copy`: every digest stays, and skopeo, umoci and podman read what was written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.exporter_fixtures.podman import Podman
from tests.registry_fixtures import images
from tests.registry_fixtures.faulty import Fault, FaultyProxy, Kind
from tests.registry_fixtures.registry import PASSWORD, USER, Registry
from tests.registry_fixtures.token_server import TokenServer
from tests.rootless_fixtures.user import User

pytestmark = pytest.mark.peer("docker-registry", "skopeo", "umoci")

BIG = os.urandom(1_500_000)
LAYERS = [{"bin/tool": b"#!/bin/sh\n"}, {"data": BIG}, {"etc/conf": b"x=1\n"}]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(data: bytes, kind: str, **more: object) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data), **more}


class Origin:
    """A registry with app:1 (one platform), app:all (two of them, in an index written oddly), and
    app:signature, which refers to app:1; a layout with the same images.
    """

    def __init__(self, directory: str, registry: Registry) -> None:
        self.registry = registry
        self.layout = images.make_layout(os.path.join(directory, "layout"), LAYERS)
        images.make_layout(self.layout, LAYERS[:2], tag="arm", architecture="arm64")
        images.push(self.layout, registry, "app:1")
        images.push(self.layout, registry, "app:arm", tag="arm")
        self.one = images.read_blob(self.layout, images.manifest_digest(self.layout))
        self.arm = images.read_blob(self.layout, images.manifest_digest(self.layout, "arm"))
        members = [
            _descriptor(data, MANIFEST, platform={"os": "linux", "architecture": architecture})
            for data, architecture in ((self.one, "amd64"), (self.arm, "arm64"))
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": members, "x-unknown": [1]}
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
            "subject": _descriptor(self.one, MANIFEST),
        }
        self.signature = json.dumps(signature).encode()
        registry.put_manifest("app", "signature", signature)
        item = _descriptor(self.signature, MANIFEST, artifactType="application/x.signature")
        listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [item]}
        registry.put_manifest("app", _digest(self.one).replace(":", "-"), listed)

    def name(self, tag: str) -> str:
        return f"docker://{self.registry.address}/app:{tag}"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    directory = os.fspath(tmp_path_factory.mktemp("copy"))
    with Registry(os.path.join(directory, "registry")) as running:
        yield Origin(directory, running)


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(str(tmp_path / "store"), str(tmp_path))


def _raw(place: str) -> bytes:
    insecure = ["--tls-verify=false"] if place.startswith("docker:") else []
    return images.skopeo("inspect", "--raw", *insecure, place).encode()


def _whole(layout: Path) -> None:
    """Every blob of a layout has its digest, and what its index names is there, all the way down."""
    blobs = layout / "blobs/sha256"
    known = {f"sha256:{path.name}" for path in blobs.iterdir()}
    assert all(_digest((blobs / name.partition(":")[2]).read_bytes()) == name for name in known)
    todo = [item["digest"] for item in json.loads((layout / "index.json").read_text())["manifests"]]
    while todo:
        document = json.loads((blobs / todo.pop().partition(":")[2]).read_text())
        todo += [item["digest"] for item in document.get("manifests", ())]
        parts = [document[key] for key in ("config",) if key in document] + document.get("layers", [])
        assert {part["digest"] for part in parts} <= known


def test_a_copy_has_every_digest_of_its_original(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    digest = _digest(origin.one)
    assert pybuild("copy", origin.name("1"), "oci:layout:one") == f"Copied {digest}\n"
    assert pybuild("copy", "-q", "oci:layout:one", "oci-archive:image.tar:two") == f"{digest}\n"
    assert pybuild("copy", "-q", "oci-archive:image.tar", "oci-layout://second:three") == f"{digest}\n"
    for place in ("oci:layout:one", "oci-archive:image.tar:two", "oci:second:three"):
        kind, _, rest = place.partition(":")
        assert _raw(f"{kind}:{tmp_path}/{rest}") == origin.one
    _whole(tmp_path / "layout")
    _whole(tmp_path / "second")
    bundle = str(tmp_path / "unpacked")
    subprocess.run(["umoci", "raw", "unpack", "--image", f"{tmp_path}/second:three", bundle], check=True)
    assert Path(bundle, "data").read_bytes() == BIG


def test_all_platforms_go_or_one(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    assert pybuild("copy", "-q", origin.name("all"), "oci:all:x").strip() == _digest(origin.index)
    assert _raw(f"oci:{tmp_path}/all:x") == origin.index
    _whole(tmp_path / "all")
    words = ("copy", "-q", "--platform", "linux/arm64", origin.name("all"), "oci:arm:x")
    assert pybuild(*words).strip() == _digest(origin.arm)
    assert _raw(f"oci:{tmp_path}/arm:x") == origin.arm
    done = pybuild.try_("copy", "--platform", "linux/s390x", origin.name("all"), "oci:none:x")
    assert done.code == 3 and "registry/platform" in done.err
    assert not (tmp_path / "none").exists()


def test_a_layout_keeps_what_it_has(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    pybuild("copy", origin.name("1"), "oci:layout:one")
    pybuild("copy", origin.name("arm"), "oci:layout:arm")
    pybuild("copy", origin.name("arm"), "oci:layout:one")
    assert _raw(f"oci:{tmp_path}/layout:one") == _raw(f"oci:{tmp_path}/layout:arm") == origin.arm
    index = json.loads((tmp_path / "layout/index.json").read_text())
    assert len(index["manifests"]) == 2


def test_what_a_layout_has_is_not_fetched(pybuild: Pybuild, origin: Origin) -> None:
    with FaultyProxy(origin.registry.port) as proxy:
        pybuild("copy", f"{proxy.address}/app:1", "oci:layout:one")
        assert len(proxy.paths("/blobs/")) == 4
        pybuild("copy", f"{proxy.address}/app:all", "oci:layout:all")
        assert len(proxy.paths("/blobs/")) == 5, "the config of the other platform"


def test_what_refers_to_an_image_goes_along(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    pybuild("copy", origin.name("1"), "oci:without:x")
    assert len(json.loads((tmp_path / "without/index.json").read_text())["manifests"]) == 1
    pybuild("copy", "--referrers", origin.name("1"), "oci:layout:x")
    pybuild("copy", "--referrers", "oci:layout:x", "oci-archive:image.tar:x")
    pybuild("copy", "--referrers", "oci-archive:image.tar:x", "oci:second:x")
    for layout in ("layout", "second"):
        _whole(tmp_path / layout)
        items = json.loads((tmp_path / layout / "index.json").read_text())["manifests"]
        assert [item["digest"] for item in items] == [_digest(origin.one), _digest(origin.signature)]
        assert items[1]["artifactType"] == "application/x.signature"


class Target:
    """A registry that is copied to, behind a proxy that goes wrong as it is told."""

    def __init__(self, registry: Registry, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.direct = f"docker://{registry.address}"
        self.address = f"docker://{proxy.address}"

    def seen(self, method: str, part: str = "") -> list[str]:
        return [seen.path for seen in self.proxy.seen if seen.method == method and part in seen.path]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    with Registry(str(tmp_path / "target")) as registry, FaultyProxy(registry.port) as proxy:
        yield Target(registry, proxy)


def test_from_one_registry_to_another(pybuild: Pybuild, origin: Origin, target: Target) -> None:
    name = f"{target.address}/a/b:x"
    assert pybuild("copy", "-q", origin.name("all"), name).strip() == _digest(origin.index)
    assert _raw(f"{target.direct}/a/b:x") == origin.index
    assert _raw(f"{target.direct}/a/b@{_digest(origin.arm)}") == origin.arm
    assert len(target.seen("PATCH")) == 5
    pybuild("pull", f"{target.direct}/a/b:x", "--all-platforms")
    pybuild("copy", origin.name("1"), f"{target.address}/a/b:y")
    assert len(target.seen("PATCH")) == 5, "what is there is not sent again"
    assert target.seen("PUT")[-1] == "/v2/a/b/manifests/y", "the name comes last"


def test_a_copy_can_go_by_its_digest_alone(pybuild: Pybuild, origin: Origin, target: Target) -> None:
    name = f"{target.address}/a@{_digest(origin.one)}"
    pybuild("copy", origin.name("1"), name)
    assert _raw(f"{target.direct}/a@{_digest(origin.one)}") == origin.one
    done = pybuild.try_("copy", origin.name("arm"), name)
    assert done.code == 2 and "usage/place" in done.err
    assert not target.seen("PATCH", _digest(origin.arm))


def test_within_a_registry_blobs_are_mounted(pybuild: Pybuild, origin: Origin, target: Target) -> None:
    pybuild("copy", origin.name("all"), f"{target.address}/a:x")
    before = len(target.seen("PATCH"))
    pybuild("copy", f"{target.address}/a:x", f"{target.address}/b:x")
    assert len(target.seen("PATCH")) == before
    assert len(target.seen("POST", "mount=")) == 5
    assert not target.seen("GET", "/blobs/")
    assert _raw(f"{target.direct}/b:x") == origin.index


def test_referrers_are_listed_where_they_are_copied_to(
    pybuild: Pybuild, origin: Origin, target: Target
) -> None:
    for _ in range(2):
        pybuild("copy", "--referrers", origin.name("1"), f"{target.address}/a:x")
    words = ("inspect", "--remote", "--referrers", "--format", "{{json .Referrers}}")
    (found,) = json.loads(pybuild(*words, f"{target.address}/a:x"))
    assert found["Digest"] == _digest(origin.signature)
    assert found["ArtifactType"] == "application/x.signature"
    assert _raw(f"{target.direct}/a@{found['Digest']}") == origin.signature


def test_layouts_and_archives_go_to_a_registry(
    pybuild: Pybuild, origin: Origin, target: Target, tmp_path: Path
) -> None:
    pybuild("copy", f"oci:{origin.layout}:latest", f"{target.address}/a:layout")
    pybuild("copy", f"oci:{origin.layout}:latest", "docker-archive:image.tar")
    pybuild("copy", "docker-archive:image.tar", f"{target.address}/a:archive")
    pybuild("pull", f"{target.direct}/a:archive")
    pybuild("copy", f"store:{target.direct.removeprefix('docker://')}/a:archive", f"{target.address}/a:store")
    assert _raw(f"{target.direct}/a:layout") == origin.one
    first, second = (json.loads(_raw(f"{target.direct}/a:{tag}")) for tag in ("archive", "store"))
    assert first["layers"] == second["layers"]
    assert first["config"]["digest"] == json.loads(origin.one)["config"]["digest"]


def test_an_upload_that_breaks_is_begun_anew(pybuild: Pybuild, origin: Origin, target: Target) -> None:
    target.proxy.faults = [
        Fault("cut", "PATCH", at=400_000, times=2, least=1_000_000),
        Fault("drop", "PUT /v2/a/blobs"),
        Fault("status", "PATCH", status=503, times=2),
        Fault("status", "POST", status=429, headers={"Retry-After": "0"}),
    ]
    pybuild("copy", origin.name("1"), f"{target.address}/a:x")
    assert _raw(f"{target.direct}/a:x") == origin.one
    assert not any(fault.times for fault in target.proxy.faults)


@pytest.mark.parametrize("kind", ["drop", "status"])
def test_a_registry_that_fails_for_good_has_no_name_for_it(
    pybuild: Pybuild, origin: Origin, target: Target, kind: Kind
) -> None:
    target.proxy.faults = [Fault(kind, "PATCH", times=100, status=507)]
    done = pybuild.try_("copy", origin.name("1"), f"{target.address}/a:x")
    assert done.code == 3 and "cannot be sent" in done.err
    assert not target.seen("PUT")


def test_what_comes_damaged_is_not_what_arrives(pybuild: Pybuild, origin: Origin, target: Target) -> None:
    large = json.loads(origin.one)["layers"][1]["digest"]
    with FaultyProxy(origin.registry.port, Fault("corrupt", large, at=9)) as proxy:
        pybuild("copy", f"{proxy.address}/app:1", f"{target.address}/a:x")
        assert _raw(f"{target.direct}/a:x") == origin.one
        proxy.faults = [Fault("corrupt", large, at=9, times=10)]
        done = pybuild.try_("copy", f"{proxy.address}/app:1", f"{target.address}/b:x")
        assert done.code == 3 and "image/digest" in done.err and "came corrupted" in done.err
        assert not target.seen("PUT", "/v2/b/manifests")


def test_token_servers_are_asked_for_what_a_copy_needs(
    pybuild: Pybuild, origin: Origin, tmp_path: Path
) -> None:
    with TokenServer(str(tmp_path / "tokens")) as tokens:
        token = (tokens.realm, tokens.certificate)
        with Registry(str(tmp_path / "guarded"), token=token) as guarded:
            logins = str(tmp_path / "logins.json")
            words = ("login", "-u", USER, "--password-stdin", "--authfile", logins, guarded.address)
            pybuild(*words, stdin=PASSWORD)
            copy = ("copy", "--authfile", logins)
            pybuild(*copy, origin.name("1"), f"docker://{guarded.address}/private/a:x")
            tokens.requests.clear()
            pybuild(
                *copy, f"docker://{guarded.address}/private/a:x", f"docker://{guarded.address}/private/b:x"
            )
            scopes = {scope for _, scope, _ in tokens.requests}
            assert "repository:private/b:pull,push repository:private/a:pull" in scopes
            assert '"PATCH /v2/private/b' not in guarded.read_log()
            done = pybuild.try_("copy", origin.name("1"), f"docker://{guarded.address}/private/c:x")
            assert done.code == 3 and "registry/" in done.err


@pytest.mark.peer("podman")
def test_docker_archives_go_out_and_in(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    pybuild("copy", origin.name("all"), "docker-archive:image.tar:team/app:1", "--platform", "linux/amd64")
    with tarfile.open(tmp_path / "image.tar") as archive:
        (entry,) = json.load(archive.extractfile("manifest.json") or pytest.fail("no manifest"))
        assert entry["RepoTags"] == ["docker.io/team/app:1"]
        for layer in entry["Layers"]:
            file = archive.extractfile(layer)
            assert file is not None and hashlib.sha256(file.read()).hexdigest() == layer.removesuffix(".tar")
    config = json.loads(origin.one)["config"]["digest"]
    assert entry["Config"] == f"{config.partition(':')[2]}.json"
    with closing(Podman(str(tmp_path / "podman"))) as podman:
        podman("load", "-i", str(tmp_path / "image.tar"))
        assert podman("image", "inspect", "--format", "{{.Id}}", "team/app:1").strip() == config[7:]
    first = pybuild("copy", "-q", "docker-archive:image.tar", "oci:layout:x")
    assert pybuild("copy", "-q", "docker-archive:image.tar:team/app:1", "oci:layout:y") == first
    _whole(tmp_path / "layout")
    assert json.loads(_raw(f"oci:{tmp_path}/layout:x"))["config"]["digest"] == config
    subprocess.run(["gzip", "-k", str(tmp_path / "image.tar")], check=True)
    assert pybuild("copy", "-q", "docker-archive:image.tar.gz", "oci:layout:z") == first


def test_images_of_the_store_go_out(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    pybuild("pull", f"{origin.registry.address}/app:1")
    pybuild.write("Dockerfile", f"FROM {origin.registry.address}/app:1\nCOPY Dockerfile /\n")
    pybuild("build", "-t", "child", "--output", "type=oci-layout,dest=exported")
    assert pybuild("copy", "store:child", "oci:layout:x").startswith("Copied sha256:")
    _whole(tmp_path / "layout")
    assert _raw(f"oci:{tmp_path}/layout:x") == _raw(f"oci:{tmp_path}/exported:latest")


def test_a_damaged_blob_is_fetched_again_and_a_broken_connection_taken_up(
    pybuild: Pybuild, origin: Origin, tmp_path: Path
) -> None:
    large = json.loads(origin.one)["layers"][1]["digest"]
    faults = [Fault("corrupt", large, at=1000), Fault("cut", large, at=700_000)]
    with FaultyProxy(origin.registry.port, *faults) as proxy:
        pybuild("copy", f"{proxy.address}/app:1", "oci:layout:x")
        assert len(proxy.paths(large)) == 3
    _whole(tmp_path / "layout")
    with FaultyProxy(origin.registry.port, Fault("corrupt", large, times=10, at=1000)) as proxy:
        for place in ("oci:other:x", "oci-archive:other.tar", "docker-archive:other.tar", "oci:layout:y"):
            done = pybuild.try_("copy", f"{proxy.address}/app:1", place)
            if place == "oci:layout:y":
                assert done.code == 0, "the layout has the blob"
            else:
                assert done.code == 3 and "image/digest" in done.err
    assert sorted(os.listdir(tmp_path)) == ["layout"], "what failed has left nothing"


def test_a_damaged_layout_is_found_out(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", origin.layout, str(tmp_path / "damaged")], check=True)
    large = json.loads(origin.one)["layers"][1]["digest"].partition(":")[2]
    path = tmp_path / "damaged/blobs/sha256" / large
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = pybuild.try_("copy", "oci:damaged:latest", "oci:layout:x")
    assert done.code == 3 and "image/digest" in done.err
    assert not (tmp_path / "layout").exists()


def test_the_digest_is_written_to_a_file(pybuild: Pybuild, origin: Origin, tmp_path: Path) -> None:
    pybuild("copy", "--digestfile", "digest", origin.name("1"), "oci:layout:x")
    assert (tmp_path / "digest").read_text() == _digest(origin.one)


@pytest.mark.parametrize(
    ("source", "destination", "code"),
    [
        ("oci:nothing:x", "oci:y:z", 2),
        ("oci:layout:x", "store:y", 2),
        ("oci:layout:x", "dir:y", 2),
        ("containers-storage:x", "oci:y", 2),
        ("oci:layout:other", "oci:y", 3),
        ("oci:layout:x", "oci:busy:x", 2),
        ("oci-archive:layout", "oci:y", 3),
        ("docker-archive:file", "oci:y", 3),
        ("UPPER", "oci:y", 3),
    ],
)
def test_what_is_no_place_is_said_to_be_none(
    pybuild: Pybuild, origin: Origin, tmp_path: Path, source: str, destination: str, code: int
) -> None:
    pybuild("copy", f"oci:{origin.layout}:latest", "oci:layout:x")
    pybuild.write("busy/file")
    pybuild.write("file", "no archive")
    done = pybuild.try_("copy", source, destination)
    assert done.code == code, done.err
    assert sorted(os.listdir(tmp_path)) == ["busy", "file", "layout"]


@pytest.mark.peer("newuidmap")
@pytest.mark.parametrize("subordinate", [True, False])
def test_a_user_logs_in_pulls_and_copies(origin: Origin, tmp_path: Path, subordinate: bool) -> None:
    user = User(str(tmp_path / "user"), subordinate=subordinate)
    with Registry(str(tmp_path / "registry"), login=True) as registry:
        name = f"{registry.address}/app:1"
        user("login", "-u", USER, "--password-stdin", registry.address, stdin=PASSWORD)
        config = os.stat(f"{user.home}/.docker/config.json")
        assert (config.st_uid, config.st_mode & 0o777) == (user.uid, 0o600)
        user("copy", origin.name("1"), name)
        user("pull", name)
        user("copy", f"store:{name}", "oci:layout:x")
        assert os.stat(f"{user.cwd}/layout/index.json").st_uid == user.uid
        _whole(Path(user.cwd, "layout"))
        user("logout", registry.address)
        assert user.try_("pull", name).code == 3
    assert user.leftovers() == []
