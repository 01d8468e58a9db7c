"""Run a command in a new container of an image, and end with its exit code.

What the container writes goes to an upper of its own: `pybuild diff` shows it, `pybuild commit` makes a layer
of it, `--rm` throws it away. The network is the host's.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.lookup import StoredImage, find_image
from builder.scope import DEFAULT_PATH
from builder.session import Session, open_session
from cache.containers import Container

if TYPE_CHECKING:
    from builder.executor import ExecRequest, Mount


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("--rm", action="store_true", help="remove the container when it ends")
    parser.add_argument("-i", "--interactive", action="store_true", help="keep standard input open")
    parser.add_argument("-t", "--tty", action="store_true", help="give the container a terminal")
    parser.add_argument(
        "-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable"
    )
    parser.add_argument(
        "-v",
        "--volume",
        action="append",
        default=[],
        metavar="HOST:PATH[:ro]",
        help="mount a path of the host",
    )
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]", help="run as this user")
    parser.add_argument("-w", "--workdir", metavar="DIR", help="run in this directory")
    parser.add_argument("--entrypoint", metavar="PROGRAM", help="in place of the image's; empty for none")
    parser.add_argument("--name", default="", help="name the container")
    parser.add_argument("--hostname", metavar="NAME", help="the host name that it sees")
    parser.add_argument("--network", choices=("host", "none"), default="host", help="host (default) or none")
    parser.add_argument(
        "--add-host", action="append", default=[], metavar="NAME:ADDRESS", help="a line in /etc/hosts"
    )
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument(
        "command_", nargs=argparse.REMAINDER, metavar="COMMAND", help="in place of the image's CMD"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code of what ran."""
    with open_session(args) as session:
        image = find_image(session.store, args.image)
        container = Container(
            id=os.urandom(32).hex(),
            name=args.name,
            image=image.image_id,
            chain_id=image.chain_id or "",
            command=_argv(image, args),
            created=int(time.time()),
        )
        store = session.store.containers
        held = store.create(container)
        try:
            status = _execute(session, image, container, args)
            store.finish(replace(container, status=status))
        finally:
            os.close(held)
            if args.rm:
                store.remove(container.id)
    return status


def _argv(image: StoredImage, args: argparse.Namespace) -> tuple[str, ...]:
    config = image.config.config
    words = args.command_[1:] if args.command_[:1] == ["--"] else args.command_
    if args.entrypoint is not None:
        # As with Docker, another entrypoint does not get the image's CMD.
        entrypoint: tuple[str, ...] = (args.entrypoint,) if args.entrypoint else ()
        cmd: tuple[str, ...] = ()
    else:
        entrypoint, cmd = config.entrypoint or (), config.cmd or ()
    argv = (*entrypoint, *(words or cmd))
    if not argv:
        raise UsageError("the image has neither ENTRYPOINT nor CMD: say what to run", code="run/empty")
    return argv


def _execute(session: Session, image: StoredImage, container: Container, args: argparse.Namespace) -> int:
    from builder.terminal import attach

    request = _request(session, image, container, args)
    return attach(session.executor(), request, interactive=args.interactive)


def _request(
    session: Session, image: StoredImage, container: Container, args: argparse.Namespace
) -> ExecRequest:
    from builder.executor import ExecRequest

    config = image.config.config
    store = session.store
    upper = store.containers.upper(container.id)
    return ExecRequest(
        argv=container.command,
        lower=store.layers.lowerdirs(image.chain_id) if image.chain_id else (),
        upper=upper,
        work=upper.removesuffix("/diff") + "/work",
        env=_environment(config.env, args),
        user=args.user if args.user is not None else config.user,
        workdir=args.workdir or config.working_dir or "/",
        network=args.network,
        mounts=tuple(_volume(text) for text in args.volume),
        hostname=args.hostname or container.id[:12],
        extra_hosts=tuple(_extra_host(text) for text in args.add_host),
        tty=args.tty,
    )


def _environment(env: tuple[str, ...], args: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    values = {"PATH": DEFAULT_PATH}
    if args.tty:
        values["TERM"] = os.environ.get("TERM", "xterm")
    for pair in env:
        name, _, value = pair.partition("=")
        values[name] = value
    for text in args.env:
        name, mark, value = text.partition("=")
        if mark:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return tuple(values.items())


def _volume(text: str) -> Mount:
    from builder.executor import Mount

    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not source or not target.startswith("/") or not set(options.split(",")) <= {"", "ro", "rw"}:
        raise UsageError(f"--volume {text!r}: write HOST:PATH or HOST:PATH:ro", code="usage/volume")
    if not os.path.exists(source):
        raise UsageError(f"--volume {text!r}: there is no {source}", code="usage/volume")
    return Mount("bind", target, source=os.path.realpath(source), read_only="ro" in options.split(","))


def _extra_host(text: str) -> tuple[str, str]:
    name, _, address = text.replace("=", ":", 1).partition(":")
    if not name or not address:
        raise UsageError(f"--add-host {text!r}: write NAME:ADDRESS", code="usage/add-host")
    return name, address
