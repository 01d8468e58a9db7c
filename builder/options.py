"""What the command line and the configuration ask of planning."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.asked import asked
from builder.errors import UsageError
from builder.namedcontexts import NamedContexts, parse_contexts, split
from builder.plan import PlanOptions
from cache.errors import FormatError
from cache.oci.platform import Platform

if TYPE_CHECKING:
    from builder.config import Config
    from builder.locks import Mode


def plan_options(args: argparse.Namespace, config: Config) -> PlanOptions:
    """Return what the arguments of a command that builds, and the configuration, ask of planning. Raises
    UsageError.
    """
    wanted = platform(args, config)
    return PlanOptions(
        platform=wanted,
        build_platform=Platform.host(),
        arguments=build_arguments(args.build_arg, config.build_args),
        target=args.target,
        labels=tuple(_label(text) for text in args.label),
        no_cache=tuple(name for text in args.no_cache_filter for name in text.split(",") if name),
        contexts=contexts(args.build_context, config.build_contexts, wanted),
        asked=asked(args, config),
    )


def lock_mode(args: argparse.Namespace, config: Config) -> Mode:
    """Return how lock files are heeded. Raises UsageError."""
    if args.locked and args.no_lock:
        raise UsageError("--locked and --no-lock do not go together", code="usage/arguments")
    if args.no_lock:
        return "none"
    return "locked" if args.locked or config.locked else "used"


def contexts(given: Sequence[str], configured: Mapping[str, str], wanted: Platform) -> NamedContexts:
    """Return what the command line, or else the configuration, gives a name. Raises UsageError."""
    values = {**configured, **dict(split(text) for text in given)}
    return parse_contexts(values, wanted) if values else ()


def platform(args: argparse.Namespace, config: Config) -> Platform:
    """Return the platform to build for. Raises UsageError."""
    text = args.platform or config.platform
    try:
        return Platform.parse(text) if text else Platform.host()
    except FormatError as error:
        raise UsageError(error.message, hint=error.hint, code="usage/platform") from None


def build_arguments(
    given: Sequence[str], configured: Mapping[str, str] | None = None
) -> tuple[tuple[str, str], ...]:
    """Return the build arguments; one without a value comes from the environment, and is left out if it
    is not there.
    """
    values = dict(configured or {})
    for text in given:
        name, mark, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg {text!r}: the name is missing", code="usage/build-arg")
        if mark:
            values[name] = value
        elif name in os.environ:
            values[name] = os.environ[name]
    return tuple(values.items())


def _label(text: str) -> tuple[str, str]:
    """As with docker, a label without a value is empty."""
    name, _, value = text.partition("=")
    if not name:
        raise UsageError(f"--label {text!r}: write NAME=VALUE", code="usage/pair")
    return name, value
