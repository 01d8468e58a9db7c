"""Files behind URLs: fetched once, asked for again as far as the server says that they changed, verified."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.errors import FetchError
from builder.events import Event, TransferFinished, TransferStarted
from builder.remotes.address import HttpAddress, parse_address, with_checksum
from builder.remotes.http import Download, Downloads
from cache.registry.retry import RetryPolicy
from cache.store import Store
from tests.remote_fixtures.http_server import HttpServer

BODY = os.urandom(300_000)
SHA256 = "sha256:" + hashlib.sha256(BODY).hexdigest()
SHA512 = "sha512:" + hashlib.sha512(BODY).hexdigest()
WRONG = "sha256:" + "0" * 64
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
SECONDS = 1_445_412_480
QUICK = RetryPolicy(attempts=4, first=0.01, longest=0.02)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as found:
        yield found


class Client:
    """Fetches as one build after the other does, on one store."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.events: list[Event] = []

    def fetch(self, url: str, checksum: str = "", **environ: str) -> tuple[Download, bytes]:
        """Return what was fetched, by a build of its own, and its bytes. Raises FetchError."""
        address = parse_address(url)
        assert isinstance(address, HttpAddress)
        if checksum:
            address = with_checksum(address, checksum)  # type: ignore[assignment]
        self.events.clear()
        with Store.open(self.root) as store:
            downloads = Downloads(store, self.events.append, environ=environ, policy=QUICK)
            try:
                found = downloads.fetch(address)
                assert downloads.fetch(address) == found
                with downloads.open(found) as file:
                    return found, file.read()
            finally:
                downloads.close()
                store.sync()

    def blobs(self) -> list[str]:
        place = f"{self.root}/blobs/blobs/sha256"
        return os.listdir(place) if os.path.isdir(place) else []

    def leftovers(self) -> list[str]:
        return os.listdir(f"{self.root}/tmp")


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(str(tmp_path / "store"))


def test_a_file_is_fetched_and_asked_for_again_by_its_etag(server: HttpServer, client: Client) -> None:
    url = server.serve("/a/file", BODY, etag='"one"', modified=DATE)
    first, data = client.fetch(url)
    assert data == BODY
    assert (first.digest, first.size, first.modified) == (SHA256, len(BODY), SECONDS)
    assert client.blobs() == [SHA256[7:]]
    kinds = [type(event) for event in client.events]
    assert (kinds[0], kinds[-1]) == (TransferStarted, TransferFinished)
    again, _ = client.fetch(url)
    assert again == first
    assert server.seen[1].headers["If-None-Match"] == '"one"'
    assert client.events == []
    server.serve("/a/file", b"changed", etag='"two"')
    changed, data = client.fetch(url)
    assert (data, changed.modified) == (b"changed", 0)


def test_without_an_etag_the_date_is_asked_for(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY, modified=DATE)
    client.fetch(url)
    client.fetch(url)
    assert server.seen[1].headers["If-Modified-Since"] == DATE
    assert client.events == []


def test_a_server_that_answers_in_full_with_the_known_etag_is_not_read(
    server: HttpServer, client: Client
) -> None:
    url = server.serve("/file", BODY, etag='"one"', stubborn=True)
    client.fetch(url)
    server.pages["/file"].etag = 'W/"one"'
    client.fetch(url)
    assert client.events == []


def test_without_either_it_is_fetched_each_time(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY)
    client.fetch(url)
    client.fetch(url)
    assert any(isinstance(event, TransferFinished) for event in client.events)


def test_a_build_asks_once(server: HttpServer, client: Client) -> None:
    client.fetch(server.serve("/file", BODY))
    assert len(server.seen) == 1


@pytest.mark.parametrize("checksum", (SHA256, SHA512, "sha384:" + hashlib.sha384(BODY).hexdigest()))
def test_a_body_with_a_known_checksum_takes_no_network(
    server: HttpServer, client: Client, checksum: str
) -> None:
    _, data = client.fetch(server.serve("/file", BODY, modified=DATE), checksum)
    assert data == BODY
    server.stop()
    found, data = client.fetch(server.url + "/file", checksum)
    assert (data, found.modified) == (BODY, SECONDS)
    elsewhere, data = client.fetch("http://127.0.0.1:1/elsewhere", checksum)
    assert (data, elsewhere.modified) == (BODY, 0)


def test_a_wrong_checksum_is_an_error_that_shows_both(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY)
    with pytest.raises(FetchError) as error:
        client.fetch(url, WRONG)
    assert (error.value.code, error.value.exit_code) == ("fetch/checksum", 3)
    assert WRONG in error.value.message
    assert SHA256 in error.value.message
    wrong = "sha512:" + "0" * 128
    with pytest.raises(FetchError) as error:
        client.fetch(url, wrong)
    assert wrong in error.value.message
    assert SHA512 in error.value.message
    assert client.blobs() == client.leftovers() == []


def test_a_damaged_body_in_the_store_is_fetched_anew(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY, etag='"one"')
    client.fetch(url)
    blob = Path(client.root, "blobs/blobs/sha256", SHA256[7:])
    blob.write_bytes(BODY[:-1] + b"?")
    _, data = client.fetch(url)
    assert data == BODY
    blob.unlink()
    _, data = client.fetch(url, SHA256)
    assert data == BODY


# What goes wrong on the way


