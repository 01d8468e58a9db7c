"""Build a recipe twice in fresh stores with one epoch, and name the files that differ, and how.

Exit code 0: both gave the same image id. 1: they did not. The epoch is SOURCE_DATE_EPOCH, else that of the
commit, else now.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.bases.base import chain_of
from builder.commands.build import add_build_options
from builder.commands.diff import open_chain
from builder.config import Cache
from builder.contexts import open_context
from builder.difference import differences
from builder.errors import UsageError
from builder.session import Session, open_session

if TYPE_CHECKING:
    from builder.build import Built
    from builder.config import Config
    from builder.contexts import BuildContext
    from builder.events import Emit
    from cache.oci.spec import ImageConfig

_ONLY = {"A": "only in the second", "D": "only in the first"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="the recipe, or a directory with a Dockerfile"
    )
    parser.add_argument("context_", nargs="?", metavar="CONTEXT", help="the directory that COPY reads")
    add_build_options(parser)
    parser.add_argument(
        "--progress", choices=("auto", "tty", "plain", "json", "quiet"), help="how to show what goes on"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder.cli import ERRORS
    from builder.deadline import deadline
    from builder.epoch import find_epoch
    from builder.excerpts import failure
    from builder.limits import limits

    with (
        open_session(args) as outer,
        outer.store.stage() as staging,
        Session(config := _alone(args, outer.config), staging.path + "/first", args.snapshotter) as first,
        Session(config, staging.path + "/second", args.snapshotter) as second,
        outer.display(args.progress or outer.config.progress) as display,
    ):
        try:
            with (
                deadline(limits(args, outer.config).timeout),
                open_context(args, outer.store, display.emit) as context,
            ):
                given = args.timestamps or outer.config.timestamps or "clamp"
                epoch = find_epoch(given, context.directory, context.commit_time).seconds
                args.timestamps = str(int(time.time()) if epoch is None else epoch)
                one = _build(first, context, args, display.emit)
                # A second later at least: what takes the clock into its files must be caught.
                time.sleep(1.1)
                other = _build(second, context, args, display.emit)
        except ERRORS as error:
            event = failure(error)
            display.emit(event)
            return event.exit_code
        return _report(first, one, second, other)


def _alone(args: argparse.Namespace, config: Config) -> Config:
    """Return the configuration without shared caches: what others have run proves nothing here."""
    if args.cache_from or args.cache_to:
        raise UsageError("verify runs every step itself, and takes no shared cache", code="usage/arguments")
    return replace(config, cache=Cache())


def _build(session: Session, context: BuildContext, args: argparse.Namespace, emit: Emit) -> Built:
    return session.prepare(args, context, emit, several=True).run(context.recipe, context.directory)


def _report(first: Session, one: Built, second: Session, other: Built) -> int:
    sys.stderr.flush()
    if one.image_id == other.image_id:
        print(f"the same image both times: {one.image_id}")
        return 0
    print(f"two builds gave two images: {one.image_id} and {other.image_id}")
    for pair in zip(one.configs, other.configs, strict=True):
        if pair[0] != pair[1]:
            if len(one.configs) > 1:
                print(f"{pair[0].platform}:")
            _report_image(first, pair[0], second, pair[1])
    return 1


def _report_image(first: Session, one: ImageConfig, second: Session, other: ImageConfig) -> None:
    if len(one.diff_ids) != len(other.diff_ids):
        print(f"layers: {len(one.diff_ids)} and {len(other.diff_ids)}")
        return
    lines = [entry.created_by for entry in one.history if not entry.empty_layer]
    for index, pair in enumerate(zip(one.diff_ids, other.diff_ids, strict=True)):
        if pair[0] != pair[1]:
            print(f"layer {index + 1}, by {' '.join(lines[index].split())[:90]}:")
            _compare(first, one, second, other, index)
    if one.diff_ids == other.diff_ids:
        print("the layers are the same; the configs differ")


def _compare(first: Session, one: ImageConfig, second: Session, other: ImageConfig, index: int) -> None:
    """Print the files of that layer that differ: those of the states up to it, less those of the states
    below.
    """
    below = _differing(first, one, second, other, index) if index else {}
    for path, line in _differing(first, one, second, other, index + 1).items():
        if below.get(path) != line:
            print("  " + line)


def _differing(
    first: Session, one: ImageConfig, second: Session, other: ImageConfig, count: int
) -> dict[str, str]:
    old = open_chain(first.store, chain_of(one.diff_ids[:count]))
    new = open_chain(second.store, chain_of(other.diff_ids[:count]))
    try:
        found = differences(old, new, times=True)
        return {
            d.path: f"{d.path}: {d.how or ('only in the second' if d.kind == 'A' else 'only in the first')}"
            for d in found
        }
    finally:
        old.close()
        new.close()
