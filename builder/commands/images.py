"""List the images in the store."""

from __future__ import annotations

import argparse
import json
import sys

from builder.bases.base import parse_time
from builder.errors import UsageError
from builder.formats import displayed, fill
from builder.lookup import StoredImage, familiar, find_image, find_images, short_id
from builder.session import open_session
from builder.table import ago, human_size, print_table
from cache.errors import FormatError, StoreCorrupt, StoreError
from cache.oci.digest import Digest
from cache.store import Store


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="only images with this name, whatever the tag"
    )
    parser.add_argument("-a", "--all", action="store_true", help="images without a name too")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone")
    parser.add_argument("--names", action="store_true", help="print names alone")
    parser.add_argument("--no-trunc", action="store_true", help="print whole ids")
    parser.add_argument(
        "-f",
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="dangling=true: without a name; label=NAME[=VALUE]; reference=PATTERN",
    )
    parser.add_argument(
        "--format",
        metavar="TEXT",
        help="print TEXT for each name, with {{.Repository}}, {{.Tag}}, {{.ID}}, {{.Size}}, ... filled in",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    with open_session(args) as session:
        store = session.store
        if args.names:
            print("".join(f"{familiar(name)}\n" for name in store.images.names()), end="")
            return 0
        filters = [_filter(text) for text in args.filter]
        every = args.all or any(key == "dangling" for key, _ in filters)
        found = [
            image
            for image in _images(store)
            if _wanted(image, args.name, every) and all(_passes(image, *each) for each in filters)
        ]
        if args.quiet:
            for image_id in dict.fromkeys(image.named_id for image in found):
                print(image_id if args.no_trunc else short_id(image_id))
        elif args.format is not None:
            _formatted(store, found, args.format, whole=args.no_trunc)
        elif args.json:
            print(json.dumps([_value(store, image) for image in found], indent=2))
        else:
            _table(store, found, whole=args.no_trunc)
    return 0


def image_size(store: Store, image: StoredImage) -> int:
    """Return the sum of the image's layer tars in bytes; of those that were not fetched, of what is known of
    them."""
    return sum(layer.size for layer in store.stack(image.chain_id) or ())


def _images(store: Store) -> list[StoredImage]:
    found = []
    for image_id in (*store.images.all(), *store.images.indexes.all()):
        try:
            found.append(_read(store, image_id))
        except (FormatError, StoreCorrupt, StoreError) as error:
            print(f"warning: {short_id(image_id)}: {error.message}", file=sys.stderr)
    return sorted(found, key=lambda image: (-parse_time(image.config.created), image.names))


def _read(store: Store, image_id: Digest) -> StoredImage:
    """Return the image of that id; of an index, the one for this machine, or else the first."""
    return find_image(store, str(image_id))


def _members(store: Store, image: StoredImage) -> tuple[StoredImage, ...]:
    return (image,) if image.index is None else find_images(store, str(image.index))


def _size(store: Store, image: StoredImage) -> int:
    return sum(image_size(store, each) for each in _members(store, image))


def _wanted(image: StoredImage, name: str | None, every: bool) -> bool:
    if name is None:
        return bool(image.names) or every
    bare = name if ":" in name.rpartition("/")[2] else name + ":"
    return any(each == name or each.startswith(bare) for each in image.names)


def _filter(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if key not in ("dangling", "label", "reference") or not value:
        raise UsageError(
            f"--filter {text!r}: write dangling=true, label=NAME, label=NAME=VALUE or reference=PATTERN",
            code="usage/value",
        )
    return key, value


def _passes(image: StoredImage, key: str, value: str) -> bool:
    if key == "dangling":
        return bool(image.names) != (value.lower() in ("true", "1"))
    if key == "label":
        name, mark, wanted = value.partition("=")
        labels = dict(image.config.config.labels)
        return name in labels and (not mark or labels[name] == wanted)
    from fnmatch import fnmatchcase

    return any(
        fnmatchcase(name, value) or fnmatchcase(name.rpartition(":")[0], value) for name in image.names
    )


def _value(store: Store, image: StoredImage) -> dict[str, object]:
    return {
        "Id": image.named_id,
        "RepoTags": list(image.names),
        "Created": image.config.created,
        "Size": _size(store, image),
        "Platforms": [str(each.config.platform) for each in _members(store, image)],
    }


def _table(store: Store, found: list[StoredImage], *, whole: bool) -> None:
    rows = []
    for image in found:
        created = ago(parse_time(image.config.created))
        size = human_size(_size(store, image))
        shown = image.named_id if whole else short_id(image.named_id)
        rows += [(name, shown, created, size) for name in image.names or ("<none>",)]
    print_table(("NAME", "IMAGE ID", "CREATED", "SIZE"), rows)


def _formatted(store: Store, found: list[StoredImage], template: str, *, whole: bool) -> None:
    for image in found:
        size = _size(store, image)
        for name in image.names or ("<none>:<none>",):
            repository, _, tag = name.rpartition(":") if "@" not in name else (name, "", "<none>")
            value: dict[str, object] = {
                "ID": image.named_id if whole else short_id(image.named_id),
                "Id": image.named_id,
                "Repository": repository,
                "Tag": tag,
                "Name": name,
                "RepoTags": list(image.names),
                "CreatedAt": image.config.created or "",
                "CreatedSince": ago(parse_time(image.config.created)),
                "Size": human_size(size),
                "Bytes": size,
                "Platforms": ",".join(str(each.config.platform) for each in _members(store, image)),
            }
            print(displayed(fill(template, value)))
