"""Writing to a registry: what is sent where, and what a registry that means harm cannot bring about."""

from __future__ import annotations

import hashlib
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.errors import DigestMismatch, RegistryError
from cache.oci.digest import Digest
from cache.oci.reference import Reference
from cache.oci.spec import MEDIA_TYPE_MANIFEST, Descriptor, Manifest
from cache.registry.client import RegistryClient
from cache.registry.credentials import Anonymous, Credential, Credentials
from cache.registry.endpoints import Endpoint, Registries
from cache.registry.failures import TransportFailure
from cache.registry.login import Given
from cache.registry.retry import RetryPolicy
from cache.registry.session import Session
from cache.registry.transport import Tls, UrllibTransport
from cache.registry.writer import RepositoryWriter
from tests.registry_fixtures.counting import CountingProxy
from tests.registry_fixtures.faulty import Fault, FaultyProxy
from tests.registry_fixtures.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.peer("docker-registry")

QUICK = RetryPolicy(attempts=3, first=0.01, longest=0.05)


def _writer(address: str, credentials: Credentials | None = None) -> RepositoryWriter:
    client = RegistryClient(UrllibTransport(environ={}), credentials=credentials or Anonymous(), policy=QUICK)
    return client.writer(Reference.parse(f"{address}/a:x"))


def _blob(data: bytes) -> Descriptor:
    return Descriptor("", Digest(f"sha256:{hashlib.sha256(data).hexdigest()}"), len(data))


@pytest.fixture
def registry(tmp_path: os.PathLike[str]) -> Iterator[Registry]:
    with Registry(os.path.join(tmp_path, "registry")) as running:
        yield running


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_blob_is_there_once_it_was_sent(registry: Registry, size: int) -> None:
    writer, data = _writer(registry.address), os.urandom(size)
    assert not writer.has(_blob(data).digest)
    assert writer.put_blob(_blob(data), lambda: iter([data[:100], data[100:]]))
    assert writer.has(_blob(data).digest)


def test_what_is_not_mounted_is_sent(registry: Registry) -> None:
    writer, data = _writer(registry.address), b"some bytes"
    assert writer.put_blob(_blob(data), lambda: iter([data]), "no/such")
    other = RegistryClient(UrllibTransport(environ={}), credentials=Anonymous())
    second = other.writer(Reference.parse(f"{registry.address}/b:x"))
    assert not second.put_blob(_blob(data), _never, "a"), "mounted"
    assert second.has(_blob(data).digest)


def _never() -> Iterator[bytes]:
    raise AssertionError("nothing is to be read")
    yield b""


def test_other_bytes_than_their_digest_says_are_not_stored(registry: Registry) -> None:
    writer = _writer(registry.address)
    with pytest.raises(RegistryError, match="cannot be sent"):
        writer.put_blob(_blob(b"these bytes"), lambda: iter([b"other bytes"]))
    assert not writer.has(_blob(b"these bytes").digest)


def test_what_cannot_be_read_is_said_as_it_is(registry: Registry) -> None:
    def damaged() -> Iterator[bytes]:
        yield b"these "
        raise DigestMismatch("the original is damaged")

    with pytest.raises(DigestMismatch, match="the original is damaged"):
        _writer(registry.address).put_blob(_blob(b"these bytes"), damaged)


def test_memory_does_not_grow_with_the_blob(registry: Registry) -> None:
    chunk, count = os.urandom(1 << 18), 120
    digest = hashlib.sha256(chunk * count).hexdigest()
    blob = Descriptor("", Digest(f"sha256:{digest}"), len(chunk) * count)
    writer = _writer(registry.address)
    tracemalloc.start()
    try:
        assert writer.put_blob(blob, lambda: (bytes(chunk) for _ in range(count)))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_login_does_not_follow_an_upload_to_another_server(tmp_path: os.PathLike[str]) -> None:
    with (
        Registry(os.path.join(tmp_path, "own"), login=True) as own,
        Registry(os.path.join(tmp_path, "other")) as other,
        FaultyProxy(other.port) as thief,
        FaultyProxy(own.port) as proxy,
    ):
        headers = {"Location": f"http://{thief.address}/v2/a/blobs/uploads/1?x=y"}
        proxy.faults = [Fault("status", "POST", status=202, headers=headers)]
        writer = _writer(proxy.address, Given(Credential(USER, PASSWORD)))
        assert not writer.has(_blob(b"x").digest)
        with pytest.raises(RegistryError):
            writer.put_blob(_blob(b"x"), lambda: iter([b"x"]))
        assert thief.seen, "the bytes went where the registry wanted them"
        assert not any("Authorization" in seen.headers for seen in thief.seen)
        assert any("Authorization" in seen.headers for seen in proxy.seen)


