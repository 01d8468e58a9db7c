"""`pybuild exec`: a command in a container that runs is where the container's own command is, and no longer
there than that.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.command_fixtures.terminal import Terminal


@pytest.fixture
def box(pybuild: Pybuild) -> Pybuild:
    """A container c of the image box, in the background."""
    pybuild("run", "-d", "--name", "c", "-e", "OF=container", "-w", "/tmp", "box", "sleep", "1000")
    return pybuild


def test_it_is_in_the_container_s_namespaces(box: Pybuild) -> None:
    names = ("mnt", "pid", "ipc", "uts", "cgroup", "net", "user")
    show = ("sh", "-c", f"for name in {' '.join(names)}; do readlink /proc/$0/ns/$name; done")
    out = box("exec", "c", *show, "self")
    first = box("exec", "c", *show, "2")
    assert out == first
    assert len(out.splitlines()) == len(names)
    mine = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    assert [a == b for a, b in zip(mine, out.splitlines(), strict=True)] == [False] * 5 + [True] * 2
    box("exec", "c", "touch", "/made")
    assert "A /made" in box("diff", "c").splitlines()


def test_it_may_what_the_container_s_command_may(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--name", "c", "--cap-drop", "CHOWN", "-m", "256m", "box", "sleep", "1000")
    fields = "Cap|Seccomp:|NoNewPrivs"
    show = ("sh", "-c", f"grep -E '{fields}' /proc/$1/status; cat /proc/$1/cgroup", "-")
    assert pybuild("exec", "c", *show, "self") == pybuild("exec", "c", *show, "2")
    assert "pybuild-" in pybuild("exec", "c", "cat", "/proc/self/cgroup")
    assert pybuild.try_("exec", "c", "chown", "app", "/etc/passwd").code == 1


def test_environment_user_and_directory(box: Pybuild) -> None:
    show = ("c", "sh", "-c", 'echo "$OF $MINE|$(id -un)|$PWD|$HOME"')
    assert box("exec", *show) == "container |root|/tmp|/root\n"
    options = ("-e", "MINE=exec", "-u", "app", "-w", "/etc")
    assert box("exec", *options, *show) == "container exec|app|/etc|/home/app\n"
    assert box("exec", "-i", "c", "cat", stdin="in") == "in"


@pytest.mark.parametrize(
    ("code", "argv"),
    [
        (0, ["true"]),
        (7, ["sh", "-c", "exit 7"]),
        (143, ["sh", "-c", "kill $$"]),
        (127, ["none"]),
        (126, ["/etc"]),
    ],
)
def test_exit_codes(box: Pybuild, code: int, argv: list[str]) -> None:
    assert box.try_("exec", "c", *argv).code == code


def test_what_cannot_be(box: Pybuild) -> None:
    box("stop", "-t", "0", "c")
    for argv, word in ((("c", "true"), "container/stopped"), (("no", "true"), "container/unknown")):
        done = box.try_("exec", *argv)
        assert (done.code, f"[{word}]" in done.err) == (125, True)
    assert "[run/empty]" in box.try_("exec", "c").err


def test_it_ends_with_the_container(box: Pybuild) -> None:
    process = box.start("exec", "c", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    box("kill", "c")
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL


def test_it_ends_with_pybuild(box: Pybuild) -> None:
    for user in ("root", "app"):
        process = box.start("exec", "-u", user, "c", "sh", "-c", "echo ready; exec sleep 987")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.communicate(timeout=20)
    end = time.monotonic() + 20
    while "sleep 987" in box("exec", "c", "ps"):
        assert time.monotonic() < end


def test_a_terminal_of_the_container(box: Pybuild) -> None:
    terminal = Terminal(box, "exec", "-it", "-e", "PS1=prompt> ", "c", "sh")
    terminal.expect("prompt> ")
    terminal.type("tty; stty size\n")
    terminal.expect("/dev/pts/0\r\n33 99\r\n")
    terminal.type("exit 5\n")
    assert terminal.close() == 5


def test_it_is_limited_from_the_container_s_start_on(pybuild: Pybuild) -> None:
    for _ in range(3):
        pybuild("run", "-d", "--name", "c", "--memory", "64m", "box", "sleep", "1000")
        done = pybuild.try_(
            "exec", "c", "sh", "-c", "grep -q pybuild- /proc/self/cgroup && exec sort /dev/zero"
        )
        assert done.code == 128 + signal.SIGKILL
        pybuild("rm", "-f", "c")
