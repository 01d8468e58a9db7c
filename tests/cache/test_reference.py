"""Image names, as Docker's distribution/reference reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import FormatError
from cache.oci.digest import Digest
from cache.oci.reference import Reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm"),
        ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        # `ghcr.io/app` alone would be another registry's.
        ("index.docker.io/ghcr.io/app", "docker.io/ghcr.io/app:latest", "docker.io/ghcr.io/app:latest"),
        ("someone/app:1", "docker.io/someone/app:1", "someone/app:1"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("quay.io/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"),
        ("host:5000/a:b", "host:5000/a:b", "host:5000/a:b"),
        ("Host/a", "Host/a:latest", "Host/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("127.0.0.1:80/a__b/c.d-e", "127.0.0.1:80/a__b/c.d-e:latest", "127.0.0.1:80/a__b/c.d-e:latest"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
        (f"a:1@{DIGEST}", f"docker.io/library/a:1@{DIGEST}", f"a:1@{DIGEST}"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128, "a:" + "t" * 128),
    ],
)
def test_a_name_stands_for_this(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == full
    assert reference.familiar == familiar
    assert Reference.parse(full) == Reference.parse(familiar) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (":tag", "empty"),
        ("docker.io/", "empty"),
        ("Debian", "lower case|repository"),
        ("quay.io/A", "repository"),
        ("a b", "repository"),
        ("a//b", "repository"),
        ("/a", "repository"),
        ("a/", "repository"),
        ("-a", "repository"),
        ("a..b", "repository"),
        ("a:", "tag"),
        ("a:-b", "tag"),
        ("a:b c", "tag"),
        ("a:" + "t" * 129, "tag"),
        ("a@", "digest"),
        ("a@sha256:12", "digest"),
        ("a@md5:" + "0" * 32, "digest"),
        (f"a@{DIGEST}@{DIGEST}", "digest"),
        ("ab" * 32, "image id"),
        ("http://host/a", "registry"),
        ("ho_st.com/a", "registry"),
        ("a" * 256, "255"),
        ("../a", "registry"),
        ("a\nb", "repository"),
        ("a\n", "repository"),
    ],
)
def test_what_is_no_name_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Reference.parse(text)


def test_a_reference_can_be_pinned_and_retagged() -> None:
    reference = Reference.parse("debian:12")
    assert str(reference.with_digest(Digest(DIGEST))) == f"docker.io/library/debian:12@{DIGEST}"
    assert str(reference.with_digest(Digest(DIGEST)).with_tag("13")) == "docker.io/library/debian:13"
    with pytest.raises(FormatError):
        reference.with_tag("a/b")


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_an_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except FormatError:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
