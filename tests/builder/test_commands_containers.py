"""The commands about containers and what is left of them: containers, rm, diff, commit, prune."""

from __future__ import annotations

import os
import signal
import time

from tests.command_fixtures.pybuild import Pybuild

RECIPE = """\
FROM box
RUN mkdir -p /app/old && echo one > /app/file && echo keep > /app/old/keep && ln -s file /app/link \\
 && echo x > /app/mode && echo y > /app/owner && echo gone > /app/gone && echo same > /app/same \\
 && mknod /app/pipe p && touch /app/becomes
"""

CHANGES = """\
echo longer than one > /app/file
chmod 4750 /app/mode
chown 1000:50 /app/owner
rm /app/gone
rm -r /app/old
ln -sfn elsewhere /app/link
rm /app/becomes && mkdir /app/becomes && touch /app/becomes/inside
touch /app/new
printf 'sAme\\n' > /app/same
"""

EXPECTED = """\
D /app/gone
D /app/old
D /app/old/keep
A /app/new
A /app/becomes/inside
C /app/becomes  (type: file -> directory)
C /app/file  (size: 4 -> 16)
C /app/link  (target: file -> elsewhere)
C /app/mode  (mode: 0644 -> 4750)
C /app/owner  (owner: 0:0 -> 1000:50)
C /app/same  (content, from byte 1 on)
"""


def without_parents(text: str) -> list[str]:
    return sorted(text.splitlines())


