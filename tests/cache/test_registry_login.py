"""Logins against a real docker-registry: basic, and bearer tokens from a token server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cache.errors import RegistryError
from cache.oci.platform import Platform
from cache.oci.reference import Reference
from cache.registry.client import RegistryClient
from cache.registry.credentials import Anonymous, Credential, Credentials
from cache.registry.retry import RetryPolicy
from cache.registry.transport import UrllibTransport
from tests.registry_fixtures import images
from tests.registry_fixtures.registry import PASSWORD, USER, Registry
from tests.registry_fixtures.token_server import REFRESH_TOKEN, TokenServer

AMD64 = Platform("linux", "amd64")


class Login:
    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def find(self, registry: str, repository: str) -> Credential | None:
        return self._credential


def _client(credentials: Credentials) -> RegistryClient:
    policy = RetryPolicy(attempts=2, first=0.01)
    return RegistryClient(UrllibTransport(environ={}), credentials=credentials, policy=policy)


def _pull(reader: RegistryClient, name: str) -> int:
    """Resolve `name` and fetch its layers; return how many there are."""
    reference = Reference.parse(name)
    layers = reader.resolve(reference, AMD64).manifest.layers
    for layer in layers:
        assert sum(len(chunk) for chunk in reader.blob(reference, layer)) == layer.size
    return len(layers)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = os.fspath(tmp_path_factory.mktemp("login") / "layout")
    return images.make_layout(directory, [{"bin/tool": b"x"}, {"etc/conf": b"y"}])


def _push(layout: str, registry: Registry, name: str) -> str:
    complete = f"{registry.address}/{name}"
    words = ["copy", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}"]
    images.skopeo(*words, f"oci:{layout}:latest", f"docker://{complete}")
    return complete


def test_basic_login(tmp_path: os.PathLike[str], layout: str) -> None:
    with Registry(os.path.join(tmp_path, "registry"), login=True) as registry:
        name = _push(layout, registry, "team/app:1")
        assert _pull(_client(Login(Credential(USER, PASSWORD))), name) == 2
        for credentials in (Anonymous(), Login(Credential(USER, "wrong"))):
            with pytest.raises(RegistryError) as caught:
                _pull(_client(credentials), name)
            assert caught.value.code == "registry/unauthorized"
            assert registry.address in (caught.value.hint or "")
            assert "wrong" not in caught.value.message


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with TokenServer(os.fspath(tmp_path_factory.mktemp("tokens"))) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer, layout: str) -> Iterator[Registry]:
    directory = os.fspath(tmp_path_factory.mktemp("guarded"))
    with Registry(directory, token=(tokens.realm, tokens.certificate)) as registry:
        _push(layout, registry, "public/app:1")
        _push(layout, registry, "private/app:1")
        yield registry


def test_an_anonymous_token_opens_what_is_public(guarded: Registry, tokens: TokenServer) -> None:
    tokens.requests.clear()
    assert _pull(_client(Anonymous()), f"{guarded.address}/public/app:1") == 2
    assert tokens.requests == [("GET", "repository:public/app:pull", "anonymous")]


def test_what_is_private_wants_a_login(guarded: Registry, tokens: TokenServer) -> None:
    with pytest.raises(RegistryError) as caught:
        _pull(_client(Anonymous()), f"{guarded.address}/private/app:1")
    assert caught.value.code == "registry/unauthorized"
    tokens.requests.clear()
    reader = _client(Login(Credential(USER, PASSWORD)))
    assert _pull(reader, f"{guarded.address}/private/app:1") == 2
    assert tokens.requests == [("GET", "repository:private/app:pull", "basic")]
    assert _pull(reader, f"{guarded.address}/public/app:1") == 2
    assert len(tokens.requests) == 2, "a token for another scope, and no more than that"


def test_a_wrong_password_is_refused_by_the_token_server(guarded: Registry, tokens: TokenServer) -> None:
    with pytest.raises(RegistryError, match="refuses the stored login") as caught:
        _pull(_client(Login(Credential(USER, "wrong"))), f"{guarded.address}/private/app:1")
    assert caught.value.code == "registry/unauthorized"


def test_an_identity_token_is_exchanged(guarded: Registry, tokens: TokenServer) -> None:
    tokens.requests.clear()
    assert (
        _pull(
            _client(Login(Credential("", identity_token=REFRESH_TOKEN))), f"{guarded.address}/private/app:1"
        )
        == 2
    )
    assert [how for _, _, how in tokens.requests] == ["refresh"]


def test_an_expired_token_is_renewed(guarded: Registry, tokens: TokenServer) -> None:
    """The registry's clock decides: a token that it no longer takes is fetched anew, amid a pull."""
    tokens.requests.clear()
    tokens.life = -120  # docker-registry allows a minute of leeway
    try:
        with pytest.raises(RegistryError):
            _pull(_client(Anonymous()), f"{guarded.address}/public/app:1")
    finally:
        tokens.life = 300
    reader = _client(Anonymous())
    reference = Reference.parse(f"{guarded.address}/public/app:1")
    layers = reader.resolve(reference, AMD64).manifest.layers
    authorizer = reader._session._authorizer
    for key, token in authorizer._tokens.items():
        authorizer._tokens[key] = type(token)("expired", token.expires)
    assert all(sum(map(len, reader.blob(reference, layer))) == layer.size for layer in layers)
