"""Root filesystems by the kernel's overlay, by fuse-overlayfs and by plain copies: the same layers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import ARGV, Pybuild
from tests.rootless_fixtures import scene
from tests.rootless_fixtures.snapshots import OTHERS, overlays_in, same
from tests.rootless_fixtures.user import User

HIDING = f"""\
{scene.BASE}
FROM base
RUN mkdir -p /opaque/a/b /gone /kept /real/etc; echo 1 > /opaque/a/b/c; echo 1 > /kept/file
RUN touch /gone/x /turn
RUN rm -r /opaque; mkdir /opaque; echo 2 > /opaque/d; chmod 644 /kept/file; rm -r /gone; mkdir /turn2
RUN chmod 700 /turn; touch /n.t
RUN rm /turn; mkdir /turn; touch /turn/in; rm -r /turn2; echo 3 > /turn2; touch /opaque/t; rm /opaque/t
RUN mv /opaque /moved; mkdir -p /opaque/a/b; ln /kept/file /kept/hard; echo more >> /kept/hard
RUN rm -r /etc /n.t; ln -s real/etc /etc; mkdir -p /deep/er; echo x > /deep/er/x
RUN --mount=type=tmpfs,target=/deep/mounted/here touch /deep/mounted/here/gone; echo x > /deep/mounted/stays
RUN --mount=type=bind,target=/mnt,rw echo x > /mnt/x; cat /mnt/file > /read
RUN cat /etc/hosts > /hosts; echo y > /real/etc/y
WORKDIR /deep/er/still
COPY tree/ /deep/
COPY --from=base / /whole/
"""


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> Pybuild:
    """Root's builds by the kernel's overlay."""
    return overlays_in(tmp_path_factory.mktemp("overlay"))


@pytest.mark.parametrize("driver", OTHERS)
def test_root_gets_the_same_image(tmp_path: Path, overlays: Pybuild, driver: str) -> None:
    store = Pybuild(str(tmp_path / "store"), overlays.cwd)
    before = Path("/proc/self/mountinfo").read_text()
    same(overlays, store, scene.UNLINKED, driver)
    assert os.listdir(tmp_path / "store/tmp") == []
    assert [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line
    ] == []
    assert before


@pytest.mark.parametrize("driver", OTHERS)
def test_what_is_hidden_replaced_and_mounted_over_comes_out_alike(
    tmp_path: Path, overlays: Pybuild, driver: str
) -> None:
    same(overlays, Pybuild(str(tmp_path / "store"), overlays.cwd), HIDING, driver)


def test_of_two_names_a_copy_changes_the_one_that_an_overlay_does(tmp_path: Path, overlays: Pybuild) -> None:
    store = Pybuild(str(tmp_path / "store"), overlays.cwd)
    same(overlays, store, scene.APP, "copy")


def test_of_two_names_fuse_overlayfs_changes_both(tmp_path: Path, overlays: Pybuild) -> None:
    """As everybody saw it while it was mounted."""
    store = Pybuild(str(tmp_path / "store"), overlays.cwd)
    text = f"{scene.BASE}RUN echo 1 > /one; ln /one /two\nRUN chown 5:6 /two\n"
    text += "RUN stat -c %u:%g /one /two | grep -c ^5:6$ | grep ^2$\n"
    store.build(text, "--snapshotter", "fuse-overlayfs")


@pytest.mark.peer("newuidmap")
@pytest.mark.parametrize("ids", ["subordinate", "single"])
@pytest.mark.parametrize("driver", OTHERS)
def test_a_user_gets_the_same_image(tmp_path: Path, overlays: Pybuild, driver: str, ids: str) -> None:
    user = User(str(tmp_path), subordinate=ids == "subordinate")
    user.fuse = True
    subprocess.run(["cp", "-a", f"{overlays.cwd}/.", user.cwd], check=True)
    os.chown(user.cwd, user.uid, user.uid)
    same(overlays, user, scene.UNLINKED, driver)
    assert user.leftovers() == []
    user("run", "--snapshotter", driver, "--name", "box", "image", "sh", "-c", "rm -r /owned; echo x > /x")
    told = user("diff", "box", "--snapshotter", driver).splitlines()
    assert (told[0], told[-1]) == ("D /owned", "A /x")
    user("commit", "box", "mended")
    assert user("run", "--rm", "--snapshotter", driver, "mended", "cat", "/x") == "x\n"
    assert user.leftovers() == []


@pytest.mark.parametrize("driver", OTHERS)
def test_a_killed_build_leaves_nothing(tmp_path: Path, overlays: Pybuild, driver: str) -> None:
    user = User(str(tmp_path), subordinate=True)
    user.fuse = True
    scene.write(user.cwd)
    user.write("long.rec", f"{scene.BASE}RUN touch /begun; sleep 1000\n")
    build = user.start("build", "long.rec", "--snapshotter", driver)
    while not any("sleep\\x001000" in each for each in user.processes()):
        assert build.poll() is None, build.communicate()
    build.kill()
    build.communicate(timeout=60)
    while user.processes():
        pass
    user("images")
    assert user.leftovers() == []


@pytest.mark.parametrize("driver", OTHERS)
def test_a_suite_of_testinfra_sees_the_same_root(tmp_path: Path, overlays: Pybuild, driver: str) -> None:
    (Path(overlays.cwd) / "test_suite.py").write_text(
        "def test_a_file(host):\n    assert host.file('/made').content_string == 'x\\n'\n"
        "    assert host.run('touch /written && test -e /written').rc == 0\n"
    )
    store = Pybuild(str(tmp_path / "store"), overlays.cwd)
    text = f"{scene.BASE}RUN echo x > /made\nTEST --testinfra=test_suite.py\n"
    store.build(text, "--snapshotter", driver)
    assert os.listdir(tmp_path / "store/tmp") == []


def test_a_store_where_nothing_works_is_told_with_all_reasons(tmp_path: Path, overlays: Pybuild) -> None:
    """As in a container whose home is no volume: an overlay takes no whiteouts."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    mount = f'mount -t overlay overlay -o {options} {tmp_path}/merged && exec "$@"'
    (Path(overlays.cwd) / "base.rec").write_text(f"{scene.BASE}RUN true\n")
    store = Pybuild(f"{tmp_path}/merged/store", overlays.cwd)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", *ARGV, "build", "base.rec"],
        env=store.environment(), cwd=store.cwd, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "overlay: the kernel refuses the overlay" in done.stderr
    assert "copy: no whiteout can be made there" in done.stderr
    assert "on a volume" in done.stderr


def test_what_is_there_of_a_changeset_is_kept_when_a_shell_is_entered_again(
    tmp_path: Path, overlays: Pybuild
) -> None:
    """A step that failed, entered and mended by copies: its changes before and after are both there."""
    store = Pybuild(str(tmp_path / "store"), overlays.cwd)
    text = f"{scene.BASE}RUN rm /etc/group; echo a > /a; test -e /mended\n"
    (Path(overlays.cwd) / "fails.rec").write_text(text)
    assert store.try_("build", "fails.rec", "--snapshotter", "copy").code == 1
    done = store.try_(
        "debug", "--snapshotter", "copy", "-c", "test -e /a && ! test -e /etc/group && touch /mended"
    )
    assert done.code == 0, done.err
    done = store.try_("debug", "--snapshotter", "copy", "-c", "ls -d /a /mended; ls /etc")
    assert {"/a", "/mended", "passwd"} <= {*done.out.split()}, done.err
    assert "group" not in done.out
