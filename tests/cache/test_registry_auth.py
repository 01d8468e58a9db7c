"""Authentication, as far as it is a matter of parsing; test_registry_login.py asks real servers."""

from __future__ import annotations

import base64
import json
import os
import stat

import pytest

from cache.errors import RegistryError
from cache.registry.challenge import Challenge, parse_challenges
from cache.registry.credentials import Anonymous, Credential, StoredCredentials, auth_files
from cache.registry.endpoints import DOCKER_HUB, Registries, RegistrySettings
from cache.registry.proxies import is_loopback, proxy_for
from cache.registry.retry import RetryPolicy, retry_after


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.example/token",service="reg, one",scope="repository:a/b:pull,push"',
            [
                ("bearer", "realm", "https://auth.example/token"),
                ("bearer", "scope", "repository:a/b:pull,push"),
            ],
        ),
        ('Basic realm="a \\"quoted\\" one"', [("basic", "realm", 'a "quoted" one')]),
        ("basic", [("basic", "realm", None)]),
        ('Negotiate, Basic realm="x"', [("negotiate", "realm", None), ("basic", "realm", "x")]),
        ('Negotiate YWJj==, Bearer realm="x" , service = y', [("bearer", "service", "y")]),
        ('BASIC REALM="x", bearer Realm=https://a/b?c=d,service=q', [("bearer", "realm", "https://a/b?c=d")]),
    ],
)
def test_challenges_are_read(header: str, expected: list[tuple[str, str, str | None]]) -> None:
    challenges = {item.scheme: item for item in parse_challenges([header])}
    for scheme, name, value in expected:
        assert challenges[scheme].get(name) == value


@pytest.mark.parametrize("header", ["", ",,,", '"', "=", 'Bearer realm="unclosed', "\0\xff", "a" * 100_000])
def test_nonsense_is_no_reason_to_fail(header: str) -> None:
    assert all(isinstance(item, Challenge) for item in parse_challenges([header]))


def test_several_headers_are_several_challenges() -> None:
    assert [item.scheme for item in parse_challenges(["Basic realm=a", "Bearer realm=b"])] == [
        "basic",
        "bearer",
    ]


def _auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _stored(tmp_path: os.PathLike[str], content: object) -> StoredCredentials:
    path = os.path.join(tmp_path, "config.json")
    with open(path, "w") as file:
        json.dump(content, file)
    return StoredCredentials(
        {"DOCKER_CONFIG": os.fspath(tmp_path), "HOME": "/nonexistent", "PATH": os.environ["PATH"]}
    )


def test_a_login_is_found_by_any_spelling_of_its_registry(tmp_path: os.PathLike[str]) -> None:
    stored = _stored(
        tmp_path,
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": _auth("hub:a:b")},
                "https://reg.example/v2/": {"auth": _auth("old:spelling")},
                "plain.example:5000": {"username": "u", "password": "p"},
                "quay.example/team": {"auth": _auth("team:t")},
                "quay.example": {"auth": _auth("all:a")},
                "token.example": {"auth": _auth("x:"), "identitytoken": "refresh"},
            }
        },
    )
    assert stored.find("docker.io", "library/debian") == Credential("hub", "a:b")
    assert stored.find("reg.example", "x") == Credential("old", "spelling")
    assert stored.find("plain.example:5000", "x") == Credential("u", "p")
    assert stored.find("quay.example", "team/app") == Credential("team", "t")
    assert stored.find("quay.example", "teams/app") == Credential("all", "a")
    assert stored.find("token.example", "x") == Credential("x", identity_token="refresh")
    assert stored.find("plain.example", "x") is None


def test_secrets_are_in_no_repr() -> None:
    assert "secret" not in repr(Credential("user", "secret", "secret"))


@pytest.mark.parametrize("content", ["{", '{"auths": {"r.example": {"auth": "%%%"}}}', "\0\0"])
def test_a_damaged_file_is_one_clear_error(tmp_path: os.PathLike[str], content: str) -> None:
    with open(os.path.join(tmp_path, "config.json"), "w") as file:
        file.write(content)
    with pytest.raises(RegistryError) as caught:
        StoredCredentials({"DOCKER_CONFIG": os.fspath(tmp_path), "HOME": "/nonexistent"}).find(
            "r.example", "x"
        )
    assert caught.value.code == "registry/credentials"


