"""--ssh: steps that use the keys of an agent, with the real ssh-agent and ssh-add."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from builder.errors import BuildError, HostError, UsageError
from builder.ssh import SshSource, parse_ssh
from tests.build_fixtures.project import Project

pytestmark = pytest.mark.peer("ssh-agent", "ssh-add", "ssh-keygen")

LINE = "RUN --mount=type=ssh"


def make_key(path: Path, passphrase: str = "") -> str:
    """Make a key; return its fingerprint."""
    options = ["-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(["ssh-keygen", *options], check=True)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True
    ).stdout
    return shown.split()[1]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A user's agent with one key, named in the environment. Yields the key's fingerprint."""
    path = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        fingerprint = make_key(tmp_path / "of-the-user")
        subprocess.run(["ssh-add", "-q", str(tmp_path / "of-the-user")], check=True)
        yield fingerprint
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def tools(project: Project) -> str:
    """A recipe's first lines: a root filesystem that has ssh-add and ssh-keygen, with their libraries."""
    for name in ("ssh-add", "ssh-keygen"):
        program = shutil.which(name)
        assert program is not None
        linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        libraries = [word for line in linked.splitlines() for word in line.split() if word.startswith("/")]
        for path in (program, *libraries):
            place = project.path("ssh/bin/" + name if path == program else "ssh" + path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(os.path.realpath(path), place)
    return "FROM base\nCOPY ssh/ /\n"


def test_a_step_sees_the_users_keys(project: Project, tools: str, agent: str) -> None:
    outcome = project.build(
        f"{tools}{LINE} ssh-add -l > /seen; echo $SSH_AUTH_SOCK >> /seen; "
        "stat -c '%u:%g %a' $SSH_AUTH_SOCK >> /seen\n",
        "--ssh=default",
    )
    seen = project.read(outcome, "seen").decode().splitlines()
    assert agent in seen[0]
    assert seen[1:] == ["/run/buildkit/ssh_agent.0", "0:0 600"]
    assert project.layer(outcome) == ["seen"]


def test_a_step_signs_with_a_key_and_cannot_change_the_agent(
    project: Project, tools: str, agent: str, tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "of-the-user.pub", project.path("key.pub"))
    make_key(Path(project.path("another")))
    outcome = project.build(
        f"{tools}COPY key.pub another /\n"
        f"{LINE} echo text > /text; ssh-keygen -q -Y sign -f /key.pub -n file /text && ls /text.sig; "
        "chmod 600 /another; ssh-add /another || echo not added; ssh-add -D || echo not deleted; "
        "ssh-add -x < /dev/null || echo not locked; ssh-add -l\n",
        "--ssh=default",
    )
    shown = outcome.output
    assert "/text.sig" in shown
    assert all(f"not {word}" in shown for word in ("added", "deleted", "locked"))
    assert shown.splitlines()[-1].split()[1] == agent
    assert shown.count("SHA256") == 1


def test_keys_that_are_named_get_an_agent_of_their_own(
    project: Project, tools: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from a file that everybody can read, as CI systems make them."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    one, two, other = (make_key(tmp_path / name) for name in ("one", "two", "other"))
    os.chmod(tmp_path / "one", 0o644)
    before = agents()
    outcome = project.build(
        f"{tools}{LINE} ssh-add -l | sort -k3 > /a\n"
        f"{LINE},id=other --mount=type=ssh ssh-add -l > /b; echo $SSH_AUTH_SOCK >> /b; "
        "ls /run/buildkit >> /b; "
        "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 ssh-add -l >> /b\n",
        f"--ssh=default={tmp_path}/one,{tmp_path}/two",
        f"--ssh=other={tmp_path}/other",
    )
    assert {line.split()[1] for line in project.read(outcome, "a").decode().splitlines()} == {one, two}
    seen = project.read(outcome, "b").decode()
    assert seen.splitlines()[0].split()[1] == other
    assert "\n/run/buildkit/ssh_agent.0\nssh_agent.0\nssh_agent.1\n" in seen
    assert seen.count("SHA256") == 3
    assert agents() == before
    assert project.unsound() == []


def agents() -> set[str]:
    """Return the ids of the processes that are ssh-agents."""
    found = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/comm").read_text() == "ssh-agent\n":
                found.add(pid)
        except OSError:
            continue
    return found


def test_an_agent_of_ours_ends_also_if_the_build_fails(project: Project, tools: str, tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    before = agents()
    for line in (f"{LINE} false", f"{LINE} --mount=type=secret,id=x,required true"):
        with pytest.raises(BuildError):
            project.build(f"{tools}{line}\n", f"--ssh=default={tmp_path}/key")
    assert agents() == before
    assert project.unsound() == []


def test_target_owner_and_mode(project: Project, tools: str, agent: str) -> None:
    outcome = project.build(
        f"{tools}USER app\nENV SSH_AUTH_SOCK=/mine\n"
        f"{LINE},target=/mine,uid=1000,gid=1001,mode=0640 stat -c '%u:%g %a' /mine; ssh-add -l\n"
        f"{LINE},target=/other ssh-add -l 2>&1; stat -c '%u:%g %a' /other\n",
        "--ssh=default",
    )
    lines = outcome.output.splitlines()
    assert lines[0] == "1000:1001 640"
    assert agent in lines[1]
    # The image's own variable counts, as with BuildKit.
    assert "Error connecting to agent" in lines[2]
    assert lines[3] == "0:0 600"


def test_an_agent_that_was_not_given(project: Project) -> None:
    assert project.build(f"FROM base\n{LINE} ls $SSH_AUTH_SOCK 2>/dev/null || echo none\n").output == "none\n"
    with pytest.raises(UsageError) as caught:
        project.build(f"FROM base\n{LINE},required,id=deploy true\n")
    assert caught.value.code == "ssh/missing"
    assert caught.value.hint == "give it: --ssh deploy, or --ssh deploy=KEY"


def test_forms_of_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/the/agent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        (tmp_path / "key").touch()
        assert parse_ssh("default") == SshSource("default", "/the/agent")
        assert parse_ssh("x=") == SshSource("x", "/the/agent")
        assert parse_ssh(f"x={tmp_path}/socket") == SshSource("x", f"{tmp_path}/socket")
        keys = (f"{tmp_path}/key", f"{tmp_path}/key")
        assert parse_ssh(f"x={','.join(keys)}") == SshSource("x", keys=keys)
        monkeypatch.delenv("SSH_AUTH_SOCK")
        for text in ("", "=x", "default", "x=/nothing/there", f"x={tmp_path}/socket,{tmp_path}/key"):
            with pytest.raises(UsageError) as caught:
                parse_ssh(text)
            assert caught.value.code == "usage/ssh"


def test_an_agent_that_does_not_answer(project: Project, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    with pytest.raises(HostError, match="no agent answers") as caught:
        project.build(f"FROM base\n{LINE} true\n", f"--ssh=default={tmp_path}/socket")
    assert caught.value.code == "ssh/agent"


@pytest.mark.parametrize("passphrase", ["a passphrase", None])
def test_a_key_that_cannot_be_used(project: Project, tmp_path: Path, passphrase: str | None) -> None:
    if passphrase is None:
        (tmp_path / "key").write_text("no key")
    else:
        make_key(tmp_path / "key", passphrase)
    before = agents()
    with pytest.raises(UsageError) as caught:
        project.build(f"FROM base\n{LINE} true\n", f"--ssh=default={tmp_path}/key")
    assert caught.value.code == "ssh/key"
    assert agents() == before


def test_what_is_no_message_of_the_protocol_ends_the_connection(
    tmp_path: Path, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a step sends: the others are served, and nothing is left of it."""
    from builder.sshproxy import Proxy

    threads = threading.active_count()
    with Proxy(os.environ["SSH_AUTH_SOCK"], str(tmp_path)) as proxy:
        for data in (b"\0\0\0\0", b"\xff\xff\xff\xff\x0b", b"\0\0"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(proxy.path)
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):
                    assert client.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as idle:
            idle.connect(proxy.path)
            client.connect(proxy.path)
            for kind in (1, 17, 19, 22, 27, 255):  # what could change or ask for anything else
                client.sendall(struct.pack(">IB", 1, kind))
                assert client.recv(16) == b"\0\0\0\1\5"
            client.sendall(struct.pack(">IB", 1, 11))
            length, kind, keys = struct.unpack(">IBI", client.recv(9))
            assert (kind, keys) == (12, 1)
            assert length > 5
    assert threading.active_count() == threads
    assert not os.path.exists(proxy.path)


def test_an_agent_of_ours_dies_with_a_build_that_is_killed(
    project: Project, tools: str, tmp_path: Path
) -> None:
    make_key(tmp_path / "key")
    before = agents()
    project.recipe(f"{tools}{LINE} ssh-add -l; sleep 60\n")
    words = ["app.rec", f"--ssh=default={tmp_path}/key", "--progress=json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "builder.main", *words],
        cwd=project.context,
        env=project.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert any("SHA256" in line for line in process.stderr)
        ours = agents() - before
        assert len(ours) == 1
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    for _ in range(500):
        if not agents() & ours:
            break
        time.sleep(0.01)
    assert not agents() & ours
