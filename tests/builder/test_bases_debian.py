"""mmdebstrap:// as far as it is a matter of text: sources, architectures, keys.

test_bases_mmdebstrap.py runs it.
"""

from __future__ import annotations

import os

import pytest

from builder.bases.apt import parse_settings
from builder.bases.base import BaseRequest
from builder.bases.debian import (
    MIRROR,
    SECURITY_MIRROR,
    Source,
    host_mirrors,
    parse_stanza,
    parse_uris,
    plan_sources,
)
from builder.bases.keyring import Keyring
from builder.bases.mmdebstrap import base_key
from builder.bases.release import Release
from builder.bases.wish import Wish, architecture, read_wish
from builder.errors import BaseError
from cache.oci.platform import Platform

AMD64 = Platform("linux", "amd64")


def lines(sources: tuple[Source, ...]) -> list[str]:
    return [source.line() for source in sources]


def test_a_stable_suite_comes_with_its_updates_and_security_updates() -> None:
    assert lines(plan_sources("bookworm", (), "http://m/debian", "http://s/debian-security")) == [
        "deb http://m/debian bookworm main",
        "deb http://m/debian bookworm-updates main",
        "deb http://s/debian-security bookworm-security main",
    ]


def test_a_rolling_suite_has_none() -> None:
    assert lines(plan_sources("sid", (), MIRROR, SECURITY_MIRROR)) == [f"deb {MIRROR} sid main"]


def test_mirrors_that_are_given_are_all_that_is_used() -> None:
    snapshot = "http://snapshot.debian.org/archive/debian/20250520T000000Z/"
    security = "http://snapshot.debian.org/archive/debian-security/20250520T000000Z/"
    sources = plan_sources("bookworm", (security, snapshot), MIRROR, SECURITY_MIRROR)
    assert [(source.suite, source.optional) for source in sources] == [
        ("bookworm", False),
        ("bookworm-security", False),
        ("bookworm-updates", True),
        ("bookworm-security", True),
    ]
    assert sources[0].uri == snapshot.rstrip("/")


def test_a_whole_line_is_taken_as_it_is() -> None:
    line = "deb [check-valid-until=no arch=amd64] http://m/ubuntu jammy main universe"
    (source,) = plan_sources("jammy", (line,), MIRROR, SECURITY_MIRROR)
    assert source.components == ("main", "universe")
    assert source.line("signed-by=/k") == (
        "deb [check-valid-until=no arch=amd64 signed-by=/k] http://m/ubuntu jammy main universe"
    )


@pytest.mark.parametrize(
    "mirror",
    [
        "",
        "ftp://m/debian",
        "/srv/mirror",
        "http://",
        "deb http://m/debian bookworm",
        "http://m/ x",
        "http://user:secret@m/debian",
        "deb http://m/debian trixie main",
    ],
)
def test_a_mirror_that_is_none_is_said(mirror: str) -> None:
    with pytest.raises(BaseError) as caught:
        plan_sources("bookworm", (mirror,), MIRROR, SECURITY_MIRROR)
    assert caught.value.code == "base/mirror"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux/amd64", "amd64"),
        ("linux/arm64", "arm64"),
        ("linux/arm64/v8", "arm64"),
        ("linux/arm/v7", "armhf"),
        ("linux/arm/v6", "armel"),
        ("linux/386", "i386"),
        ("linux/ppc64le", "ppc64el"),
    ],
)
def test_architectures_have_debian_names(platform: str, name: str) -> None:
    assert architecture(Platform.parse(platform)) == name


@pytest.mark.parametrize("platform", ["windows/amd64", "linux/wasm"])
def test_what_debian_is_not_made_for_is_said(platform: str) -> None:
    with pytest.raises(BaseError):
        architecture(Platform.parse(platform))


def _apt(tmp_path: os.PathLike[str], **files: str) -> tuple[str, str]:
    os.makedirs(os.path.join(tmp_path, "sources.list.d"))
    for name, text in files.items():
        path = "sources.list" if name == "sources" else f"sources.list.d/{name.replace('_', '.')}"
        with open(os.path.join(tmp_path, path), "w") as file:
            file.write(text)
    return host_mirrors(os.fspath(tmp_path))


