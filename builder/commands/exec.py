"""Run a command in a container that runs.

It gets what the container's own command got: namespaces, environment, user, directory, capabilities, limits
and system call filter. It ends with the container at the latest. Exit codes are those of `run`.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from builder import userns
from builder.errors import UsageError
from builder.runningcontainers import find_container, open_containers

if TYPE_CHECKING:
    from builder.executor import ExecRequest

JOINS = True
"""It enters the user namespace of the container in place of one of its own."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-i", "--interactive", action="store_true", help="keep standard input open")
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    parser.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set a variable; without VALUE, as it is here",
    )
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]", help="run as this user")
    parser.add_argument("-w", "--workdir", metavar="DIR", help="run in this directory")
    parser.add_argument("--privileged", action="store_true", help="all capabilities and system calls")
    parser.add_argument("container", metavar="CONTAINER", help="a name, an id, or the start of one")
    parser.add_argument("command_", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code of what ran."""
    from builder.containerstate import open_process, running
    from builder.launcher import Launcher
    from builder.sandbox import Sandbox
    from builder.terminal import attach

    argv = tuple(args.command_[1:] if args.command_[:1] == ["--"] else args.command_)
    if not argv:
        raise UsageError("say what to run in the container", code="run/empty")
    store = open_containers(args)
    container = find_container(store, args.container)
    state = running(store, container)
    pidfd = open_process(container, state.init)
    request = _asked(state.request(argv, pidfd), args)
    userns.join(pidfd)
    with Sandbox(Launcher.start(joins=True)) as executor:
        return attach(executor, request, interactive=args.interactive).status


def _asked(request: ExecRequest, args: argparse.Namespace) -> ExecRequest:
    from builder.containerrequest import environment

    if args.tty:
        request = replace(request, tty=True, env=(*request.env, ("TERM", os.environ.get("TERM", "xterm"))))
    return replace(
        request,
        env=environment(request.env, args.env),
        user=request.user if args.user is None else args.user,
        workdir=args.workdir or request.workdir,
        privileged=request.privileged or args.privileged,
    )
