"""What pybuild.toml may say: every key, and the values that it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]
"""The names that lead to a value: ("registries", "docker.io", "mirrors")."""

PROGRESS = ("auto", "tty", "plain", "json", "quiet")
NETWORKS = ("default", "host", "none", "private")
SNAPSHOTTERS = ("auto", "overlay", "fuse-overlayfs", "copy")
SHORT_NAMES = ("docker", "aliases")
COMPRESSIONS = ("gzip", "zstd", "none")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that pybuild.toml may have.

    `*` in its path stands for any name. `read(value, directory of the file)` returns the value as Config
    holds it, and raises ValueError if it is not `expected`. `doc` is what docs/configuration.md says.
    """

    path: Path
    expected: str
    doc: str
    read: Callable[[Any, str], Any]

    @property
    def name(self) -> str:
        return ".".join("NAME" if part == "*" else part for part in self.path)


def _exactly(kind: type, *, among: Sequence[str] = (), least: int | None = None) -> Callable[[Any, str], Any]:
    def read(value: Any, directory: str) -> Any:
        # type, not isinstance: true is an int in Python, but not in TOML.
        if type(value) is not kind or (among and value not in among):
            raise ValueError
        if least is not None and isinstance(value, int) and value < least:
            raise ValueError
        return value

    return read


def _path(value: Any, directory: str) -> str:
    if type(value) is not str or not value:
        raise ValueError
    return os.path.normpath(os.path.join(directory, os.path.expanduser(value)))


def _strings(value: Any, directory: str) -> tuple[str, ...]:
    if type(value) is not list or not all(type(word) is str and word for word in value):
        raise ValueError
    return tuple(value)


def _timestamps(value: Any, directory: str) -> str:
    if value in ("keep", "clamp") or (type(value) is int and value >= 0):
        return str(value)
    raise ValueError


def _text(value: Any, directory: str) -> str:
    if type(value) is bool or not isinstance(value, str | int):
        raise ValueError
    return str(value)


def _limit(name: str, *kinds: type) -> Callable[[Any, str], str]:
    def read(value: Any, directory: str) -> str:
        from builder.errors import UsageError
        from builder.limits import amount

        if type(value) not in kinds:
            raise ValueError
        try:
            amount(name, str(value))
        except UsageError:
            raise ValueError from None
        return str(value)

    return read


def _context(value: Any, directory: str) -> str:
    from builder.namedcontexts import at_directory

    if type(value) is not str or not value:
        raise ValueError
    return at_directory(value, directory)


def _caches(value: Any, directory: str) -> tuple[tuple[str, str], ...]:
    return tuple((text, directory) for text in _strings(value, directory))


def _policies(value: Any, directory: str) -> tuple[str, ...]:
    from builder.errors import UsageError
    from builder.prunepolicies import policy_of

    policies = _strings(value, directory)
    try:
        for text in policies:
            policy_of(text, "policy", 0)
    except UsageError:
        raise ValueError from None
    return policies


def _paths(value: Any, directory: str) -> tuple[str, ...]:
    return tuple(_path(each, directory) for each in (value if type(value) is list else [value]))


