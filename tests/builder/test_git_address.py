"""What names something elsewhere, and what it says: the forms of BuildKit's dfgitutil and gitutil."""

from __future__ import annotations

import pytest

from builder.errors import PlanError
from builder.remotes.address import (
    GitAddress,
    HttpAddress,
    parse_address,
    parse_repository,
    redact,
    with_checksum,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"

GIT = {
    "https://example.com/foo.git": ("https://example.com/foo.git", "", ""),
    "https://example.com/foo.git#deadbeef": ("https://example.com/foo.git", "deadbeef", ""),
    "https://example.com/foo.git#release/1.2": ("https://example.com/foo.git", "release/1.2", ""),
    "https://github.com/foo/bar.git#baz/qux:quux/quuz": (
        "https://github.com/foo/bar.git",
        "baz/qux",
        "quux/quuz",
    ),
    "https://github.com/docker/docker.git#:myfolder": (
        "https://github.com/docker/docker.git",
        "",
        "myfolder",
    ),
    "https://h/d.git?ref=v1.0.0&subdir=/subdir": ("https://h/d.git", "v1.0.0", "subdir"),
    "https://h/d.git?tag=v1": ("https://h/d.git", "refs/tags/v1", ""),
    "https://h/d.git?branch=main&subdir=a/b/": ("https://h/d.git", "refs/heads/main", "a/b"),
    "https://h/d.git?ref=refs/pull/42/head": ("https://h/d.git", "refs/pull/42/head", ""),
    f"https://h/d.git?commit={COMMIT.upper()}": ("https://h/d.git", COMMIT, ""),
    "git://example.com/foo": ("git://example.com/foo", "", ""),
    "git@github.com:moby/buildkit": ("git@github.com:moby/buildkit", "", ""),
    "git@github.com:moby/buildkit.git#v1:docs": ("git@github.com:moby/buildkit.git", "v1", "docs"),
    "git@github.com:moby/buildkit.git?ref=v1": ("git@github.com:moby/buildkit.git", "v1", ""),
    "ssh://git@host:2222/moby/buildkit.git#v1": ("ssh://git@host:2222/moby/buildkit.git", "v1", ""),
    "HTTPS://example.com/foo.git": ("HTTPS://example.com/foo.git", "", ""),
}

NOT_GIT = (
    "https://example.com/",
    "https://example.com/foo",
    "https://example.com/foo.git/",
    "https://example.com/foo.git.bar",
    "http://github.com/docker/docker.git:#branch",
)

LOCAL = (
    "./.git",
    ".git",
    "custom.xyz/moby/buildkit.git",
    "../foo.git",
    "/srv/foo.git",
    "file:///srv/foo.git",
    "ext::sh -c id",
    "ext://sh",
    "dir",
    "a@b",
    "dir@host",
    "@host:x",
    "git@host:",
    "fd::17/foo",
    "git@-oProxyCommand=id:x",
    "git@host:-x",
    "",
)


@pytest.mark.parametrize("text", GIT)
def test_git_sources_are_told(text: str) -> None:
    address = parse_address(text)
    assert isinstance(address, GitAddress)
    assert (address.remote, address.ref, address.subdir) == GIT[text]


@pytest.mark.parametrize("text", NOT_GIT)
def test_other_urls_are_files(text: str) -> None:
    assert isinstance(parse_address(text), HttpAddress)


@pytest.mark.parametrize("text", LOCAL)
def test_all_else_is_a_path(text: str) -> None:
    assert parse_address(text) is None
    assert parse_address(text, context=True) is None


def test_github_com_alone_is_a_context_and_no_source_of_add() -> None:
    address = parse_address("github.com/moby/buildkit#main:docs", context=True)
    assert isinstance(address, GitAddress)
    assert (address.remote, address.ref, address.subdir) == (
        "https://github.com/moby/buildkit",
        "main",
        "docs",
    )
    assert parse_address("github.com/moby/buildkit") is None


@pytest.mark.parametrize(
    ("text", "says"),
    (
        ("https://h/a.git#-x", "cannot be the name"),
        ("https://h/a.git#--upload-pack=id", "cannot be the name"),
        ("https://h/a.git#a..b", "cannot be the name"),
        ("https://h/a.git#a%20b", "cannot be the name"),
        ("https://h/a.git#main:../..", "leads out of the repository"),
        ("https://h/a.git?subdir=a/../../b", "leads out of the repository"),
        ("https://h/a.git?foo=1", "it asks for 'foo'"),
        ("https://h/a.git?ref=a&ref=b", "twice"),
        ("https://h/a.git?ref=", "no value"),
        ("https://h/a.git?ref=a#b", "two refs"),
        ("https://h/a.git?tag=a&branch=b", "two refs"),
        ("https://h/a.git?subdir=a#:b", "two subdirectories"),
        ("https://h/a.git?checksum=zz", "is no commit"),
        ("https://h/a.git?keep-git-dir=perhaps", "either true or false"),
        ("ssh://-oProxyCommand=id/x.git", "is no URL"),
        ("ssh://-x@host/x.git", "is no URL"),
        ("https:///x.git", "is no URL"),
        ("https://h:port/x.git", "is no URL"),
        ("https://h/a b", "is no URL"),
        ("git://h/", "names no repository"),
    ),
)
def test_what_is_malformed_is_refused(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        parse_address(text)


def test_switches_of_a_query() -> None:
    address = parse_address("https://h/a.git?keep-git-dir&submodules=false")
    assert isinstance(address, GitAddress)
    assert (address.keep_git_dir, address.submodules) == (True, False)
    plain = parse_address("https://h/a.git")
    assert isinstance(plain, GitAddress)
    assert (plain.keep_git_dir, plain.submodules) == (None, None)


@pytest.mark.parametrize(
    ("path", "name"),
    (
        ("/a/b.tar.gz?sig=x/y#z", "b.tar.gz"),
        ("/a/b/", "b"),
        ("/", "__unnamed__"),
        ("", "__unnamed__"),
        ("/a/..", "__unnamed__"),
        ("/a/%2e%2e", "__unnamed__"),
        ("/x%20y", "x y"),
        ("/a%2Fb", "b"),
        ("/a%00b", "__unnamed__"),
        ("/" + "n" * 300, "__unnamed__"),
    ),
)
def test_a_file_is_called_what_its_url_ends_in(path: str, name: str) -> None:
    address = parse_address(f"https://h{path}")
    assert isinstance(address, HttpAddress)
    assert address.name == name


def test_credentials_are_shown_nowhere() -> None:
    for text in ("https://user:s3cret@h/a.git#v1", "https://s3cret@h/x.tar", "ssh://u:s3cret@h/a.git"):
        address = parse_address(text)
        assert address is not None
        assert "s3cret" not in repr(address) + address.shown + address.reference + redact(text)
    for text in ("https://user:s3cret@h:x/a", "https://u:s3/cret@h/ x", "https://u:s3cret@h/a.git#-x"):
        with pytest.raises(PlanError) as error:
            parse_address(text)
        assert "cret" not in error.value.message


def test_a_user_of_ssh_is_no_secret() -> None:
    address = parse_address("ssh://git@h/a.git")
    assert address is not None
    assert address.shown == "ssh://git@h/a.git"


def test_checksums() -> None:
    file, repository = parse_address("https://h/x"), parse_address("https://h/x.git#v1")
    assert file is not None
    assert repository is not None
    for digest in ("sha256:" + "a" * 64, "sha384:" + "a" * 96, "sha512:" + "a" * 128):
        found = with_checksum(file, digest)
        assert isinstance(found, HttpAddress)
        assert found.checksum == digest
    for wrong in ("a" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32, "sha256:" + "A" * 64, "", COMMIT):
        with pytest.raises(PlanError, match="no digest"):
            with_checksum(file, wrong)
    short = with_checksum(repository, "DEADbeef")
    assert isinstance(short, GitAddress)
    assert short.checksum == "deadbeef"
    with pytest.raises(PlanError, match="no commit"):
        with_checksum(repository, "sha256:" + "a" * 64)
    with pytest.raises(PlanError, match="the URL says"):
        with_checksum(short, "0123")


@pytest.mark.parametrize(
    "url",
    (
        "file:///etc",
        "/etc",
        "../x",
        "ext::sh -c id",
        "ssh://-x/y",
        "https://h/x#y",
        "transport::address",
        "fd::3",
    ),
)
def test_a_submodule_is_nowhere_on_this_host(url: str) -> None:
    assert parse_repository(url) is None


def test_a_submodule_needs_no_ending() -> None:
    address = parse_repository("https://github.com/moby/sys")
    assert address is not None
    assert address.remote == "https://github.com/moby/sys"
