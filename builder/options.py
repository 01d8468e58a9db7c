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


def plan_options(args: argparse.Namespace, config: Config, wanted: Platform | None = None) -> PlanOptions:
    """Return what the arguments of a command that builds, and the configuration, ask of planning; for the
    platform `wanted`, if there are several. Raises UsageError.
    """
    wanted = wanted or platform(args, config)
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
    """Return the platform that is asked for. Raises UsageError, also for several."""
    return only_platform(args.platform or config.platform) or Platform.host()


def platforms(args: argparse.Namespace, config: Config) -> tuple[Platform, ...]:
    """Return the platforms to build for, each once. Raises UsageError."""
    return _platforms(args.platform or config.platform) or (Platform.host(),)


def only_platform(text: str | None) -> Platform | None:
    """Return the platform that `text` names, None if it is empty. Raises UsageError, also for several."""
    return one_platform(_platforms(text))


def one_platform(found: Sequence[Platform]) -> Platform | None:
    """Return the platform in `found`, None if it is empty. Raises UsageError if there are several."""
    if len(found) > 1:
        raise UsageError(
            f"this takes one platform, not {', '.join(map(str, found))}",
            code="usage/platform",
            hint="`pybuild build` takes several",
        )
    return found[0] if found else None


def _platforms(text: str | None) -> tuple[Platform, ...]:
    try:
        found = [Platform.parse(each) for each in (text or "").split(",") if text]
    except FormatError as error:
        raise UsageError(error.message, hint=error.hint, code="usage/platform") from None
    return tuple(dict.fromkeys(found))


class Joined(argparse.Action):
    """An option whose values, given one by one or with commas, are one text with commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, f"{before},{values}" if before else str(values))


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
