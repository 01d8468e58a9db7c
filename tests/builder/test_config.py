"""pybuild.toml: where it is found, how files add up, and that nothing wrong in it goes unnoticed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.config import Cache, Config, ConfigError, Prune, Registry, load, search_path
from builder.config_check import check
from builder.config_keys import KEYS
from builder.excerpts import exit_code, render_error
from grammar.source import Source

EVERYTHING = """\
root = "store"
progress = "plain"
platform = "linux/arm64"
timestamps = 1700000000
pull = true
locked = true
jobs = 3
host-ca = true
snapshotter = "copy"
short-names = "aliases"
network = "none"
add-hosts = ["mirror:10.0.0.7"]
ulimits = ["nofile=100:200", "nproc=50"]
shm-size = "128m"
no-new-privileges = true
outputs = ["type=oci,dest=a.tar", "type=dir,dest=b"]
compression = "zstd"
compression-level = 7

[limits]
memory = "2g"
cpus = 1.5
pids = 500
timeout = "1h"

[build-args]
VERSION = "1.2"
COUNT = 3

[build-contexts]
assets = "../assets"
base = "docker-image://debian"

[cache]
from = ["type=dir,path=shared,trust=ci"]
to = ["type=dir,path=shared,key=ci.key"]
required = true

[cache.trust]
ci = "ci.pub"

[prune]
policy = ["older-than=30d", "min-free=10%,kind=layer+blob"]
auto = true

[registries."docker.io"]
mirrors = ["mirror.example", "other.example:5000/hub"]

[registries."registry.example:5000"]
insecure = true
ca = "certs/ca.pem"
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def told(text: str, tmp_path: Path) -> str:
    """Return what a user is told about a pybuild.toml of `text`."""
    path = write(tmp_path / "pybuild.toml", text)
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert exit_code(caught.value) == 2
    return render_error(caught.value).replace(str(tmp_path), "DIR")


def test_without_a_file_nothing_is_set_and_no_toml_is_read(tmp_path: Path) -> None:
    assert load(cwd=str(tmp_path), environ={"HOME": str(tmp_path)}) == Config()


def test_every_key_reaches_the_configuration(tmp_path: Path) -> None:
    path = write(tmp_path / "pybuild.toml", EVERYTHING)
    config = load(str(path))
    assert config == Config(
        root=str(tmp_path / "store"),
        progress="plain",
        platform="linux/arm64",
        timestamps="1700000000",
        pull=True,
        locked=True,
        jobs=3,
        host_ca=True,
        snapshotter="copy",
        short_names="aliases",
        network="none",
        add_hosts=("mirror:10.0.0.7",),
        ulimits=("nofile=100:200", "nproc=50"),
        shm_size="128m",
        no_new_privileges=True,
        memory="2g",
        cpus="1.5",
        pids="500",
        timeout="1h",
        outputs=("type=oci,dest=a.tar", "type=dir,dest=b"),
        compression="zstd",
        compression_level=7,
        build_args={"VERSION": "1.2", "COUNT": "3"},
        build_contexts={"assets": str(tmp_path.parent / "assets"), "base": "docker-image://debian"},
        cache=Cache(
            from_=(("type=dir,path=shared,trust=ci", str(tmp_path)),),
            to=(("type=dir,path=shared,key=ci.key", str(tmp_path)),),
            required=True,
            trust={"ci": (str(tmp_path / "ci.pub"),)},
        ),
        prune=Prune(policy=("older-than=30d", "min-free=10%,kind=layer+blob"), auto=True),
        registries={
            "docker.io": Registry(mirrors=("mirror.example", "other.example:5000/hub")),
            "registry.example:5000": Registry(insecure=True, ca=str(tmp_path / "certs" / "ca.pem")),
        },
        files=(str(path),),
    )
    mentioned = check(Source(str(path), EVERYTHING))
    assert {len(key.path) for key in KEYS} == {1, 2, 3}
    for key in KEYS:
        assert any(
            len(path) == len(key.path) and all(p in ("*", n) for p, n in zip(key.path, path, strict=True))
            for path in mentioned
        ), f"{key.name} is not tried here"


