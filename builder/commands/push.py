"""Push an image of the store to a registry, under its own name or another one.

What the registry has already is not sent; the name is set last. Of an image for several platforms all go.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.options import only_platform
from builder.session import open_session

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.session import Session
    from cache.oci.digest import Digest
    from cache.oci.reference import Reference


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", metavar="IMAGE", help="a name or an id in the store")
    parser.add_argument(
        "destination",
        nargs="?",
        metavar="DESTINATION",
        help="the name in a registry, with or without docker:// (default: IMAGE)",
    )
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image for several platforms, this one alone"
    )
    parser.add_argument(
        "--compression",
        choices=("gzip", "zstd"),
        help="of layers that were not pulled (default: gzip, or as pybuild.toml says)",
    )
    parser.add_argument("--authfile", metavar="FILE", help="the logins (default: $REGISTRY_AUTH_FILE, ...)")
    parser.add_argument("--digestfile", metavar="FILE", help="write the digest of what was pushed to FILE")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, and print the digest alone"
    )
    parser.add_argument(
        "--progress", choices=("auto", "tty", "plain", "json", "quiet"), help="how to show what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.pulling import named

    with open_session(args) as session:
        mode = "quiet" if args.quiet else args.progress or session.config.progress
        text = args.image if args.destination is None else args.destination
        reference = _tagged(named(text.removeprefix("docker://"), session.config))
        if args.destination is None:
            _check_name(session, args.image, reference)
        with session.display(mode) as display:
            digest = _push(session, args, reference, display.emit)
    if args.digestfile is not None:
        from builder.exporters.destination import open_output

        with open_output(args.digestfile) as stream:
            stream.write(str(digest).encode())
    print(digest if args.quiet else f"Pushed {reference.with_digest(digest).familiar}")
    return 0


def _tagged(reference: Reference) -> Reference:
    """Refuse a name with a digest: what is pushed has its own."""
    if reference.digest is not None:
        from builder.errors import UsageError

        raise UsageError(
            f"{reference.familiar}: what is pushed has its digest by itself",
            code="usage/place",
            hint="name the repository and a tag",
        )
    return reference


def _check_name(session: Session, image: str, reference: Reference) -> None:
    """An id is no name to push to: registries would take it for one."""
    from builder.errors import UsageError
    from builder.lookup import find_images

    names = find_images(session.store, image)[0].names
    if reference.familiar not in names:
        raise UsageError(
            f"{image} is not the name of an image",
            code="usage/arguments",
            hint=f"it is called {', '.join(names)}" if names else "say where to: pybuild push IMAGE NAME",
        )


def _push(session: Session, args: argparse.Namespace, reference: Reference, emit: Emit) -> Digest:
    from builder.exporters.base import chain_ids_of
    from builder.imagecopy.copier import copy, only, parts_of
    from builder.imagecopy.lenders import Lenders
    from builder.imagecopy.registries import RegistryDestination
    from builder.imagecopy.storeimages import StoreSource, stored
    from builder.registries import configured, registry_client
    from cache.compression import Compression

    config = session.config
    kind = args.compression or config.compression or "gzip"
    level = config.compression_level if kind == config.compression else None
    platform = only_platform(args.platform)
    group = stored(session.store, args.image)
    with ExitStack() as stack:
        client = registry_client(configured(config), args.authfile)
        stack.callback(client.close)
        lenders = Lenders(session.store, client)
        lenders.learn([each for source in group for each in chain_ids_of(source.config)])
        source = StoreSource(
            session.store,
            group,
            emit,
            Compression.parse(kind, level),
            lambda layer: lenders.lent(layer, kind, (reference,)),
        )
        root = source.root()
        if platform is not None:
            root = only(source, root, platform)
        parts = parts_of(source, root, referrers=False)
        target = RegistryDestination(client, reference, None, root.descriptor.digest, lenders)
        copy(source, target, parts, emit)
    return root.descriptor.digest
