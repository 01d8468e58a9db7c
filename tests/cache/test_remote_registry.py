"""The shared cache in Debian's docker-registry."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from cache.registry.client import RegistryClient
from cache.registry.retry import RetryPolicy
from cache.registry.transport import UrllibTransport
from cache.remote import UNSIGNED, RemoteCache, RemoteError
from cache.remotes.registry import RegistryCache
from cache.signing import PrivateKey
from tests.cache.remote_contract import Contract
from tests.cache.sealing import NOW, blob_of, key_of, sealed, step
from tests.registry_fixtures import images
from tests.registry_fixtures.faulty import Fault, FaultyProxy
from tests.registry_fixtures.registry import Registry

pytestmark = pytest.mark.peer("docker-registry", "skopeo")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with Registry(os.fspath(tmp_path_factory.mktemp("cache") / "registry")) as running:
        yield running


def connect(address: str, name: str) -> RegistryCache:
    client = RegistryClient(UrllibTransport(connect=2, read=5), policy=RetryPolicy(attempts=2))
    return RegistryCache(client, f"{address}/{name}")


@pytest.fixture
def remote(registry: Registry, request: pytest.FixtureRequest) -> Iterator[Callable[[], RegistryCache]]:
    opened: list[RegistryCache] = []
    name = "cache/" + key_of(request.node.name)[:20]

    def another() -> RegistryCache:
        opened.append(connect(registry.address, name))
        return opened[-1]

    yield another
    for cache in opened:
        cache.close()


class TestRegistry(Contract):
    def test_claims(self, remote: Callable[[], RemoteCache]) -> None:
        """A registry cannot keep claims, and says so: two who run a step at once both tell what it gave."""
        assert not remote().claims
        assert remote().claim(key_of("step"), 60) is None

    test_the_claim_of_the_dead_expires = test_claims

    def test_two_who_write_at_once_lose_nothing(self, remote: Callable[[], RemoteCache]) -> None:
        """Every entry is there. A line of descent, which is a hint, may lack some, and has no others."""
        line, wanted = key_of("line"), [step(f"{who} {n}", None) for who in "abc" for n in range(12)]

        def write(number: int) -> None:
            cache = remote()
            for entry in wanted[number::3]:
                cache.add(entry.key, UNSIGNED, sealed(entry), None)
                cache.extend(line, [sealed(entry)])

        threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {each.key for each in remote().stored()} == {entry.key for entry in wanted}
        found = remote().line(line)
        assert set(found) <= set(map(sealed, wanted))
        assert len(found) >= 12
        remote().extend(line, map(sealed, wanted))
        assert set(remote().line(line)) == set(map(sealed, wanted))


def put(cache: RemoteCache, name: str, layer: bytes, created: int = NOW) -> None:
    entry = step(name, layer, created=created)
    assert entry.layer is not None
    cache.put_blob(entry.layer, lambda: io.BytesIO(layer))
    cache.add(entry.key, UNSIGNED, sealed(entry), entry.layer)


def test_anyone_can_look_at_an_entry(remote: Callable[[], RegistryCache], registry: Registry) -> None:
    cache = remote()
    put(cache, "step", b"layer")
    name = f"docker://{cache.name}:k-{key_of('step')}-{UNSIGNED}"
    told = images.skopeo("inspect", "--raw", "--tls-verify=false", name)
    assert blob_of(b"layer").digest in told
    assert "application/vnd.pybuild.cache.entry.v1" in told


def test_signers_are_told_apart(remote: Callable[[], RegistryCache]) -> None:
    key = PrivateKey.generate()
    entry = step(layer=None)
    remote().add(entry.key, key.public.id, sealed(entry, key), None)
    (found,) = remote().stored()
    assert (found.key, found.signer) == (entry.key, key.public.id)
    assert remote().entry(entry.key, (key.public.id,)) == [sealed(entry, key)]
    assert remote().entry(entry.key, (UNSIGNED,)) == []


def test_a_line_takes_one_request_even_if_it_is_long(remote: Callable[[], RegistryCache]) -> None:
    cache, line = remote(), key_of("line")
    entries = [sealed(step(str(number), None)) for number in range(400)]
    cache.extend(line, entries)
    name = cache.name.partition("/")[2]
    with FaultyProxy(int(cache.name.partition("/")[0].rpartition(":")[2])) as proxy:
        assert set(connect(proxy.address, name).line(line)) == set(entries)
        assert len(proxy.paths("/v2/")) == 1


def test_collect_takes_the_old_and_their_blobs(remote: Callable[[], RegistryCache]) -> None:
    cache = remote()
    put(cache, "old", b"old layer", NOW - 100)
    put(cache, "both", b"both", NOW - 100)
    put(cache, "new", b"both", NOW)
    cache.extend(key_of("line"), [sealed(step("old", b"old layer", created=NOW - 100))])
    planned = cache.collect(older=NOW, unused=None, dry_run=True)
    assert len(list(cache.stored())) == 3
    assert cache.collect(older=NOW, unused=None, dry_run=False) == planned
    assert (planned.entries, planned.blobs) == (2, 1)
    assert [each.key for each in remote().stored()] == [key_of("new")]
    assert not remote().has_blob(blob_of(b"old layer").digest)
    assert remote().has_blob(blob_of(b"both").digest)
    assert remote().line(key_of("line")) == []


def test_threads_that_send_the_same_send_it_once(
    remote: Callable[[], RegistryCache], registry: Registry
) -> None:
    """Docker's registry refuses a manifest that names what somebody sends again at this instant."""
    name = remote().name.partition("/")[2]
    with FaultyProxy(registry.port) as proxy:
        cache = connect(proxy.address, name)
        failed: list[RemoteError] = []

        def tell(number: int) -> None:
            try:
                put(cache, str(number), b"layer" if number % 2 else b"another layer")
            except RemoteError as error:
                failed.append(error)

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cache.close()
        assert not failed
        begun = [each.path for each in proxy.seen if each.method == "POST"]
        assert len(begun) == 3, "two layers, and the empty blob"