def test_a_busy_server_is_asked_again(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY, statuses=[503, 429, 500], headers={"Retry-After": "0"})
    _, data = client.fetch(url)
    assert data == BODY
    assert len(server.seen) == 4


def test_a_server_that_stays_busy_is_given_up(server: HttpServer, client: Client) -> None:
    with pytest.raises(FetchError, match="status 503") as error:
        client.fetch(server.serve("/file", BODY, statuses=[503] * 9))
    assert (error.value.code, error.value.exit_code) == ("fetch/unreachable", 3)
    assert len(server.seen) == QUICK.attempts
    with pytest.raises(FetchError, match="status 429"):
        client.fetch(server.serve("/later", BODY, statuses=[429] * 9, headers={"Retry-After": "3600"}))
    assert len(server.seen) == QUICK.attempts + 1


def test_a_body_that_breaks_off_is_resumed(server: HttpServer, client: Client) -> None:
    _, data = client.fetch(server.serve("/file", BODY, etag='"one"', cut=200_000))
    assert data == BODY
    assert server.seen[1].headers["Range"] == "bytes=200000-"
    assert server.seen[1].headers["If-Range"] == '"one"'


@pytest.mark.parametrize("told", ({"etag": '"one"', "ranges": False}, {"etag": 'W/"one"'}, {}))
def test_or_fetched_from_its_beginning(server: HttpServer, client: Client, told: dict[str, object]) -> None:
    _, data = client.fetch(server.serve("/file", BODY, cut=200_000, **told), SHA512)
    assert data == BODY
    assert len(server.seen) == 2


def test_a_file_that_changes_between_two_parts_is_not_mixed(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY, etag='"one"', cut=200_000)
    page = server.pages["/file"]

    def change() -> None:
        page.body, page.etag = BODY[::-1], '"two"'

    server.changes.append(change)
    _, data = client.fetch(url)
    assert data == BODY[::-1]


def test_a_body_that_is_never_whole_is_an_error(server: HttpServer, client: Client) -> None:
    server.always_cut = 10
    with pytest.raises(FetchError, match="the connection broke off") as error:
        client.fetch(server.serve("/file", BODY))
    assert error.value.exit_code == 3
    assert client.blobs() == client.leftovers() == []


def test_nobody_is_there(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(FetchError, match="Connection refused") as error:
        client.fetch(f"http://127.0.0.1:{port}/file")
    assert (error.value.code, error.value.exit_code) == ("fetch/unreachable", 3)
    with pytest.raises(FetchError, match="name does not resolve") as error:
        client.fetch("http://name.invalid/file")
    assert error.value.code == "fetch/unreachable"


@pytest.mark.parametrize(
    ("status", "says"),
    ((403, "forbidden"), (404, "not there"), (410, "gone"), (418, "no file"), (204, "no file")),
)
def test_a_refusal_is_told(server: HttpServer, client: Client, status: int, says: str) -> None:
    with pytest.raises(FetchError, match=says) as error:
        client.fetch(server.serve("/file", BODY, statuses=[status]))
    assert error.value.code == "fetch/status"
    assert str(status) in error.value.message


# Redirects and credentials


def test_redirects_are_followed_and_credentials_are_not_passed_on(server: HttpServer, client: Client) -> None:
    with HttpServer() as other:
        target = other.serve("/there/other-name", BODY)
        server.serve("/hop", statuses=[302], headers={"Location": target})
        url = server.serve("/file", statuses=[301], headers={"Location": "/hop"})
        _, data = client.fetch(url.replace("://", "://user:s3cret@"))
    assert data == BODY
    assert [each.headers.get("Authorization") is not None for each in (*server.seen, *other.seen)] == [
        True,
        True,
        False,
    ]


def test_redirects_end(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", statuses=[302] * 50, headers={"Location": "/file"})
    with pytest.raises(FetchError, match="without end") as error:
        client.fetch(url)
    assert error.value.code == "fetch/redirect"
    for target in ("file:///etc/passwd", "ftp://h/x", "javascript:1"):
        with pytest.raises(FetchError, match="redirects to"):
            client.fetch(server.serve("/out", statuses=[302], headers={"Location": target}))


def test_credentials_of_the_url_are_used_and_stored_nowhere(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY, user="Basic dXNlcjpwOi9A")
    _, data = client.fetch(url.replace("://", "://user:p%3A%2F%40@"))
    assert data == BODY
    for directory, _, files in os.walk(client.root):
        for name in files:
            assert b"p%3A%2F%40" not in Path(directory, name).read_bytes()
    with pytest.raises(FetchError, match="wants credentials") as error:
        client.fetch(url.replace("://", "://user:wr0ng@"))
    assert "wr0ng" not in error.value.message


def test_proxies_of_the_environment_are_asked(server: HttpServer, client: Client) -> None:
    server.serve("http://name.invalid/file", BODY)
    _, data = client.fetch("http://name.invalid/file", http_proxy=server.url)
    assert data == BODY
    with pytest.raises(FetchError):
        client.fetch("http://name.invalid/file", http_proxy=server.url, no_proxy="invalid")


def test_several_builds_at_once_fetch_once(server: HttpServer, client: Client) -> None:
    url = server.serve("/file", BODY, etag='"one"')

    def build(_: int) -> bytes:
        return Client(client.root).fetch(url, SHA256)[1]

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(build, range(4))) == {BODY}
    assert len(server.seen) == 1
