"""Pull images from registries into the store, as FROM does: layers that are there already are not fetched.

NAME is what FROM takes: name[:tag][@digest], with or without docker:// before it.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.options import platforms as platforms_of
from builder.session import open_session

if TYPE_CHECKING:
    from builder.pulling import Puller
    from cache.oci.platform import Platform
    from cache.oci.reference import Reference
    from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("name", nargs="+", metavar="NAME", help="an image of a registry")
    parser.add_argument(
        "--platform",
        metavar="OS/ARCH[,OS/ARCH]",
        help="the platform, or several: then the name means all of them (default: this machine's)",
    )
    parser.add_argument(
        "--all-platforms", action="store_true", help="every platform that the image is there for"
    )
    parser.add_argument(
        "--policy",
        choices=("always", "missing", "newer", "never"),
        default="always",
        help="ask the registry always (default); only for what the store lacks; or always, but take what the "
        "store has if nobody answers",
    )
    parser.add_argument("--authfile", metavar="FILE", help="the logins (default: $REGISTRY_AUTH_FILE, ...)")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress, and print ids alone")
    parser.add_argument(
        "--progress", choices=("auto", "tty", "plain", "json", "quiet"), help="how to show what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder import userns
    from builder.bases.base import Surroundings
    from builder.cli import ERRORS, show
    from builder.excerpts import exit_code
    from builder.pulling import Puller, named

    if args.all_platforms and args.platform:
        raise UsageError("--all-platforms and --platform do not go together", code="usage/arguments")
    code = 0
    with open_session(args) as session:
        userns.require()
        wanted = platforms_of(args, session.config)
        mode = "quiet" if args.quiet else args.progress or session.config.progress
        environ = {**os.environ, "REGISTRY_AUTH_FILE": args.authfile} if args.authfile else os.environ
        for text in args.name:
            try:
                with session.display(mode) as display:
                    around = Surroundings(
                        session.store, display.emit, session.executor, session.registries(), environ
                    )
                    with Puller(around, args.policy) as puller:
                        said = _pull(puller, session.store, named(text, session.config), wanted, args)
                print(said)
            except ERRORS as error:
                sys.stdout.flush()
                show(error)
                code = exit_code(error)
    return code


def _pull(
    puller: Puller, store: Store, reference: Reference, wanted: tuple[Platform, ...], args: argparse.Namespace
) -> str:
    """Pull one image; return what is printed of it."""
    from builder.bases.images import named_digest
    from cache.oci.digest import Digest

    if args.all_platforms:
        wanted = puller.platforms(reference) or wanted
    if len(wanted) > 1:
        index = puller.pull_all(reference, wanted)
        names = ", ".join(map(str, wanted))
        return str(index) if args.quiet else f"Pulled {reference.familiar} for {names}: {index}"
    image = puller.pull(reference, wanted[0])
    if args.quiet:
        return str(image.image_id)
    digest = reference.digest or Digest(named_digest(store, str(reference), image, wanted[0]))
    return f"Pulled {reference.with_digest(digest).familiar}"
