"""`pybuild run`: a container's command on the user's own streams, with docker's options and exit codes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from typing import IO

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.command_fixtures.terminal import Terminal
from tests.sandbox_fixtures.scene import mount_table, processes


def eventually(holds: Callable[[], bool]) -> bool:
    """Wait for something that another process is about to do."""
    end = time.monotonic() + 20
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def readline(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_streams_are_passed_through_byte_for_byte(pybuild: Pybuild) -> None:
    done = pybuild.try_(
        "run", "--rm", "-i", "box", "sh", "-c", "cat; echo problem >&2; exit 3", stdin="a\0b\r\nc"
    )
    assert (done.code, done.out, done.err) == (3, "a\0b\nc", "problem\n")
    assert pybuild("run", "--rm", "box", "cat", stdin="not for it") == ""


@pytest.mark.parametrize(
    ("code", "argv"),
    [
        (0, ["box", "true"]),
        (1, ["box", "false"]),
        (42, ["box", "sh", "-c", "exit 42"]),
        (255, ["box", "sh", "-c", "exit 255"]),
        (128 + signal.SIGTERM, ["box", "sh", "-c", "kill -TERM $$"]),
        (128 + signal.SIGKILL, ["box", "sh", "-c", "kill -KILL $$"]),
        (127, ["box", "nothing-there"]),
        (127, ["box", "/nothing/there"]),
        (126, ["box", "/etc/passwd"]),
        (126, ["box", "/etc"]),
        (125, ["nothing", "true"]),
        (125, ["--no-such-option", "box"]),
        (125, ["-v", "/no/such/place:/x", "box"]),
        (125, ["--cap-add", "CAP_NO_SUCH", "box", "true"]),
        (126, ["--user", "nobody-there", "box", "true"]),
    ],
)
def test_exit_codes_are_those_of_docker(pybuild: Pybuild, code: int, argv: list[str]) -> None:
    done = pybuild.try_("run", *argv)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ") == (code in (125, 126, 127))
    ended = [one["status"] for one in pybuild.json("containers", "--json")]
    assert ended == ([] if code == 125 else [code])


def test_the_command_is_put_together_as_docker_does(pybuild: Pybuild) -> None:
    pybuild.build('FROM box\nENTRYPOINT ["echo", "entry"]\nCMD ["cmd"]\n', "-t", "app")
    assert pybuild("run", "--rm", "app") == "entry cmd\n"
    assert pybuild("run", "--rm", "app", "-n", "--", "mine") == "entry -n -- mine\n"
    assert pybuild("run", "--rm", "--entrypoint", "printf", "app", "%s.", "a", "b") == "a.b."
    assert pybuild("run", "--rm", "--entrypoint", "", "app", "echo", "bare") == "bare\n"
    done = pybuild.try_("run", "--rm", "--entrypoint", "", "app")
    assert (done.code, "[run/empty]" in done.err) == (125, True)


def test_environment_user_and_directory(pybuild: Pybuild) -> None:
    pybuild.build("FROM box\nENV A=image B=image\nUSER app\nWORKDIR /srv/deep\n", "-t", "app")
    show = ("app", "sh", "-c", 'echo "$A $B $C $D|$(id -un):$(id -gn)|$PWD|$HOME"')
    assert pybuild("run", "--rm", *show) == "image image  |app:app|/srv/deep|/home/app\n"
    pybuild.write("vars", "# comment\nB=file\nC=f=x y\n\nD\n")
    options = ("--env-file", "vars", "-e", "C=option", "--user", "root:extra", "-w", "/new")
    assert (
        pybuild("run", "--rm", *options, *show, D="here") == "image file option here|root:extra|/new|/root\n"
    )
    assert pybuild("run", "--rm", "-u", "7:8", "box", "sh", "-c", "id -u; id -g") == "7\n8\n"
    assert (
        pybuild("run", "--rm", "-e", "PATH=/nowhere:/bin", "box", "sh", "-c", "echo $PATH")
        == "/nowhere:/bin\n"
    )
    assert pybuild.try_("run", "--env-file", "none", "box", "true").code == 125


def test_volumes(pybuild: Pybuild) -> None:
    pybuild.write("data/in", "from the host\n")
    data = os.path.join(pybuild.cwd, "data")
    assert (
        pybuild("run", "--rm", "-v", f"{data}:/mnt/data", "box", "cat", "/mnt/data/in") == "from the host\n"
    )
    pybuild("run", "--rm", "-v", "./data:/d", "box", "sh", "-c", "echo back > /d/out")
    with open(f"{data}/out") as file:
        assert file.read() == "back\n"
    done = pybuild.try_("run", "--rm", "-v", f"{data}:/d:ro", "box", "touch", "/d/more")
    assert done.code == 1
    assert "Read-only" in done.err
    assert not os.path.exists(f"{data}/more")
    pybuild("run", "--name", "c", "-v", f"{data}/in:/file", "--tmpfs", "/mem:size=1m,mode=700", "box", "true")
    assert pybuild("diff", "c") == ""  # no mount point is left behind
    for text in ("/x", ":/x", "x:relative", f"{data}:/d:wrong"):
        done = pybuild.try_("run", "-v", text, "box", "true")
        assert (done.code, "[usage/volume]" in done.err) == (125, True), text


def test_what_a_container_writes_is_its_own(pybuild: Pybuild) -> None:
    pybuild("run", "--name", "c", "box", "sh", "-c", "echo x > /x; rm /bin/cat")
    assert pybuild.try_("run", "--rm", "box", "cat", "/x").code == 1
    assert pybuild("diff", "c") == "D /bin/cat\nA /x\n"


def test_host_name_hosts_and_network(pybuild: Pybuild) -> None:
    show = ("box", "sh", "-c", "hostname; cat /etc/hosts; ls /sys/class/net; cat /proc/net/dev")
    out = pybuild(
        "run", "--rm", "--hostname", "here", "--add-host", "db:10.1.2.3", "--network", "none", *show
    )
    assert out.startswith("here\n")
    assert "10.1.2.3\tdb" in out.replace(" ", "\t")
    assert out.splitlines()[-1].split(":")[0].strip() == "lo"
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = ("box", "nc", "127.0.0.1", str(server.getsockname()[1]))
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        assert pybuild("run", "--rm", *connect) == "hello"
        thread.join()
        assert pybuild.try_("run", "--rm", "--net=none", *connect).code == 1


def answer(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"hello")


def test_capabilities_and_limits(pybuild: Pybuild) -> None:
    def effective(*options: str) -> int:
        out = pybuild("run", "--rm", *options, "box", "grep", "CapEff", "/proc/self/status")
        return int(out.split()[1], 16)

    assert effective() == 0xA80425FB
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop=all", "--cap-add", "chown", "--cap-add=CAP_KILL") == 1 << 0 | 1 << 5
    assert effective("--cap-drop", "CHOWN") == 0xA80425FA
    assert effective("--privileged") > 0xA80425FB
    limits = pybuild("run", "--rm", "--ulimit", "nofile=100:200", "box", "sh", "-c", "ulimit -Sn; ulimit -Hn")
    assert limits == "100\n200\n"
    size = pybuild("run", "--rm", "--shm-size", "1m", "box", "df", "-k", "/dev/shm")
    assert size.splitlines()[-1].split()[1] == "1024"
    assert pybuild.try_("run", "--rm", "--read-only", "box", "touch", "/x").code == 1


def test_no_pybuild_process_or_mount_is_seen_after_a_run(pybuild: Pybuild) -> None:
    pybuild("run", "--rm", "box", "sh", "-c", "sleep 987654 & true")
    assert not processes("987654")
    assert pybuild.root not in mount_table()
    assert os.listdir(pybuild.root + "/containers") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(pybuild: Pybuild, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    with pybuild.start("run", "--rm", "box", "sh", "-c", script) as process:
        assert readline(process.stdout) == "ready\n"
        process.send_signal(number)
        assert process.communicate() == ("got\n", "")
    assert process.returncode == 9


def test_a_command_that_does_not_catch_a_signal_dies_of_it(pybuild: Pybuild) -> None:
    with pybuild.start("run", "--rm", "box", "sh", "-c", "echo ready; exec sleep 1000") as process:
        assert readline(process.stdout) == "ready\n"
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
    assert os.listdir(pybuild.root + "/containers") == []


def test_after_kill_9_nothing_runs_and_nothing_is_mounted(pybuild: Pybuild) -> None:
    with pybuild.start(
        "run", "--rm", "box", "sh", "-c", "echo ready; sleep 876543 & sleep 876544"
    ) as process:
        assert readline(process.stdout) == "ready\n"
        assert processes("876543")
        assert pybuild.root not in mount_table()
        process.kill()
    assert eventually(lambda: not processes("87654"))
    assert pybuild.root not in mount_table()
    pybuild("run", "--rm", "box", "true")
    assert os.listdir(pybuild.root + "/containers") == []


def test_a_reader_that_goes_away_ends_the_command_not_pybuild(pybuild: Pybuild) -> None:
    with pybuild.start("run", "--rm", "box", "sh", "-c", "yes; echo status $? >&2") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == f"status {128 + signal.SIGPIPE}\n"
        assert process.wait(20) == 0


def test_a_shell_on_a_terminal(pybuild: Pybuild) -> None:
    terminal = Terminal(pybuild, "run", "--rm", "-it", "-e", "PS1=prompt> ", "box")
    before = termios.tcgetattr(terminal.child)
    terminal.expect("prompt> ")
    raw = termios.tcgetattr(terminal.child)
    assert not raw[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    terminal.type("tty; stty size; echo $TERM\n")
    terminal.expect("/dev/pts/0\r\n33 99\r\nvt100\r\n")
    termios.tcsetwinsize(terminal.fd, (20, 70))
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.type("sleep 0.2; stty size\n")
    terminal.expect("20 70\r\n")
    terminal.type("sleep 1000\n")
    terminal.expect("sleep 1000\r\n")
    time.sleep(0.3)
    terminal.type("\x03")  # Ctrl-C is for the command in the container, not for pybuild
    terminal.expect("prompt> ")
    terminal.type("echo code $?\n")
    terminal.expect("code 130\r\n")
    terminal.type("exit 5\n")
    terminal.expect("exit 5\r\n")
    terminal.process.wait(20)
    assert termios.tcgetattr(terminal.child) == before
    assert terminal.close() == 5


def test_a_terminal_needs_one(pybuild: Pybuild) -> None:
    done = pybuild.try_("run", "-it", "box", "true")
    assert done.code == 125
    assert "[run/tty]" in done.err
    # -t alone gives the command a terminal, whatever ours is.
    assert pybuild("run", "--rm", "-t", "box", "sh", "-c", "test -t 1 && echo yes") == "yes\n"


def test_ctrl_c_reaches_a_command_without_a_terminal_of_its_own(pybuild: Pybuild) -> None:
    terminal = Terminal(pybuild, "run", "--rm", "box", "sh", "-c", "echo ready; exec sleep 1000")
    terminal.expect("ready\r\n")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.close() == 128 + signal.SIGINT


def test_an_unknown_image_is_told_with_the_nearest(pybuild: Pybuild) -> None:
    done = pybuild.try_("run", "boxx")
    assert (done.code, done.out) == (125, "")
    assert "there is no image 'boxx'" in done.err
    assert "Did you mean box" in done.err


def test_an_image_whose_layers_are_gone_is_told(pybuild: Pybuild) -> None:
    image_id = pybuild.build("FROM box\nRUN echo x > /x\n", "-t", "app")
    chain = pybuild.json("inspect", image_id)[0]["RootFS"]["ChainIDs"][-1]
    subprocess.run(["rm", "-r", f"{pybuild.root}/layerdb/sha256/{chain.removeprefix('sha256:')}"], check=True)
    done = pybuild.try_("run", "app", "true")
    assert (done.code, done.out) == (125, "")
    assert "error: " in done.err
    assert "hint: " in done.err
    assert "Traceback" not in done.err
    assert pybuild("containers", "-q") == ""
    assert pybuild.try_("inspect", "app").code == 0