def _choice(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


_BOOL, _LIST = "true or false", "a list of strings"

KEYS = (
    Key(("root",), "a directory", "The store, as `--root`.", _path),
    Key(
        ("progress",),
        _choice(PROGRESS),
        "How progress is shown, as `--progress`.",
        _exactly(str, among=PROGRESS),
    ),
    Key(
        ("platform",),
        "a string",
        "What to build for, as `--platform`: `linux/arm64`; several with commas.",
        _exactly(str),
    ),
    Key(
        ("timestamps",),
        "keep, clamp or a number of seconds since 1970",
        "Which times the files of new layers have, as `--timestamps`.",
        _timestamps,
    ),
    Key(
        ("pull",),
        _BOOL,
        "Whether registries are asked anew for bases that the store has, as `--pull`.",
        _exactly(bool),
    ),
    Key(
        ("locked",),
        _BOOL,
        "Whether nothing is taken that lock files do not have, as `--locked`.",
        _exactly(bool),
    ),
    Key(
        ("jobs",),
        "a whole number from 1 on",
        "How many stages may run at the same time, as `--jobs`.",
        _exactly(int, least=1),
    ),
    Key(
        ("host-ca",),
        _BOOL,
        "Whether RUN trusts the certificates that this host trusts, as `--host-ca`.",
        _exactly(bool),
    ),
    Key(
        ("snapshotter",),
        _choice(SNAPSHOTTERS),
        "What makes root filesystems, as `--snapshotter`.",
        _exactly(str, among=SNAPSHOTTERS),
    ),
    Key(
        ("short-names",),
        _choice(SHORT_NAMES),
        "What names of images without a registry mean: docker.io's, or what the aliases in registries.conf "
        "say.",
        _exactly(str, among=SHORT_NAMES),
    ),
    Key(
        ("network",),
        _choice(NETWORKS),
        "The network of commands that do not say it themselves, as `--network`.",
        _exactly(str, among=NETWORKS),
    ),
    Key(
        ("add-hosts",),
        _LIST,
        "Lines in the /etc/hosts of commands, each as for `--add-host`.",
        _strings,
    ),
    Key(("ulimits",), _LIST, "Limits of commands, each as for `--ulimit`.", _strings),
    Key(("shm-size",), "a string", "The size of commands' /dev/shm, as `--shm-size`.", _exactly(str)),
    Key(
        ("no-new-privileges",),
        _BOOL,
        "Whether setuid programs gain commands nothing, as `--security-opt no-new-privileges`.",
        _exactly(bool),
    ),
    Key(
        ("outputs",),
        _LIST,
        "What is written if the command line asks for no output; each as for `--output`.",
        _strings,
    ),
    Key(
        ("compression",),
        _choice(COMPRESSIONS),
        "How the layers of outputs that do not say so are compressed.",
        _exactly(str, among=COMPRESSIONS),
    ),
    Key(
        ("compression-level",), "a number from 0 on", "The level of that compression.", _exactly(int, least=0)
    ),
    Key(
        ("limits", "memory"),
        'a size such as "2g"',
        "The memory that a command may use, as `--memory`.",
        _limit("memory", str),
    ),
    Key(
        ("limits", "cpus"),
        "a number",
        "The processors that a command may use, as `--cpus`.",
        _limit("cpus", int, float),
    ),
    Key(
        ("limits", "pids"),
        "a whole number",
        "The processes and threads that a command may have, as `--pids-limit`.",
        _limit("pids", int),
    ),
    Key(
        ("limits", "timeout"),
        'a duration such as "1h30m"',
        "How long a build may take, as `--timeout`.",
        _limit("timeout", str),
    ),
    Key(
        ("build-args", "*"),
        "a string or a number",
        "The value of the build argument NAME, as `--build-arg NAME=VALUE`.",
        _text,
    ),
    Key(
        ("build-contexts", "*"),
        "a string",
        "What NAME means, as `--build-context NAME=VALUE`; a path is meant from the file's directory.",
        _context,
    ),
    Key(
        ("cache", "from"),
        _LIST,
        "Shared caches that are asked for what the store does not know, each as for `--cache-from`; relative "
        "paths are meant from the file's directory.",
        _caches,
    ),
    Key(
        ("cache", "to"), _LIST, "Shared caches that are told what was run, each as for `--cache-to`.", _caches
    ),
    Key(
        ("cache", "required"),
        _BOOL,
        "Whether a build fails without them, as `--cache-required`.",
        _exactly(bool),
    ),
    Key(
        ("cache", "trust", "*"),
        "a file, or a list of files",
        "Public keys (PEM) by the name that `trust=NAME` has for them.",
        _paths,
    ),
    Key(
        ("prune", "policy"),
        'a list of policies such as ["older-than=30d"]',
        "What `pybuild prune` takes if its options do not say, each as for `--policy`.",
        _policies,
    ),
    Key(
        ("prune", "auto"),
        _BOOL,
        "Whether builds that have run something see to these policies: once in an hour, and whenever less is "
        "free than `min-free`.",
        _exactly(bool),
    ),
    Key(
        ("registries", "*", "mirrors"),
        _LIST,
        "Registries (`host[:port][/prefix]`) that are asked in this order before NAME itself.",
        _strings,
    ),
    Key(
        ("registries", "*", "insecure"),
        _BOOL,
        "Whether plain HTTP, and certificates that nobody vouches for, will do. For loopback addresses plain "
        "HTTP will always do.",
        _exactly(bool),
    ),
    Key(
        ("registries", "*", "ca"),
        "a file",
        "Certificates (PEM) to trust for this registry in place of the system's.",
        _path,
    ),
)
