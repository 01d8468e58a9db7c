"""Containers in the background: run -d, ps, logs, stop, kill, wait, rm -f, and health checks."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.containerlog import LogWriter, follow, read
from tests.command_fixtures.pybuild import Pybuild
from tests.sandbox_fixtures.scene import mount_table, processes

SERVICE = """\
FROM box
STOPSIGNAL SIGINT
CMD ["sh", "-c", "trap 'echo asked; exit 3' INT; echo up; while :; do sleep 0.05; done"]
"""


def eventually(holds: Callable[[], object]) -> bool:
    """Wait for something that another process is about to do."""
    end = time.monotonic() + 20
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def listed(pybuild: Pybuild, *argv: str, text: str = "{{.Names}} {{.State}}") -> list[str]:
    return pybuild("ps", *argv, "--format", text).splitlines()


def holder(pybuild: Pybuild) -> int:
    """Return the pid of the process that holds the only container: the parent of its launcher."""
    (name,) = os.listdir(pybuild.root + "/containers")
    inode = str(os.stat(f"{pybuild.root}/containers/{name}").st_ino)
    with open("/proc/locks") as file:
        (pid,) = [line.split()[4] for line in file if line.split()[5].endswith(":" + inode)]
    return int(pid)


def test_it_goes_on_and_is_listed(pybuild: Pybuild) -> None:
    identity = pybuild("run", "-d", "--name", "one", "box", "sleep", "1000").strip()
    assert len(identity) == 64
    head, row = pybuild("ps").splitlines()
    assert head.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert row.split()[:4] == [identity[:12], "box", "sleep", "1000"]
    assert " Up " in row
    assert pybuild("ps", "-q", "--no-trunc").strip() == identity
    pybuild.try_("run", "--name", "two", "box", "false")
    assert listed(pybuild) == ["one running"]
    assert sorted(listed(pybuild, "-a")) == ["one running", "two exited"]
    assert any("Exited (1)" in row for row in pybuild("ps", "-a").splitlines())
    assert {one["name"]: one["running"] for one in pybuild.json("ps", "-a", "--json")} == {
        "one": True,
        "two": False,
    }
    assert "[container/running]" in pybuild.try_("rm", "one").err
    assert pybuild("rm", "-f", "one") == "one\n"
    assert listed(pybuild) == []


def test_what_it_wrote_is_kept(pybuild: Pybuild) -> None:
    script = "echo a; echo b >&2; printf c; echo é"
    pybuild("run", "-d", "--name", "c", "box", "sh", "-c", script)
    assert pybuild("wait", "c") == "0\n"
    done = pybuild.try_("logs", "c")
    assert (done.out, done.err) == ("a\ncé\n", "b\n")
    pybuild("run", "-d", "--name", "lines", "box", "seq", "9")
    pybuild("wait", "lines")
    assert pybuild("logs", "-n", "2", "lines") == "8\n9\n"
    stamp, text = pybuild("logs", "--tail=1", "-t", "lines").split()
    assert (text, stamp[-1], stamp[10]) == ("9", "Z", "T")
    pybuild("run", "--name", "front", "box", "true")
    assert "[container/log]" in pybuild.try_("logs", "front").err


def test_what_it_writes_is_followed_to_the_end(pybuild: Pybuild) -> None:
    pybuild(
        "run",
        "-d",
        "--name",
        "c",
        "box",
        "sh",
        "-c",
        "echo 1; while [ ! -e /go ]; do sleep 0.02; done; echo 2",
    )
    process = pybuild.start("logs", "-f", "c")
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    pybuild("exec", "c", "touch", "/go")
    assert process.communicate(timeout=20) == ("2\n", "")
    assert process.returncode == 0


def test_a_log_does_not_grow_without_bound(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path), most=1000)
    followed = follow(str(tmp_path), lambda: True)
    seen = []
    for number in range(100):
        log.write("stdout", f"{number}\n".encode())
        entry = next(followed)
        assert entry is not None
        seen.append(int(entry[0]))
    log.close()
    assert seen == list(range(100))
    assert sum(os.path.getsize(tmp_path / name) for name in ("log", "log.1")) <= 2000
    kept = [int(text) for text, _, _ in read(str(tmp_path))]
    assert kept == list(range(kept[0], 100))
    with open(tmp_path / "log") as file:
        assert set(json.loads(file.readline())) == {"log", "stream", "time"}


def test_stop_asks_then_kills(pybuild: Pybuild) -> None:
    pybuild.build(SERVICE, "-t", "service")
    pybuild("run", "-d", "--name", "c", "service")
    assert eventually(lambda: pybuild("logs", "c") == "up\n")
    assert pybuild("stop", "c") == "c\n"
    assert pybuild("logs", "c") == "up\nasked\n"
    assert pybuild("wait", "c") == "3\n"
    pybuild("run", "-d", "--name", "deaf", "box", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    pybuild("stop", "-t", "0.2", "deaf", "c")
    assert pybuild("wait", "deaf") == "137\n"


def test_signals(pybuild: Pybuild) -> None:
    pybuild(
        "run",
        "-d",
        "--name",
        "c",
        "box",
        "sh",
        "-c",
        "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done",
    )
    assert eventually(lambda: pybuild("logs", "c"))
    for text in ("NONE", "SIGRTMIN+99", "0"):
        assert "[usage/value]" in pybuild.try_("kill", "-s", text, "c").err
    pybuild("kill", "-s", "SIGUSR1", "c")
    assert pybuild("wait", "c") == "9\n"
    assert "[container/stopped]" in pybuild.try_("kill", "c").err
    pybuild("run", "-d", "--name", "d", "box", "sleep", "1000")
    assert pybuild("kill", "d") == "d\n"
    assert pybuild("wait", "d") == "137\n"


def test_rm_goes_with_its_exit_code_told(pybuild: Pybuild) -> None:
    pybuild("run", "-d", "--rm", "--name", "c", "box", "sleep", "1000")
    process = pybuild.start("wait", "c")
    time.sleep(0.2)
    pybuild("kill", "-s", "TERM", "c")
    assert process.communicate(timeout=20)[0] == "143\n"
    assert eventually(lambda: not listed(pybuild, "-a"))


@pytest.mark.parametrize(
    ("code", "argv"),
    [(127, ("box", "nothing")), (126, ("box", "/etc")), (126, ("--user=none", "box", "true"))],
)
def test_what_does_not_start_is_told(pybuild: Pybuild, code: int, argv: tuple[str, ...]) -> None:
    done = pybuild.try_("run", "-d", *argv)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert listed(pybuild) == []


def test_who_kills_its_holder_kills_all(pybuild: Pybuild) -> None:
    before = mount_table()
    pybuild("run", "-d", "--name", "c", "--network", "private", "box", "sleep", "98765")
    process = pybuild.start("exec", "c", "sleep", "98766")
    assert eventually(lambda: len(processes("98766")) == 2)
    os.kill(holder(pybuild), signal.SIGKILL)
    process.communicate(timeout=20)
    assert eventually(lambda: not processes("98765") and not processes("98766"))
    assert listed(pybuild, "-a", text="{{.Status}}") == ["Dead"]
    assert mount_table() == before


def test_health(pybuild: Pybuild) -> None:
    check = "HEALTHCHECK --interval=50ms --timeout=5s --retries=2 CMD test -e /ready\n"
    pybuild.build(f"FROM box\n{check}CMD sleep 1000\n", "-t", "checked")
    pybuild("run", "-d", "--name", "c", "checked")
    health = lambda: listed(pybuild, text="{{.Health}}")  # noqa: E731
    assert eventually(lambda: health() == ["unhealthy"])
    assert "(unhealthy)" in pybuild("ps")
    pybuild("exec", "c", "touch", "/ready")
    assert eventually(lambda: health() == ["healthy"])
    pybuild("rm", "-f", "c")
    pybuild("run", "-d", "--no-healthcheck", "checked")
    assert health() == [""]
