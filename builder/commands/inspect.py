"""Show everything about an image, as JSON of the shape that `docker inspect` prints, and the ChainIDs
beside.
"""

from __future__ import annotations

import argparse
import json
import re

from builder.commands.images import image_size
from builder.errors import UsageError
from builder.lookup import StoredImage, find_image
from builder.session import open_session
from cache.oci.digest import ChainID
from cache.store import Store

_FIELD = re.compile(r"\{\{\s*(json\s+)?((?:\.[A-Za-z_][\w]*)+|\.)\s*\}\}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="a name, an id, or the start of one")
    parser.add_argument(
        "-f",
        "--format",
        metavar="TEXT",
        help="print TEXT with each {{.Field.Field}} or {{json .Field}} filled in",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        found = [inspect(session.store, find_image(session.store, name)) for name in args.image]
    if args.format is None:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    else:
        for value in found:
            print(fill(args.format, value))
    return 0


def inspect(store: Store, image: StoredImage) -> dict[str, object]:
    """Return what there is to know of an image, as `docker inspect` spells it."""
    config = image.config
    chains: list[ChainID] = []
    for diff_id in config.diff_ids:
        chains.append(ChainID.extend(chains[-1] if chains else None, diff_id))
    return {
        "Id": image.image_id,
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


def fill(template: str, value: dict[str, object]) -> str:
    """Fill in the fields of a `--format`. Raises UsageError for one that is not there, or more of Go's
    templates.
    """

    def replace(match: re.Match[str]) -> str:
        found: object = value
        for name in filter(None, match.group(2).split(".")):
            if not isinstance(found, dict) or name not in found:
                raise UsageError(f"--format: there is no field {match.group(2)}", code="usage/format")
            found = found[name]
        if match.group(1) or not isinstance(found, (str, int)):
            return json.dumps(found, ensure_ascii=False)
        return str(found)

    filled = _FIELD.sub(replace, template)
    if "{{" in filled and "{{" in _FIELD.sub("", template):
        raise UsageError(
            f"--format {template!r}: only fields can be filled in",
            code="usage/format",
            hint="write {{.RootFS.Layers}} or {{json .Config}}; for more, pipe the JSON into jq",
        )
    return filled


def _graph(store: Store, image: StoredImage) -> dict[str, str] | None:
    if image.chain_id is None or store.layers.get(image.chain_id) is None:
        return None
    upper, *lower = store.layers.lowerdirs(image.chain_id)
    directory = upper.removesuffix("/diff")
    data = {"MergedDir": directory + "/merged", "UpperDir": upper, "WorkDir": directory + "/work"}
    return {"LowerDir": ":".join(lower), **data} if lower else data
