"""FROM name[:tag][@digest]: from a real docker-registry into a real store."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from builder.bases import open_transport, split_scheme
from builder.bases.base import BaseImage, BaseRequest, BaseTransport, Surroundings
from builder.errors import BaseError
from builder.events import Event, Notice, TransferFinished, TransferProgress, TransferStarted
from cache.errors import CacheError, DigestMismatch, FormatError, RegistryError
from cache.oci.digest import ChainID
from cache.oci.platform import Platform
from cache.oci.spec import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST
from cache.registry.endpoints import Registries, RegistrySettings
from cache.store import Store
from tests.registry_fixtures import images
from tests.registry_fixtures.faulty import Fault, FaultyProxy
from tests.registry_fixtures.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.peer("docker-registry", "skopeo", "umoci")

AMD64 = Platform("linux", "amd64")
BIG = os.urandom(900_000)
LAYERS = [{"bin/tool": b"#!/bin/sh\n", "etc/gone": b"x"}, {"data": BIG}, {"etc/conf": b"x=1\n"}]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(os.fspath(tmp_path_factory.mktemp("registry"))) as running:
        yield running


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> str:
    directory = images.make_layout(os.fspath(tmp_path_factory.mktemp("layouts") / "layout"), LAYERS)
    images.make_layout(directory, [LAYERS[0], {"etc/arm": b"1"}], tag="arm", architecture="arm64")
    images.push(directory, registry, "team/app:1")
    images.push(directory, registry, "team/app:arm", tag="arm")
    images.push(directory, registry, "team/old:1", docker=True)
    return directory


@pytest.fixture
def store(tmp_path: os.PathLike[str]) -> Iterator[Store]:
    with Store.open(os.path.join(tmp_path, "store")) as opened:
        yield opened


class Puller:
    """A registry transport on a store, without credentials, with what it emitted."""

    def __init__(self, store: Store, registries: Registries | None = None, **environ: str) -> None:
        self.events: list[Event] = []
        self.store = store
        self._threads: set[int] = set()
        environ = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], **environ}
        around = Surroundings(store, self._emit, _no_executor, registries, environ)
        self.transport: BaseTransport = open_transport("docker-image", around)

    def __call__(self, name: str, *, platform: Platform = AMD64, pull: bool = False) -> BaseImage:
        return self.transport.resolve(BaseRequest(name, platform, pull=pull))

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def _emit(self, event: Event) -> None:
        assert threading.current_thread() is threading.main_thread(), (
            "events come from the build's own thread"
        )
        self.events.append(event)


def _no_executor() -> None:  # type: ignore[misc]
    raise AssertionError("a registry needs no executor")


def _diff_ids(layout: str, tag: str = "latest") -> list[str]:
    manifest = json.loads(images.read_blob(layout, images.manifest_digest(layout, tag)))
    config = json.loads(images.read_blob(layout, manifest["config"]["digest"]))
    found: list[str] = config["rootfs"]["diff_ids"]
    return found


def _layers(layout: str) -> list[dict[str, Any]]:
    manifest = json.loads(images.read_blob(layout, images.manifest_digest(layout)))
    found: list[dict[str, Any]] = manifest["layers"]
    return found


def check(store: Store, base: BaseImage, layout: str) -> None:
    """The base is whole in the store: its config, its layers, their content."""
    assert base.chain_id is not None
    layers = store.layers.chain(base.chain_id)
    assert [layer.diff_id for layer in layers] == list(base.config.diff_ids) == _diff_ids(layout)
    chain = ""
    for layer in layers:
        text = f"{chain} {layer.diff_id}".encode()
        chain = f"sha256:{hashlib.sha256(text).hexdigest()}" if chain else layer.diff_id
        assert layer.chain_id == chain
        store.layers.verify(ChainID(layer.chain_id))
    tree: dict[str, bytes] = {}
    for directory in reversed(store.layers.lowerdirs(base.chain_id)):
        for top, _, names in os.walk(directory):
            for name in names:
                with open(os.path.join(top, name), "rb") as file:
                    tree[os.path.relpath(os.path.join(top, name), directory)] = file.read()
    assert tree == {path: data for files in LAYERS for path, data in files.items()}
    assert hashlib.sha256(store.images.get(base.image_id)).hexdigest() == base.image_id.hex
    assert base.config.config.user == "1000:1000"
    assert images.unfinished(store) == []


@pytest.mark.parametrize("name", ["team/app:1", "team/old:1"])
def test_an_image_is_pulled(registry: Registry, layout: str, store: Store, name: str) -> None:
    pull = Puller(store)
    base = pull(f"{registry.address}/{name}")
    check(store, base, layout)
    assert base.reference == f"{registry.address}/{name}"
    started, finished = pull.of(TransferStarted), pull.of(TransferFinished)
    assert len(started) == len(finished) == 3
    for begin, end in zip(started, finished, strict=True):
        assert isinstance(begin, TransferStarted) and isinstance(end, TransferFinished)
        assert (begin.transfer, begin.total) == (end.transfer, end.done)


def test_an_image_that_is_there_needs_no_registry(registry: Registry, layout: str, store: Store) -> None:
    with FaultyProxy(registry.port) as proxy:
        pull = Puller(store)
        name = f"{proxy.address}/team/app:1"
        first = pull(name)
        asked = len(proxy.seen)
        second = pull(name)
        assert len(proxy.seen) == asked
        assert (second.image_id, second.chain_id) == (first.image_id, first.chain_id)
        digest = images.manifest_digest(layout)
        assert pull(f"{proxy.address}/team/app@{digest}").image_id == first.image_id, (
            "it is known by its digest"
        )
        assert len(proxy.seen) == asked
        assert pull(name, pull=True).image_id == first.image_id
        assert len(proxy.seen) > asked
        assert not proxy.paths("/blobs/")[6:], "a manifest and a config, and no layer a second time"


def test_names_are_those_of_images(registry: Registry, layout: str, store: Store) -> None:
    base = Puller(store)(f"{registry.address}/team/app:1")
    assert store.images.resolve(f"{registry.address}/team/app:1") == base.image_id
    pinned = f"{registry.address}/team/app@{images.manifest_digest(layout)}"
    assert store.images.names()[pinned] == base.image_id


def test_an_image_built_here_is_found_by_its_name(registry: Registry, layout: str, store: Store) -> None:
    base = Puller(store)(f"{registry.address}/team/app:1")
    store.sync()
    store.images.tag("mine:2", base.image_id)
    assert Puller(store)("mine:2").image_id == base.image_id


def test_pull_follows_a_tag_that_moved(registry: Registry, layout: str, store: Store) -> None:
    name = images.push(layout, registry, "team/moving:1")
    pull = Puller(store)
    first = pull(name, platform=Platform("linux", "arm64"))
    assert [event.code for event in pull.of(Notice) if isinstance(event, Notice)] == ["base/platform"]
    images.push(layout, registry, "team/moving:1", tag="arm")
    assert pull(name, platform=Platform("linux", "arm64")) == first
    second = pull(name, platform=Platform("linux", "arm64"), pull=True)
    assert second.config.architecture == "arm64"
    assert second.image_id != first.image_id


def test_layers_that_are_there_are_not_fetched(registry: Registry, layout: str, store: Store) -> None:
    with FaultyProxy(registry.port) as proxy:
        pull = Puller(store)
        pull(f"{proxy.address}/team/app:1")
        proxy.seen.clear()
        pull(f"{proxy.address}/team/app:arm", platform=Platform("linux", "arm64"))
        assert len(proxy.paths("/blobs/")) == 2, "the config, and the one layer that is not shared"


def test_a_layer_whose_blob_is_there_is_not_fetched(registry: Registry, layout: str, store: Store) -> None:
    with FaultyProxy(registry.port) as proxy:
        pull = Puller(store)
        base = pull(f"{proxy.address}/team/app:1")
        assert base.chain_id is not None
        layers = store.layers.chain(base.chain_id)
        for layer in reversed(layers):
            store.layers.remove(layer.chain_id)
        proxy.seen.clear()
        check(store, pull(f"{proxy.address}/team/app:1"), layout)
        assert len(proxy.paths("/blobs/")) == 1


def test_the_blobs_are_kept_as_they_came(registry: Registry, layout: str, store: Store) -> None:
    base = Puller(store)(f"{registry.address}/team/app:1")
    for diff_id in base.config.diff_ids:
        blob = store.blobs.pulled(diff_id)
        assert blob is not None and blob.kind == "gzip"
        data = store.blobs.read(blob.digest)
        assert data is not None
        assert f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}" == diff_id


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", at=200_000, times=4),
        Fault("corrupt", at=3, times=2),
        Fault("corrupt", at=200, times=1),
        Fault("short", at=100, times=2),
        Fault("status", status=503, times=3),
    ],
    ids=["cut", "corrupt-head", "corrupt", "short", "unavailable"],
)
def test_what_goes_wrong_once_is_got_over(
    registry: Registry, layout: str, store: Store, fault: Fault
) -> None:
    big = max(_layers(layout), key=lambda layer: int(layer["size"]))
    fault = Fault(fault.kind, f"/blobs/{big['digest']}", fault.times, fault.at, fault.status)
    with FaultyProxy(registry.port, fault) as proxy:
        check(store, Puller(store)(f"{proxy.address}/team/app:1"), layout)
        assert fault.times == 0


def test_what_stays_corrupted_is_refused_and_leaves_nothing(
    registry: Registry, layout: str, store: Store
) -> None:
    with FaultyProxy(registry.port, Fault("corrupt", "/blobs/", at=40, times=999)) as proxy:
        pull = Puller(store)
        with pytest.raises(DigestMismatch) as caught:
            pull(f"{proxy.address}/team/app:1")
        assert "corrupted" in caught.value.message
        assert images.unfinished(store) == []
        assert store.layers.all() == () and store.images.all() == () and store.images.names() == {}
        proxy.faults.clear()
        check(store, pull(f"{proxy.address}/team/app:1"), layout)


def test_a_layer_that_fails_ends_the_others_at_once(registry: Registry, layout: str, store: Store) -> None:
    """One layer stalls, another one is gone: the build must not wait for the first."""
    first, second = (layer["digest"] for layer in _layers(layout)[:2])
    faults = [Fault("status", first, status=404, times=9), Fault("stall", second, at=10)]
    with FaultyProxy(registry.port, *faults) as proxy:
        with pytest.raises(RegistryError) as caught:
            Puller(store)(f"{proxy.address}/team/app:1")
        assert caught.value.code == "registry/not-found"
    assert images.unfinished(store) == []


def _put(registry: Registry, repository: str, layers: Sequence[bytes], **config: object) -> str:
    """Push an image of these tars, whatever is in them; return its name."""
    blobs = [gzip.compress(layer, mtime=0) for layer in layers]
    rootfs = {
        "type": "layers",
        "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
    }
    document = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **config}).encode()
    for blob in (*blobs, document):
        registry.put_blob(repository, blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_MANIFEST,
        "config": _descriptor(document, "application/vnd.oci.image.config.v1+json"),
        "layers": [_descriptor(blob, "application/vnd.oci.image.layer.v1.tar+gzip") for blob in blobs],
    }
    registry.put_manifest(repository, "1", manifest)
    return f"{registry.address}/{repository}:1"


def _descriptor(blob: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _tar(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def test_upper_layers_speak_of_lower_ones(registry: Registry, store: Store) -> None:
    """A directory that is a symlink below, and a hard link to a file below: layers are unpacked upon each
    other.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, target in (("usr/lib", tarfile.DIRTYPE, ""), ("lib", tarfile.SYMTYPE, "usr/lib")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    base = Puller(store)(_put(registry, "odd/links", [out.getvalue(), _tar(("lib/libc.so", b"elf"))]))
    assert base.chain_id is not None
    upper = store.layers.lowerdirs(base.chain_id)[0]
    assert os.path.isfile(os.path.join(upper, "usr/lib/libc.so"))
    assert not os.path.lexists(os.path.join(upper, "lib"))


@pytest.mark.parametrize("name", ["../../escaped", "/../escaped", "a/../../escaped"])
def test_a_hostile_layer_writes_nowhere_else(registry: Registry, store: Store, name: str) -> None:
    with pytest.raises(FormatError):
        Puller(store)(_put(registry, "odd/hostile", [_tar((name, b"x"))]))
    assert not os.path.exists(os.path.join(store.root, "escaped"))
    assert images.unfinished(store) == []


def test_layers_that_are_not_those_of_the_config_are_refused(registry: Registry, store: Store) -> None:
    rootfs = {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}
    with pytest.raises(DigestMismatch, match="not the one that the image config names"):
        Puller(store)(_put(registry, "odd/swapped", [_tar(("a", b"x"))], rootfs=rootfs))
    with pytest.raises(FormatError, match="do not match"):
        Puller(store)(
            _put(registry, "odd/short", [_tar(("a", b"x"))], rootfs={"type": "layers", "diff_ids": []})
        )
    assert store.layers.all() == () and store.images.all() == ()


def test_an_image_without_layers_is_one(registry: Registry, store: Store) -> None:
    base = Puller(store)(_put(registry, "odd/empty", []))
    assert base.chain_id is None
    assert Puller(store)(f"{registry.address}/odd/empty:1").image_id == base.image_id


def test_each_platform_keeps_its_image(registry: Registry, layout: str, store: Store) -> None:
    entries = []
    for tag, architecture in (("latest", "amd64"), ("arm", "arm64")):
        digest = images.manifest_digest(layout, tag)
        descriptor = _descriptor(images.read_blob(layout, digest), MEDIA_TYPE_MANIFEST)
        entries.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
    index = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": entries}
    registry.put_manifest("team/app", "multi", index)
    with FaultyProxy(registry.port) as proxy:
        name = f"{proxy.address}/team/app:multi"
        pull = Puller(store)
        amd = pull(name)
        arm = pull(name, platform=Platform("linux", "arm64"))
        assert (amd.config.architecture, arm.config.architecture) == ("amd64", "arm64")
        asked = len(proxy.seen)
        assert pull(name).image_id == amd.image_id
        assert pull(name, platform=Platform("linux", "arm64")).image_id == arm.image_id
        assert len(proxy.seen) == asked


def test_mirrors_come_from_the_configuration(registry: Registry, layout: str, store: Store) -> None:
    with FaultyProxy(registry.port) as mirror:
        registries = Registries({"registry.invalid": RegistrySettings(mirrors=(mirror.address,))})
        base = Puller(store, registries)("registry.invalid/team/app:1")
        check(store, base, layout)
        assert base.reference == "registry.invalid/team/app:1"


def test_a_stored_login_is_used(tmp_path: os.PathLike[str], layout: str, store: Store) -> None:
    import base64

    with Registry(os.path.join(tmp_path, "guarded"), login=True) as guarded:
        name = f"{guarded.address}/team/app:1"
        words = ["copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"]
        images.skopeo(*words, f"oci:{layout}:latest", f"docker://{name}")
        with pytest.raises(RegistryError) as caught:
            Puller(store)(name)
        assert caught.value.code == "registry/unauthorized"
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        with open(os.path.join(tmp_path, "config.json"), "w") as file:
            json.dump({"auths": {guarded.address: {"auth": auth}}}, file)
        check(store, Puller(store, DOCKER_CONFIG=os.fspath(tmp_path))(name), layout)


def test_two_builds_that_want_the_same_image_fetch_it_once(
    registry: Registry, layout: str, tmp_path: os.PathLike[str]
) -> None:
    """Two processes on one store: the second one waits, and finds it there."""
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from builder.bases import open_transport\n"
        "from builder.bases.base import BaseRequest, Surroundings\n"
        "from cache.oci.platform import Platform\n"
        "from cache.store import Store\n"
        "with Store.open(sys.argv[1]) as store:\n"
        "    around = Surroundings(store, lambda event: None, lambda: None, environ={})\n"
        "    request = BaseRequest(sys.argv[2], Platform('linux', 'amd64'))\n"
        "    print(open_transport('docker-image', around).resolve(request).chain_id)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with FaultyProxy(registry.port, Fault("stall", "/blobs/", at=0, times=0)) as proxy:
        command = [
            sys.executable,
            "-c",
            program,
            os.path.join(tmp_path, "store"),
            f"{proxy.address}/team/app:1",
        ]
        both = [
            subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
            for _ in range(2)
        ]
        chains = {process.communicate()[0] for process in both}
        assert all(process.returncode == 0 for process in both)
        assert len(chains) == 1
        for layer in _layers(layout):
            assert len(proxy.paths(layer["digest"])) == 1


def test_flags_of_another_transport_are_refused(store: Store) -> None:
    transport = Puller(store).transport
    with pytest.raises(BaseError) as caught:
        transport.resolve(BaseRequest("debian:bookworm", AMD64, (("variant", "minbase"),)))
    assert caught.value.code == "base/option"


@pytest.mark.parametrize("name", ["", "UPPER/case", "a b", "x:y:z", "a@sha256:1", "http://x"])
def test_what_is_no_name_is_said(store: Store, name: str) -> None:
    with pytest.raises(CacheError):
        Puller(store)(name)


def test_schemes_are_told_apart() -> None:
    assert split_scheme("debian:bookworm") == ("docker-image", "debian:bookworm")
    assert split_scheme("OCI-layout://a/b:c") == ("oci-layout", "a/b:c")
    with pytest.raises(BaseError) as caught:
        open_transport("ftp", None)  # type: ignore[arg-type]
    assert caught.value.code == "base/transport"


def test_progress_is_told_while_a_layer_comes_in(registry: Registry, layout: str, store: Store) -> None:
    with FaultyProxy(registry.port, Fault("short", "/blobs/", at=300_000, times=99)) as proxy:
        pull = Puller(store)
        pull(f"{proxy.address}/team/app:1")
        counts = [event.done for event in pull.of(TransferProgress) if isinstance(event, TransferProgress)]
    assert counts and max(counts) <= 1_000_000
