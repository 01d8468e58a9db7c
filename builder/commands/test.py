"""Test an image with pytest and testinfra: files, packages, users, processes, sockets, commands.

The tests get a container of the image, one for all of them, and what they write in it is thrown away. With
--start the image's ENTRYPOINT and CMD run in it, and its HEALTHCHECK has passed before the first test does.
In one's own pytest, the same is `--hosts=pybuild://IMAGE?start=1`.

Arguments after the tests are pytest's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.executor import ExecRequest
    from builder.lookup import StoredImage
    from builder.session import Session
    from cache.containers import Container


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("--start", action="store_true", help="run the image's command, await its health")
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]", help="run the tests' commands as this user")
    parser.add_argument(
        "--network",
        choices=("host", "none", "private"),
        default="private",
        help="of the container: host, none, or private (default; none, if there is neither pasta nor "
        "slirp4netns)",
    )
    parser.add_argument(
        "--serve", action="store_true", help="run what is asked on standard input: for testinfra's backend"
    )
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument(
        "pytest", nargs=argparse.REMAINDER, metavar="TESTS", help="files, and what else pytest takes"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    if args.serve:
        return _serve(args)
    if not args.pytest:
        raise UsageError("name the tests", code="usage/arguments")
    from builder.testing import require_testinfra

    require_testinfra()
    return _pytest(args)


def _pytest(args: argparse.Namespace) -> int:
    """Run pytest; 0 if all tests passed, 1 if one failed, 2 if they could not be run."""
    import shlex
    import subprocess

    from builder.lookup import find_image
    from builder.session import open_session

    with open_session(args) as session:
        find_image(session.store, args.image)  # said before pytest says it in its way
        root = session.store.root
    query = {"start": "1"} if args.start else {}
    query |= {"user": args.user} if args.user is not None else {}
    query |= {"network": args.network} if args.network != "private" else {}
    mark = "?" if query else ""
    host = f"pybuild://{quote(args.image, safe='/:@')}{mark}{urlencode(query)}"
    program = (sys.executable, "-P", "-m", "builder.main", "--root", root)
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {**os.environ, "PYBUILD": shlex.join(program)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), ours)))
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "pybuild_testinfra", f"--hosts={host}", *args.pytest]
    status = subprocess.run(argv, env=environment, check=False).returncode
    return status if status in (0, 1) else 2


def _serve(args: argparse.Namespace) -> int:
    from builder.lookup import find_image
    from builder.session import open_session
    from builder.testsession import serve
    from cache.containers import Container

    with open_session(args) as session:
        image = find_image(session.store, args.image)
        container = Container(
            id=os.urandom(32).hex(),
            name="",
            image=image.image_id,
            chain_id=image.chain_id or "",
            command=_command(image) if args.start else (),
            created=int(time.time()),
            auto_remove=True,
            reference=args.image,
            stop_signal=image.config.config.stop_signal,
            detached=True,
        )
        request = _request(session, image, container, args)
        serve(session, container, request, image.config.config, sys.stdin.buffer, sys.stdout.buffer)
    return 0


def _command(image: StoredImage) -> tuple[str, ...]:
    config = image.config.config
    argv = (*(config.entrypoint or ()), *(config.cmd or ()))
    if not argv:
        raise UsageError("the image has neither ENTRYPOINT nor CMD to start", code="run/empty")
    return argv


def _request(
    session: Session, image: StoredImage, container: Container, args: argparse.Namespace
) -> ExecRequest:
    from builder.executor import ExecRequest
    from builder.privatenetwork import find
    from builder.scope import DEFAULT_PATH, split_variable

    config, store = image.config.config, session.store
    upper = store.containers.upper(container.id)
    request = ExecRequest(
        argv=container.command,
        idle=not args.start,
        lower=store.layers.lowerdirs(image.chain_id) if image.chain_id else (),
        upper=upper,
        work=upper.removesuffix("/diff") + "/work",
        env=tuple({"PATH": DEFAULT_PATH, **dict(map(split_variable, config.env))}.items()),
        user=config.user if args.user is None else args.user,
        workdir=config.working_dir or "/",
        network="none" if args.network == "private" and find() is None else args.network,
        hostname=container.id[:12],
        platform=image.config.platform,
    )
    return replace(request, stdin=None)
