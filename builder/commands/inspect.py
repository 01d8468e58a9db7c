"""Show everything about an image or a container, as JSON of the shape that `docker inspect` prints, with the
ChainIDs beside. With --remote, what a registry has under that name, without fetching its layers.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from builder.bases.base import format_time
from builder.commands.images import image_size
from builder.errors import UsageError
from builder.formats import displayed, fill, to_json
from builder.lookup import StoredImage, find_image
from builder.options import only_platform
from builder.session import open_session
from cache.oci.digest import ChainID

if TYPE_CHECKING:
    from builder.containerstate import State
    from cache.containers import Container
    from cache.oci.digest import Digest
    from cache.oci.platform import Platform
    from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "image", nargs="+", metavar="IMAGE", help="a name, an id, or the start of one; of a container too"
    )
    parser.add_argument(
        "-f",
        "--format",
        metavar="TEXT",
        help="print TEXT with {{.Field.Field}}, {{json .Field}}, {{index .Field 0}} filled in",
    )
    parser.add_argument("--type", choices=("image", "container"), help="look for one kind only")
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="of an image for several platforms (default: this machine's)"
    )
    parser.add_argument("--remote", action="store_true", help="IMAGE is a name in a registry, which is asked")
    parser.add_argument(
        "--raw", action="store_true", help="with --remote: print the index or manifest as it is there"
    )
    parser.add_argument(
        "--referrers", action="store_true", help="with --remote: list signatures, SBOMs and the like, too"
    )
    parser.add_argument(
        "--authfile", metavar="FILE", help="with --remote: the logins (default: $REGISTRY_AUTH_FILE, ...)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.cli import ERRORS, show
    from builder.excerpts import exit_code

    if args.remote:
        return _remote(args)
    if args.raw or args.referrers or args.authfile:
        raise UsageError("--raw, --referrers and --authfile go with --remote", code="usage/arguments")
    found: list[dict[str, object]] = []
    code = 0
    with open_session(args) as session:
        for name in args.image:
            try:
                found.append(_found(session.store, name, args.type, only_platform(args.platform)))
            except ERRORS as error:
                show(error)
                code = exit_code(error)
    _print(args, found)
    return code


def _print(args: argparse.Namespace, found: list[dict[str, object]]) -> None:
    if args.format is not None:
        for value in found:
            print(displayed(fill(args.format, value)))
    elif found:
        print(to_json(found, indent=4))


def _remote(args: argparse.Namespace) -> int:
    """Ask registries; print what they say."""
    from contextlib import closing

    from builder.cli import ERRORS, show
    from builder.config import load
    from builder.excerpts import exit_code
    from builder.pulling import named
    from builder.registries import configured, registry_client
    from builder.remoteimages import inspect_remote, raw
    from cache.oci.platform import Platform

    if args.type == "container" or (args.raw and (args.format is not None or args.referrers)):
        raise UsageError(
            "--remote is for images, and --raw goes without --format and --referrers", code="usage/arguments"
        )
    found: list[dict[str, object]] = []
    code = 0
    config = load(args.config)
    platform = only_platform(args.platform or (None if args.raw else config.platform))
    with closing(registry_client(configured(config), args.authfile)) as client:
        for name in args.image:
            try:
                reference = named(name, config)
                if args.raw:
                    sys.stdout.buffer.write(raw(client, reference, platform))
                else:
                    wanted = platform or Platform.host()
                    found.append(inspect_remote(client, reference, wanted, referrers=args.referrers))
            except ERRORS as error:
                show(error)
                code = exit_code(error)
    _print(args, found)
    return code


def _found(store: Store, text: str, kind: str | None, platform: Platform | None) -> dict[str, object]:
    """As docker inspect, a container's name or id comes before an image's."""
    if kind == "container":
        from builder.runningcontainers import find_container

        return inspect_container(store, find_container(store.containers, text))
    container = store.containers.find(text) if kind is None and platform is None else None
    if container is not None:
        return inspect_container(store, container)
    return inspect(store, find_image(store, text, platform))


def inspect_container(store: Store, container: Container) -> dict[str, object]:
    """Return what there is to know of a container, as `docker inspect` spells it."""
    from builder.containerstate import load

    running = store.containers.is_running(container.id)
    upper = store.containers.upper(container.id)
    directory = upper.removesuffix("/diff")
    chain_id = ChainID(container.chain_id) if container.chain_id else None
    lower = store.layers.lowerdirs(chain_id) if chain_id is not None else ()
    state = load(directory) if running else None
    status = "running" if running else "dead" if container.status is None else "exited"
    return {
        "Id": container.id,
        "Created": format_time(container.created),
        "Path": container.command[0] if container.command else "",
        "Args": list(container.command[1:]),
        "State": {"Status": status, "Running": running, "ExitCode": container.status, **_alive(state)},
        "Image": container.image,
        "Name": "/" + container.name if container.name else "",
        "HostConfig": {"AutoRemove": container.auto_remove},
        "NetworkSettings": {"Ports": list(container.ports)},
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(lower),
                "MergedDir": directory + "/merged",
                "UpperDir": upper,
                "WorkDir": directory + "/work",
            },
            "Name": "overlay2",
        },
    }


def _alive(state: State | None) -> dict[str, object]:
    if state is None:
        return {}
    health = {"Health": {"Status": state.health}} if state.health else {}
    return {"Pid": state.command[0], "StartedAt": format_time(state.started), **health}


def inspect(store: Store, image: StoredImage) -> dict[str, object]:
    """Return what there is to know of an image, as `docker inspect` spells it."""
    config = image.config
    chains: list[ChainID] = []
    for diff_id in config.diff_ids:
        chains.append(ChainID.extend(chains[-1] if chains else None, diff_id))
    return {
        "Id": image.image_id,
        **({"Index": image.index, "Platforms": _platforms(store, image.index)} if image.index else {}),
        "RepoTags": list(image.names),
        "RepoDigests": [name for name in image.names if "@" in name],
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "Author": config.author,
        "Config": config.config.value(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image_size(store, image),
        "GraphDriver": {"Data": _graph(store, image), "Name": "overlay2"},
        "RootFS": {
            "Type": "layers",
            "Layers": [str(diff_id) for diff_id in config.diff_ids],
            "ChainIDs": [str(chain) for chain in chains],
        },
    }


def _platforms(store: Store, index: Digest) -> dict[str, str]:
    return {str(platform): str(image) for platform, image in store.images.indexes.get(index) or ()}


def _graph(store: Store, image: StoredImage) -> dict[str, str] | None:
    if image.chain_id is None or store.layers.get(image.chain_id) is None:
        return None
    upper, *lower = store.layers.lowerdirs(image.chain_id)
    directory = upper.removesuffix("/diff")
    data = {"MergedDir": directory + "/merged", "UpperDir": upper, "WorkDir": directory + "/work"}
    return {"LowerDir": ":".join(lower), **data} if lower else data
