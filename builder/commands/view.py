"""Show an image as a page: its layers and files as a treemap, what each line of the recipe added, changed,
deleted and hid, wasted bytes, how the build went, and the config. With two images, what differs.

The page is one file, which needs neither network nor pybuild. It needs plotly to be made: pip install
'pybuild[view]'.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

from builder.errors import HostError, UsageError
from builder.lookup import find_image
from builder.session import open_session

if TYPE_CHECKING:
    from builder.view.facts import Facts


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument(
        "other", nargs="?", metavar="IMAGE", help="another one, to be compared with the first"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the page to FILE (default: IMAGE.html; - for standard output)",
    )
    parser.add_argument(
        "--serve", action="store_true", help="show it on this machine's loopback interface, until ctrl-C"
    )
    parser.add_argument("--port", metavar="PORT", help="with --serve: the port (default: any that is free)")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    port = _port(args)
    if args.output == "-" and sys.stdout.isatty():
        raise UsageError(
            "a page is not for a terminal", code="usage/terminal", hint="give --output FILE, or pipe it"
        )
    from builder.view.page import plotly_js

    plotly_js()  # if it is missing, that is said before anything is read
    html, facts = _page(args)
    if args.serve:
        if args.output:
            _write(args.output, html)
        return _serve(html, port)
    path = args.output or _file_name(facts)
    _write(path, html)
    if path != "-":
        from builder.progress.printable import printable

        print(printable(path))
    return 0


def _page(args: argparse.Namespace) -> tuple[bytes, list[Facts]]:
    from builder.view.compare import compare
    from builder.view.document import document
    from builder.view.facts import look_into
    from builder.view.page import page

    with open_session(args) as session:
        store = session.store
        names = [args.image] if args.other is None else [args.image, args.other]
        images = [find_image(store, name) for name in names]
        facts = [look_into(store, image) for image in images]
        comparison = compare(*facts) if len(facts) == 2 else None
    title = " and ".join(each.name for each in facts)
    return page(document(facts, comparison), title), facts


def _port(args: argparse.Namespace) -> int:
    if args.port is None:
        return 0
    if not args.serve:
        raise UsageError("--port is for --serve", code="usage/arguments")
    text = args.port
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536):
        raise UsageError(f"--port {text}: not a port", code="usage/arguments", hint="a port is 1 to 65535")
    return int(text)


def _file_name(facts: list[Facts]) -> str:
    """`notes:1.0` is notes-1.0.html; an id is shortened; two names have `-and-` between them."""
    names = []
    for each in facts:
        name = each.image.names[0] if each.image.names else each.image.image_id.hex[:12]
        last = name.rpartition("/")[2].removesuffix(":latest").partition("@")[0]
        names.append(re.sub(r"[^A-Za-z0-9_.-]+", "-", last).strip("-.") or each.image.image_id.hex[:12])
    return "-and-".join(names) + ".html"


def _write(path: str, html: bytes) -> None:
    """Write the page, as a whole or not at all where `path` is a plain file or nothing yet."""
    if path == "-":
        sys.stdout.buffer.write(html)
        sys.stdout.buffer.flush()
        return
    real = os.path.realpath(path)
    try:
        if os.path.exists(real) and not os.path.isfile(real):  # a pipe, a terminal
            with open(real, "wb") as file:
                file.write(html)
            return
        staged = f"{real}.{os.getpid()}"
        try:
            with open(staged, "xb") as file:
                file.write(html)
            os.replace(staged, real)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(staged)
            raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", code="usage/write") from None


def _serve(html: bytes, port: int) -> int:
    from builder.view.server import PageServer

    try:
        server = PageServer(html, port)
    except OSError as error:
        raise HostError(f"port {port} of 127.0.0.1: {error.strerror}", code="host/port") from None
    with server:
        print(server.address, flush=True)
        print("ctrl-C ends it", file=sys.stderr)
        try:
            server.serve_forever()
        except KeyboardInterrupt as interrupt:
            # Ctrl-C is how it is meant to end; other signals are not.
            if getattr(interrupt, "number", signal.SIGINT) != signal.SIGINT:
                raise
    return 0
