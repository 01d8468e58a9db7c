"""Nothing outlives a step, or a builder that is killed: no process, no mount, no descriptor. Needs root
and busybox.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import HostError
from builder.launcher import Launcher
from builder.sandbox import Sandbox
from tests.sandbox_fixtures.scene import Scene, mount_table, processes

pytestmark = pytest.mark.peer("busybox")


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether `condition` holds within a generous while."""
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def open_fds() -> list[str]:
    fds = [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]
    return sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in fds)


BUILDER = """
import sys
from builder.executor import ExecRequest
from builder.sandbox import Sandbox
base, directory, word = sys.argv[1:]
request = ExecRequest(
    ("sh", "-c", f"trap '' TERM; (sleep 300 {word} &); echo up; sleep 300 {word}"),
    lower=(base,), upper=f"{directory}/upper", work=f"{directory}/work", env=(("PATH", "/bin"),),
)
Sandbox().run(request, lambda stream, data: print(data.decode(), end="", flush=True))
"""


@pytest.mark.parametrize("victim", ["builder", "launcher", "init"])
def test_a_killed_builder_leaves_nothing(
    busybox_root: str, tmp_path: Path, checkout: str, victim: str
) -> None:
    before = mount_table()
    word = f"{os.getpid()}.{time.monotonic_ns()}"
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDER, busybox_root, str(tmp_path), word],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": checkout},
    )
    try:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"up\n"
        assert eventually(lambda: len(processes(word)) >= 3)  # the builder, the shell, two sleeps
        (launcher,) = children(builder.pid)
        (init,) = children(launcher)
        os.kill({"builder": builder.pid, "launcher": launcher, "init": init}[victim], signal.SIGKILL)
        assert builder.wait(20) != 0
        assert eventually(lambda: not processes(word))
        assert eventually(lambda: not any(alive(pid) for pid in (launcher, init)))
        assert mount_table() == before
    finally:
        builder.kill()
        builder.wait()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_steps_leave_no_descriptors_processes_or_mounts(scene: Scene) -> None:
    scene.run("true")
    fds, mounts, launchers = open_fds(), mount_table(), children(os.getpid())
    for number in range(30):
        assert scene.sh(f"echo x; exit {number}").status == number
        if number % 10 == 0:
            with pytest.raises(Exception, match="not found"):
                scene.run("nope")
            with pytest.raises(HostError):
                scene.run("true", lower=("/no/such",))
    assert open_fds() == fds
    assert mount_table() == mounts
    assert children(os.getpid()) == launchers
    assert [child for launcher in launchers for child in children(launcher)] == []


def test_the_launcher_keeps_no_descriptors(scene: Scene) -> None:
    scene.run("true")
    (launcher,) = {pid for pid in children(os.getpid()) if pid in processes("builder.launcher")}
    before = len(os.listdir(f"/proc/{launcher}/fd"))
    for _ in range(5):
        scene.run("true")
    assert len(os.listdir(f"/proc/{launcher}/fd")) == before
    inherited = {
        os.readlink(f"/proc/{launcher}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{launcher}/fd")
    }
    assert inherited == {"/dev/null", "socket", "pid", "anon_inode"}


def test_steps_at_once_from_several_threads(scene: Scene) -> None:
    requests = [scene.request("sh", "-c", f"echo {n} > /file; cat /file; exit {n}") for n in range(12)]
    results: list[tuple[int, str]] = [(-1, "")] * len(requests)

    def work(number: int) -> None:
        seen: list[bytes] = []
        result = scene.executor.run(requests[number], lambda _, data: seen.append(data))
        results[number] = result.status, b"".join(seen).decode()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(number, f"{number}\n") for number in range(len(requests))]


def test_close_kills_what_runs(busybox_root: str, tmp_path: Path) -> None:
    sandbox = Sandbox()
    scene = Scene(sandbox, busybox_root, str(tmp_path))
    word = f"{os.getpid()}.{time.monotonic_ns()}"
    up = threading.Event()
    ended: list[int] = []
    waited = sandbox.start(scene.request("sh", "-c", f"echo; sleep 300 {word}"), lambda *_: up.set())
    thread = threading.Thread(target=lambda: ended.append(waited.wait().status))
    thread.start()
    sandbox.start(scene.request("sleep", "300", word), lambda *_: None)
    assert up.wait(20)
    sandbox.close()
    thread.join(20)
    assert ended == [128 + signal.SIGKILL]
    assert processes(word) == []


def test_a_launcher_that_died_is_an_error(busybox_root: str, tmp_path: Path) -> None:
    launcher = Launcher.start()
    scene = Scene(Sandbox(launcher), busybox_root, str(tmp_path))
    assert scene.run("true").status == 0
    pid = children(os.getpid())[-1]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not alive(pid))
    with pytest.raises(HostError, match="launcher"):
        scene.run("true")
    launcher.close()


def test_an_interrupted_wait_kills_the_step(scene: Scene) -> None:
    word = f"{os.getpid()}.{time.monotonic_ns()}"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scene.executor.run(scene.request("sh", "-c", f"echo; sleep 300 {word}"), interrupt)
    assert processes(word) == []


def test_without_root_it_is_an_error_that_says_so() -> None:
    child = os.fork()  # an interpreter of its own might be in a place that another user cannot read
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            Sandbox()
        except HostError as error:
            code = 0 if error.code == "host/privileges" and error.hint else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_root_without_the_capability_to_mount_is_an_error_that_says_so(
    busybox_root: str, tmp_path: Path, checkout: str
) -> None:
    """As in a container with Docker's default capabilities."""
    script = (
        "import sys\n"
        "from builder import capabilities, linux\n"
        "mask = capabilities.mask(capabilities.DEFAULT)\n"
        "capabilities.limit(mask); linux.capset(mask, mask, 0)\n"
        "from builder.executor import ExecRequest\n"
        "from builder.sandbox import Sandbox\n"
        "base, directory = sys.argv[1:]\n"
        "upper, work = directory + '/u', directory + '/w'\n"
        "request = ExecRequest(('/bin/true',), lower=(base,), upper=upper, work=work)\n"
        "try: Sandbox().run(request, lambda *_: None)\n"
        "except Exception as error: print(error.code, bool(error.hint))"
    )
    for name in ("u", "w"):
        (tmp_path / name).mkdir()
    argv = [sys.executable, "-c", script, busybox_root, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": checkout}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("host/privileges True\n", "")