def test_a_registry_that_is_not_there_is_said_soon() -> None:
    cache = connect("localhost:9", "cache")
    with pytest.raises(RemoteError, match="localhost:9"):
        cache.line(key_of("line"))
    with pytest.raises(RemoteError):
        cache.add(key_of("step"), UNSIGNED, sealed(step(layer=None)), None)


def test_a_registry_that_stalls_is_given_up(registry: Registry) -> None:
    put(connect(registry.address, "cache/stalls"), "step", b"layer")
    fault = Fault("stall", "/manifests/", times=9)
    with FaultyProxy(registry.port, fault) as proxy, pytest.raises(RemoteError):
        connect(proxy.address, "cache/stalls").entry(key_of("step"), (UNSIGNED,))


def test_what_is_no_entry_of_ours_is_left_alone(
    remote: Callable[[], RegistryCache], registry: Registry
) -> None:
    cache = remote()
    put(cache, "step", b"layer")
    name = cache.name.partition("/")[2]
    registry.put_blob(name, b"{}")
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": blob_of(b"{}").digest,
        "size": 2,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [config],
    }
    registry.put_manifest(name, "latest", manifest)
    registry.put_manifest(name, f"k-{key_of('x')}-{UNSIGNED}", manifest)
    assert [each.key for each in cache.stored()] == [key_of("step")]
    assert cache.entry(key_of("x"), (UNSIGNED,)) == []


def proxied(cache: RegistryCache, proxy: FaultyProxy) -> RegistryCache:
    """The same cache, by way of the proxy."""
    return connect(proxy.address, cache.name.partition("/")[2])


def test_an_image_that_shares_blobs_keeps_them(
    remote: Callable[[], RegistryCache], registry: Registry
) -> None:
    """Somebody has the cache in the repository of the image: what the cache no longer needs, the image
    may.
    """
    cache = remote()
    put(cache, "old", b"layer of the image", NOW - 100)
    name = cache.name.partition("/")[2]
    registry.put_blob(name, b"{}")
    layer = blob_of(b"layer of the image")
    config = {"mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config | {"digest": blob_of(b"{}").digest, "size": 2},
        "layers": [layer.value()],
    }
    registry.put_manifest(name, "latest", manifest)
    planned = cache.collect(older=NOW, unused=None, dry_run=True)
    assert cache.collect(older=NOW, unused=None, dry_run=False) == planned
    assert (planned.entries, planned.blobs) == (1, 0)
    assert list(cache.stored()) == []
    assert remote().has_blob(layer.digest)


def test_where_nothing_can_be_deleted_that_is_said_and_nothing_changes(
    remote: Callable[[], RegistryCache], registry: Registry
) -> None:
    cache = remote()
    put(cache, "step", b"layer")
    cache.extend(key_of("line"), [sealed(step())])
    with FaultyProxy(registry.port, Fault("status", "DELETE /", times=9, status=405)) as proxy:
        with pytest.raises(RemoteError, match="deleted"):
            proxied(cache, proxy).remove(key_of("step"))
        with pytest.raises(RemoteError, match="deleted"):
            proxied(cache, proxy).collect(older=NOW + 1, unused=None, dry_run=False)
    assert [each.key for each in cache.stored()] == [key_of("step")]
    assert cache.line(key_of("line")) == [sealed(step())]


