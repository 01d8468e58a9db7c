"""A container's own network, with a way out through pasta, and through slirp4netns where that is missing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.publishing import parse_port, shown
from tests.command_fixtures.pybuild import BOX, Pybuild, write_box
from tests.rootless_fixtures.user import User

pytestmark = pytest.mark.peer("pasta")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_it_is_its_own_and_has_a_default_route(pybuild: Pybuild) -> None:
    before = sorted(os.listdir("/sys/class/net"))
    show = "readlink /proc/self/ns/net; ls /sys/class/net; ip route"
    namespace, *rest = pybuild("run", "--rm", "--network", "private", "box", "sh", "-c", show).splitlines()
    assert namespace != os.readlink("/proc/self/ns/net")
    assert "lo" in rest
    assert any(line.startswith("default ") for line in rest)
    assert sorted(os.listdir("/sys/class/net")) == before


def test_the_host_s_loopback_is_not_within_reach(pybuild: Pybuild) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert pybuild.try_(
            "run", "--rm", "--network=private", "box", "nc", "-w", "1", "127.0.0.1", port
        ).code
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_published_port_leads_to_the_container(pybuild: Pybuild) -> None:
    port = free_port()
    publish = ("-p", f"127.0.0.1:{port}:80")
    pybuild("run", "-d", "--name", "c", *publish, "box", "nc", "-l", "-p", "80", "-e", "/bin/hostname")
    assert pybuild("ps", "--format", "{{.Ports}}") == f"127.0.0.1:{port}->80/tcp\n"
    while "0050" not in pybuild("exec", "c", "cat", "/proc/net/tcp", "/proc/net/tcp6"):
        pass
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        answer = connection.makefile().read()
    assert pybuild("ps", "-aq").startswith(answer.strip())
    assert pybuild("wait", "c") == "0\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_a_port_that_is_taken_is_told(pybuild: Pybuild) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        done = pybuild.try_("run", "-d", "-p", f"127.0.0.1:{taken}:80", "box", "sleep", "1000")
        assert (done.code, "[host/network]" in done.err) == (125, True), done
    assert "[usage/port]" in pybuild.try_("run", "-p", "80:80", "--network", "host", "box", "true").err


@pytest.mark.parametrize(
    ("text", "port", "words"),
    [
        ("8080:80", ("tcp", "", 8080, 80), "0.0.0.0:8080->80/tcp"),
        ("127.0.0.1:8080:80/tcp", ("tcp", "127.0.0.1", 8080, 80), "127.0.0.1:8080->80/tcp"),
        ("[::1]:8080:80", ("tcp", "::1", 8080, 80), "[::1]:8080->80/tcp"),
        ("53:5353/udp", ("udp", "", 53, 5353), "0.0.0.0:53->5353/udp"),
    ],
)
def test_ports_are_spelt_as_with_docker(text: str, port: tuple[str, str, int, int], words: str) -> None:
    assert parse_port(text) == port
    assert shown([port]) == (words,)


def test_a_port_of_the_host_that_is_not_said_is_a_free_one() -> None:
    for text in ("80", "127.0.0.1::80"):
        protocol, _, host, inside = parse_port(text)
        assert (protocol, inside, 0 < host < 65536) == ("tcp", 80, True)


@pytest.mark.parametrize("text", ["", "x", "0:80", "80:", "80:70000", "1.2.3:80:80", "80:80/icmp", "a:b:c:d"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_port(text)
    assert caught.value.code == "usage/port"


BUILD = """\
FROM box
RUN readlink /proc/self/ns/net; ip route | grep ^default; ! nc -w 1 127.0.0.1 {port} && echo shut
RUN --network=host readlink /proc/self/ns/net
TEST ip route | grep ^default
"""


def test_the_steps_of_a_build_have_one_each(pybuild: Pybuild) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pybuild.write("app.rec", BUILD.format(port=server.getsockname()[1]))
        done = pybuild.try_("build", "app.rec", "--network=private", "--progress=plain")
    assert done.code == 0, done.err
    assert " shut" in done.err
    own = os.readlink("/proc/self/ns/net")
    assert done.err.count("net:[") == 2
    assert done.err.count(own) == 1


def test_the_cache_is_that_of_the_host_s_network(pybuild: Pybuild) -> None:
    pybuild.write("app.rec", "FROM box\nRUN echo x > /x\nTEST cat /x\n")
    pybuild("build", "app.rec")
    assert "0 steps run" in pybuild.try_("build", "app.rec", "--network=private").err


@pytest.mark.peer("newuidmap")
@pytest.mark.parametrize("ids", ["subordinate", "single"])
def test_a_build_without_root_has_it_as_well(tmp_path: Path, ids: str) -> None:
    user = User(str(tmp_path), subordinate=ids == "subordinate")
    write_box(user.cwd)
    user.write("app.rec", BOX + BUILD.format(port=1).removeprefix("FROM box\n"))
    done = user.try_("build", "app.rec", "--network=private", "--progress=plain")
    assert done.code == 0, done.err
    assert " shut" in done.err
    assert user.leftovers() == []


@pytest.fixture
def without_pasta(tmp_path: Path) -> str:
    """A PATH with all programs but pasta."""
    place = tmp_path / "programs"
    place.mkdir(mode=0o755)
    for directory in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for name in os.listdir(directory):
            if not name.startswith("pas") and not (place / name).is_symlink():
                (place / name).symlink_to(f"{directory}/{name}")
    return str(place)


@pytest.mark.peer("slirp4netns")
def test_without_pasta_slirp4netns_makes_it(pybuild: Pybuild, without_pasta: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pybuild.write("app.rec", BUILD.format(port=server.getsockname()[1]))
        argv = ("build", "app.rec", "--network=private", "--progress=plain", "--no-cache")
        done = pybuild.try_(*argv, PATH=without_pasta)
        assert done.code == 0, done.err
        assert "dev tap0" in done.err and " shut" in done.err
        reach = f"! nc -w 1 169.254.1.2 {server.getsockname()[1]} && echo shut"
        shown = ("run", "--rm", "--network=private", "box", "sh", "-c", reach)
        assert pybuild(*shown, PATH=without_pasta) == "shut\n"
    told = pybuild("doctor", PATH=without_pasta)
    assert "/slirp4netns, which publishes no ports" in told


@pytest.mark.peer("slirp4netns")
def test_a_port_to_be_published_needs_pasta(pybuild: Pybuild, without_pasta: str) -> None:
    done = pybuild.try_("run", "-d", "-p", f"{free_port()}:80", "box", "sleep", "1000", PATH=without_pasta)
    assert (done.code, "ports are published by pasta" in done.err) == (125, True), done


@pytest.mark.peer("newuidmap")
@pytest.mark.peer("slirp4netns")
@pytest.mark.parametrize("ids", ["subordinate", "single"])
def test_a_user_has_slirp4netns_as_well(tmp_path: Path, ids: str, without_pasta: str) -> None:
    user = User(str(tmp_path / "user"), subordinate=ids == "subordinate")
    os.chmod(tmp_path, 0o755)
    write_box(user.cwd)
    user.write("app.rec", BOX + BUILD.format(port=1).removeprefix("FROM box\n"))
    os.rename(without_pasta, f"{user.home}/programs")
    path = "/home/tess/programs"
    done = user.try_("build", "app.rec", "--network=private", "--progress=plain", PATH=path)
    assert done.code == 0, done.err
    assert "dev tap0" in done.err and " shut" in done.err
    assert user.leftovers() == []