def test_the_nearest_file_wins_key_by_key(tmp_path: Path) -> None:
    home, here = tmp_path / "config", tmp_path / "here"
    user = write(
        home / "pybuild" / "pybuild.toml",
        'progress = "plain"\nroot = "of-user"\n[build-args]\nA = "user"\nB = "user"\n'
        '[registries."x"]\ninsecure = true\nmirrors = ["m"]\n',
    )
    near = write(
        here / "pybuild.toml", 'progress = "json"\n[build-args]\nB = "here"\n[registries."x"]\nmirrors = []\n'
    )
    config = load(cwd=str(here), environ={"XDG_CONFIG_HOME": str(home)})
    assert config.progress == "json"
    assert config.root == str(home / "pybuild" / "of-user")
    assert config.build_args == {"A": "user", "B": "here"}
    assert config.registries == {"x": Registry(mirrors=(), insecure=True)}
    assert config.files == (str(user), str(near))


def test_no_file_lifts_a_limit_of_another(tmp_path: Path) -> None:
    def together(user: str, near: str) -> Config:
        write(tmp_path / "config" / "pybuild" / "pybuild.toml", user)
        write(tmp_path / "here" / "pybuild.toml", near)
        return load(cwd=str(tmp_path / "here"), environ={"XDG_CONFIG_HOME": str(tmp_path / "config")})

    strict = "no-new-privileges = true\n[limits]\nmemory = '900m'\ncpus = 1\npids = 9\ntimeout = '50s'\n"
    loose = "no-new-privileges = false\n[limits]\nmemory = '1g'\ncpus = 1.5\npids = 10\ntimeout = '1m'\n"
    none = "[limits]\nmemory = '0b'\ncpus = 0\npids = 0\ntimeout = '0'\n"
    for config in (together(strict, loose), together(loose, strict), together(strict, none)):
        assert (config.memory, config.cpus, config.pids, config.timeout) == ("900m", "1", "9", "50s")
        assert config.no_new_privileges


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    write(tmp_path / "pybuild.toml", 'progress = "json"\n')
    other = write(tmp_path / "other.toml", "pull = true\n")
    assert load(str(other), cwd=str(tmp_path)) == Config(pull=True, files=(str(other),))


def test_places_in_their_order() -> None:
    assert search_path("/w", {"HOME": "/h"}) == (
        "/etc/pybuild/pybuild.toml",
        "/h/.config/pybuild/pybuild.toml",
        "/w/pybuild.toml",
    )
    assert search_path("/w", {"HOME": "/h", "XDG_CONFIG_HOME": "/x"})[1] == "/x/pybuild/pybuild.toml"


def test_home_is_understood_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load(str(write(tmp_path / "c.toml", 'root = "~/store"'))).root == "/home/somebody/store"


def test_a_file_of_another_user_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "pybuild.toml", "pull = true\n")
    os.chown(path, 4711, 4711)
    with pytest.raises(ConfigError) as caught:
        load(cwd=str(tmp_path), environ={"HOME": "/nonexistent"})
    assert caught.value.code == "config/owner"
    assert load(str(path)).pull


def test_a_file_of_whoever_called_sudo_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "pybuild.toml", "pull = true\n")
    os.chown(path, 4711, 4711)
    monkeypatch.setenv("SUDO_UID", "4711")
    assert load(cwd=str(tmp_path), environ={"HOME": "/nonexistent"}).pull


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "binary", "huge"])
def test_what_is_no_file_of_text_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pybuild.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "binary":
        path.write_bytes(b"\x00\xff\xfe")
    elif kind == "huge":
        path.write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError) as caught:
        load(str(path))
    assert caught.value.code in ("config/unreadable", "config/syntax")
    assert str(path) in caught.value.message
    assert "\n" not in render_error(caught.value)


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    assert told('progress = "json"\n\n[registries."docker.io"]\ninsekure = true\n', tmp_path) == (
        "error: unknown key `insekure` in [registries.docker.io] [config/unknown-key]\n"
        "  at DIR/pybuild.toml:4:1\n"
        '    3 | [registries."docker.io"]\n'
        "    4 | insekure = true\n"
        "      | ^^^^^^^^\n"
        "  hint: did you mean `insecure`?"
    )


