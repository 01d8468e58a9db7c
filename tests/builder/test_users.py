"""USER's names and numbers, as passwd(5) and group(5) files of any quality give them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import StepFailed
from builder.users import identify

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n7:x:70:70::/seven:\n"
GROUP = "root:x:0:\napp:x:1000:\nwheel:x:10:app,root\ndocker:x:20:app\n"


@pytest.mark.parametrize(
    ("spec", "identity"),
    [
        ("", (0, 0, (0, 10), "/root")),
        ("root", (0, 0, (0, 10), "/root")),
        ("app", (1000, 1000, (1000, 10, 20), "/home/app")),
        ("1000", (1000, 1000, (1000, 10, 20), "/home/app")),
        ("app:wheel", (1000, 10, (10,), "/home/app")),
        ("app:99", (1000, 99, (99,), "/home/app")),
        ("5000", (5000, 0, (0,), "/")),
        ("5000:5001", (5000, 5001, (5001,), "/")),
        (":wheel", (0, 10, (10,), "/root")),
        ("7", (7, 0, (0,), "/")),  # digits are a number, as for moby, though somebody is called so
        ("70", (70, 70, (70,), "/seven")),
        ("2147483647", (2147483647, 0, (0,), "/")),
    ],
)
def test_who_it_is(spec: str, identity: tuple[int, int, tuple[int, ...], str]) -> None:
    assert identify(spec, PASSWD, GROUP) == identity


@pytest.mark.parametrize(
    "spec", ["nobody", "app:nogroup", "-1", "2147483648", "99999999999999999999", "1000.5", "٣"]
)
def test_who_nobody_is(spec: str) -> None:
    with pytest.raises(StepFailed) as caught:
        identify(spec, PASSWD, GROUP)
    assert caught.value.code == "step/user"


def test_an_image_without_the_files() -> None:
    assert identify("", "", "") == (0, 0, (0,), "/")
    assert identify("12:34", "", "") == (12, 34, (34,), "/")


@pytest.mark.parametrize("line", ["app", "app:x", "app:x:1000", "app:x:no:no::", "app:x:99999999999:1:::"])
def test_broken_entries(line: str) -> None:
    uid, gid, groups, home = identify("app", f"#comment\n\n{line}\n", "")
    assert (uid in (0, 1000), gid in (0, 1), groups, home) == (True, True, (gid,), "/")


@given(spec=st.text(), passwd=st.text(), group=st.text())
def test_any_text_is_an_identity_or_a_clear_error(spec: str, passwd: str, group: str) -> None:
    try:
        uid, gid, groups, home = identify(spec, passwd, group)
    except StepFailed as error:
        assert error.code == "step/user"
    else:
        assert 0 <= uid < 1 << 31
        assert groups[0] == gid
        assert home