def test_the_mirrors_of_the_host_are_found_in_either_format(tmp_path: os.PathLike[str]) -> None:
    found = _apt(
        tmp_path,
        a_list="# deb http://no/debian x y\ndeb [arch=amd64] https://node.example/node_20.x nodistro main\n",
        debian_sources=(
            "Types: deb-src\nURIs: http://src/debian\nSuites: bookworm\nComponents: main\n\n"
            "Enabled: no\nTypes: deb\nURIs: http://off/debian\nSuites: bookworm\nComponents: main\n\n"
            "# a comment\nTypes: deb deb-src\nURIs:\n http://one/debian/\n http://two/debian\nSuites: x\n"
        ),
        security_list="deb http://one/debian-security bookworm-security main\n",
    )
    assert found == ("http://one/debian", "http://one/debian-security")


def test_without_any_it_is_debians_own(tmp_path: os.PathLike[str]) -> None:
    assert host_mirrors(os.path.join(tmp_path, "absent")) == (MIRROR, SECURITY_MIRROR)
    assert _apt(tmp_path, sources="deb cdrom:[Debian]/ bookworm main\ndeb http://m/ubuntu jammy main\n") == (
        MIRROR,
        SECURITY_MIRROR,
    )


def test_deb822_fields_may_go_on() -> None:
    assert parse_stanza("A: 1\nB:\n 2\n# no\n\t3\nC: x:y") == {"a": "1", "b": "\n2\n3", "c": "x:y"}
    assert list(parse_uris("deb http://x s c # note\n", deb822=False)) == ["http://x"]


def test_settings_of_apt_are_read() -> None:
    settings = parse_settings("HTTP='http://proxy:3128'\nVALID='false'\n")
    assert settings.proxies == {"http_proxy": "http://proxy:3128"}
    assert not settings.check_valid_until
    assert parse_settings("HTTPS='DIRECT'\n").proxies == {}
    assert parse_settings("").check_valid_until


def test_from_flags_are_read() -> None:
    options = (("variant", "apt"), ("include", "b,a c"), ("include", "a"), ("mirror", "http://m/debian"))
    wish = read_wish(BaseRequest("bookworm", AMD64, (*options, ("keyring", "keys/k.gpg")), directory="/srv"))
    assert wish == Wish("bookworm", "amd64", "apt", ("a", "b", "c"), ("http://m/debian",), "/srv/keys/k.gpg")
    assert read_wish(BaseRequest("bookworm", AMD64)).name == "mmdebstrap://bookworm"


@pytest.mark.parametrize(
    ("suite", "option", "code"),
    [
        ("", None, "base/suite"),
        ("../x", None, "base/suite"),
        ("bookworm --hook", None, "base/suite"),
        ("-v", None, "base/suite"),
        ("bookworm", ("variant", "tiny"), "base/option"),
        ("bookworm", ("include", "--setup-hook=rm"), "base/option"),
        ("bookworm", ("colour", "red"), "base/option"),
    ],
)
def test_wrong_flags_are_said(suite: str, option: tuple[str, str] | None, code: str) -> None:
    with pytest.raises(BaseError) as caught:
        read_wish(BaseRequest(suite, AMD64, (option,) if option else ()))
    assert caught.value.code == code


def _key(**changes: object) -> str:
    facts: dict[str, object] = {
        "suite": "bookworm",
        "arch": "amd64",
        "variant": "minbase",
        "include": (),
        "digest": "0" * 64,
        "uri": "http://m/debian",
        "keys": b"k",
        "version": "mmdebstrap 1.3.5",
        "date": 1,
    } | changes
    source = Source(str(facts["uri"]), str(facts["suite"]), ("main",))
    include = facts["include"]
    assert isinstance(include, tuple) and isinstance(facts["keys"], bytes) and isinstance(facts["date"], int)
    wish = Wish(str(facts["suite"]), str(facts["arch"]), str(facts["variant"]), include)
    keyring = Keyring("/k.gpg", facts["keys"], facts["keys"])
    releases = [Release(source, str(facts["digest"]), facts["date"], ("amd64",))]
    return base_key(wish, releases, keyring, str(facts["version"]))


def test_the_key_depends_on_all_that_the_result_depends_on() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"suite": "trixie"},
        {"arch": "arm64"},
        {"variant": "apt"},
        {"include": ("curl",)},
        {"digest": "1" * 64},
        {"uri": "http://n/debian"},
        {"keys": b"l"},
        {"version": "mmdebstrap 1.5"},
    ]
    assert len({_key(**change) for change in changes}) == len(changes)
    assert _key(date=2) == _key(), "the date is in the file that the digest is of"


def test_the_key_stays_the_same_from_version_to_version() -> None:
    """A base that is made anew for nothing costs every image that stands on it."""
    assert _key() == "b20b899464ec6962b27efadd95a1aefdd23488dfee08663e56dda19dfdf780cc"
