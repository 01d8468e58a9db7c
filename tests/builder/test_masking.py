"""Output with secrets in it: what is shown does not depend on where it is cut, and no secret is in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.masking import Mask, Masked


def shown(secrets: list[bytes], *pieces: bytes) -> bytes:
    mask = Mask()
    for secret in secrets:
        mask.add(secret)
    out: list[bytes] = []
    stream = Masked(mask, out.append)
    for piece in pieces:
        stream.feed(piece)
    stream.flush()
    return b"".join(out)


@pytest.mark.parametrize(
    ("secrets", "pieces", "expected"),
    [
        ([b"hunter22"], [b"a hunter22 b"], b"a *** b"),
        ([b"hunter22\n"], [b"a hunt", b"er2", b"2 b"], b"a *** b"),
        ([b"hunter22"], [b"hunt", b"ers"], b"hunters"),
        ([b"hunter22"], [b"hunter2"], b"hunter2"),
        ([b"abc"], [b"abc"], b"abc"),
        ([b"one line\ntwo lines\nx\n"], [b"two lines, one line, x"], b"***, ***, x"),
        ([b"a\r\nlong line\r\n"], [b"long line"], b"***"),
        ([b"abcd", b"abcdefgh"], [b"abcd", b"efgh abcd", b"e"], b"*** ***e"),
        ([b"abcab", b"abxyz"], [b"abcabxyz-"], b"***-"),
        ([b"abcab", b"abxyz"], [b"abcab", b"xyz-"], b"***-"),
        ([b"aaaa"], [b"aaa", b"aaaaaa", b"b"], b"***b"),
        ([b"abcd"], [b"abcdabcd"], b"******"),
        ([b"\xff\0\xfe\1"], [b"\xff\0", b"\xfe\1"], b"***"),
        ([], [b"a", b"b"], b"ab"),
    ],
)
def test_values_are_masked(secrets: list[bytes], pieces: list[bytes], expected: bytes) -> None:
    assert shown(secrets, *pieces) == expected


def test_only_what_may_be_a_secret_is_held_back() -> None:
    """A prompt, or a line without an end, is seen when it is written."""
    mask = Mask()
    mask.add(b"hunter22")
    out: list[bytes] = []
    stream = Masked(mask, out.append)
    stream.feed(b"Password: ")
    assert out == [b"Password: "]
    stream.feed(b"hu")
    assert out == [b"Password: "]
    stream.feed(b"ge")
    assert b"".join(out) == b"Password: huge"


def test_a_secret_that_becomes_known_is_masked_from_then_on() -> None:
    mask = Mask()
    out: list[bytes] = []
    stream = Masked(mask, out.append)
    stream.feed(b"hunter22 ")
    mask.add(b"hunter22")
    stream.feed(b"hunter22")
    assert b"".join(out) == b"hunter22 ***"


values = st.lists(st.text("ab", min_size=4, max_size=6).map(str.encode), max_size=3)
many = st.lists(st.text("ab", min_size=4, max_size=9).map(str.encode), min_size=20, max_size=40)
text = st.text("ab", min_size=0, max_size=24).map(str.encode)


@given(
    st.lists(st.text("ab", min_size=4, max_size=6).map(str.encode), max_size=3), st.lists(text, max_size=5)
)
def test_cuts_do_not_matter(secrets: list[bytes], pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert shown(secrets, *pieces) == shown(secrets, whole)
    assert shown(secrets, *(whole[i : i + 1] for i in range(len(whole)))) == shown(secrets, whole)


@given(values | many, text)
def test_all_of_every_value_and_nothing_else_is_masked(secrets: list[bytes], whole: bytes) -> None:
    """Against a reference that looks at each byte: is it in some occurrence of some value?"""
    covered = [False] * len(whole)
    for secret in secrets:
        for match in re.finditer(b"(?=" + re.escape(secret) + b")", whole):
            for at in range(match.start(), match.start() + len(secret)):
                covered[at] = True
    assert re.sub(rb"\*+", b"", shown(secrets, whole)) == bytes(
        byte for byte, hidden in zip(whole, covered, strict=True) if not hidden
    )
