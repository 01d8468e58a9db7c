"""What the command line, or the configuration, asks for every command that is run: --network, --allow,
--add-host,
--ulimit, --shm-size, --security-opt; spelt as docker and podman spell them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from builder.errors import UsageError
from builder.steps import Asked, ExecStep, PackagesStep, TestStep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.config import Config
    from builder.executor import ExecRequest
    from builder.shortnames import Aliases

ENTITLEMENTS = ("security.insecure", "network.host")
"""What --allow takes. The second one is accepted as docker's: here each step may use the host's network."""

ULIMITS = (
    "core",
    "cpu",
    "data",
    "fsize",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)
"""getrlimit(2), without what Linux does not have any more (locks)."""

HOST_GATEWAY = "host-gateway"
_LOOPBACK = "127.0.0.1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that build."""
    parser.add_argument(
        "--network",
        choices=("default", "host", "none", "private"),
        help="the network of RUN and TEST that do not say it themselves: host (default), none, or private, "
        "with a way out through pasta or slirp4netns",
    )
    _several(parser, "--add-host", "NAME:ADDRESS", "a line in the /etc/hosts of RUN")
    _several(parser, "--ulimit", "NAME=SOFT[:HARD]", "a limit of RUN, such as nofile=1024")
    parser.add_argument("--shm-size", metavar="SIZE", help="of RUN's /dev/shm (default: 64MiB)")
    _several(
        parser, "--security-opt", "OPTION", "no-new-privileges: setuid programs, as sudo, gain RUN nothing"
    )
    _several(parser, "--allow", "ENTITLEMENT", "let recipes have security.insecure: every privilege")


def _several(parser: argparse.ArgumentParser, name: str, metavar: str, text: str) -> None:
    parser.add_argument(name, action="append", default=[], metavar=metavar, help=text)


def asked(args: argparse.Namespace, config: Config) -> Asked:
    """Return what `args`, or else `config`, ask for. Raises UsageError."""
    size = args.shm_size or config.shm_size
    return Asked(
        network=network(args.network or config.network),
        allowed=_entitlements(args.allow),
        extra_hosts=tuple(map(extra_host, (*config.add_hosts, *args.add_host))),
        rlimits=_last_ones(map(ulimit, (*config.ulimits, *args.ulimit))),
        shm_size=shm_size(size) if size else None,
        no_new_privileges=no_new_privileges(args.security_opt, config.no_new_privileges),
        aliases=_aliases(config),
    )


def _aliases(config: Config) -> Aliases:
    if config.short_names is None:
        return ()
    from builder.shortnames import aliases

    return aliases(config)


def network(name: str | None) -> Literal["host", "none", "private"]:
    """Return the network of a request from that of a step, or as it is asked for; the default is the
    host's.
    """
    return "none" if name == "none" else "private" if name == "private" else "host"


def with_asked(request: ExecRequest, step: ExecStep | TestStep | PackagesStep) -> ExecRequest:
    """Return `request` with what was asked for."""
    if not (step.extra_hosts or step.rlimits or step.shm_size is not None or step.no_new_privileges):
        return request
    return replace(
        request,
        extra_hosts=step.extra_hosts,
        rlimits=step.rlimits,
        shm_size=request.shm_size if step.shm_size is None else step.shm_size,
        no_new_privileges=step.no_new_privileges,
    )


def _entitlements(given: Iterable[str]) -> tuple[str, ...]:
    names = {name for text in given for name in text.split(",")}
    for name in names - {*ENTITLEMENTS}:
        from builder.lookup import nearest

        raise UsageError(
            f"--allow {name}: there is no such entitlement",
            code="usage/allow",
            hint=nearest(name, ENTITLEMENTS) or f"known are {' and '.join(ENTITLEMENTS)}",
        )
    return tuple(sorted(names))


def no_new_privileges(given: Iterable[str], configured: bool = False) -> bool:
    """Return whether --security-opt says so: no-new-privileges, with =true or =false behind it or not.
    Raises UsageError.
    """
    wanted = configured
    for text in given:
        # docker takes a colon, too.
        name, _, value = text.replace(":", "=", 1).partition("=")
        if name != "no-new-privileges" or value not in ("", "true", "false"):
            raise UsageError(
                f"--security-opt {text!r} is not known", code="usage/value", hint="write no-new-privileges"
            )
        wanted = value != "false"
    return wanted


def extra_host(text: str) -> tuple[str, str]:
    """Return the name and the address of an --add-host: NAME:ADDRESS or NAME=ADDRESS, IPv6 in brackets or
    not. `host-gateway` is this host: a step shares its network. Raises UsageError.
    """
    from ipaddress import ip_address

    mark = "=" if "=" in text else ":"
    name, _, address = text.partition(mark)
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address == HOST_GATEWAY:
        address = _LOOPBACK
    try:
        if not name or name != "".join(name.split()):
            raise ValueError
        return name, str(ip_address(address))
    except ValueError:
        raise UsageError(
            f"--add-host {text!r}: write NAME:ADDRESS", code="usage/add-host", hint="such as mirror:10.0.0.7"
        ) from None


def ulimit(text: str) -> tuple[str, int, int]:
    """Return the name, soft and hard limit of an --ulimit: NAME=SOFT[:HARD], -1 for none. Raises
    UsageError.
    """
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        limit = name, int(soft), int(hard or soft)
    except ValueError:
        limit = name, -2, -2
    if min(limit[1:]) < -1 or (limit[2] != -1 and not -1 < limit[1] <= limit[2]):
        raise UsageError(f"--ulimit {text!r}: write NAME=SOFT or NAME=SOFT:HARD", code="usage/value")
    if name not in ULIMITS:
        from builder.lookup import nearest

        hint = nearest(name, ULIMITS) or f"known are {', '.join(ULIMITS)}"
        raise UsageError(f"--ulimit {text!r}: there is no limit {name}", code="usage/value", hint=hint)
    return limit


def _last_ones(limits: Iterable[tuple[str, int, int]]) -> tuple[tuple[str, int, int], ...]:
    """Return one limit of each name, sorted: a later one takes the place of an earlier one."""
    return tuple(sorted({limit[0]: limit for limit in limits}.values()))


def shm_size(text: str) -> int:
    """Return the value of a --shm-size in bytes. Raises UsageError."""
    return size(text, "--shm-size")


def size(text: str, option: str) -> int:
    """Return a size in bytes; docker's k, m and g are powers of 1024. Raises UsageError."""
    from builder.table import parse_size

    try:
        return parse_size(text + "ib" if text[-1:].lower() in ("k", "m", "g") else text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: write it like 64m or 1g", code="usage/value") from None
