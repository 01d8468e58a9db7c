"""Builds of users who are not root, with subordinate ids and with a single one: the same images as root's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Done, Pybuild
from tests.rootless_fixtures import scene
from tests.rootless_fixtures.user import User

PROBE = "import sys; from builder.direct import attempt; print(attempt(sys.argv[1:]))"
"""Tries the direct way alone: prints 0 where it is taken."""

pytestmark = pytest.mark.peer("newuidmap")


class Built:
    """One user's build of the scene, and root's."""

    def __init__(self, user: User, image_id: str, root: Pybuild, roots_id: str) -> None:
        self.user, self.image_id = user, image_id
        self.root, self.roots_id = root, roots_id


@pytest.fixture(scope="module", params=["subordinate", "single"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    directory = tmp_path_factory.mktemp(request.param)
    user = User(str(directory), subordinate=request.param == "subordinate")
    scene.write(user.cwd)
    root = Pybuild(str(directory / "roots-store"), user.cwd)
    image_id = user.build(scene.APP, "-t", "app", SOURCE_DATE_EPOCH=scene.EPOCH)
    roots_id = root.build(scene.APP, "-t", "app", SOURCE_DATE_EPOCH=scene.EPOCH)
    yield Built(user, image_id, root, roots_id)
    assert user.leftovers() == []


def rows(pybuild: Pybuild, name: str) -> list[tuple[str, str]]:
    return [(row["CreatedBy"], row["DiffID"]) for row in pybuild.json("layers", name, "--json")]


def test_the_image_is_roots(built: Built) -> None:
    assert rows(built.user, "app") == rows(built.root, "app")
    assert built.image_id == built.roots_id


def test_the_store_is_the_users_alone(built: Built) -> None:
    status = os.stat(built.user.store)
    assert (status.st_uid, status.st_mode & 0o777) == (built.user.uid, 0o700)
    assert built.user.leftovers() == []


def test_a_cached_rebuild_runs_nothing_and_is_answered_directly(built: Built) -> None:
    user = built.user
    argv = ("build", "test.rec", "-t", "app")
    for _ in range(3):
        done = user.try_(*argv, SOURCE_DATE_EPOCH=scene.EPOCH)
        assert (done.code, done.out.strip()) == (0, built.image_id)
        probe = user.shell(sys.executable, "-c", PROBE, *argv, SOURCE_DATE_EPOCH=scene.EPOCH)
        if probe.out.splitlines()[-1:] == ["0"]:
            break
    assert probe.out.splitlines()[-1] == "0", probe.err


def test_a_step_that_comes_out_the_same_ends_the_rebuild(built: Built) -> None:
    user = built.user
    anew = scene.APP.replace("RUN mkdir a b c;", "RUN mkdir a b c; : anew;")
    user.write("anew.rec", anew)
    done = user.try_("build", "anew.rec", "--progress", "json", SOURCE_DATE_EPOCH=scene.EPOCH)
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.err.splitlines()]
    outcomes = [each["outcome"] for each in events if each["event"] == "step_finished"]
    assert outcomes.count("same") == 1, outcomes
    assert set(outcomes) == {"same", "cached"}


def test_what_a_layer_cannot_say_is_in_the_way_of_no_command(built: Built) -> None:
    """images, diff, history, save, load, commit, rmi, prune: on layers with owners that are not the
    user's.
    """
    user, root = built.user, built.root
    assert user.json("images", "--json")[0]["Id"] == built.image_id
    assert user.json("diff", "app", "--json") == root.json("diff", "app", "--json")
    user("save", "app", "-o", "app.tar")
    root("save", "app", "-o", "roots.tar")
    assert Path(user.cwd, "app.tar").read_bytes() == Path(user.cwd, "roots.tar").read_bytes()
    user("rmi", "app")
    user("prune")
    assert user.json("images", "--json") == []
    user("load", "roots.tar")
    assert user.json("images", "--json")[0]["Id"] == built.image_id
    user(
        "run",
        "--name",
        "box",
        "app",
        "sh",
        "-c",
        "rm -r /owned; mkdir /owned; chown 1000:1001 /owned; echo x > /x",
    )
    assert user("diff", "box").splitlines()[:1] != []
    user("commit", "box", "mended")
    user("rm", "box")
    look = "stat -c %u:%g /owned; ls -A /owned | wc -l; stat -c %u:%g /srv/app/a/moved; cat /x"
    assert user("run", "--rm", "mended", "sh", "-c", look).split() == ["1000:1001", "0", "1000:1001", "x"]
    assert user("run", "--rm", "-u", "app", "app", "id", "-u") == "1000\n"
    user("rmi", "mended", "app")
    user("prune", "--cache-mounts")
    assert user.build(scene.APP, "-t", "app", SOURCE_DATE_EPOCH=scene.EPOCH) == built.image_id
    assert user.leftovers() == []


def test_verify_finds_both_builds_alike(built: Built) -> None:
    done = built.user.try_("verify", "test.rec", SOURCE_DATE_EPOCH=scene.EPOCH)
    assert done.code == 0, done.out + done.err
    assert built.user.leftovers() == []


def test_two_builds_at_once_share_their_steps(built: Built) -> None:
    user = built.user
    text = f"{scene.BASE}RUN sleep 1; echo $$ > /once; chown 33:33 /once\nRUN cat /once > /twice\n"
    user.write("twice.rec", text)
    both = [user.start("build", "twice.rec", env={"SOURCE_DATE_EPOCH": scene.EPOCH}) for _ in range(2)]
    told = [each.communicate(timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert user.leftovers() == []


def test_a_killed_build_leaves_nothing_that_runs(built: Built) -> None:
    user = built.user
    user.write("long.rec", f"{scene.BASE}RUN setsid sleep 1000 & sleep 1000\n")
    build = user.start("build", "long.rec", "--progress", "plain", stderr=subprocess.STDOUT)
    assert build.stdout is not None
    while not any("sleep\\x001000" in each for each in user.processes()):
        assert build.poll() is None, "the build has ended"
        time.sleep(0.05)
    build.kill()
    build.communicate(timeout=60)
    for _ in range(100):
        if not user.processes():
            break
        time.sleep(0.05)
    assert user.processes() == []
    assert user.build(scene.APP, "-t", "app", SOURCE_DATE_EPOCH=scene.EPOCH) == built.image_id
    assert user.leftovers() == []


def test_a_failing_step_tells_its_own_code(built: Built) -> None:
    built.user.write("fails.rec", f"{scene.BASE}RUN chown 5:5 /etc/passwd && exit 7\n")
    done = built.user.try_("build", "fails.rec")
    assert done.code == 1
    assert "exit code 7" in done.err
    assert built.user.leftovers() == []


def test_a_step_has_no_way_to_the_users_own_files(built: Built) -> None:
    """The user's id is the step's root: what keeps the step in is its root file system."""
    secret = Path(built.user.home, "secret")
    secret.write_text("kept")
    tries = "cat /home/tess/secret; cat /proc/1/root/home/tess/secret; mount -t tmpfs none /mnt && echo kept"
    built.user.write("secret.rec", f"{scene.BASE}RUN mkdir /mnt; {tries}; true\n")
    done = built.user.try_("build", "secret.rec", "--progress", "plain")
    assert done.code == 0, done.err
    done = Done(0, "", done.err.replace(tries, ""))
    assert "kept" not in done.err


def test_the_stores_of_root_and_of_a_user_are_not_mixed_up(built: Built) -> None:
    """Their opaque directories are marked in attributes that the other one does not look at."""
    user = built.user
    done = Pybuild(user.store, user.cwd).try_("images")
    assert done.code == 4
    assert "is a user's, who made it without root" in done.err
    assert "without sudo" in done.err
    user.have_ids(not user.subordinate)
    try:
        done = user.try_("images")
    finally:
        user.have_ids(not user.subordinate)
    assert done.code == 4
    told = "and this process has but one id" if user.subordinate else "was made with a single id"
    assert told in done.err
    assert len(user.json("images", "--json")) > 0
    root = Pybuild(f"{user.home}/roots", user.cwd)
    root("images")
    os.chmod(root.root, 0o755)
    done = user.try_("images", "--root", "/home/tess/roots")
    assert done.code == 4
    assert "is root's" in done.err