def test_a_credential_helper_is_asked_and_its_absence_is_said(tmp_path: os.PathLike[str]) -> None:
    helper = os.path.join(tmp_path, "docker-credential-test")
    with open(helper, "w") as file:
        file.write(
            "#!/bin/sh\nread server\ncase $server in\n"
            'good.example) echo "{\\"Username\\":\\"u\\",\\"Secret\\":\\"s\\"}";;\n'
            'token.example) echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"s\\"}";;\n'
            "none.example) echo credentials not found in native keychain; exit 1;;\n"
            "*) echo it broke >&2; exit 1;;\nesac\n"
        )
    os.chmod(helper, stat.S_IRWXU)
    content = {"credHelpers": {"good.example": "test", "lost.example": "is-missing"}, "credsStore": "test"}
    with open(os.path.join(tmp_path, "config.json"), "w") as file:
        json.dump(content, file)
    environ = {"DOCKER_CONFIG": os.fspath(tmp_path), "HOME": "/nonexistent"}
    stored = StoredCredentials({**environ, "PATH": f"{os.fspath(tmp_path)}:{os.environ['PATH']}"})
    assert stored.find("good.example", "a") == Credential("u", "s")
    assert stored.find("token.example", "a") == Credential("", identity_token="s")
    assert stored.find("none.example", "a") is None
    with pytest.raises(RegistryError, match="it broke"):
        stored.find("bad.example", "a")
    with pytest.raises(RegistryError, match="docker-credential-is-missing"):
        stored.find("lost.example", "a")


def test_an_explicit_file_is_the_only_one() -> None:
    assert auth_files({"REGISTRY_AUTH_FILE": "/x", "DOCKER_CONFIG": "/y"}) == ("/x",)
    assert auth_files({"DOCKER_CONFIG": "/y", "HOME": "/h", "XDG_RUNTIME_DIR": "/r"})[-1] == "/y/config.json"
    assert Anonymous().find("docker.io", "x") is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "a.localhost"])
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1.example.com",
        "localhost.example.com",
        "128.0.0.1",
        "notlocalhost",
        "127.0.0.999",
        "10.0.0.1",
    ],
)
def test_what_only_looks_like_loopback_is_none(host: str) -> None:
    assert not is_loopback(host)


def test_mirrors_come_first_and_the_registry_last() -> None:
    settings = {
        "docker.io": RegistrySettings(mirrors=("localhost:5000", "https://mirror.example/hub/")),
        "mirror.example": RegistrySettings(ca="/ca.pem"),
        "internal.example": RegistrySettings(insecure=True),
    }
    registries = Registries(settings)
    first, second, last = registries.endpoints("docker.io")
    assert (first.host, first.schemes, first.tls.verify) == ("localhost:5000", ("https", "http"), False)
    assert (second.host, second.prefix, second.schemes) == ("mirror.example", "hub", ("https",))
    assert (second.tls.verify, second.tls.ca) == (True, "/ca.pem")
    assert (last.host, last.registry, last.schemes) == (DOCKER_HUB, "docker.io", ("https",))
    assert registries.origin("internal.example").schemes == ("https", "http")
    assert registries.origin("plain.example").schemes == ("https",)


@pytest.mark.parametrize("mirror", ["", "ftp://x.example", "https://user@x.example", "x.example/?a=b"])
def test_a_misspelt_mirror_is_said(mirror: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Registries({"docker.io": RegistrySettings(mirrors=(mirror,))}).endpoints("docker.io")
    assert caught.value.code == "registry/mirror"


def test_proxies_are_those_of_the_environment() -> None:
    environ = {"https_proxy": "http://p:1", "no_proxy": "in.example, .other.example,10.0.0.1:80"}
    assert proxy_for("https://out.example/v2/", environ) == "http://p:1"
    assert proxy_for("https://a.in.example:5000/v2/", environ) is None
    assert proxy_for("https://a.other.example/", environ) is None
    assert proxy_for("https://main.example/", environ) == "http://p:1"
    assert proxy_for("https://localhost:5000/v2/", environ) is None
    assert proxy_for("http://out.example/", {"HTTP_PROXY": "http://p:1"}) is None
    assert proxy_for("http://out.example/", {"http_proxy": "p:1"}) == "http://p:1"
    assert proxy_for("http://out.example/", {"http_proxy": "p:1", "no_proxy": "*"}) is None


def test_waits_grow_and_end() -> None:
    policy = RetryPolicy(attempts=4, first=1.0, longest=3.0, patience=30.0)
    waits = [policy.delay(attempt) for attempt in (1, 2, 3)]
    assert all(
        wait is not None and low <= wait <= high
        for wait, low, high in zip(waits, (0.5, 1, 1.5), (1, 2, 3), strict=True)
    )
    assert policy.delay(4) is None
    assert policy.delay(1, 20.0) == 20.0
    assert policy.delay(1, 31.0) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("7", 0) == 7
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20.0) == 40
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT", 20.0) == 0
    assert retry_after("soon", 0) is None
    assert retry_after(None, 0) is None
