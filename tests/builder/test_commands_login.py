"""`pybuild login` and `logout`, with a real docker-registry, a token server, and podman as a peer."""

from __future__ import annotations

import base64
import json
import os
import pty
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.registry.credentials import StoredCredentials
from tests.command_fixtures.pybuild import ARGV, ROOT, Done, Pybuild
from tests.registry_fixtures.registry import PASSWORD, USER, Registry, make_certificate
from tests.registry_fixtures.token_server import TokenServer

HELPER = """\
#!/bin/sh
# A credential helper as docker-credential-helpers' protocol has it; it keeps its secrets, and its arguments.
echo "$@" >> "$KEEP/arguments"
input="$(cat)"
case "$1" in
store) printf %s "$input" > "$KEEP/secret" ;;
get) test -e "$KEEP/secret" || { echo "credentials not found in native keychain"; exit 1; }
     cat "$KEEP/secret" ;;
erase) rm "$KEEP/secret"; printf %s "$input" > "$KEEP/erased" ;;
esac
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants USER and PASSWORD."""
    with Registry(os.fspath(tmp_path_factory.mktemp("registry")), login=True) as running:
        yield running


class Home:
    """pybuild and podman, in a home directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        (directory / "run").mkdir()
        self.environ = {"HOME": str(directory), "XDG_RUNTIME_DIR": str(directory / "run")}
        self.docker = directory / ".docker/config.json"
        self.podman = directory / "run/containers/auth.json"
        self._pybuild = Pybuild(str(directory / "store"), str(directory))

    def __call__(self, *argv: str, stdin: str | None = None, **env: str) -> Done:
        return self._pybuild.try_(*argv, stdin=stdin, **{**self.environ, **env})

    def login(self, registry: Registry, *more: str, password: str = PASSWORD, **env: str) -> Done:
        words = ("login", "-u", USER, "--password-stdin", registry.address, *more)
        return self(*words, stdin=f"{password}\n", **env)

    def write(self, path: Path, content: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def read(self, path: Path) -> Any:
        return json.loads(path.read_text())

    def tool(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, **self.environ}
        return subprocess.run(argv, input=stdin, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _auth(password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}


def test_a_login_is_kept_in_dockers_file_and_shown_and_forgotten(home: Home, registry: Registry) -> None:
    done = home.login(registry)
    assert (done.code, done.err) == (0, "")
    assert home.read(home.docker) == {"auths": {registry.address: _auth()}}
    assert stat.S_IMODE(home.docker.stat().st_mode) == 0o600
    assert home("login", "--get-login", registry.address).out == f"{USER}\n"
    assert "the stored login does" in home("login", registry.address).out
    assert home("logout", registry.address).out == f"Logged out of {registry.address}: {home.docker}\n"
    assert home.read(home.docker) == {}
    assert home("logout", registry.address).code == 3
    assert home("login", "--get-login", registry.address).code == 3


def test_a_wrong_password_is_neither_stored_nor_shown(home: Home, registry: Registry) -> None:
    done = home.login(registry, password="mistaken-secret")
    assert done.code == 3 and "registry/unauthorized" in done.err
    assert "mistaken-secret" not in done.out + done.err
    assert not home.docker.exists()


def test_what_else_the_file_holds_stays(home: Home, registry: Registry) -> None:
    others = {"quay.io": {"auth": "eDp5"}, registry.address: _auth("old")}
    home.write(home.docker, {"HttpHeaders": {"a": "b"}, "auths": others, "detachKeys": "ctrl-x"})
    home.docker.chmod(0o644)
    assert home.login(registry).code == 0
    auths = {"quay.io": {"auth": "eDp5"}, registry.address: _auth()}
    assert home.read(home.docker) == {"HttpHeaders": {"a": "b"}, "auths": auths, "detachKeys": "ctrl-x"}
    assert stat.S_IMODE(home.docker.stat().st_mode) == 0o600
    assert sorted(os.listdir(home.docker.parent)) == ["config.json"]


def test_a_damaged_file_is_not_overwritten(home: Home, registry: Registry) -> None:
    home.docker.parent.mkdir()
    home.docker.write_text('{"auths": {')
    done = home.login(registry)
    assert done.code == 3 and "registry/credentials" in done.err
    assert home.docker.read_text() == '{"auths": {'


def test_a_link_of_ones_own_is_followed_and_stays_one(home: Home, registry: Registry) -> None:
    real = home.path / "dotfiles/docker.json"
    home.write(real, {"detachKeys": "ctrl-x"})
    home.docker.parent.mkdir()
    home.docker.symlink_to(real)
    assert home.login(registry).code == 0
    assert home.docker.is_symlink()
    assert home.read(real) == {"detachKeys": "ctrl-x", "auths": {registry.address: _auth()}}


def test_a_link_of_somebody_else_is_refused(home: Home, registry: Registry) -> None:
    target = home.path / "elsewhere.json"
    home.docker.parent.mkdir()
    home.docker.symlink_to(target)
    os.lchown(home.docker, 12345, 12345)
    done = home.login(registry)
    assert done.code == 3 and "12345" in done.err
    assert not target.exists()


def test_podmans_file_is_used_where_it_is(home: Home, registry: Registry) -> None:
    home.write(home.podman, {})
    assert home.login(registry).code == 0
    assert home.read(home.podman) == {"auths": {registry.address: _auth()}}
    assert not home.docker.exists()


def test_the_file_can_be_named(home: Home, registry: Registry) -> None:
    first, second = home.path / "first.json", home.path / "second.json"
    assert home.login(registry, "--authfile", str(first)).code == 0
    assert home.login(registry, REGISTRY_AUTH_FILE=str(second)).code == 0
    assert home.read(first) == home.read(second) == {"auths": {registry.address: _auth()}}
    assert home("login", "--get-login", registry.address, "--authfile", str(first)).out == f"{USER}\n"
    assert home("logout", registry.address, "--authfile", str(first)).code == 0
    assert home.read(first) == {} and home.read(second) != {}


@pytest.mark.peer("podman", "skopeo")
def test_podman_and_skopeo_read_what_was_written_and_the_reverse(home: Home, registry: Registry) -> None:
    address = registry.address
    assert home.login(registry).code == 0
    said = home.tool("podman", "login", "--get-login", address)
    assert said.stdout == f"{USER}\n", said.stderr
    listed = home.tool("skopeo", "list-tags", "--tls-verify=false", f"docker://{address}/none")
    assert "404" in listed.stderr, listed.stderr  # and not 401
    assert home("logout", address).code == 0
    words = ("podman", "login", "--tls-verify=false", "-u", USER, "--password-stdin", address)
    done = home.tool(*words, stdin=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert home("login", "--get-login", address).out == f"{USER}\n"
    assert "the stored login does" in home("login", address).out
    assert home("logout", address).code == 0
    assert home.tool("podman", "login", "--get-login", address).returncode != 0


@pytest.mark.peer("podman")
@pytest.mark.parametrize("name", ["config.json", "auth.json"])
def test_docker_hub_has_the_key_that_each_tool_looks_under(home: Home, name: str) -> None:
    from cache.registry.authfile import AuthFile
    from cache.registry.credentials import Credential

    path = home.path / name
    file = AuthFile(str(path), {})
    file.store("docker.io", Credential(USER, PASSWORD))
    key = "https://index.docker.io/v1/" if name == "config.json" else "docker.io"
    assert home.read(path) == {"auths": {key: _auth()}}
    said = home.tool("podman", "login", "--get-login", "--authfile", str(path), "docker.io")
    assert said.stdout == f"{USER}\n", said.stderr
    found = StoredCredentials({"REGISTRY_AUTH_FILE": str(path)}).find("docker.io", "library/debian")
    assert found == Credential(USER, PASSWORD)
    home.write(path, {"auths": {"index.docker.io": {}, "https://index.docker.io/v1/": {}, "quay.io": {}}})
    assert len(file.erase("docker.io")) == 2
    assert home.read(path) == {"auths": {"quay.io": {}}}


def test_all_logins_are_forgotten(home: Home, registry: Registry) -> None:
    home.write(home.podman, {"auths": {"a.example": _auth()}})
    home.write(home.docker, {"auths": {"b.example": _auth()}, "detachKeys": "x"})
    assert home("login", "--list").lines == ["a.example", "b.example"]
    assert len(home("logout", "--all").lines) == 2
    assert (home.read(home.podman), home.read(home.docker)) == ({}, {"detachKeys": "x"})


@pytest.mark.parametrize("section", ["credsStore", "credHelpers"])
def test_a_credential_helper_keeps_the_login(home: Home, registry: Registry, section: str) -> None:
    tools, keep = home.path / "tools", home.path / "keep"
    tools.mkdir()
    keep.mkdir()
    program = tools / "docker-credential-kept"
    program.write_text(HELPER)
    program.chmod(0o755)
    chosen = {registry.address: "kept"} if section == "credHelpers" else "kept"
    home.write(home.docker, {section: chosen, "auths": {registry.address: _auth("old")}})
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "KEEP": str(keep)}
    done = home.login(registry, **env)
    assert done.code == 0 and "docker-credential-kept" in done.out
    secret = {"ServerURL": registry.address, "Username": USER, "Secret": PASSWORD}
    assert home.read(keep / "secret") == secret
    assert home.read(home.docker) == {section: chosen, "auths": {registry.address: {}}}
    assert home("login", "--get-login", registry.address, **env).out == f"{USER}\n"
    assert home("logout", registry.address, **env).code == 0
    assert (keep / "erased").read_text() == registry.address
    assert home("login", "--get-login", registry.address, **env).code == 3
    assert PASSWORD not in (keep / "arguments").read_text()


def test_helpers_of_registries_conf_are_asked_as_by_skopeo(home: Home, registry: Registry) -> None:
    """In the order that it gives, the files among them; what it names is for all registries."""
    program, keep = home.path / "docker-credential-kept", home.path / "keep"
    program.write_text(HELPER)
    program.chmod(0o755)
    keep.mkdir()
    (keep / "secret").write_text(json.dumps({"Username": USER, "Secret": PASSWORD}))
    conf = home.path / ".config/containers/registries.conf"
    conf.parent.mkdir(parents=True)
    env = {"PATH": f"{home.path}:{os.environ['PATH']}", "KEEP": str(keep)}
    name = f"docker://{registry.address}/none:1"

    def refused(helpers: str, said: dict[str, Any]) -> list[bool]:
        conf.write_text(f"credential-helpers = {helpers}\n")
        home.write(home.podman, {"auths": said})
        environ = {**os.environ, **home.environ, **env}
        theirs = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", name], env=environ, capture_output=True, text=True
        )
        ours = home("inspect", "--remote", name.removeprefix("docker://"), **env)
        assert ours.code == 3 and theirs.returncode
        return ["unauthorized" in theirs.stderr, "registry/unauthorized" in ours.err]

    wrong = {registry.address: _auth("wrong")}
    assert refused('["containers-auth.json"]', {}) == [True, True]
    assert refused('["kept"]', {}) == [False, False]
    assert refused('["containers-auth.json", "kept"]', {}) == [False, False]
    assert refused('["containers-auth.json", "kept"]', wrong) == [True, True]
    assert refused('["kept", "containers-auth.json"]', wrong) == [False, False]
    assert home("login", "--get-login", registry.address, **env).out == f"{USER}\n"
    conf.write_text("credential-helpers = 'kept'\n")
    assert "registry/config" in home("inspect", "--remote", name.removeprefix("docker://"), **env).err


def test_a_helper_that_fails_does_not_repeat_the_password(home: Home, registry: Registry) -> None:
    program = home.path / "docker-credential-bad"
    program.write_text("#!/bin/sh\ncat\nexit 1\n")
    program.chmod(0o755)
    home.write(home.docker, {"credsStore": "bad"})
    done = home.login(registry, PATH=f"{home.path}:{os.environ['PATH']}")
    assert done.code == 3 and "docker-credential-bad" in done.err
    assert PASSWORD not in done.out + done.err
    assert home.read(home.docker) == {"credsStore": "bad"}


def test_a_token_servers_word_is_taken(home: Home, tmp_path: Path) -> None:
    with TokenServer(os.fspath(tmp_path / "tokens")) as tokens:
        token = (tokens.realm, tokens.certificate)
        with Registry(os.fspath(tmp_path / "registry"), token=token) as registry:
            assert home.login(registry, password="wrong").code == 3
            assert not home.docker.exists()
            assert home.login(registry).err == ""
            assert home.read(home.docker) == {"auths": {registry.address: _auth()}}
    assert {how for _, _, how in tokens.requests} == {"basic"}


def test_a_registry_over_tls_with_an_authority_of_its_own(home: Home, tmp_path: Path) -> None:
    certificate = make_certificate(os.fspath(tmp_path / "tls"))
    with Registry(os.fspath(tmp_path / "registry"), login=True, tls=certificate) as registry:
        config = f'[registries."{registry.address}"]\nca = "{certificate.ca}"\n'
        (home.path / "pybuild.toml").write_text(config)
        assert home.login(registry).code == 0
        (home.path / "pybuild.toml").write_text(config.replace(certificate.ca, certificate.certificate))
        assert home.login(registry, password="x").code == 3


def test_a_registry_that_asks_nobody_is_said_to(home: Home, tmp_path: Path) -> None:
    with Registry(os.fspath(tmp_path / "registry")) as registry:
        done = home.login(registry)
    assert done.code == 0 and "not tried out" in done.err


def test_nobody_there_is_an_error_and_stores_nothing(home: Home, registry: Registry) -> None:
    done = home("login", "-u", USER, "--password-stdin", "localhost:1", stdin=PASSWORD)
    assert done.code == 3 and "registry/unreachable" in done.err
    assert not home.docker.exists()


def test_a_password_as_an_argument_is_warned_of(home: Home, registry: Registry) -> None:
    done = home("login", "-u", USER, "-p", PASSWORD, registry.address)
    assert done.code == 0 and "--password-stdin" in done.err


@pytest.mark.parametrize(
    "words", [("-p", "x"), ("--password-stdin",), ("-u", "a:b", "--password-stdin"), (), ("-u", USER)]
)
def test_what_does_not_make_a_login_is_a_usage_error(
    home: Home, registry: Registry, words: tuple[str, ...]
) -> None:
    assert home("login", *words, registry.address, stdin="").code == 2


def test_on_a_terminal_both_are_asked_for_and_the_password_is_not_echoed(
    home: Home, registry: Registry
) -> None:
    controller, terminal = pty.openpty()
    environ = {**os.environ, **home.environ, "PYTHONPATH": ROOT}
    argv = [*ARGV, "login", registry.address]
    process = subprocess.Popen(
        argv,
        env=environ,
        cwd=home.path,
        start_new_session=True,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    with os.fdopen(controller, "r+b", buffering=0) as screen:
        for prompt, answer in ((b"User of", USER), (b"Password:", PASSWORD)):
            while prompt not in shown:
                shown += screen.read(1024)
            screen.write(answer.encode() + b"\n")
        while True:
            try:
                more = screen.read(1024)
            except OSError:  # EIO: nobody has the terminal any more
                break
            if not more:
                break
            shown += more
    assert process.wait() == 0, shown
    assert PASSWORD.encode() not in shown
    assert home.read(home.docker) == {"auths": {registry.address: _auth()}}


def test_logins_at_the_same_time_lose_nothing(home: Home, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from cache.registry.authfile import AuthFile
    from cache.registry.credentials import Credential

    path = home.path / "auth.json"
    names = [f"registry{number}.example" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: AuthFile(str(path), {}).store(name, Credential("a", "b")), names))
    assert sorted(home.read(path)["auths"]) == sorted(names)
