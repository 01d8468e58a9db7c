"""tmp/: private while its owner lives, swept when it is dead, whatever lies in it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cache.removal import remove_tree
from cache.store import Store
from tests.cache.scenes import start, stop

STAGE = """
import sys
from cache.store import Store
store = Store.open(sys.argv[1])
staging = store.stage()
open(staging.upper + "/half", "w").write("done")
print(staging.path, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def awkward(path: Path, outside: Path) -> None:
    """Make a tree that is hard to remove."""
    outside.mkdir()
    (outside / "precious").write_text("keep")
    os.chmod(outside, 0o700)
    path.mkdir()
    os.symlink(outside, path / "link to a directory")
    os.symlink("nowhere", path / "dangling")
    os.mkfifo(path / "fifo")
    os.mknod(path / "whiteout", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.mkdir(os.fsencode(path) + b"/not \xff\xfe UTF-8\n")
    (path / "closed").mkdir()
    (path / "closed" / "file").write_text("x")
    (path / "closed" / "below").mkdir()
    os.chmod(path / "closed" / "below", 0)
    os.chmod(path / "closed", 0)
    os.link(outside / "precious", path / "hard link")


def test_a_staging_directory_is_ready_for_an_overlay_and_gone_afterwards(store: Store) -> None:
    old = os.umask(0o077)
    try:
        with store.stage() as staging:
            status = os.stat(staging.upper)
            assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 0, 0)
            assert os.listdir(staging.work) == []
            assert stat.S_IMODE(os.stat(staging.path).st_mode) == 0o700
    finally:
        os.umask(old)
    store.close()
    assert os.listdir(store.root + "/tmp") == []


def test_a_staging_directory_goes_when_the_step_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.stage() as staging:
        (Path(staging.upper) / "half").write_text("done")
        raise ZeroDivisionError
    assert not os.path.exists(staging.path)
    store.close()
    assert os.listdir(store.root + "/tmp") == []


def test_what_is_thrown_away_is_out_of_sight_at_once_and_gone_when_the_store_is_closed(store: Store) -> None:
    """A thread removes it, so that the next step need not wait; the store waits for that thread."""
    for _ in range(20):
        with store.stage() as staging:
            for number in range(20):
                os.makedirs(f"{staging.work}/work/{number}")
        assert not os.path.exists(staging.path)
    Store.open(store.root).close()  # its sweep leaves what the thread is at alone
    store.close()
    assert os.listdir(store.root + "/tmp") == []


def test_what_a_living_build_has_in_tmp_is_left_alone_and_swept_when_it_was_killed(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    process = start(STAGE, root)
    try:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        Store.open(root).close()
        assert os.listdir(path + "/diff") == ["half"]
    finally:
        stop(process)
    Store.open(root).close()
    assert os.listdir(root + "/tmp") == []


def test_the_sweep_removes_any_tree_and_follows_nothing(tmp_path: Path, store: Store) -> None:
    awkward(Path(store.root) / "tmp" / "stage-dead", tmp_path / "outside")
    os.symlink(tmp_path / "outside", store.root + "/tmp/symlink")
    os.mkfifo(store.root + "/tmp/fifo")
    (Path(store.root) / "tmp" / "file").write_text("x")
    Store.open(store.root).close()
    assert os.listdir(store.root + "/tmp") == []
    assert (tmp_path / "outside" / "precious").read_text() == "keep"


def test_a_tree_of_a_user_is_removed_without_root(tmp_path: Path) -> None:
    """Directories without the owner's bits stop everybody but root: a rootless store has them, too."""
    path = tmp_path / "tree"
    (path / "none" / "below").mkdir(parents=True)
    (path / "none" / "below" / "file").write_text("x")
    (path / "read only").mkdir()
    (path / "read only" / "file").write_text("x")
    os.chmod(tmp_path, 0o777)
    for directory, _, files in os.walk(tmp_path, topdown=False):
        for name in files:
            os.chown(os.path.join(directory, name), 65534, 65534)
        os.chown(directory, 65534, 65534)
    os.chmod(path / "none" / "below", 0o000)
    os.chmod(path / "none", 0o000)
    os.chmod(path / "read only", 0o500)
    script = (
        "import os, sys; from cache.removal import remove_tree\n"
        "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534); remove_tree('tree')\n"
    )
    process = start(script, str(tmp_path))
    process.communicate()
    assert process.returncode == 0
    assert not path.exists()


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "tree")
    fd = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(1400):  # 1400 * 3 > PATH_MAX, and more than Python recurses or a process may open
        os.mkdir("dd", dir_fd=fd)
        deeper = os.open("dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


def test_a_directory_of_many_entries_is_removed(tmp_path: Path) -> None:
    for number in range(3000):
        os.makedirs(tmp_path / "tree" / f"d{number % 50}", exist_ok=True)
        (tmp_path / "tree" / f"d{number % 50}" / f"f{number}").touch()
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


def test_removing_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "nothing"))
    remove_tree(str(tmp_path / "nothing" / "below"))


def test_removal_stops_at_a_mount_and_the_sweep_says_so(tmp_path: Path, store: Store) -> None:
    """Somebody mounted something in tmp/: what is in it is not ours."""
    script = (
        'set -eu; mkdir -p "$1/tmp/stage-dead/mount"; mount -t tmpfs none "$1/tmp/stage-dead/mount"\n'
        'echo keep > "$1/tmp/stage-dead/mount/precious"\n'
        '"$2" -c \'import sys; from cache.store import Store\n'
        'print(Store.open(sys.argv[1]).warnings[0])\' "$1"\n'
        'cat "$1/tmp/stage-dead/mount/precious"\n'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", store.root, sys.executable],
        capture_output=True,
        text=True,
        check=True,
    )
    warning, kept = done.stdout.splitlines()
    assert warning.startswith("cannot be removed:") and "mount point" in warning
    assert kept == "keep"
    Store.open(store.root).close()
    assert os.listdir(store.root + "/tmp") == []
