"""The client against a real docker-registry, and against one behind a proxy that goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator

import pytest

from cache.errors import DigestMismatch, FormatError, RegistryError
from cache.oci.digest import Digest
from cache.oci.platform import Platform
from cache.oci.reference import Reference
from cache.oci.spec import DOCKER_MANIFEST, MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST, Descriptor, ImageConfig
from cache.registry.client import RegistryClient
from cache.registry.credentials import Anonymous, Credential
from cache.registry.endpoints import Registries, RegistrySettings
from cache.registry.retry import RetryPolicy
from cache.registry.session import Cancelled
from cache.registry.transport import UrllibTransport
from tests.registry_fixtures import images
from tests.registry_fixtures.faulty import Fault, FaultyProxy, Kind
from tests.registry_fixtures.registry import Registry, free_port, make_certificate

AMD64 = Platform("linux", "amd64")
QUICK = RetryPolicy(attempts=4, first=0.01, longest=0.05, patience=1.0)
BIG = os.urandom(700_000)


class Fixed:
    """One login, for one registry."""

    def __init__(self, registry: str, credential: Credential) -> None:
        self._registry = registry
        self._credential = credential

    def find(self, registry: str, repository: str) -> Credential | None:
        return self._credential if registry == self._registry else None


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(os.fspath(tmp_path_factory.mktemp("registry"))) as running:
        yield running


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> str:
    directory = os.fspath(tmp_path_factory.mktemp("layouts") / "layout")
    layers = [{"bin/tool": b"#!/bin/sh\n"}, {"data": BIG}, {"etc/conf": b"x=1\n"}]
    images.make_layout(directory, layers)
    images.make_layout(directory, [{"bin/tool": b"arm"}], tag="arm", architecture="arm64")
    images.push(directory, registry, "team/app:1")
    images.push(directory, registry, "team/old:1", docker=True)
    images.push(directory, registry, "team/app:arm", tag="arm")
    return directory


def client(
    *,
    registries: Registries | None = None,
    read: float = 5.0,
    policy: RetryPolicy = QUICK,
    login: Fixed | None = None,
) -> RegistryClient:
    return RegistryClient(
        UrllibTransport(read=read, environ={}),
        registries=registries,
        credentials=login or Anonymous(),
        policy=policy,
    )


def fetch(reader: RegistryClient, name: str) -> list[bytes]:
    """Every layer blob of an image, after its manifest."""
    reference = Reference.parse(name)
    resolved = reader.resolve(reference, AMD64)
    return [b"".join(reader.blob(reference, layer)) for layer in resolved.manifest.layers]


def check_content(blobs: list[bytes], layout: str) -> None:
    manifest = json.loads(images.read_blob(layout, images.manifest_digest(layout)))
    assert [hashlib.sha256(blob).hexdigest() for blob in blobs] == [
        layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]
    ]


def test_a_tag_resolves_to_its_manifest_and_blobs(registry: Registry, layout: str) -> None:
    reader = client()
    reference = Reference.parse(f"{registry.address}/team/app:1")
    resolved = reader.resolve(reference, AMD64)
    assert resolved.descriptor.digest == images.manifest_digest(layout) == resolved.named
    assert resolved.descriptor.media_type == MEDIA_TYPE_MANIFEST
    assert resolved.data == images.read_blob(layout, resolved.descriptor.digest)
    config = ImageConfig.from_json(reader.blob_bytes(reference, resolved.manifest.config, 1 << 20))
    assert config.config.env[-1] == "GREETING=hello"
    check_content(fetch(reader, f"{registry.address}/team/app:1"), layout)


def test_a_digest_resolves_too(registry: Registry, layout: str) -> None:
    digest = images.manifest_digest(layout)
    resolved = client().resolve(Reference.parse(f"{registry.address}/team/app@{digest}"), AMD64)
    assert resolved.descriptor.digest == digest


def test_schema_2_of_docker_is_understood(registry: Registry, layout: str) -> None:
    resolved = client().resolve(Reference.parse(f"{registry.address}/team/old:1"), AMD64)
    assert resolved.descriptor.media_type == DOCKER_MANIFEST
    assert len(fetch(client(), f"{registry.address}/team/old:1")) == 3


def _index(registry: Registry, layout: str, *tags: tuple[str, str, str]) -> dict[str, object]:
    entries = []
    for tag, name, architecture in tags:
        digest = images.manifest_digest(layout, tag)
        size = len(images.read_blob(layout, digest))
        platform = {"os": name, "architecture": architecture}
        entries.append(
            {"mediaType": MEDIA_TYPE_MANIFEST, "digest": digest, "size": size, "platform": platform}
        )
    return {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": entries}


def test_an_index_gives_the_image_of_the_platform(registry: Registry, layout: str) -> None:
    document = _index(
        registry,
        layout,
        ("latest", "unknown", "unknown"),
        ("arm", "linux", "arm64"),
        ("latest", "linux", "amd64"),
    )
    registry.put_manifest("team/app", "multi", document)
    reference = Reference.parse(f"{registry.address}/team/app:multi")
    for architecture, tag in (("amd64", "latest"), ("arm64", "arm")):
        resolved = client().resolve(reference, Platform("linux", architecture))
        assert resolved.descriptor.digest == images.manifest_digest(layout, tag)
        assert resolved.named == Digest.of(json.dumps(document).encode())
    with pytest.raises(RegistryError) as caught:
        client().resolve(reference, Platform("linux", "s390x"))
    assert caught.value.code == "registry/platform"
    assert caught.value.hint == "it has linux/amd64, linux/arm64"


@pytest.mark.parametrize(("name", "tag"), [("team/app", "absent"), ("no/such/thing", "latest")])
def test_what_is_not_there_is_said(registry: Registry, layout: str, name: str, tag: str) -> None:
    with pytest.raises(RegistryError) as caught:
        client().resolve(Reference.parse(f"{registry.address}/{name}:{tag}"), AMD64)
    assert caught.value.code == "registry/not-found"
    assert f"{registry.address}/{name}:{tag}" in caught.value.message
    assert "status 404" in caught.value.message


def test_nobody_there_names_the_host_and_the_reason() -> None:
    port = free_port()
    with pytest.raises(RegistryError) as caught:
        client().resolve(Reference.parse(f"localhost:{port}/a/b:1"), AMD64)
    assert caught.value.code == "registry/unreachable"
    assert f"localhost:{port}: no connection: Connection refused" in caught.value.message


def test_a_name_that_does_not_resolve_is_said() -> None:
    with pytest.raises(RegistryError, match="does not resolve") as caught:
        client().resolve(Reference.parse("registry.invalid/a/b:1"), AMD64)
    assert caught.value.code == "registry/unreachable"


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (Fault("cut", "/blobs/", at=300_000), 3),
        (Fault("short", "/blobs/", at=300_000), 2),
        (Fault("drop", "/blobs/"), 2),
        (Fault("status", "/blobs/", status=503), 2),
        (Fault("status", "/blobs/", status=429, headers={"Retry-After": "0"}), 3),
        (Fault("status", "/manifests/", status=500), 2),
        (Fault("drop", "/manifests/"), 1),
    ],
)
def test_what_breaks_is_tried_again(registry: Registry, layout: str, fault: Fault, times: int) -> None:
    fault.times = times
    with FaultyProxy(registry.port, fault) as proxy:
        check_content(fetch(client(), f"{proxy.address}/team/app:1"), layout)
        assert fault.times == 0


def test_a_cut_blob_is_resumed_and_not_fetched_again(registry: Registry, layout: str) -> None:
    with FaultyProxy(registry.port, Fault("cut", "/blobs/", at=300_000, times=9)) as proxy:
        check_content(fetch(client(), f"{proxy.address}/team/app:1"), layout)
        ranges = [seen.headers["Range"] for seen in proxy.seen if "Range" in seen.headers]
    assert ranges, "the big layer needs several connections"
    assert all(int(text.removeprefix("bytes=").rstrip("-")) > 0 for text in ranges)


def test_a_server_without_ranges_still_works(registry: Registry, layout: str) -> None:
    with FaultyProxy(registry.port) as proxy:
        reader = client()
        reference = Reference.parse(f"{proxy.address}/team/app:1")
        layer = max(reader.resolve(reference, AMD64).manifest.layers, key=lambda item: item.size)
        proxy.faults += [Fault("cut", "/blobs/", at=300_000), Fault("no-range", "/blobs/")]
        assert Digest.of(b"".join(reader.blob(reference, layer))) == layer.digest


def test_a_stalled_server_is_left(registry: Registry, layout: str) -> None:
    with FaultyProxy(registry.port, Fault("stall", "/blobs/", at=100)) as proxy:
        check_content(fetch(client(read=0.3), f"{proxy.address}/team/app:1"), layout)


def test_a_server_that_stays_broken_is_given_up_with_its_own_words(registry: Registry, layout: str) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"come\\u001b[31m back"}]}'
    with FaultyProxy(registry.port, Fault("status", "/manifests/", status=429, times=99, body=body)) as proxy:
        with pytest.raises(RegistryError) as caught:
            client().resolve(Reference.parse(f"{proxy.address}/team/app:1"), AMD64)
        assert len(proxy.seen) == QUICK.attempts
    assert caught.value.code == "registry/throttled"
    assert "TOOMANYREQUESTS come [31m back" in caught.value.message


def test_a_wait_that_is_too_long_is_not_waited(registry: Registry, layout: str) -> None:
    fault = Fault("status", "/manifests/", status=429, times=9, headers={"Retry-After": "3600"})
    with FaultyProxy(registry.port, fault) as proxy:
        with pytest.raises(RegistryError) as caught:
            client().resolve(Reference.parse(f"{proxy.address}/team/app:1"), AMD64)
        assert len(proxy.seen) == 1
    assert caught.value.code == "registry/throttled"


@pytest.mark.parametrize("kind", ["corrupt", "longer"])
def test_a_corrupted_blob_is_never_taken(registry: Registry, layout: str, kind: Kind) -> None:
    fault = Fault(kind, "/blobs/", at=5, times=99)
    with (
        FaultyProxy(registry.port, fault) as proxy,
        pytest.raises(DigestMismatch, match="corrupted from local"),
    ):
        fetch(client(), f"{proxy.address}/team/app:1")


def test_a_corrupted_manifest_is_never_taken(registry: Registry, layout: str) -> None:
    digest = images.manifest_digest(layout)
    for name in (":1", f"@{digest}"):
        fault = Fault("corrupt", "/manifests/", at=40, times=99)
        with FaultyProxy(registry.port, fault) as proxy, pytest.raises(DigestMismatch):
            client().resolve(Reference.parse(f"{proxy.address}/team/app{name}"), AMD64)


def _mirrored(registry: str, *mirrors: str) -> Registries:
    return Registries({registry: RegistrySettings(mirrors=mirrors)})


def test_a_mirror_is_asked_first_and_alone_if_it_has_everything(registry: Registry, layout: str) -> None:
    with FaultyProxy(registry.port) as mirror, FaultyProxy(registry.port) as origin:
        reader = client(registries=_mirrored(origin.address, mirror.address))
        check_content(fetch(reader, f"{origin.address}/team/app:1"), layout)
        assert mirror.paths("/team/app/")
        assert not origin.seen


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "/manifests/", status=404, times=99),
        Fault("status", "/manifests/", status=500, times=99),
        Fault("status", "/blobs/", status=404, times=99),
        Fault("drop", "", times=99),
        Fault("cut", "/blobs/", at=10, times=99),
        Fault("corrupt", "/manifests/", at=50, times=99),
    ],
)
def test_a_mirror_that_fails_is_passed_over(registry: Registry, layout: str, fault: Fault) -> None:
    with FaultyProxy(registry.port, fault) as mirror, FaultyProxy(registry.port) as origin:
        reader = client(registries=_mirrored(origin.address, mirror.address))
        check_content(fetch(reader, f"{origin.address}/team/app:1"), layout)
        assert origin.seen


def test_a_mirror_that_corrupts_is_not_asked_for_that_blob_again(registry: Registry, layout: str) -> None:
    fault = Fault("corrupt", "/blobs/", at=5, times=99)
    with FaultyProxy(registry.port, fault) as mirror, FaultyProxy(registry.port) as origin:
        reader = client(registries=_mirrored(origin.address, mirror.address))
        reference = Reference.parse(f"{origin.address}/team/app:1")
        resolved = reader.resolve(reference, AMD64)
        assert reader.blob_bytes(reference, resolved.manifest.config, 1 << 20)
        layer = resolved.manifest.layers[0]
        with pytest.raises(DigestMismatch):
            list(reader.blob(reference, layer))
        assert Digest.of(b"".join(reader.blob(reference, layer))) == layer.digest


def test_all_hosts_that_failed_are_named(registry: Registry) -> None:
    first, second = f"localhost:{free_port()}", f"localhost:{free_port()}"
    with pytest.raises(RegistryError) as caught:
        client(registries=_mirrored(second, first)).resolve(Reference.parse(f"{second}/a/b:1"), AMD64)
    assert caught.value.code == "registry/unreachable"
    assert first in caught.value.message and second in caught.value.message


def test_tls_is_used_where_it_is_spoken_and_checked_with_a_ca(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = os.fspath(tmp_path_factory.mktemp("tls"))
    certificate = make_certificate(os.path.join(directory, "certificate"))
    other = make_certificate(os.path.join(directory, "other"))
    layout = images.make_layout(os.path.join(directory, "layout"), [{"bin/tool": b"x"}])
    with Registry(os.path.join(directory, "registry"), tls=certificate) as secure:
        name = images.push(layout, secure, "a/b:1")
        check_content(fetch(client(), name), layout)
        trusting = client(registries=Registries({secure.address: RegistrySettings(ca=certificate.ca)}))
        check_content(fetch(trusting, name), layout)
        doubting = client(registries=Registries({secure.address: RegistrySettings(ca=other.ca)}))
        with pytest.raises(RegistryError) as caught:
            fetch(doubting, name)
        assert caught.value.code == "registry/unreachable"
        assert "certificate is not trusted" in caught.value.message


def test_credentials_do_not_follow_a_redirect_to_another_host(registry: Registry, layout: str) -> None:
    with FaultyProxy(registry.port) as elsewhere, FaultyProxy(registry.port) as origin:
        challenge = {"WWW-Authenticate": 'Basic realm="x"'}
        origin.faults += [
            Fault("status", "/manifests/", status=401, headers=challenge),
            Fault("redirect", "/blobs/", location=f"http://{elsewhere.address}", times=99),
        ]
        login = Fixed(origin.address, Credential("user", "secret"))
        check_content(fetch(client(login=login), f"{origin.address}/team/app:1"), layout)
        assert any("Authorization" in seen.headers for seen in origin.seen)
        assert elsewhere.paths("/blobs/")
        assert not any("Authorization" in seen.headers for seen in elsewhere.seen)


def test_redirects_end(registry: Registry) -> None:
    with FaultyProxy(registry.port) as loop:
        loop.faults.append(Fault("redirect", "", location="", times=99))
        with pytest.raises(RegistryError, match="redirects without end"):
            client().resolve(Reference.parse(f"{loop.address}/team/app:1"), AMD64)


@pytest.mark.parametrize(
    "location", ["file://", "file:///etc/shadow?", "ftp://127.0.0.1", "unix:///run/docker.sock"]
)
def test_a_redirect_leads_to_no_file_of_this_host(registry: Registry, location: str) -> None:
    with FaultyProxy(registry.port) as lying:
        lying.faults.append(Fault("redirect", "/manifests/", location=location, times=99))
        with pytest.raises(RegistryError) as caught:
            client().resolve(Reference.parse(f"{lying.address}/team/app:1"), AMD64)
        assert "root:" not in str(caught.value)


def test_foreign_layers_are_refused_with_a_reason(registry: Registry, layout: str) -> None:
    manifest = json.loads(images.read_blob(layout, images.manifest_digest(layout)))
    manifest["mediaType"] = MEDIA_TYPE_MANIFEST
    manifest["layers"][1] |= {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "urls": ["https://layers.invalid/x"],
    }
    fault = Fault("status", "/manifests/", status=200, body=json.dumps(manifest).encode())
    with FaultyProxy(registry.port, fault) as proxy, pytest.raises(FormatError) as caught:
        client().resolve(Reference.parse(f"{proxy.address}/team/app:foreign"), AMD64)
    assert caught.value.code == "image/foreign-layer"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/vnd.oci.image.manifest.v1+json"),
        (b"\x1f\x8b\x00", "application/vnd.oci.image.manifest.v1+json"),
        (b"[]", "application/vnd.oci.image.manifest.v1+json"),
        (b'{"schemaVersion":2}', "application/json"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (b'{"schemaVersion":2,"manifests":[{}],"layers":[{}],"config":{}}', "application/json"),
        (
            b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
            "application/vnd.oci.image.manifest.v1+json",
        ),
        (b" " * (4 << 20) + b"{}", "application/vnd.oci.image.manifest.v1+json"),
        (
            b'{"schemaVersion":2,"config":{"digest":"../../etc/passwd","size":1},"layers":[]}',
            "application/json",
        ),
    ],
    ids=["cut", "binary", "list", "empty", "schema-1", "ambiguous", "confused", "huge", "path"],
)
def test_a_malformed_manifest_is_one_clear_error(registry: Registry, body: bytes, kind: str) -> None:
    fault = Fault("status", "/manifests/", status=200, body=body, headers={"Content-Type": kind})
    with FaultyProxy(registry.port, fault) as proxy, pytest.raises(FormatError):
        client().resolve(Reference.parse(f"{proxy.address}/team/app:1"), AMD64)


def test_a_blob_larger_than_allowed_is_not_fetched(registry: Registry, layout: str) -> None:
    with FaultyProxy(registry.port) as proxy:
        descriptor = Descriptor("", Digest.of(b"x"), 1 << 40)
        with pytest.raises(FormatError):
            client().blob_bytes(Reference.parse(f"{proxy.address}/team/app:1"), descriptor, 1 << 20)
        assert not proxy.seen


def test_stop_ends_a_blocked_transfer_at_once(registry: Registry, layout: str) -> None:
    with FaultyProxy(registry.port) as proxy:
        reader = client(read=30)
        reference = Reference.parse(f"{proxy.address}/team/app:1")
        layer = reader.resolve(reference, AMD64).manifest.layers[0]
        proxy.faults.append(Fault("stall", "/blobs/", at=1))
        errors: list[BaseException] = []

        def read() -> None:
            try:
                list(reader.blob(reference, layer))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        while not proxy.paths("/blobs/"):
            time.sleep(0.01)
        reader.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()
    assert isinstance(errors[0], Cancelled)
