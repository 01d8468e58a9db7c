"""Copy an image from one place to another, without unpacking it: between registries, OCI layouts, OCI
archives and Docker archives, and out of the store.

Places are spelt as skopeo spells them: docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG],
docker-archive:FILE[:NAME], store:IMAGE. A name alone is an image of a registry. Manifests go as they are, so
that digests stay; of an image for several platforms all go.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.options import only_platform
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from builder.config import Config
    from builder.events import Emit
    from builder.imagecopy.base import Destination, Document, Source
    from builder.imagecopy.places import Place
    from builder.session import Session
    from cache.oci.digest import Digest
    from cache.registry.endpoints import Registries


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("source", metavar="SOURCE", help="where the image is")
    parser.add_argument("destination", metavar="DESTINATION", help="where it is to be, too")
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image for several platforms, this one alone"
    )
    parser.add_argument(
        "--referrers", action="store_true", help="signatures, SBOMs and the like that refer to it, too"
    )
    parser.add_argument("--authfile", metavar="FILE", help="the logins (default: $REGISTRY_AUTH_FILE, ...)")
    parser.add_argument("--digestfile", metavar="FILE", help="write the digest of what was copied to FILE")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="show no progress, and print the digest alone"
    )
    parser.add_argument(
        "--progress", choices=("auto", "tty", "plain", "json", "quiet"), help="how to show what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.config import load
    from builder.imagecopy.places import parse_place
    from builder.progress import open_display

    source = parse_place(args.source, exists=True)
    destination = parse_place(args.destination, exists=False)
    _check(args, destination)
    config = load(args.config)
    mode = "quiet" if args.quiet else args.progress or config.progress or "auto"
    with ExitStack() as stack:
        session = _session(args, stack) if source.kind == "store" else None
        with open_display(mode, sys.stderr) as display:  # type: ignore[arg-type]
            copied = _copy(args, config, session, source, destination, display.emit)
    if args.digestfile is not None:
        _write(args.digestfile, str(copied.descriptor.digest))
    print(copied.descriptor.digest if args.quiet else f"Copied {copied.descriptor.digest}")
    return 0


def _check(args: argparse.Namespace, destination: Place) -> None:
    if destination.kind == "store":
        raise UsageError(
            f"{destination.text}: images get into the store otherwise",
            code="usage/place",
            hint="`pybuild pull` fetches from registries, `pybuild load` reads layouts and archives",
        )
    if destination.digest is not None:
        raise UsageError(f"{destination.text}: what is written has its digest by itself", code="usage/place")
    if args.referrers and destination.kind == "docker-archive":
        raise UsageError("a Docker archive has no place for referrers", code="usage/arguments")


def _session(args: argparse.Namespace, stack: ExitStack) -> Session:
    from builder.session import open_session

    return stack.enter_context(open_session(args))


def _copy(
    args: argparse.Namespace,
    config: Config,
    session: Session | None,
    source: Place,
    destination: Place,
    emit: Emit,
) -> Document:
    from builder.imagecopy.copier import copy, only, parts_of
    from builder.registries import configured

    registries, platform = configured(config), only_platform(args.platform)
    with ExitStack() as stack:
        origin = _source(source, config, registries, args.authfile, session, emit)
        stack.callback(origin.close)
        root = origin.root()
        if destination.kind == "docker-archive":
            from builder.imagecopy.dockerarchive import write

            root = only(origin, root, platform or Platform.host())
            write(origin, root, destination)
            return root
        if platform is not None:
            root = only(origin, root, platform)
        parts = parts_of(origin, root, referrers=args.referrers)
        digest = root.descriptor.digest
        target = _destination(destination, config, registries, args.authfile, origin, digest)
        stack.callback(target.close)
        copy(origin, target, parts, emit)
    return root


def _source(
    place: Place,
    config: Config,
    registries: Registries,
    authfile: str | None,
    session: Session | None,
    emit: Emit,
) -> Source:
    """Open what is copied from. Raises BuildError, CacheError."""
    if place.kind == "registry":
        from builder.imagecopy.registries import RegistrySource
        from builder.pulling import named
        from builder.registries import registry_client

        return RegistrySource(registry_client(registries, authfile), named(place.location, config))
    if place.kind == "docker-archive":
        from builder.imagecopy.dockerarchive import DockerArchiveSource

        return DockerArchiveSource(place)
    if place.kind == "store":
        from builder.imagecopy.storeimages import StoreSource, stored

        assert session is not None, "opened for such a place"
        return StoreSource(session.store, stored(session.store, place.location), emit)
    from builder.imagecopy.layouts import open_layout_source

    return open_layout_source(place)


def _destination(
    place: Place,
    config: Config,
    registries: Registries,
    authfile: str | None,
    origin: Source,
    digest: Digest,
) -> Destination:
    """Open what is copied to. Raises BuildError, CacheError."""
    if place.kind == "registry":
        from builder.imagecopy.registries import RegistryDestination
        from builder.pulling import named
        from builder.registries import registry_client

        reference = named(place.location, config)
        client = registry_client(registries, authfile)
        return RegistryDestination(client, reference, origin.repository, digest)
    from builder.imagecopy.layouts import ArchiveDestination, LayoutDestination

    return LayoutDestination(place) if place.kind == "oci-layout" else ArchiveDestination(place)


def _write(path: str, text: str) -> None:
    from builder.exporters.destination import open_output

    with open_output(path) as stream:
        stream.write(text.encode())
