"""What the options of `pybuild prune`, and [prune] of pybuild.toml, say is to go."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from builder.errors import UsageError
from builder.table import parse_age, parse_size
from cache.prunepolicy import ALL_KINDS, USUAL_KINDS, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.config import Config
    from cache.prunepolicy import Kind

_T = TypeVar("_T")

KINDS: Mapping[str, Kind] = {kind.replace(" ", "-"): kind for kind in sorted(ALL_KINDS)}
"""Kinds by the names that --kind has for them."""

_SIZE, _AGE, _FREE = "10GB or 512MiB", "24h or 7d", "20GB or 10%"


def policies(args: argparse.Namespace, config: Config, root: str) -> tuple[Policy, ...]:
    """Return what the options ask for, else what the configuration does, else that all goes. Raises
    UsageError.
    """
    total = disk_size(root)
    given = [policy_of(text, "--policy", total) for text in args.policy]
    kinds = _kinds(",".join(args.kind), "--kind")
    one = Policy(
        older_than=parsed(parse_age, _age(args), "--older-than", _AGE),
        keep_storage=parsed(parse_size, args.keep_storage, "--keep-storage", _SIZE),
        min_free=parsed(lambda text: _free(text, total), args.min_free, "--min-free", _FREE),
        kinds=(kinds or USUAL_KINDS) | ({"cache mount"} if args.cache_mounts else set()),
    )
    alone = Policy(kinds=ALL_KINDS)
    if args.all:
        if given or one != Policy(kinds=one.kinds) or kinds:
            raise UsageError("--all takes everything: no bound or kind goes with it", code="usage/value")
        return (alone if args.cache_mounts else Policy(),)
    if one != Policy():
        given.append(one)
    return tuple(given) or configured(config, root) or (Policy(),)


def configured(config: Config, root: str) -> tuple[Policy, ...]:
    """Return the policies of pybuild.toml."""
    total = disk_size(root) if config.prune.policy else 0
    return tuple(policy_of(text, "prune.policy", total) for text in config.prune.policy)


def policy_of(text: str, option: str, total: int) -> Policy:
    """Return what `older-than=30d,kind=layer+blob` means on a disk of `total` bytes. Raises UsageError."""
    found: dict[str, str] = {}
    for field in text.split(","):
        name, equals, value = (part.strip() for part in field.partition("="))
        if not equals or name not in ("older-than", "keep-storage", "min-free", "kind"):
            raise _wrong(
                option, text, "older-than=AGE, keep-storage=SIZE, min-free=SIZE and kind=KIND are known"
            )
        if name in found:
            raise _wrong(option, text, f"{name} is given twice")
        found[name] = value
    return Policy(
        older_than=parsed(parse_age, found.get("older-than"), f"{option} {text!r}: older-than", _AGE),
        keep_storage=parsed(parse_size, found.get("keep-storage"), f"{option} {text!r}: keep-storage", _SIZE),
        min_free=parsed(
            lambda share: _free(share, total), found.get("min-free"), f"{option} {text!r}: min-free", _FREE
        ),
        kinds=_kinds(found["kind"].replace("+", ","), option) if "kind" in found else USUAL_KINDS,
    )


def disk_size(path: str) -> int:
    """Return the bytes of the disk that `path` is on."""
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize


def parsed(parse: Callable[[str], _T], text: str | None, option: str, example: str) -> _T | None:
    """Return what an option's value means, None where it was not given. Raises UsageError."""
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: write it like {example}", code="usage/value") from None


def _age(args: argparse.Namespace) -> str | None:
    """Docker has --older-than as a filter."""
    age: str | None = args.older_than
    for text in args.filter:
        name, equals, value = text.partition("=")
        if name != "until" or not equals:
            raise UsageError(
                f"--filter {text!r}: only until=AGE is known",
                code="usage/value",
                hint="--kind KIND filters by kind",
            )
        age = value
    return age


def _kinds(text: str, option: str) -> frozenset[Kind]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KINDS:
            raise UsageError(f"{option}: unknown kind {name!r}", code="usage/value", hint=", ".join(KINDS))
    return frozenset(KINDS[name] for name in names)


def _free(text: str, total: int) -> int:
    share = text.strip()
    if not share.endswith("%"):
        return parse_size(share)
    number = float(share[:-1])
    if not 0 <= number <= 100:
        raise ValueError(text)
    return int(total * number / 100)


def _wrong(option: str, text: str, hint: str) -> UsageError:
    return UsageError(f"{option} {text!r} makes no sense", code="usage/value", hint=hint)
