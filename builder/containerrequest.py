"""From the options of `pybuild run`, spelt as docker and podman spell them, and an image's config to what is
executed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from builder.asked import extra_host, no_new_privileges, shm_size, ulimit
from builder.asked import size as parse_size
from builder.errors import UsageError
from builder.limits import add_options as add_limits
from builder.limits import limits
from builder.publishing import parse_port
from builder.scope import DEFAULT_PATH

if TYPE_CHECKING:
    from builder.executor import ExecRequest, Mount
    from cache.containers import Container
    from cache.oci.spec import ContainerConfig

_SHM_SIZE = 64 << 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how the container's command is executed."""
    _several(
        parser, "-e", "--env", metavar="NAME[=VALUE]", help="set a variable; without VALUE, as it is here"
    )
    _several(parser, "--env-file", metavar="FILE", help="set the variables that FILE has, one a line")
    _several(parser, "-v", "--volume", metavar="HOST:PATH[:ro]", help="mount a path of the host")
    _several(parser, "--mount", metavar="type=...,dst=...", help="mount a path of the host, or a tmpfs")
    _several(parser, "--tmpfs", metavar="PATH[:OPTIONS]", help="mount an empty directory in memory")
    parser.add_argument(
        "--read-only", action="store_true", help="a root filesystem that cannot be written to"
    )
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]", help="run as this user")
    parser.add_argument("-w", "--workdir", metavar="DIR", help="run in this directory")
    parser.add_argument("--entrypoint", metavar="PROGRAM", help="in place of the image's; empty for none")
    parser.add_argument("--hostname", metavar="NAME", help="the host name that it sees")
    parser.add_argument(
        "--network",
        "--net",
        choices=("host", "none", "private"),
        help="host (default), none, or private: its own, with a way out (default with -p)",
    )
    _several(
        parser,
        "-p",
        "--publish",
        metavar="[HOST:]PORT[/udp]",
        help="a port of the host that leads to one of it",
    )
    _several(parser, "--add-host", metavar="NAME:ADDRESS", help="a line in /etc/hosts")
    _several(parser, "--cap-add", metavar="CAPABILITY", help="let it have a capability; ALL for all")
    _several(parser, "--cap-drop", metavar="CAPABILITY", help="take a capability away; ALL for all")
    parser.add_argument(
        "--privileged", action="store_true", help="all capabilities, devices and system calls"
    )
    _several(parser, "--ulimit", metavar="NAME=SOFT[:HARD]", help="a limit, such as nofile=1024")
    parser.add_argument("--shm-size", metavar="SIZE", help="of /dev/shm (default: 64MiB)")
    add_limits(parser, of="it", timeout="kill it if it runs longer: 90s, 5m; without a unit, seconds")
    _several(
        parser, "--security-opt", metavar="OPTION", help="no-new-privileges: setuid programs gain nothing"
    )
    parser.add_argument("--init", action="store_true", help="accepted: there always is an init that reaps")


def request(
    args: argparse.Namespace,
    config: ContainerConfig,
    container: Container,
    lower: tuple[str, ...],
    upper: str,
) -> ExecRequest:
    """Return what the options ask for. Raises UsageError."""
    from builder.executor import ExecRequest

    limited = limits(args)
    return ExecRequest(
        argv=container.command,
        lower=lower,
        upper=None if args.read_only else upper,
        work=None if args.read_only else upper.removesuffix("/diff") + "/work",
        env=_environment(config.env, args),
        user=args.user if args.user is not None else config.user,
        workdir=args.workdir or config.working_dir or "/",
        network=_network(args),
        ports=tuple(map(parse_port, args.publish)),
        mounts=(*map(_volume, args.volume), *map(_mount, args.mount), *map(_tmpfs, args.tmpfs)),
        hostname=args.hostname or container.id[:12],
        extra_hosts=tuple(map(extra_host, args.add_host)),
        tty=args.tty,
        privileged=args.privileged,
        capabilities=_capabilities(args),
        rlimits=tuple(map(ulimit, args.ulimit)),
        shm_size=shm_size(args.shm_size) if args.shm_size else _SHM_SIZE,
        no_new_privileges=no_new_privileges(args.security_opt),
        memory=limited.memory,
        cpus=limited.cpus,
        pids=limited.pids,
        timeout=limited.timeout,
    )


def _network(args: argparse.Namespace) -> Literal["host", "none", "private"]:
    if args.publish and args.network in ("host", "none"):
        raise UsageError(
            f"--publish: the network is {args.network}", code="usage/port", hint="leave --network out"
        )
    return "private" if args.publish else args.network or "host"


