"""--chmod: what is a mode, and what it makes of a file's."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.chmod import parse_chmod
from builder.errors import PlanError

FILE = stat.S_IFREG
DIRECTORY = stat.S_IFDIR

# mode before, what is asked for, mode after: as BSD's setmode(3) has it, with a umask of 0.
CHANGES = [
    (0o644, "755", 0o755),
    (0o644, "0755", 0o755),
    (0o644, "00001777", 0o1777),
    (0o4755, "0", 0),
    (0o644, "u+x", 0o744),
    (0o666, "go-w", 0o644),
    (0o644, "+x", 0o755),
    (0o777, "=r", 0o444),
    (0o644, "a+x,g-r", 0o715),
    (0o421, "u=", 0o021),
    (0o777, "go=", 0o700),
    (0o750, "o=u", 0o757),
    (0o750, "g=u-w", 0o750),
    (0o644, "u-w,g+w", 0o464),
    (0o021, "u+go", 0o321),
    (0o000, "u=rwx,go=u-w", 0o755),
    (0o644, "u+rwX,go+rX", 0o644),
    (0o744, "u=rwX,go=rX", 0o755),
    (0o744, "a-x+X", 0o755),
    (0o755, "a-X", 0o644),
    (0o755, "u+s", 0o4755),
    (0o755, "g+s", 0o2755),
    (0o755, "+s", 0o6755),
    (0o755, "o+s", 0o755),
    (0o755, "+t", 0o1755),
    (0o755, "o+t", 0o755),
    (0o7755, "u=rwx", 0o3755),
    (0o7755, "a=rx", 0o1555),
    (0o644, "+", 0o644),
]


@pytest.mark.parametrize(("before", "text", "after"), CHANGES)
def test_a_file_s_mode(before: int, text: str, after: int) -> None:
    assert f"{parse_chmod(text)(FILE | before):o}" == f"{after:o}"


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [(0o600, "a+X", 0o711), (0o600, "u=rwX,go=rX", 0o755), (0o644, "=X", 0o111), (0o2770, "o=g", 0o2777)],
)
def test_a_directory_counts_as_searchable(before: int, text: str, after: int) -> None:
    assert f"{parse_chmod(text)(DIRECTORY | before):o}" == f"{after:o}"


@pytest.mark.parametrize(
    "text", ["8", "07778", "10000", "1e3", "u", "x", "u+q", "u+x,", ",", "rwx", "+x ", "u x", "u+x;g+x", "٧"]
)
def test_what_is_no_mode(text: str) -> None:
    with pytest.raises(PlanError) as caught:
        parse_chmod(text)
    assert caught.value.code == "copy/chmod"
    assert caught.value.hint


CLAUSES = st.from_regex(re.compile(r"[ugoa]{0,2}[-+=]([rwx]{0,3}|[ugo])", re.ASCII), fullmatch=True)


@settings(max_examples=50)
@given(st.lists(CLAUSES, min_size=1, max_size=3).map(",".join), st.integers(0, 0o777))
def test_the_result_is_that_of_the_chmod_command(
    tmp_path_factory: pytest.TempPathFactory, text: str, before: int
) -> None:
    """That of coreutils, which is another than BSD's in X and in the special bits only."""
    path = _file(tmp_path_factory)
    os.chmod(path, before)
    subprocess.run(["chmod", "--", text, path], check=True, umask=0)
    assert f"{parse_chmod(text)(FILE | before):o}" == f"{stat.S_IMODE(os.stat(path).st_mode):o}"


_FILES: list[Path] = []


def _file(factory: pytest.TempPathFactory) -> Path:
    if not _FILES:
        _FILES.append(factory.mktemp("chmod") / "f")
        _FILES[0].touch()
    return _FILES[0]