def test_a_key_in_the_wrong_table_is_told_its_right_name(tmp_path: Path) -> None:
    assert "hint: it is called `registries.NAME.mirrors`" in told('mirrors = ["x"]', tmp_path)


def test_an_unknown_table_is_told_what_there_is(tmp_path: Path) -> None:
    text = told("[zzz]\nx = 1\n", tmp_path)
    assert "unknown key `zzz`" in text
    assert "known here: add-hosts, build-args, build-contexts, cache, compression" in text


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ("pull = 1", "`pull` must be true or false, not 1", "1:1"),
        ('pull = "yes"', '`pull` must be true or false, not "yes"', "1:1"),
        ("root = ''", '`root` must be a directory, not ""', "1:1"),
        ('\nprogress="fancy"', "`progress` must be auto, tty, plain, json or quiet", "2:1"),
        ("timestamps = -1", "`timestamps` must be keep, clamp or a number", "1:1"),
        ("timestamps = true", "`timestamps` must be keep, clamp or a number", "1:1"),
        ("compression-level = true", "`compression-level` must be a number from 0 on, not true", "1:1"),
        ("outputs = 'x'", "`outputs` must be a list of strings", "1:1"),
        ("outputs = [1]", "`outputs` must be a list of strings, not a list", "1:1"),
        ("outputs = [\n'a',\n1,\n]\npull=true", "`outputs` must be a list of strings", "1:1"),
        ("pull = 2020-01-01", "`pull` must be true or false, not a date or time", "1:1"),
        ("build-args = 3", "`build-args` must be a table, not 3", "1:1"),
        ("build-args = {A = 1.5}", "`A` must be a string or a number, not 1.5", "1:15"),
        ("build-args.A = false", "`A` must be a string or a number, not false", "1:12"),
        ("[build-args]\n\nOK = 1\nA = []", "`A` must be a string or a number", "4:1"),
        ("[build-args]\n'a b' = 1", '"a b" is no build argument\'s name', "2:2"),
        ('[registries."https://x"]\ninsecure=true', '"https://x" is no registry\'s name', "1:14"),
        ("[registries.x]\nca = 3", "`ca` must be a file, not 3", "2:1"),
        ("[limits]\nmemory = 'much'", '`memory` must be a size such as "2g", not "much"', "2:1"),
        ("[limits]\nmemory = 5", '`memory` must be a size such as "2g", not 5', "2:1"),
        ("[limits]\ncpus = true", "`cpus` must be a number, not true", "2:1"),
        ("[limits]\npids = 1.5", "`pids` must be a whole number, not 1.5", "2:1"),
        ("limits.timeout = 'soon'", '`timeout` must be a duration such as "1h30m"', "1:8"),
        ("a = \n", "not TOML: ", "1:5"),
        ("pull = true\npull = true", "not TOML: ", "2:"),
        ("[registries", "not TOML: ", "1:"),
    ],
)
def test_a_wrong_value_is_shown_where_it_stands(tmp_path: Path, text: str, words: str, place: str) -> None:
    shown = told(text, tmp_path)
    assert words in shown
    assert f"at DIR/pybuild.toml:{place}" in shown
    assert "^" in shown


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_clear_error(text: str) -> None:
    try:
        check(Source("pybuild.toml", text))
    except ConfigError as error:
        assert error.span is not None
        assert re.match(r"error: .+ \[config/[a-z-]+\]\n  at pybuild\.toml:\d+:\d+", render_error(error))
