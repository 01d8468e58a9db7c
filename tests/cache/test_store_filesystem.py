"""What can be told of a file system before an overlay is mounted on it, on real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache.filesystem import file_system
from cache.store import Store
from tests.cache.scenes import ROOT

ASK = (
    "import sys; from cache.store import Store; print(Store.open(sys.argv[1] + '/store').upperdir_problem())"
)


def ask(tmp_path: Path, mount: str) -> str:
    """Return what is said of a store on a file system that `mount` puts on the directory `mount`."""
    (tmp_path / "mount").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", f'{mount}; exec "$0" -c "$1" mount', sys.executable, ASK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_where_an_overlay_can_be_mounted_nothing_speaks_against_it(tmp_path: Path) -> None:
    assert ask(tmp_path, "mount -t tmpfs none mount") == "None"


def test_the_check_leaves_nothing_behind(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "store")) as store:
        assert store.upperdir_problem() is None
    assert os.listdir(tmp_path / "store" / "tmp") == []


def test_an_overlay_is_no_place_for_an_upper(tmp_path: Path) -> None:
    """As in a container whose /var/lib/pybuild is no volume."""
    mount = "mkdir l u w; mount -t tmpfs none w; mkdir w/u w/w; "
    mount += "mount -t overlay -o lowerdir=l,upperdir=w/u,workdir=w/w none mount"
    said = ask(tmp_path, mount)
    assert "is on overlay: an overlay cannot be the upper layer of another overlay" in said


def test_a_file_system_without_extended_attributes_is_no_place_for_an_upper(tmp_path: Path) -> None:
    assert "is on ramfs: ramfs has no extended attributes" in ask(tmp_path, "mount -t ramfs none mount")


def test_a_type_that_nobody_has_heard_of_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of types is only for better words: what it does not know is found out."""
    script = "import cache.filesystem as f; f._UNFIT.clear(); " + ASK
    monkeypatch.setitem(globals(), "ASK", script)
    assert "trusted.overlay.opaque cannot be set there" in ask(tmp_path, "mount -t ramfs none mount")


def test_of_mounts_on_one_place_the_last_counts_and_blanks_in_their_names_are_read(tmp_path: Path) -> None:
    script = "import sys; from cache.filesystem import file_system; print(file_system('a b\\\\c/d'))"
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-euc",
            "mkdir 'a b\\c'; mount -t tmpfs none 'a b\\c'; mount -t ramfs none 'a b\\c'; mkdir 'a b\\c/d';"
            'exec "$0" -c "$1"',
            sys.executable,
            script,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ramfs\n"
    assert file_system("/proc/self") == "proc"