def test_blobs_that_cannot_be_deleted_are_left_to_the_registry(
    remote: Callable[[], RegistryCache], registry: Registry
) -> None:
    cache = remote()
    put(cache, "step", b"layer")
    with FaultyProxy(registry.port, Fault("status", "/blobs/", times=9, status=405)) as proxy:
        done = proxied(cache, proxy).collect(older=NOW + 1, unused=None, dry_run=False)
    assert (done.entries, done.blobs) == (1, 0)
    assert list(cache.stored()) == []


def test_a_key_is_found_in_a_list_without_order(remote: Callable[[], RegistryCache]) -> None:
    """Where anybody is believed nobody's tag can be guessed. Docker's registry sends the list as it comes."""
    cache = remote()
    for number in range(60):
        entry = step(str(number), None)
        cache.add(entry.key, UNSIGNED, sealed(entry), None)
        cache.extend(entry.key, [sealed(entry)])
    for text in map(str, range(0, 60, 7)):
        assert remote().entry(key_of(text), ("",)) == [sealed(step(text, None))]
    assert remote().entry(key_of("none"), ("",)) == []


def test_a_list_in_order_is_not_read_to_its_end(
    remote: Callable[[], RegistryCache], registry: Registry
) -> None:
    cache, entry = remote(), step(layer=None)
    cache.add(entry.key, UNSIGNED, sealed(entry), None)
    others = [f"k-f{number:063}-unsigned" for number in range(49)]
    body = json.dumps({"name": "x", "tags": [f"k-{entry.key}-unsigned", *others]}).encode()
    more = {"Link": '</v2/x/tags/list?last=k-f>; rel="next"'}
    fault = Fault("status", "/tags/list", status=200, body=body, headers=more)
    with FaultyProxy(registry.port, fault) as proxy:
        assert proxied(cache, proxy).entry(entry.key, ("",)) == [sealed(entry)]
        (path,) = proxy.paths("/tags/list")
        assert path.endswith(f"last=k-{entry.key}")


def test_a_line_that_makes_no_sense_is_none(remote: Callable[[], RegistryCache], registry: Registry) -> None:
    cache = remote()
    put(cache, "step", b"layer")
    name = cache.name.partition("/")[2]
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": blob_of(b"{}").digest, "size": 2}
    for number, text in enumerate(("?", "AAAA", "é", "")):
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.pybuild.cache.line.v1",
            "config": empty,
            "layers": [empty],
            "annotations": {"dev.pybuild.cache": text},
        }
        registry.put_manifest(name, f"l-{key_of(str(number))}", manifest)
        assert cache.line(key_of(str(number))) == []


def test_a_line_that_is_very_long_takes_two_requests(
    remote: Callable[[], RegistryCache], registry: Registry
) -> None:
    """Signatures and digests do not shrink: a thousand steps are too much for a manifest."""
    cache, key = remote(), PrivateKey.generate()
    entries = [sealed(step(str(number), str(number).encode()), key) for number in range(3000)]
    cache.extend(key_of("line"), entries)
    with FaultyProxy(registry.port) as proxy:
        assert proxied(cache, proxy).line(key_of("line")) == entries
        assert len(proxy.seen) == 2


def test_a_stopped_cache_says_so(remote: Callable[[], RegistryCache]) -> None:
    cache, data = remote(), os.urandom(8 << 20)
    cache.put_blob(blob_of(data), lambda: io.BytesIO(data))
    chunks = cache.blob(blob_of(data))
    next(chunks)
    cache.stop()
    with pytest.raises(RemoteError):
        list(chunks)
    with pytest.raises(RemoteError):
        cache.line(key_of("line"))
    with pytest.raises(RemoteError):
        cache.put_blob(blob_of(b"other"), lambda: io.BytesIO(b"other"))


@pytest.mark.parametrize("what", ["line", "blob", "put_blob"])
def test_stop_ends_what_waits_for_an_answer(what: str) -> None:
    """The registry has taken the connection, and says nothing for as long as anybody would wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = RegistryClient(UrllibTransport(connect=600, read=600), policy=RetryPolicy(attempts=2))
        cache = RegistryCache(client, f"localhost:{server.getsockname()[1]}/x")
        found: list[Exception] = []

        def wait() -> None:
            attempts: dict[str, Callable[[], object]] = {
                "line": lambda: cache.line(key_of("line")),
                "blob": lambda: list(cache.blob(blob_of(b"x"))),
                "put_blob": lambda: cache.put_blob(blob_of(b"x"), lambda: io.BytesIO(b"x")),
            }
            try:
                attempts[what]()
            except Exception as error:
                found.append(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        taken, _ = server.accept()
        with taken:
            taken.recv(1)
            cache.stop()
            thread.join(30)
            assert not thread.is_alive()
    assert [type(error) for error in found] == [RemoteError]
