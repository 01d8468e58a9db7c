"""The shared cache in an object store: a directory, and S3 as moto's server speaks it."""

from __future__ import annotations

import http.server
import io
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cache.remote import UNSIGNED, RemoteCache, RemoteError
from cache.remotes.object import ObjectCache
from tests.cache.remote_contract import Contract
from tests.cache.sealing import blob_of, key_of, sealed, step
from tests.registry_fixtures.registry import free_port


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where moto's server speaks S3, with a bucket `team`."""
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
        request = urllib.request.Request(f"{address}/team", method="PUT")
        request.add_header(
            "Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"
        )
        urllib.request.urlopen(request, timeout=5).close()
        yield address
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")


class TestDirectory(Contract):
    @pytest.fixture
    def remote(self, tmp_path: Path) -> Callable[[], RemoteCache]:
        return lambda: ObjectCache(f"file://{tmp_path}/cache", {})


class TestS3(Contract):
    @pytest.fixture
    def remote(
        self, endpoint: str, credentials: None, request: pytest.FixtureRequest
    ) -> Callable[[], RemoteCache]:
        options = {"endpoint": endpoint, "region": "us-east-1"}
        return lambda: ObjectCache(f"s3://team/{key_of(request.node.name)[:16]}", options)

    def test_a_line_takes_two_round_trips(self, remote: Callable[[], RemoteCache]) -> None:
        """One to see what there is; the rest come at the same time, and are never many."""
        line = key_of("line")
        entries = [sealed(step(str(number), None)) for number in range(30)]
        for entry in entries:
            remote().extend(line, [entry])
        cache = remote()
        assert isinstance(cache, ObjectCache)
        assert len(cache._bundles(line)) <= 9
        assert set(cache.line(line)) == set(entries)

    def test_a_large_blob_goes_in_parts(self, remote: Callable[[], RemoteCache]) -> None:
        data = os.urandom(12 << 20)
        blob = blob_of(data)
        assert remote().put_blob(blob, lambda: io.BytesIO(data))
        assert b"".join(remote().blob(blob)) == data


def test_anyone_can_check_it(tmp_path: Path) -> None:
    cache = ObjectCache(f"file://{tmp_path}/cache", {})
    entry = step("step", b"layer")
    assert entry.layer is not None
    cache.put_blob(entry.layer, lambda: io.BytesIO(b"layer"))
    cache.add(entry.key, UNSIGNED, sealed(entry), entry.layer)
    assert (tmp_path / "cache/blobs/sha256" / entry.layer.digest.hex).read_bytes() == b"layer"
    assert (tmp_path / f"cache/entries/{entry.key}/unsigned").read_bytes() == sealed(entry)


def test_collect_takes_the_old_and_the_blobs_of_nobody(tmp_path: Path) -> None:
    cache = ObjectCache(f"file://{tmp_path}/cache", {})
    for name, layer in (("old", b"old"), ("new", b"new")):
        entry = step(name, layer)
        assert entry.layer is not None
        cache.put_blob(entry.layer, lambda layer=layer: io.BytesIO(layer))  # type: ignore[misc]
        cache.add(entry.key, UNSIGNED, sealed(entry), entry.layer)
        cache.extend(key_of("line"), [sealed(entry)])
    long_ago = time.time() - 10 * 86400
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file() and key_of("new") not in str(path):
            os.utime(path, (long_ago, long_ago))
    older = int(time.time()) - 5 * 86400
    planned = cache.collect(older=older, unused=None, dry_run=True)
    assert (planned.entries, planned.blobs) == (1, 1)
    assert cache.collect(older=older, unused=None, dry_run=False) == planned
    assert [each.key for each in cache.stored()] == [key_of("new")]
    assert cache.has_blob(blob_of(b"new").digest)
    assert not cache.has_blob(blob_of(b"old").digest)
    assert cache.line(key_of("line")) == [sealed(step("new", b"new"))]


def test_a_store_that_is_not_there_is_said_soon(credentials: None) -> None:
    cache = ObjectCache("s3://team/x", {"endpoint": "http://127.0.0.1:9", "region": "us-east-1"}, timeout=1)
    with pytest.raises(RemoteError):
        cache.line(key_of("line"))


@pytest.mark.parametrize("module", ["obstore", "obstore.store"])
def test_without_obstore_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    cache = ObjectCache(f"file://{tmp_path}/cache", {})
    for attempt in (
        lambda: cache.line(key_of("line")),
        lambda: cache.has_blob(blob_of(b"layer").digest),
        lambda: list(cache.blob(blob_of(b"layer"))),
        lambda: cache.add(key_of("step"), UNSIGNED, sealed(step()), None),
    ):
        with pytest.raises(RemoteError) as caught:
            attempt()
        assert caught.value.code == "cache/obstore"
        assert caught.value.hint == "pip install 'pybuild[object]'"


