"""Run a command in a new container of an image, and end with its exit code.

What the container writes goes to an upper of its own: `pybuild diff` shows it, `pybuild commit` makes a layer
of it, `--rm` throws it away. The network is the host's.

Exit codes are those of docker run: 125 if pybuild could not run anything, 126 if the command is no program
that runs here, 127 if it is not there, 128 + n if signal n ended it, else the command's own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.cli import RUN_ERROR
from builder.containerlife import Life
from builder.errors import UsageError
from builder.lookup import StoredImage, find_image
from builder.options import only_platform
from builder.publishing import shown
from builder.session import Session, open_session
from cache.containers import Container

if TYPE_CHECKING:
    from builder.detached import Detached
    from builder.executor import ExecRequest
    from cache.containers import ContainerStore


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    from builder.containerrequest import add_options
    from builder.ociruntime import RUNTIMES

    parser.add_argument("--rm", action="store_true", help="remove the container when it ends")
    parser.add_argument("-i", "--interactive", action="store_true", help="keep standard input open")
    parser.add_argument("-t", "--tty", action="store_true", help="give the container a terminal")
    parser.add_argument("-d", "--detach", action="store_true", help="run it in the background; print its id")
    parser.add_argument("--name", metavar="NAME", default="", help="name the container")
    parser.add_argument("--cidfile", metavar="FILE", help="write the container's id to FILE")
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image for several platforms (default: this machine's)"
    )
    parser.add_argument("--runtime", metavar="NAME", choices=RUNTIMES, help="have runc or crun run it")
    add_options(parser)
    parser.add_argument("--no-healthcheck", action="store_true", help="leave the image's HEALTHCHECK alone")
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument(
        "command_", nargs=argparse.REMAINDER, metavar="COMMAND", help="in place of the image's CMD"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code of what ran."""
    if args.cidfile and os.path.lexists(args.cidfile):
        raise UsageError(f"--cidfile: {args.cidfile} is there already", code="usage/write")
    if args.runtime is not None and (args.detach or args.publish or args.network == "private"):
        raise UsageError("--runtime: in the foreground, and without a private network", code="run/runtime")
    detached: Detached | None = None
    if args.detach:
        from builder.detached import detach

        forked = detach()
        if isinstance(forked, int):
            return forked
        detached = forked
    with open_session(args) as session:
        image = find_image(session.store, args.image, only_platform(args.platform))
        container = Container(
            id=os.urandom(32).hex(),
            name=args.name,
            image=image.image_id,
            chain_id=image.chain_id or "",
            command=argv_of(image, args),
            created=int(time.time()),
            auto_remove=args.rm,
            reference=args.image,
            stop_signal=image.config.config.stop_signal,
            detached=args.detach,
        )
        # All that can be wrong with the arguments is found before there is a container.
        request = request_of(session, image, container, args)
        container = replace(container, ports=shown(request.ports))
        store = session.store.containers
        held = store.create(container)
        try:
            if args.cidfile:
                from builder.commands.build import write_text

                write_text(args.cidfile, container.id)
            if args.runtime is not None:
                return _by_runtime(args.runtime, store, request, container)
            config = None if args.no_healthcheck else image.config.config
            life = Life(session.executor(), store, container, request, config)
            return _execute(session, request, container, args, life, detached)
        finally:
            os.close(held)
            if args.rm:
                store.remove(container.id)


def argv_of(image: StoredImage, args: argparse.Namespace) -> tuple[str, ...]:
    """Return what a container of the image executes. Raises UsageError."""
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


def request_of(
    session: Session, image: StoredImage, container: Container, args: argparse.Namespace
) -> ExecRequest:
    """Return how it is executed. Raises UsageError."""
    from builder.containerrequest import request

    store = session.store
    lower = store.layers.lowerdirs(image.chain_id) if image.chain_id else ()
    asked = request(args, image.config.config, container, lower, store.containers.upper(container.id))
    return replace(asked, platform=image.config.platform)


def _execute(
    session: Session,
    request: ExecRequest,
    container: Container,
    args: argparse.Namespace,
    life: Life,
    detached: Detached | None,
) -> int:
    from builder.containerlife import serve
    from builder.executor import CommandError
    from builder.limits import told
    from builder.terminal import attach

    store, executor, status = session.store.containers, session.executor(), RUN_ERROR
    try:
        if detached is not None:
            result = serve(life, executor, request, store.directory(container.id), detached, container.id)
        else:
            result = attach(executor, request, interactive=args.interactive, begun=life.begin)
        status = result.status
    except CommandError as error:
        status = error.status
        raise
    except KeyboardInterrupt:
        status = 130
        raise
    finally:
        life.end()
        with contextlib.suppress(Exception):
            store.finish(replace(container, status=status, finished=int(time.time())))
    if words := told(request, result):
        print(f"pybuild: {words}", file=sys.stderr)
    return status


def _by_runtime(runtime: str, store: ContainerStore, request: ExecRequest, container: Container) -> int:
    from builder import ociruntime

    status = RUN_ERROR
    try:
        status = ociruntime.run(runtime, request, store.directory(container.id), container.id)
        return status
    finally:
        store.finish(replace(container, status=status, finished=int(time.time())))
