"""The lock file's text: one order, nothing lost, nothing misread."""

from __future__ import annotations

import dataclasses

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from builder.lockfile import (
    BasePin,
    FilePin,
    GitPin,
    LockError,
    LockFile,
    PackagesPin,
    format_lock,
    parse_lock,
)

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
PINS = (
    BasePin("debian:bookworm", digest=DIGEST),
    BasePin("box:latest", "linux/arm64", image=OTHER),
    BasePin("box:latest", "linux/amd64", image=DIGEST),
    BasePin("mmdebstrap://sid?variant=apt", "linux/amd64", image=DIGEST, releases=(f"{OTHER} http://m sid",)),
    FilePin("https://example.org/b", OTHER),
    FilePin("https://example.org/a", DIGEST),
    GitPin("https://example.org/r.git#main", "c" * 40, "refs/heads/main"),
    PackagesPin("apt curl git=1:2", "stage-0", "linux/amd64", ("curl=7.88", "git=1:2", "libc6=2.36")),
)


def test_the_text_is_for_people_and_in_one_order() -> None:
    lock = LockFile().with_pins(PINS)
    text = format_lock(lock, "sub/app.rec")
    assert text == format_lock(LockFile().with_pins(reversed(PINS)), "app.rec")
    assert text.startswith("# What the names in app.rec are; `pybuild lock` writes it.")
    document = tomli.loads(text)
    assert list(document) == ["version", "base", "file", "git", "packages"]
    names = [(pin["name"], pin.get("platform", "")) for pin in document["base"]]
    assert names == sorted(names)
    assert document["packages"][0]["installed"] == ["curl=7.88", "git=1:2", "libc6=2.36"]
    assert parse_lock(text, "app.rec.lock") == lock


def test_a_changed_pin_changes_its_own_line_alone() -> None:
    lock = LockFile().with_pins(PINS)
    before = format_lock(lock, "a.rec").splitlines()
    after = format_lock(lock.with_pins([BasePin("debian:bookworm", digest=OTHER)]), "a.rec").splitlines()
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [
        (f'digest = "{DIGEST}"', f'digest = "{OTHER}"')
    ]


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.builds(FilePin, words, st.just(DIGEST))), st.lists(st.builds(GitPin, words, words)), words)
def test_what_is_written_is_read_again(files: list[FilePin], git: list[GitPin], name: str) -> None:
    lock = LockFile().with_pins([*files, *git])
    assert parse_lock(format_lock(lock, name), "lock") == lock


def test_a_pin_is_found_by_name_and_platform() -> None:
    lock = LockFile().with_pins(PINS)
    assert (
        lock.base("debian:bookworm", "linux/amd64") == lock.base("debian:bookworm", "linux/s390x") == PINS[0]
    )
    assert lock.base("box:latest", "linux/arm64") == PINS[1]
    assert lock.base("box:latest", "linux/s390x") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "of version None"),
        ("version = 2", "of version 2"),
        ("version = ", "not TOML"),
        ("version = 1\nbases = 1", "no place for 'bases'"),
        ("version = 1\n[base]\nname = 'x'", "no place for 'base'"),
        ("version = 1\n[[base]]\nname = 'x'", "neither digest nor image"),
        ("version = 1\n[[base]]\ndigest = 'x'", "not a digest"),
        ("version = 1\n[[base]]\nname = 1", "must be a string"),
        ("version = 1\n[[base]]\nnmae = ''", "no place for 'nmae'"),
        ("version = 1\n[[base]]\nreleases = ''", "must be a list of strings"),
        ("version = 1\n[[file]]\nurl = 'x'", "lacks something"),
        ("version = 1\n" + 2 * f"[[file]]\nurl = 'x'\nchecksum = '{DIGEST}'\n", "twice"),
    ],
)
def test_what_is_no_lock_file_is_an_error(text: str, told: str) -> None:
    with pytest.raises(LockError) as caught:
        parse_lock(text, "app.rec.lock")
    assert (caught.value.code, caught.value.exit_code) == ("lock/malformed", 2)
    assert caught.value.message.startswith("app.rec.lock: ")
    assert told in caught.value.message


def test_pins_are_values() -> None:
    for pin in PINS:
        assert dataclasses.replace(pin) == pin
        assert pin.shown