def _several(parser: argparse.ArgumentParser, *names: str, metavar: str, help: str) -> None:  # noqa: A002
    parser.add_argument(*names, action="append", default=[], metavar=metavar, help=help)


def _environment(env: tuple[str, ...], args: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    values = {"PATH": DEFAULT_PATH}
    if args.tty:
        values["TERM"] = os.environ.get("TERM", "xterm")
    for pair in env:
        name, _, value = pair.partition("=")
        values[name] = value
    return environment(
        tuple(values.items()), (*(line for path in args.env_file for line in _lines(path)), *args.env)
    )


def environment(env: tuple[tuple[str, str], ...], given: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return `env` with what --env gives: NAME=VALUE, or a NAME of ours. Raises UsageError."""
    values = dict(env)
    for text in given:
        name, mark, value = text.partition("=")
        if not name:
            raise UsageError(f"--env {text!r}: write NAME=VALUE", code="usage/pair")
        if mark:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return tuple(values.items())


def _lines(path: str) -> Iterator[str]:
    """Yield the variables of an env file: no quotes, no continuation, as with Docker."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"--env-file {path}: {problem}", code="usage/value") from None
    for line in lines:
        text = line.lstrip()
        if text and not text.startswith("#"):
            yield text


def _volume(text: str) -> Mount:
    from builder.executor import Mount

    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    words = set(options.split(",")) - {""}
    # Labels of SELinux, and how mounts propagate, mean nothing here: a container's mounts are its own.
    if not source or not target.startswith("/") or not words <= {"ro", "rw", "z", "Z", "rprivate", "private"}:
        raise UsageError(f"--volume {text!r}: write HOST:PATH or HOST:PATH:ro", code="usage/volume")
    if not os.path.exists(source):
        raise UsageError(f"--volume {text!r}: there is no {source}", code="usage/volume")
    return Mount("bind", target, source=os.path.realpath(source), read_only="ro" in words)


def _mount(text: str) -> Mount:
    """Return what --mount asks for: type=bind with src, or type=tmpfs with tmpfs-size and tmpfs-mode."""
    known = {"source": "src", "target": "dst", "destination": "dst", "readonly": "ro"}
    words: dict[str, str] = {}
    for part in text.split(","):
        name, mark, value = part.partition("=")
        words[known.get(name, name)] = value if mark else "true"
    kind, target = words.pop("type", "bind"), words.pop("dst", "")
    read_only = words.pop("ro", "false") in ("true", "1")
    if kind == "bind":
        source = words.pop("src", "")
        words.pop("bind-propagation", "")
        if not words and ":" not in source + target:
            return _volume(f"{source}:{target}" + (":ro" if read_only else ""))
    elif kind == "tmpfs":
        names = [name for name in ("size", "mode") if f"tmpfs-{name}" in words]
        options = [f"{name}={words.pop(f'tmpfs-{name}')}" for name in names]
        if not words:
            return _tmpfs(f"{target}:{','.join(options)}")
    raise UsageError(
        f"--mount {text!r}: write type=bind,src=PATH,dst=PATH[,ro] or type=tmpfs,dst=PATH",
        code="usage/volume",
    )


def _tmpfs(text: str) -> Mount:
    from builder.executor import Mount

    target, _, options = text.partition(":")
    size, mode = None, 0o1777
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size":
            size = parse_size(value, "--tmpfs")
        elif name == "mode" and value and set(value) <= set("01234567"):
            mode = int(value, 8)
        elif name not in ("rw", "noexec", "nosuid", "nodev", "exec"):
            raise UsageError(f"--tmpfs {text!r}: {option!r} is not known", code="usage/volume")
    if not target.startswith("/"):
        raise UsageError(f"--tmpfs {text!r}: write an absolute path", code="usage/volume")
    return Mount("tmpfs", target, size=size, mode=mode)


def _capabilities(args: argparse.Namespace) -> tuple[str, ...] | None:
    if not args.cap_add and not args.cap_drop:
        return None
    from builder.capabilities import DEFAULT, NAMES

    def named(texts: list[str]) -> set[str]:
        names = {text.upper().removeprefix("CAP_") for text in texts}
        for name in names - {"ALL", *NAMES}:
            from builder.lookup import nearest

            raise UsageError(f"there is no capability {name}", code="usage/value", hint=nearest(name, NAMES))
        return set(NAMES) if "ALL" in names else names

    added, dropped = named(args.cap_add), named(args.cap_drop)
    # What is named alone outweighs ALL: `--cap-drop ALL --cap-add CHOWN` leaves one.
    everything = "ALL" in map(str.upper, args.cap_drop)
    kept = added if everything else (set(DEFAULT) | added) - dropped
    return tuple(name for name in NAMES if name in kept)
