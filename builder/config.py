"""pybuild.toml: defaults for what the command line does not say. docs/configuration.md lists every key.

Files are read from /etc/pybuild, the user's configuration directory and the working directory; a later one
overrides what an earlier one says, key by key, but for limits: the lower one holds. An unknown key or a value
of the wrong kind is an error: a misspelt `insecure` must not silently do nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from builder.errors import UsageError

if TYPE_CHECKING:
    from grammar.source import Source, Span

NAME = "pybuild.toml"

_LARGEST = 1 << 20
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ConfigError(UsageError):
    """pybuild.toml cannot be read, or says something that it cannot say."""

    code = "config/error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        span: Span | None = None,
        code: str | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__(message, hint=hint, span=span, code=code)
        self.source = source


@dataclass(frozen=True, slots=True)
class Registry:
    """How a registry is reached. `ca` is a file of certificates to trust in place of the system's."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Cache:
    """The shared caches: `from_` and `to` as the options have them, each with the directory that relative
    paths in it are meant from. `trust` names the files of public keys."""

    from_: tuple[tuple[str, str], ...] = ()
    to: tuple[tuple[str, str], ...] = ()
    required: bool = False
    trust: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)


_NO_CACHE = Cache()


@dataclass(frozen=True, slots=True)
class Prune:
    """What is taken out of the store: the policies as `--policy` has them, and whether builds see to it."""

    policy: tuple[str, ...] = ()
    auto: bool = False


_NO_PRUNE = Prune()


@dataclass(frozen=True, slots=True)
class Config:
    """What pybuild.toml says; None where it says nothing.

    Paths are absolute. `files` are those that were read.
    """

    root: str | None = None
    progress: str | None = None
    platform: str | None = None
    timestamps: str | None = None
    pull: bool = False
    locked: bool = False
    host_ca: bool = False
    jobs: int | None = None
    snapshotter: str | None = None
    short_names: str | None = None
    network: str | None = None
    add_hosts: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = ()
    shm_size: str | None = None
    no_new_privileges: bool = False
    memory: str | None = None
    cpus: str | None = None
    pids: str | None = None
    timeout: str | None = None
    outputs: tuple[str, ...] = ()
    compression: str | None = None
    compression_level: int | None = None
    build_args: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    build_contexts: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    registries: Mapping[str, Registry] = field(default_factory=lambda: _NOTHING)
    cache: Cache = _NO_CACHE
    prune: Prune = _NO_PRUNE
    files: tuple[str, ...] = ()


def load(
    explicit: str | None = None, *, cwd: str | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Return what the file `explicit` says or, without one, what all files of search_path say together.

    Raises ConfigError, with file, line and column, for the first thing wrong in one of them.
    """
    if explicit is not None:
        paths: tuple[str, ...] = (os.path.abspath(explicit),)
    else:
        environment = os.environ if environ is None else environ
        paths = search_path(cwd or os.getcwd(), environment)
    values: dict[tuple[str, ...], Any] = {}
    files = []
    for path in paths:
        text = _read(path, required=explicit is not None)
        if text is not None:
            from builder.config_check import check
            from grammar.source import Source

            for key, value in check(Source(path, text)).items():
                values[key] = _stricter(key, values[key], value) if key in values else value
            files.append(path)
    return _config(values, tuple(files)) if files else Config()


def _stricter(key: tuple[str, ...], before: Any, after: Any) -> Any:
    """Return what two files say together. The later one is the working directory's, which a repository may
    have brought: what it may not lift is what was set to hold commands back.
    """
    if key == ("no-new-privileges",):
        return before or after
    if key[0] == "limits":
        from builder.limits import amount

        return min(before, after, key=lambda text: amount(key[1], text))
    return after


def search_path(cwd: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return where pybuild.toml is looked for; a later one overrides an earlier one."""
    home = environ.get("HOME") or "/root"
    user = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return (f"/etc/pybuild/{NAME}", os.path.join(user, "pybuild", NAME), os.path.join(cwd, NAME))


def _config(values: Mapping[tuple[str, ...], Any], files: tuple[str, ...]) -> Config:
    arguments = {path[1]: value for path, value in values.items() if path[0] == "build-args"}
    contexts = {path[1]: value for path, value in values.items() if path[0] == "build-contexts"}
    registries: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    cache: dict[str, Any] = {}
    trust: dict[str, tuple[str, ...]] = {}
    prune: dict[str, Any] = {}
    for path, value in values.items():
        if path[0] == "registries":
            registries.setdefault(path[1], {})[path[2]] = value
        elif path[:2] == ("cache", "trust"):
            trust[path[2]] = value
        elif path[0] == "cache":
            cache["from_" if path[1] == "from" else path[1]] = value
        elif path[0] == "prune":
            prune[path[1]] = value
        elif path[0] not in ("build-args", "build-contexts"):
            plain[path[-1].replace("-", "_")] = value
    return Config(
        **plain,
        build_args=MappingProxyType(arguments),
        build_contexts=MappingProxyType(contexts),
        registries=MappingProxyType({name: Registry(**facts) for name, facts in registries.items()}),
        cache=Cache(**cache, trust=MappingProxyType(trust)),
        prune=Prune(**prune),
        files=files,
    )


def _read(path: str, *, required: bool) -> str | None:
    """Return the text of `path`, None if there is no such file."""
    try:
        # Not blocking: it may be a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if not required and isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        raise _unreadable(path, error.strerror or "") from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _unreadable(path, "not a regular file")
        if not required and facts.st_uid not in _trusted():
            # Else whoever can write to a shared directory that we stand in decides where images come from.
            raise ConfigError(
                f"{path} belongs to user {facts.st_uid}, who is neither you nor root",
                code="config/owner",
                hint=f"if it is right, `chown` it, or say `--config {path}`",
            )
        if not required and not facts.st_mode & stat.S_IROTH:
            from builder.privatefiles import is_private_link

            if is_private_link(path, facts.st_mode):
                raise _unreadable(path, "a link to a file elsewhere that not everybody may read")
        if facts.st_size > _LARGEST:
            raise _unreadable(path, "larger than a mebibyte")
        raw = os.read(descriptor, facts.st_size)
    finally:
        os.close(descriptor)
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (at byte {error.start})", code="config/syntax") from None


def _unreadable(path: str, why: str) -> ConfigError:
    return ConfigError(f"cannot read {path}: {why}", code="config/unreadable")


def _trusted() -> set[int]:
    sudo = os.environ.get("SUDO_UID", "")
    return {0, os.geteuid(), *([int(sudo)] if sudo.isdecimal() and os.geteuid() == 0 else [])}