@pytest.mark.parametrize(
    ("scheme", "location", "found"),
    [
        ("https", "/v2/a/blobs/uploads/1", "https://r.example/v2/a/blobs/uploads/1"),
        ("https", "1?x=y", "https://r.example/v2/a/blobs/uploads/1?x=y"),
        ("https", "http://r.example/v2/1", "https://r.example/v2/1"),
        ("https", "https://store.example/1", "https://store.example/1"),
        ("https", "http://store.example/1", None),
        ("https", "file:///etc/passwd", None),
        ("http", "http://store.example/1", "http://store.example/1"),
        ("http", "ftp://store.example/1", None),
    ],
)
def test_uploads_do_not_leave_tls(scheme: str, location: str, found: str | None) -> None:
    session = Session(UrllibTransport(environ={}), Anonymous(), QUICK)
    endpoint = Endpoint("r.example", "r.example", schemes=(scheme,), tls=Tls())
    if found is None:
        with pytest.raises(TransportFailure):
            session.locate(endpoint, location, "a/blobs/uploads/")
    else:
        assert session.locate(endpoint, location, "a/blobs/uploads/") == found


def test_a_registry_that_stores_something_else_is_found_out(registry: Registry) -> None:
    headers = {"Docker-Content-Digest": f"sha256:{'0' * 64}"}
    fault = Fault("status", "PUT /v2/a/manifests", status=201, headers=headers)
    with FaultyProxy(registry.port, fault) as proxy, pytest.raises(DigestMismatch):
        _writer(proxy.address).put_manifest("x", "application/json", b"{}")


def test_the_registry_itself_is_written_to_and_no_mirror(registry: Registry) -> None:
    from cache.registry.endpoints import RegistrySettings

    with FaultyProxy(registry.port) as mirror:
        settings = {registry.address: RegistrySettings(mirrors=(mirror.address,))}
        transport = UrllibTransport(environ={})
        client = RegistryClient(transport, registries=Registries(settings), credentials=Anonymous())
        writer = client.writer(Reference.parse(f"{registry.address}/a:x"))
        assert writer.put_blob(_blob(b"x"), lambda: iter([b"x"]))
        assert not mirror.seen


def test_a_registry_that_is_started_again_meanwhile_is_waited_for(registry: Registry) -> None:
    """Whether it is away when a blob is begun, or was killed in the middle of one."""
    patient = RetryPolicy(attempts=5, first=0.2)
    client = RegistryClient(UrllibTransport(environ={}), credentials=Anonymous(), policy=patient)
    data = os.urandom(300_000)
    with CountingProxy(registry.port) as proxy:
        writer = client.writer(Reference.parse(f"{proxy.address}/a:x"))
        assert not writer.has(_blob(data).digest)
        for point in (1, 5):
            proxy.strike_at(point, registry.stop)
            returning = threading.Thread(target=_start_again, args=(registry, proxy))
            returning.start()
            assert writer.put_blob(_blob(data), lambda: iter([data]))
            returning.join()
            assert writer.has(_blob(data).digest)


def _start_again(registry: Registry, proxy: CountingProxy) -> None:
    proxy.struck.wait()
    registry.start()
    proxy.resume()


def test_one_that_never_answered_is_not_waited_for() -> None:
    client = RegistryClient(
        UrllibTransport(environ={}), credentials=Anonymous(), policy=RetryPolicy(first=1000, longest=1000)
    )
    with pytest.raises(RegistryError, match="no connection"):
        client.writer(Reference.parse("localhost:9/a:x")).has(_blob(b"").digest)


def test_what_a_registry_took_in_part_is_made_good(registry: Registry) -> None:
    """Docker's registry writes a blob's link last; killed in between, it fails whenever that blob is
    asked for.
    """
    writer, data = _writer(registry.address), b"{}"
    assert writer.put_blob(_blob(data), lambda: iter([data]))
    (link,) = Path(registry.log).parent.rglob(f"_layers/sha256/{_blob(data).digest[7:]}/link")
    link.write_bytes(b"")
    assert not writer.has(_blob(data).digest)
    assert writer.put_blob(_blob(data), lambda: iter([data]))
    assert writer.has(_blob(data).digest)


def test_a_manifest_is_sent_again_while_somebody_else_sends_what_it_names(registry: Registry) -> None:
    writer, empty = _writer(registry.address), _blob(b"{}")
    writer.put_blob(empty, lambda: iter([b"{}"]))
    refused = Fault("status", "PUT /v2/a/manifests/", status=400, body=_DIGEST_INVALID)
    data = Manifest(empty, ()).to_json()
    with FaultyProxy(registry.port, refused) as proxy:
        _writer(proxy.address).put_manifest("x", MEDIA_TYPE_MANIFEST, data)
        refused.times = 99
        with pytest.raises(RegistryError, match="DIGEST_INVALID"):
            _writer(proxy.address).put_manifest("x", MEDIA_TYPE_MANIFEST, data)


_DIGEST_INVALID = b'{"errors": [{"code": "DIGEST_INVALID", "message": "provided digest did not match"}]}'
