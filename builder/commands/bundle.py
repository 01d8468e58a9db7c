"""Write a bundle of the OCI runtime-spec: the image's root filesystem, and the config.json with which runc,
crun or any other runtime runs it as `pybuild run` would.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace

from builder.containerrequest import add_options
from builder.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    add_options(parser)
    parser.add_argument("image", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument("dir", metavar="DIR", help="the bundle: a directory that is empty, or not there")
    parser.add_argument(
        "command_", nargs=argparse.REMAINDER, metavar="COMMAND", help="in place of the image's CMD"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.bundle import runtime_config
    from builder.commands.run import argv_of, request_of
    from builder.exporters import parse_outputs
    from builder.exporters.base import Source
    from builder.exporters.directory import export
    from builder.lookup import find_image
    from builder.ociruntime import identity_in
    from builder.session import open_session
    from cache.containers import Container

    if os.path.lexists(args.dir) and (not os.path.isdir(args.dir) or os.listdir(args.dir)):
        raise UsageError(f"{args.dir} is there already, and not empty", code="usage/write")
    with open_session(args) as session:
        image = find_image(session.store, args.image)
        container = Container(
            id=os.urandom(32).hex(),
            name="",
            image=image.image_id,
            chain_id=image.chain_id or "",
            command=argv_of(image, args),
            created=int(time.time()),
        )
        request = request_of(session, image, container, args)
        request = replace(request, hostname=args.hostname or os.path.basename(os.path.abspath(args.dir)))
        if request.network == "private":
            raise UsageError("a bundle has no private network", code="usage/port")
        root = os.path.join(args.dir, "rootfs")
        (spec,) = parse_outputs([f"type=dir,dest={root}"], session.config)
        export([Source.load(session.store, image.image_id)], spec, session.store, lambda event: None)
        config = runtime_config(request, identity_in(root, request.user))
        with open(
            os.path.join(args.dir, "config.json"), "x", encoding="utf-8", errors="surrogateescape"
        ) as file:
            json.dump(config, file, indent=2)
            file.write("\n")
    return 0