def running(pybuild: Pybuild, *options: str) -> tuple[int, str]:
    """Start a container that runs until it is killed; return pybuild's pid and the container's id."""
    cidfile = os.path.join(pybuild.cwd, f"cid{time.monotonic_ns()}")
    process = pybuild.start(
        "run",
        "--cidfile",
        cidfile,
        *options,
        "box",
        "sh",
        "-c",
        "echo ready; sleep 1000",
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with open(cidfile) as file:
        return process.pid, file.read()


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_diff_of_a_container_shows_what_it_wrote(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE, "-t", "app")
    pybuild("run", "--name", "c", "app", "sh", "-ec", CHANGES)
    assert without_parents(pybuild("diff", "c")) == without_parents(EXPECTED)


def test_diff_of_two_images_and_of_an_image_and_its_base(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE, "-t", "app")
    changes = "; ".join(CHANGES.strip().splitlines())
    pybuild.build(f"FROM app\nRUN {changes}\n", "-t", "changed")
    assert without_parents(pybuild("diff", "app", "changed")) == without_parents(EXPECTED)
    assert without_parents(pybuild("diff", "changed")) == without_parents(EXPECTED)
    backwards = pybuild("diff", "changed", "app").splitlines()
    assert "A /app/gone" in backwards
    assert "D /app/new" in backwards
    assert "C /app/mode  (mode: 4750 -> 0644)" in backwards
    assert pybuild("diff", "app", "app") == ""
    found = pybuild.json("diff", "app", "changed", "--json")
    assert {"kind": "C", "path": "/app/mode", "how": "mode: 0644 -> 4750"} in found


def test_diff_of_an_image_from_nothing_is_all_that_it_holds(pybuild: Pybuild) -> None:
    lines = pybuild("diff", "box").splitlines()
    assert {"A /bin", "A /bin/busybox", "A /etc/passwd"} <= set(lines)
    assert all(line.startswith("A ") for line in lines)


def test_times_count_if_asked_for(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE, "-t", "app")
    pybuild("run", "--name", "c", "app", "touch", "-d", "2001-02-03 04:05:06", "/app/same")
    assert pybuild("diff", "c") == ""
    assert "C /app/same  (time: " in pybuild("diff", "--times", "c")


def test_diff_needs_to_know_the_base(pybuild: Pybuild) -> None:
    pybuild("save", "box", "-o", "box.tar")
    other = Pybuild(pybuild.root + "-other", pybuild.cwd)
    other("load", "box.tar")
    done = other.try_("diff", "box")
    assert (done.code, done.out) == (2, "")
    assert "[image/no-base]" in done.err


def test_commit_makes_an_image_of_what_a_container_wrote(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE, "-t", "app")
    pybuild("run", "--name", "c", "app", "sh", "-ec", CHANGES)
    image_id = pybuild("commit", "-m", "by hand", "-a", "me", "c", "made:1").strip()
    (value,) = pybuild.json("inspect", "made:1")
    assert (value["Id"], value["Author"]) == (image_id, "me")
    base = pybuild.json("inspect", "app")[0]
    assert value["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert value["Config"] == base["Config"]
    assert pybuild.json("history", "--json", "made:1")[0]["CreatedBy"] == "by hand"
    assert without_parents(pybuild("diff", "app", "made:1")) == without_parents(EXPECTED)
    assert without_parents(pybuild("diff", "made:1")) == without_parents(EXPECTED)
    assert pybuild("run", "--rm", "made:1", "stat", "-c", "%a %u:%g", "/app/mode", "/app/owner").split() == [
        "4750",
        "0:0",
        "644",
        "1000:50",
    ]
    assert pybuild.try_("run", "--rm", "made:1", "ls", "/app/gone").code == 1
    # The container is as it was.
    assert without_parents(pybuild("diff", "c")) == without_parents(EXPECTED)
    assert pybuild("commit", "c").startswith("sha256:")


def test_a_container_that_runs_is_neither_committed_nor_removed_nor_pruned(pybuild: Pybuild) -> None:
    pybuild.build("FROM box\nRUN echo top > /top\n", "-t", "app")
    cidfile = os.path.join(pybuild.cwd, "cid")
    with pybuild.start(
        "run",
        "--name",
        "c",
        "--cidfile",
        cidfile,
        "-i",
        "app",
        "sh",
        "-c",
        "echo ready; read x; cat /top",
        stdin=-1,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert pybuild("containers").splitlines()[1].split("  ")[-2] == "running"
        for command in (["commit", "c"], ["rm", "c"], ["rmi", "app"]):
            done = pybuild.try_(*command)
            assert done.code != 0, command
            assert done.out == ""
        assert "0 items" in pybuild("prune", "-f", "-q")
        out, err = process.communicate("go\n")
        assert (out, err, process.returncode) == ("top\n", "", 0)
    pybuild("commit", "c", "done")
    with open(cidfile) as file:
        assert pybuild("containers", "-q", "--no-trunc").split() == [file.read()]


def test_an_image_taken_away_under_a_running_container(pybuild: Pybuild) -> None:
    """Its layers stay for as long as the container is there, and go after it."""
    image_id = pybuild.build("FROM box\nRUN echo top > /top\n", "-t", "app")
    with pybuild.start(
        "run", "--rm", "-i", image_id, "sh", "-c", "echo ready; read x; cat /top", stdin=-1
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        pybuild("tag", "box", "app")  # the image has no name any more
        pybuild("prune")
        assert process.communicate("go\n") == ("top\n", "")
    freed = pybuild("prune")
    assert "freed 0B" not in freed
    assert pybuild("run", "--rm", "box", "echo", "fine") == "fine\n"


def test_prune_takes_what_has_no_name_and_nothing_else(pybuild: Pybuild) -> None:
    pybuild.build("FROM box\nRUN echo named > /named\n", "-t", "named")
    unnamed = pybuild.build("FROM box\nRUN echo unnamed > /unnamed\n")
    contained = pybuild.build("FROM box\nRUN echo contained > /contained\n", "-t", "contained")
    pybuild("run", "--name", "c", "contained", "sh", "-c", "echo x > /x")
    pybuild("tag", "box", "contained")  # the container's image has no name now
    assert "would free" in pybuild("prune", "--dry-run", "--quiet")
    planned = pybuild.json("prune", "--dry-run", "--json")
    report = pybuild.json("prune", "--force", "--json")
    assert report == {**planned, "dry_run": False}
    assert {item["kind"] for item in report["items"]} == {"layer", "image", "record"}
    assert unnamed in [item["identity"] for item in report["items"]]
    assert contained in pybuild("images", "-a", "--format", "{{.Id}}").split()
    assert pybuild("run", "--rm", "named", "cat", "/named") == "named\n"
    assert "A /x" in pybuild("diff", "c")
    assert pybuild("commit", "c", "made")
    assert pybuild("run", "--rm", "made", "cat", "/contained", "/x") == "contained\nx\n"
    assert "freed 0B in 0 items" in pybuild("prune", "-q")


def test_prune_by_age_and_size(pybuild: Pybuild) -> None:
    pybuild.build("FROM box\nRUN echo unnamed > /unnamed\n")
    assert "0 items" in pybuild("prune", "--older-than", "1h", "-q")
    assert "0 items" in pybuild("prune", "--keep-storage", "1GB", "-q")
    for option in ("--older-than", "--keep-storage"):
        done = pybuild.try_("prune", option, "lots")
        assert (done.code, done.out) == (2, "")
        assert "[usage/value]" in done.err
    assert "0 items" not in pybuild("prune", "--older-than", "0s", "--keep-storage", "0", "-q")


def test_containers_are_listed_and_removed(pybuild: Pybuild) -> None:
    assert pybuild.try_("run", "--name", "first", "box", "sh", "-c", "exit 3").code == 3
    pybuild("run", "box", "echo", "a" * 50)
    head, *rows = pybuild("containers").splitlines()
    assert head.startswith("CONTAINER ID")
    assert len(rows) == 2
    assert "exited (3)" in next(row for row in rows if "first" in row)
    assert "…" in pybuild("containers")
    assert "a" * 50 in pybuild("containers", "-a", "--no-trunc")
    ids = pybuild("containers", "-q").split()
    assert all(len(each) == 12 for each in ids)
    states = pybuild("containers", "--format", "{{.Name}}={{.State}}").split("\n")
    assert "first=exited (3)" in states
    assert {one["name"]: one["status"] for one in pybuild.json("containers", "--json")} == {"first": 3, "": 0}
    done = pybuild.try_("rm", "nothing", "first")
    assert (done.code, done.out) == (2, "first\n")
    assert "[container/unknown]" in done.err
    pybuild("rm", "-f", "nothing")
    pybuild("rm", "--all")
    assert pybuild("containers", "-q") == ""
    assert os.listdir(pybuild.root + "/containers") == []


def test_names_of_containers(pybuild: Pybuild) -> None:
    pybuild("run", "--name", "once", "box", "true")
    done = pybuild.try_("run", "--name", "once", "box", "true")
    assert done.code == 125
    assert "[container/exists]" in done.err
    for name in ("-", "a b", "../x", "ü"):
        done = pybuild.try_("run", f"--name={name}", "box", "true")
        assert done.code == 125
        assert "[container/name]" in done.err
    assert len(pybuild("containers", "-q").split()) == 1
    (value,) = pybuild.json("inspect", "once")
    assert (value["Name"], value["State"]["Status"], value["State"]["ExitCode"]) == ("/once", "exited", 0)
    assert os.path.isdir(value["GraphDriver"]["Data"]["UpperDir"])


def test_rm_force_kills_what_runs(pybuild: Pybuild) -> None:
    pid, container = running(pybuild, "--name", "c")
    assert pybuild("rm", "--force", "c") == "c\n"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not os.path.exists(f"{pybuild.root}/containers/{container}")


def test_after_kill_9_a_container_stays_and_says_so(pybuild: Pybuild) -> None:
    pid, container = running(pybuild, "--name", "kept")
    end(pid)
    assert pybuild("containers", "--format", "{{.Name}} {{.State}}") == "kept killed\n"
    assert pybuild.json("inspect", "kept")[0]["State"]["Status"] == "dead"
    assert os.path.isdir(f"{pybuild.root}/containers/{container}/diff")
    pybuild("commit", "kept", "saved")


def test_after_kill_9_a_container_that_was_to_be_removed_is(pybuild: Pybuild) -> None:
    pid, container = running(pybuild, "--rm")
    end(pid)
    assert pybuild("containers", "-q") == ""
    assert not os.path.exists(f"{pybuild.root}/containers/{container}")
