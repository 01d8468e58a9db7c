"""Completion in the real shells, made from the real command line, with images from a real store."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.cli import COMMANDS, parser
from builder.completion import SHELLS, commands, script
from cache.oci.spec import ImageConfig
from cache.store import Store
from tests.progress_fixtures.screen import Screen

RECIPE = """\
FROM debian AS one
from scratch as Two
FROM x AS $(touch${IFS}owned)
FROM one
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory with recipes, a store with images, and a `pybuild` on the PATH."""

    work: Path
    scripts: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("completion")
    work, bin_, scripts, root = (directory / name for name in ("work", "bin", "scripts", "store"))
    for path in (work, bin_, scripts, work / "sub"):
        path.mkdir()
    (work / "java.rec").write_text(RECIPE)
    for name in ("Dockerfile", "other.txt", "two words.rec"):
        (work / name).write_text("FROM scratch\n")
    store = Store.open(str(root))
    try:
        image = store.images.put(ImageConfig(architecture="amd64", os="linux").to_json())
        for name in ("app:1.2", "app:latest", "debian:bookworm"):
            store.images.tag(name, image)
        for name in ("/root/.cache", "apt"):
            store.cache_mounts.acquire(name).release()
    finally:
        store.close()
    (directory / ".docker").mkdir()
    logins: dict[str, object] = {"https://index.docker.io/v1/": {}, "localhost:5000": {}}
    (directory / ".docker/config.json").write_text(json.dumps({"auths": logins}))
    python_path = os.pathsep.join(path for path in sys.path if path)
    program = bin_ / "pybuild"
    program.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(python_path)}\n"
        f'exec {shlex.quote(sys.executable)} -m builder.main "$@"\n'
    )
    program.chmod(0o755)
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}", "PYBUILD_ROOT": str(root), "HOME": str(directory)}
    environment["XDG_RUNTIME_DIR"] = str(directory)
    for shell in SHELLS:
        done = subprocess.run(
            ["pybuild", "completion", shell],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        (scripts / shell).write_text(done.stdout)
    yield Place(work, scripts, environment)
    assert sorted(os.listdir(work)) == ["Dockerfile", "java.rec", "other.txt", "sub", "two words.rec"]


def in_shell(place: Place, *argv: str) -> list[str]:
    done = subprocess.run(
        argv, env={**os.environ, **place.environment}, cwd=place.work, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


def bash(place: Place, line: str) -> list[str]:
    """Return what bash would offer: the function is called as readline calls it."""
    program = (
        'source "$1"; COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9; _pybuild; '
        'for reply in "${COMPREPLY[@]}"; do printf "%s\\n" "$reply"; done'
    )
    return in_shell(place, "bash", "--norc", "-c", program, "bash", str(place.scripts / "bash"), line)


def fish(place: Place, line: str) -> list[str]:
    program = f"source {place.scripts / 'fish'}; complete -C {shlex.quote(line)}"
    return [found.partition("\t")[0] for found in in_shell(place, "fish", "--no-config", "-c", program)]


def test_every_command_and_every_option_is_known() -> None:
    known = commands(parser())
    assert [command.name for command in known] == list(COMMANDS)
    build = next(command for command in known if command.name == "build")
    names = {name for option in build.options for name in option.names}
    assert {"--tag", "-t", "--progress", "--root", "--target", "--no-cache", "-h"} <= names
    assert build.arguments[0][0] == "recipe"


@pytest.mark.parametrize(
    "shell",
    [
        "bash",
        pytest.param("zsh", marks=pytest.mark.peer("zsh")),
        pytest.param("fish", marks=pytest.mark.peer("fish")),
    ],
)
def test_the_shell_itself_finds_no_fault_in_its_script(place: Place, shell: str) -> None:
    assert in_shell(place, shell, "-n", str(place.scripts / shell)) == []
    for word in COMMANDS:
        assert word in script(shell, parser())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pybuild --v", ["--version"]),
        ("pybuild comp", ["completion"]),
        ("pybuild ja", ["java.rec"]),
        ("pybuild java.rec ", ["sub"]),
        ("pybuild build ", ["Dockerfile", "java.rec", "sub", "two words.rec"]),
        ("pybuild build --progress ", ["auto", "tty", "plain", "json", "quiet"]),
        ("pybuild build --progress=p", ["plain"]),
        ("pybuild build java.rec --prog", ["--progress"]),
        ("pybuild java.rec --target ", ["one", "Two"]),
        ("pybuild java.rec --target=T", ["Two"]),
        ("pybuild build -f java.rec --target o", ["one"]),
        ("pybuild history ", ["app:1.2", "app:latest", "debian:bookworm"]),
        ("pybuild history app:", ["1.2", "latest"]),
        ("pybuild rmi debian:bookworm app:l", ["latest"]),
        ("pybuild history app:1.2 ", []),
        ("pybuild build -t de", ["debian:bookworm"]),
        ("pybuild build --no-cache -t x ja", ["java.rec"]),
        ("pybuild build --iidfile o", ["other.txt"]),
        ("pybuild completion ", ["bash", "zsh", "fish"]),
        ("pybuild cache-mounts ", ["ls", "rm", "prune", "export", "import"]),
        ("pybuild cache-mounts rm ", ["/root/.cache", "apt"]),
        ("pybuild cache-mounts export -o x ap", ["apt"]),
        ("pybuild cache-mounts import o", ["other.txt"]),
        ("pybuild logout ", ["docker.io", "localhost:5000"]),
        ("pybuild login lo", ["localhost:5000"]),
        ("pybuild nonsense.rec --labe", ["--label"]),
    ],
)
def test_bash_completes(place: Place, line: str, offered: list[str]) -> None:
    assert sorted(bash(place, line)) == sorted(offered)


def test_bash_offers_commands_and_recipes_first(place: Place) -> None:
    offered = bash(place, "pybuild ")
    assert set(COMMANDS) | {"java.rec", "Dockerfile", "sub"} <= set(offered)
    assert "other.txt" not in offered


@pytest.mark.peer("fish")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pybuild comp", ["completion"]),
        ("pybuild jav", ["java.rec"]),
        ("pybuild build --progress ", ["auto", "json", "plain", "quiet", "tty"]),
        ("pybuild java.rec --prog", ["--progress"]),
        ("pybuild java.rec --target ", ["Two", "one"]),
        ("pybuild history ", ["app:1.2", "app:latest", "debian:bookworm"]),
        ("pybuild completion ", ["bash", "fish", "zsh"]),
        ("pybuild cache-mounts rm ap", ["apt"]),
        ("pybuild logout lo", ["localhost:5000"]),
    ],
)
def test_fish_completes(place: Place, line: str, offered: list[str]) -> None:
    assert sorted(fish(place, line)) == offered


TYPED = [
    ("comp\t", "pybuild completion"),
    ("build jav\t", "pybuild build java.rec"),
    ("jav\t--prog\tq\t", "pybuild java.rec --progress"),
    ("java.rec --target o\t", "pybuild java.rec --target one"),
    ("history deb\t", "pybuild history debian:bookworm"),
    ("cache-mounts rm /ro\t", "pybuild cache-mounts rm /root/.cache"),
    ("logout lo\t", "pybuild logout localhost:5000"),
    ("build two\t", "pybuild build two\\ words.rec"),
]


@pytest.mark.peer("tmux")
@pytest.mark.parametrize(
    ("shell", "start"),
    [
        ("bash", "bash --norc -i"),
        pytest.param("zsh", "zsh -f -i", marks=pytest.mark.peer("zsh")),
    ],
)
def test_typed_in_a_terminal_the_tab_key_does_it(place: Place, shell: str, start: str) -> None:
    setup = "autoload -U compinit; compinit -D -u; " if shell == "zsh" else ""
    environment = {**place.environment, "PS1": "ready> ", "PROMPT_COMMAND": ""}
    with Screen(["sh", "-c", f"cd {shlex.quote(str(place.work))}; exec {start}"], env=environment) as screen:
        screen.wait(lambda text: text.endswith(">"))
        screen.type(f"{setup}source {place.scripts / shell}; clear", "Enter")
        screen.wait(lambda text: text.strip() == "ready>")
        for keys, line in TYPED:
            words = keys.split("\t")
            screen.type("pybuild ")
            for word in words[:-1]:
                screen.type(word, "Tab")
            screen.wait(lambda text, line=line: f"ready> {line}" in text)  # type: ignore[misc]
            screen.type("C-u")
            screen.type("clear", "Enter")
            screen.wait(lambda text: text.strip() == "ready>")
