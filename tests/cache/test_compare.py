"""Early cutoff: two upperdirs hold the same, or they do not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.changeset import CHUNK, measure
from cache.compare import same_result
from tests.changeset_fixtures.trees import Node, Tree, build, directory, trees

SECOND = 10**9
OLD = 1_000_000_000
START = 1_700_000_000

TREE: Tree = {
    b"d": directory(xattrs=(("user.a", b"1"),)),
    b"d/copy": Node("file", data=b"content"),
    b"d/file": Node("file", data=b"content"),
    b"d/gone": Node("whiteout"),
    b"d/hard": Node("file", data=b"content", same=b"d/file"),
    b"d/pipe": Node("fifo"),
    b"device": Node("char", device=(1, 3)),
    b"empty": Node("file"),
    b"link": Node("symlink", data=b"target"),
}


def without(path: bytes) -> Tree:
    return {name: node for name, node in TREE.items() if name != path}


def with_(path: bytes, **attributes: object) -> Tree:
    return TREE | {path: replace(TREE[path], **attributes)}  # type: ignore[arg-type]


DIFFERENT = {
    "a byte": with_(b"d/copy", data=b"Content"),
    "the last byte": with_(b"d/copy", data=b"contenT"),
    "a size": with_(b"d/copy", data=b"content."),
    "a byte of a file of several names": TREE
    | {name: replace(TREE[name], data=b"Content") for name in (b"d/file", b"d/hard")},
    "a mode": with_(b"d/copy", mode=0o600),
    "a directory's mode": with_(b"d", mode=0o700),
    "a user": with_(b"link", uid=1),
    "a group": with_(b"d/pipe", gid=1),
    "an xattr": with_(b"d/copy", xattrs=(("user.a", b""),)),
    "an xattr's value": with_(b"d", xattrs=(("user.a", b"2"),)),
    "a symlink's target": with_(b"link", data=b"tarGet"),
    "a device's number": with_(b"device", device=(1, 5)),
    "a kind": TREE | {b"device": Node("block", device=(1, 3))},
    "a file more": TREE | {b"zzz": Node("file")},
    "a file less": without(b"empty"),
    "a whiteout less": without(b"d/gone"),
    "another whiteout": {**without(b"d/gone"), b"d/away": Node("whiteout")},
    "an opaque directory": with_(b"d", opaque=True),
    "a copy instead of a hard link": with_(b"d/hard", same=None),
    "another hard link": with_(b"d/copy", same=b"d/file"),
    "an old mtime": with_(b"empty", mtime=(OLD + 1) * SECOND),
    "a directory's old mtime": with_(b"d", mtime=(OLD - 1) * SECOND),
}
NOT_IN_THE_SIGNATURE = frozenset(
    (
        "an old mtime",
        "a directory's old mtime",
    )
)


def signature(path: str) -> bytes:
    return measure(path, clamp=None).signature


def made(tree: Tree, path: Path) -> str:
    path.mkdir()
    build(tree, str(path))
    return str(path)


@pytest.mark.parametrize("what", DIFFERENT)
def test_any_difference_is_found(what: str, tmp_path: Path) -> None:
    one, other = made(TREE, tmp_path / "one"), made(DIFFERENT[what], tmp_path / "other")
    assert not same_result(one, other, since=START)
    assert not same_result(other, one, since=START)
    assert (signature(one) == signature(other)) == (what in NOT_IN_THE_SIGNATURE)


def test_a_difference_at_the_end_of_a_large_file_is_found(tmp_path: Path) -> None:
    one = made({b"f": Node("file", data=bytes(700_000))}, tmp_path / "one")
    other = made({b"f": Node("file", data=bytes(699_999) + b"\x01")}, tmp_path / "other")
    assert same_result(one, one, since=START)
    assert not same_result(one, other, since=START)


@given(trees(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_same_tree_is_the_same_result(tree: Tree, random: object) -> None:
    order = sorted(tree)
    random.shuffle(order)  # type: ignore[attr-defined]
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        build(tree, one)
        build(tree, other, order)
        assert same_result(one, other, since=START)
        assert signature(one) == signature(other)


@pytest.mark.parametrize("path", [b"d", b"d/file", b"link", b"d/pipe"])
@pytest.mark.parametrize(
    ("one", "other"), [(START, START + 9), (OLD, START), (START + 60, START), (START - 1, START)]
)
def test_times_from_the_steps_start_on_do_not_count(
    path: bytes, one: int, other: int, tmp_path: Path
) -> None:
    """A file that the step writes has the time of its run; the same file in a known layer has that of
    another run.
    """
    first = made(with_(path, mtime=one * SECOND), tmp_path / "one")
    second = made(with_(path, mtime=other * SECOND), tmp_path / "other")
    assert same_result(first, second, since=START)
    assert signature(first) == signature(second)


def test_an_older_time_counts_whatever_the_known_layer_has(tmp_path: Path) -> None:
    """The step gave the file that time itself, and the known one may have been clamped to the epoch."""
    for number, known in enumerate((START + 60, START, START - 1)):
        first = made(with_(b"d/file", mtime=known * SECOND), tmp_path / f"{number}-one")
        second = made(with_(b"d/file", mtime=OLD * SECOND), tmp_path / f"{number}-other")
        assert not same_result(first, second, since=START)


def test_fractions_of_a_second_do_not_count(tmp_path: Path) -> None:
    """A published layer has none; a step's upperdir has them until it is measured."""
    one = made(with_(b"empty", mtime=OLD * SECOND + 1), tmp_path / "one")
    other = made(with_(b"empty", mtime=OLD * SECOND + 999_999_999), tmp_path / "other")
    assert same_result(one, other, since=START)


def test_what_was_clamped_in_a_known_layer_is_the_same_unclamped(tmp_path: Path) -> None:
    epoch = START - 1000
    tree = TREE | {
        b"written": Node("file", mtime=START * SECOND),
        b"kept": Node("file", mtime=(epoch + 5) * SECOND),
    }
    known, new = made(tree, tmp_path / "known"), made(tree, tmp_path / "new")
    measure(known, clamp=epoch)
    assert same_result(known, new, since=min(START, epoch))
    measure(new, clamp=epoch)
    assert same_result(known, new, since=min(START, epoch))


def test_a_socket_does_not_count(tmp_path: Path) -> None:
    one, other = made(TREE, tmp_path / "one"), made(TREE | {b"d/s": Node("socket")}, tmp_path / "other")
    assert same_result(one, other, since=START)
    assert signature(one) == signature(other)


@given(trees())
@settings(deadline=None)
def test_measuring_does_not_change_a_signature(tree: Tree) -> None:
    with TemporaryDirectory() as path:
        build(tree, path)
        assert signature(path) == signature(path) != b""


def test_the_data_of_large_files_is_compared_and_is_in_no_signature(tmp_path: Path) -> None:
    data = bytes(CHUNK + 1)
    for name, content in (("a", data), ("b", data[:-1] + b"x"), ("c", data)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
        os.utime(tmp_path / name / "file", (OLD, OLD))
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert signature(a) == signature(b) == signature(c)
    assert not same_result(a, b, since=START)
    assert same_result(a, c, since=START)
