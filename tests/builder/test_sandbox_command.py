"""A command in the sandbox: how it starts, what it gets, what it says, how it ends. Needs root and
busybox.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from builder.errors import HostError
from builder.executor import CommandError, ExecRequest, Mount
from tests.sandbox_fixtures.scene import Scene

pytestmark = pytest.mark.peer("busybox")


# How it ends


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_the_exit_code_is_the_commands(scene: Scene, code: int) -> None:
    assert scene.sh(f"exit {code}").status == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal_is_128_and_its_number(scene: Scene, number: int) -> None:
    assert scene.sh(f"kill -{number} $$").status == 128 + number


def test_a_signal_reaches_the_command(scene: Scene) -> None:
    ready = threading.Event()
    running = scene.executor.start(
        scene.request(
            "sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
        ),
        lambda _, data: ready.set() if b"ready" in data else None,
    )

    def interrupt() -> None:
        ready.wait()
        running.kill(signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    assert running.wait().status == 3


def test_a_signal_sent_before_the_command_is_there_reaches_it(scene: Scene) -> None:
    running = scene.executor.start(scene.request("sleep", "60"), lambda *_: None)
    running.kill(signal.SIGTERM)
    assert running.wait().status == 128 + signal.SIGTERM


def test_kill_ends_every_process_of_the_step(scene: Scene) -> None:
    running = scene.executor.start(scene.request("sh", "-c", "sleep 60 & sleep 60"), lambda *_: None)
    running.kill(signal.SIGKILL)
    assert running.wait().status == 128 + signal.SIGKILL


def test_a_timeout_kills_and_says_so(scene: Scene) -> None:
    result = scene.run("sleep", "60", timeout=0.2).result
    assert result.timed_out
    assert 0.2 <= result.seconds < 30


def test_what_is_left_running_is_dead_when_the_result_is_there(scene: Scene) -> None:
    outcome = scene.sh("(trap '' HUP TERM; while :; do echo >> /ticks; done) & sleep 0.1; exit 5")
    assert outcome.status == 5
    ticks = Path(outcome.upper, "ticks")
    size = ticks.stat().st_size
    assert size > 0
    time.sleep(0.1)
    assert ticks.stat().st_size == size


def test_orphans_are_reaped(scene: Scene) -> None:
    outcome = scene.sh(
        "for i in 1 2 3; do (sleep 0.01 &); done; sleep 0.2; grep -l '(zombie)' /proc/*/status"
    )
    assert outcome.stdout == ""


# What it says


def test_streams_come_apart_and_whole(scene: Scene) -> None:
    outcome = scene.sh("echo out; echo err >&2; head -c 300000 /dev/zero | tr '\\0' x")
    assert outcome.stdout == "out\n" + "x" * 300_000
    assert outcome.stderr == "err\n"


def test_what_a_callback_raises_ends_the_step(scene: Scene) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        scene.executor.run(scene.request("sh", "-c", "echo; sleep 60"), refuse)


def test_standard_input(scene: Scene) -> None:
    assert scene.run("cat", stdin=b"typed").stdout == "typed"
    assert scene.run("cat").stdout == ""
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as file:
        file.write(b"piped")
        file.close()
        assert scene.run("cat", stdin=reading).stdout == "piped"


def test_streams_of_the_caller_are_used_as_they_are(scene: Scene, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w+b") as file, open(os.devnull) as null:
        stdio = (null.fileno(), file.fileno(), file.fileno())
        assert scene.sh("echo one; echo two >&2", stdio=stdio).status == 0
        file.seek(0)
        assert file.read() == b"one\ntwo\n"


def test_no_other_descriptor_is_open(scene: Scene) -> None:
    fds = scene.sh("ls /proc/self/fd").stdout.split()
    assert fds == ["0", "1", "2", "3"]  # the last is ls's own


def test_a_user_can_open_dev_stdout(scene: Scene) -> None:
    assert scene.sh("echo hello > /dev/stdout", user="app").stdout == "hello\n"


# Pseudo-terminals


def test_a_terminal_has_a_name_in_the_sandbox_and_controls_it(scene: Scene) -> None:
    outcome = scene.sh("tty; test -t 0 && test -t 2 && echo all; echo > /dev/tty; ls /dev/pts", tty=True)
    assert outcome.stdout.replace("\r", "").split() == ["/dev/pts/0", "all", "0", "ptmx"]


def test_a_terminal_takes_what_is_typed_and_its_size(scene: Scene) -> None:
    running = scene.executor.start(
        scene.request("sh", "-c", "read a; stty size; echo $a", tty=True), seen := Log()
    )
    running.resize(33, 99)
    running.write(b"words\n")
    assert running.wait().status == 0
    assert seen.text.replace("\r", "").split("\n")[1:3] == ["33 99", "words"]


def test_ctrl_c_on_the_terminal_interrupts(scene: Scene) -> None:
    running = scene.executor.start(scene.request("sleep", "60", tty=True), lambda *_: None)
    threading.Timer(0.2, lambda: running.write(b"\x03")).start()
    assert running.wait().status == 128 + signal.SIGINT


class Log:
    """Collects output."""

    text = ""

    def __call__(self, _stream: str, data: bytes) -> None:
        self.text += data.decode()


# How it starts


def test_environment_is_what_was_asked_for_and_home(scene: Scene) -> None:
    outcome = scene.run("env", env=(("PATH", "/bin"), ("A", "1"), ("A", "2"), ("E", "")), user="app")
    assert sorted(outcome.lines) == ["A=2", "E=", "HOME=/home/app", "PATH=/bin"]
    assert "HOME=/elsewhere" in scene.run("env", env=(("PATH", "/bin"), ("HOME", "/elsewhere"))).lines


def test_a_missing_working_directory_is_made(scene: Scene) -> None:
    outcome = scene.sh("pwd; stat -c '%a %u' .", workdir="/srv/a/b")
    assert outcome.lines == ["/srv/a/b", "755 0"]
    assert outcome.written == ["srv", "srv/a", "srv/a/b"]


def test_a_working_directory_that_is_a_file_is_an_error(scene: Scene) -> None:
    with pytest.raises(CommandError, match="/bin/busybox") as caught:
        scene.run("true", workdir="/bin/busybox")
    assert (caught.value.code, caught.value.status) == ("step/workdir", 126)


def test_default_signals_and_mask(scene: Scene) -> None:
    status = dict(line.split(":\t") for line in scene.run("cat", "/proc/self/status").lines if ":\t" in line)
    classic = (
        1 << 31
    ) - 1  # the C library keeps the next two to itself, and leaves them as they were inherited
    assert int(status["SigIgn"], 16) & classic == 0
    assert int(status["SigBlk"], 16) == 0
    assert status["Umask"] == "0022"


@pytest.mark.parametrize(
    ("argv", "status", "code", "message"),
    [
        (("nope",), 127, "step/not-found", 'exec: "nope": executable file not found in $PATH'),
        (("/no/such",), 127, "step/not-found", 'exec: "/no/such": stat /no/such: no such file or directory'),
        (("/etc/passwd",), 126, "step/not-executable", 'exec: "/etc/passwd": permission denied'),
        (("/bin",), 126, "step/not-executable", 'exec: "/bin": is a directory'),
        (("",), 127, "step/not-found", "there is no command to run"),
        ((), 127, "step/not-found", "there is no command to run"),
    ],
)
def test_a_command_that_cannot_be_started(
    scene: Scene, argv: tuple[str, ...], status: int, code: str, message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        scene.run(*argv)
    assert (caught.value.status, caught.value.code, caught.value.message) == (status, code, message)


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"neither", 126, "exec format error"),
        (b"#!/no/interpreter\n", 127, "no such file"),
        (b"", 126, "format"),
    ],
)
def test_a_file_that_is_no_program(
    scene: Scene, tmp_path: Path, content: bytes, status: int, word: str
) -> None:
    layer = tmp_path / "layer"
    (layer / "bin").mkdir(parents=True)
    (layer / "bin" / "odd").write_bytes(content)
    (layer / "bin" / "odd").chmod(0o755)
    with pytest.raises(CommandError, match=word) as caught:
        scene.run("odd", lower=(str(layer), scene.base))
    assert caught.value.status == status
    assert caught.value.hint


def test_path_goes_on_after_what_may_not_be_run(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "layer" / "first").mkdir(parents=True)
    (tmp_path / "layer" / "first" / "echo").write_text("")
    env = (("PATH", "/first:/bin"),)
    assert scene.run("echo", "x", env=env, lower=(str(tmp_path / "layer"), scene.base)).stdout == "x\n"


def test_an_argument_that_is_too_long(scene: Scene) -> None:
    with pytest.raises(CommandError, match=os.strerror(errno.E2BIG).lower()):
        scene.run("true", "x" * (1 << 18))


def test_a_long_command_line_arrives(scene: Scene) -> None:
    arguments = [f"{number}" * 20_000 for number in range(8)]
    assert scene.run("echo", *arguments).stdout == " ".join(arguments) + "\n"


def test_bytes_that_are_no_text_arrive(scene: Scene) -> None:
    word = os.fsdecode(b"\xff\xfe caf\xc3\xa9")
    request = scene.request(
        "sh", "-c", 'printf %s "$0$V" | od -An -tx1', word, env=(("PATH", "/bin"), ("V", word))
    )
    assert scene.carry_out(request).stdout.split() == ["ff", "fe", "20", "63", "61", "66", "c3", "a9"] * 2


# Users


@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
        ("app", "uid=1000(app) gid=1000(app) groups=10(wheel),100(users),1000(app)"),
        ("1000", "uid=1000(app) gid=1000(app) groups=10(wheel),100(users),1000(app)"),
        ("app:users", "uid=1000(app) gid=100(users) groups=100(users)"),
        ("4242", "uid=4242 gid=0(root) groups=0(root)"),
        ("4242:4343", "uid=4242 gid=4343 groups=4343"),
        ("other", "uid=1001(other) gid=100(users) groups=100(users)"),
    ],
)
def test_user_names_and_numbers(scene: Scene, user: str, identity: str) -> None:
    uid, gid, groups = scene.run("id", user=user).stdout.split()
    expected = identity.split()
    assert [uid, gid] == expected[:2]
    assert sorted(groups.removeprefix("groups=").split(",")) == sorted(
        expected[2].removeprefix("groups=").split(",")
    )


@pytest.mark.parametrize("user", ["nobody-here", "app:no-group"])
def test_an_unknown_user_is_an_error(scene: Scene, user: str) -> None:
    with pytest.raises(CommandError, match="no matching entries") as caught:
        scene.run("true", user=user)
    assert caught.value.code == "step/user"


# Limits


def test_resource_limits(scene: Scene) -> None:
    outcome = scene.sh("ulimit -n; ulimit -c", rlimits=(("nofile", 123, 456),))
    assert outcome.lines == ["123", "0"]


def test_an_unknown_limit_is_an_error(scene: Scene) -> None:
    with pytest.raises(CommandError, match="novel"):
        scene.run("true", rlimits=(("novel", 1, 1),))


def test_an_unknown_capability_is_an_error(scene: Scene) -> None:
    with pytest.raises(HostError, match="FLY"):
        scene.run("true", capabilities=("FLY",))


# What is said about it


def test_secrets_are_not_in_the_repr_of_a_request() -> None:
    secret = "hunter2"
    mount = Mount("file", "/run/secrets/x", data=secret.encode())
    request = ExecRequest(("true",), env=(("TOKEN", secret),), stdin=secret.encode(), mounts=(mount,))
    assert secret not in repr(request)
