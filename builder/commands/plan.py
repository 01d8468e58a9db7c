"""Say what building a recipe would do: what is cached, what would run, and why.

Nothing is run, fetched or written; neither root, network nor a store is needed. Shared caches, where some are
named, are asked for what the store does not know. A step's key begins with the state below it: of steps above
one that would run it cannot be known whether they hit. What the store does not know of (bases that were never
pulled) is shown as unknown.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.config import Config
    from builder.planning import Forecast


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    from builder.commands.build import add_build_options

    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="the recipe, or a directory with a Dockerfile"
    )
    parser.add_argument("context_", nargs="?", metavar="CONTEXT", help="the directory that COPY reads")
    add_build_options(parser)
    parser.add_argument(
        "--format", choices=("text", "json", "dot"), default="text", help="how to print (default: text)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    from builder import planning_report
    from builder.config import load
    from builder.session import store_root

    config = load(args.config)
    forecast = _forecast(args, config, store_root(args.root, config.root))
    report = {
        "text": planning_report.as_text,
        "json": planning_report.as_json,
        "dot": planning_report.as_dot,
    }
    print(report[args.format](forecast))
    return 0


def _forecast(args: argparse.Namespace, config: Config, root: str) -> Forecast:
    from dataclasses import replace

    from builder.commands.build import find_recipe
    from builder.events import Event, Notice
    from builder.options import lock_mode, plan_options
    from builder.planning import Planning
    from builder.planning_shared import shared_lookup
    from builder.planning_store import find_store

    recipe, context = find_recipe(args)
    options = plan_options(args, config)
    store, why_not = find_store(root)
    shared = None
    try:
        pull = args.pull or config.pull
        lock = lock_mode(args, config)
        warnings: list[Event] = []
        if store is not None:
            given = (args.cache_from, args.cache_to)
            required = args.cache_required or config.cache.required
            shared = shared_lookup(store, config, given, warnings.append, required=required)
        planning = Planning(
            store, why_not, options, no_cache=args.no_cache, pull=pull, lock=lock, shared=shared
        )
        forecast = planning.run(recipe, context)
        told = tuple((each.code, each.message, None) for each in warnings if isinstance(each, Notice))
        return replace(forecast, warnings=(*forecast.warnings, *told))
    finally:
        if shared is not None:
            shared.close()
        if store is not None:
            store.close()