def test_obstore_is_imported_when_something_is_asked() -> None:
    """A build that has a cache in a bucket and hits in its own store does not pay for it."""
    code = "import sys; from cache.remotes.object import ObjectCache; ObjectCache('s3://a/b', {}).close();"
    code += "sys.exit('obstore' in sys.modules)"
    subprocess.run((sys.executable, "-c", code), check=True)


def test_what_is_too_long_is_not_read(tmp_path: Path) -> None:
    """Who may write to the cache cannot have others read until they have no memory."""
    cache = ObjectCache(f"file://{tmp_path}/cache", {})
    entry = step(layer=None)
    cache.add(entry.key, UNSIGNED, sealed(entry), None)
    cache.extend(key_of("line"), [sealed(entry)])
    for path in ("entries/" + entry.key + "/" + "1" * 64, "lines/" + key_of("line") + "/long"):
        with (tmp_path / "cache" / path).open("wb") as file:
            file.truncate(1 << 40)
    assert cache.entry(entry.key, ("",)) == [sealed(entry)]
    assert cache.line(key_of("line")) == [sealed(entry)]


def test_a_stopped_transfer_ends(tmp_path: Path) -> None:
    cache, data = ObjectCache(f"file://{tmp_path}/cache", {}), bytes(8 << 20)
    cache.put_blob(blob_of(data), lambda: io.BytesIO(data))
    chunks = cache.blob(blob_of(data))
    next(chunks)
    cache.stop()
    with pytest.raises(RemoteError):
        list(chunks)
    with pytest.raises(RemoteError):
        cache.put_blob(blob_of(b"other"), lambda: io.BytesIO(b"other"))


def test_a_place_with_a_space_is_that_directory(tmp_path: Path) -> None:
    cache = ObjectCache(f"file://{tmp_path}/the%20cache", {})
    cache.add(key_of("step"), UNSIGNED, sealed(step(layer=None)), None)
    assert (tmp_path / f"the cache/entries/{key_of('step')}/unsigned").is_file()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_store_that_stalls_is_given_up(silent: str, credentials: None) -> None:
    cache = ObjectCache("s3://team/x", {"endpoint": silent, "region": "us-east-1"}, timeout=0.3)
    with pytest.raises(RemoteError):
        cache.line(key_of("line"))


WAITS = """
import sys, threading
from cache.remote import RemoteError
from cache.remotes.object import ObjectCache
cache = ObjectCache("s3://team/x", {"endpoint": sys.argv[1], "region": "us-east-1"}, timeout=600)
asked = threading.Thread(target=lambda: cache.line("0" * 64))
threading.excepthook = lambda args: print(args.exc_type.__name__, flush=True)
asked.start()
asked.join(0.5)
assert asked.is_alive()
cache.stop()
asked.join()
cache.close()
"""


def test_who_waits_for_an_answer_that_does_not_come_is_let_go_by_stop(silent: str, credentials: None) -> None:
    """And the process ends: the answer would have had ten minutes."""
    done = subprocess.run(
        [sys.executable, "-c", WAITS, silent], capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert (done.returncode, done.stdout) == (0, "RemoteError\n"), done.stderr


class _Dripping(http.server.BaseHTTPRequestHandler):
    """Sends an object of 8 bytes, one after the other."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.send_header("ETag", '"x"')
        self.end_headers()
        for number in range(8):
            time.sleep(0.1)
            self.wfile.write(b"%d" % number)

    def log_message(self, *_: object) -> None:
        pass


def test_a_blob_may_take_longer_than_an_answer(credentials: None) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Dripping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = {"endpoint": f"http://127.0.0.1:{server.server_port}", "region": "us-east-1"}
        cache = ObjectCache("s3://team/x", options, timeout=0.5)
        try:
            assert b"".join(cache.blob(blob_of(b"01234567"))) == b"01234567"
        finally:
            server.shutdown()


def test_an_endpoint_comes_from_the_environment(
    endpoint: str, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    cache, entry = ObjectCache("s3://team/environment", {}), step(layer=None)
    assert cache.add(entry.key, UNSIGNED, sealed(entry), None)
    assert cache.entry(entry.key, (UNSIGNED,)) == [sealed(entry)]
