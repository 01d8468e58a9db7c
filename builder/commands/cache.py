"""Look at shared caches, and see to them.

A CACHE is written as for --cache-from (type=registry,ref=HOST/NAME, ...), or is the name of one in
pybuild.toml; if none is named all of those in pybuild.toml are meant. A KEY is that of a step, or how it
begins.

ls lists what is in a cache, why says what is known of a key, verify reads everything and says what is wrong
with it, sign adds what is believed with a signature of one's own, rm and gc take away. keygen makes a pair of
keys. stats tells what caches were good for in the last build.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIONS = ("stats", "ls", "why", "verify", "sign", "rm", "gc", "keygen")
INTERMIXED = True
"""An option may stand between the words."""

_GOES_WITH = {
    "json": ("ls", "why", "verify", "gc", "rm"),
    "format": ("stats",),
    "last": ("stats",),
    "since": ("stats",),
    "no_trunc": ("ls",),
    "quiet": ("ls", "verify"),
    "no_layers": ("verify",),
    "key": ("sign",),
    "older_than": ("gc",),
    "unused_for": ("gc",),
    "dry_run": ("gc", "rm"),
}
"""Options, as argparse stores them, and the actions that they go with."""

_KEY = re.compile("[0-9a-f]{6,64}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=ACTIONS,
        default="stats",
        metavar="ACTION",
        help="stats (default), ls, why, verify, sign, rm, gc or keygen",
    )
    parser.add_argument(
        "word", nargs="*", metavar="WORD", help="caches and keys; of keygen, the name of the files"
    )
    parser.add_argument("--json", action="store_true", help="ls, why, verify, rm, gc: print JSON")
    parser.add_argument(
        "--format", choices=("text", "json", "markdown"), help="stats: how to print them (default: text)"
    )
    parser.add_argument("--last", metavar="N", type=int, help="stats: of the last N builds together")
    parser.add_argument("--since", metavar="AGE", help="stats: of all builds since then (24h, 7d)")
    parser.add_argument("--no-trunc", action="store_true", help="ls: print whole keys")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="ls: print keys alone; verify: nothing if all is well"
    )
    parser.add_argument(
        "--no-layers", action="store_true", help="verify: entries alone, without reading their layers"
    )
    parser.add_argument("--key", metavar="FILE", help="sign: the key (default: $PYBUILD_CACHE_KEY)")
    parser.add_argument("--older-than", metavar="AGE", help="gc: what was written longer ago (24h, 30d)")
    parser.add_argument("--unused-for", metavar="AGE", help="gc: what no build has read for so long")
    parser.add_argument("--dry-run", action="store_true", help="gc, rm: only say what would go")


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    for option, takes in _GOES_WITH.items():
        if getattr(args, option) and args.action not in takes:
            raise UsageError(
                f"--{option.replace('_', '-')} goes with {' and '.join(takes)}, not with {args.action}",
                code="usage/arguments",
            )
    if args.action == "keygen":
        return _keygen(args)
    if args.action == "stats":
        return _stats(args)
    from builder import cacheactions

    actions: dict[str, Callable[[argparse.Namespace, list[str], list[str]], int]] = {
        "ls": cacheactions.list_entries,
        "why": cacheactions.explain_key,
        "verify": cacheactions.verify,
        "sign": cacheactions.sign,
        "rm": cacheactions.remove,
        "gc": cacheactions.collect,
    }
    keys = [word for word in args.word if _KEY.fullmatch(word)]
    caches = [word for word in args.word if not _KEY.fullmatch(word)]
    return actions[args.action](args, caches, keys)


def _keygen(args: argparse.Namespace) -> int:
    import os

    from builder.cachetiers import PASSWORD
    from cache.signing import PrivateKey

    if len(args.word) > 1:
        raise UsageError("keygen takes one name", code="usage/arguments")
    name = args.word[0] if args.word else "pybuild-cache"
    stem = name.removesuffix(".key").removesuffix(".pub")
    password = os.environ.get(PASSWORD)
    key = PrivateKey.generate()
    files = (
        (f"{stem}.key", key.to_pem(password.encode() if password else None), 0o600),
        (f"{stem}.pub", key.public.to_pem(), 0o644),
    )
    for path, _, _ in files:
        if os.path.lexists(path):
            raise UsageError(
                f"{path} is there already", hint="a key is never replaced: name another", code="usage/write"
            )
    for path, data, mode in files:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with open(fd, "wb") as file:
                file.write(data)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}", code="usage/write") from None
    locked = f", locked with ${PASSWORD}" if password else ""
    print(f"{stem}.key  the private key{locked}: key=./{stem}.key, or $PYBUILD_CACHE_KEY, signs with it")
    print(
        f"{stem}.pub  the public key {key.public.id[:12]}: trust=./{stem}.pub, or [cache.trust], believes it"
    )
    return 0


def _stats(args: argparse.Namespace) -> int:
    import time

    from builder.prunepolicies import parsed
    from builder.session import open_session
    from builder.statistics import recent
    from builder.statisticstext import as_json, as_markdown, as_text
    from builder.table import parse_age

    if args.word:
        raise UsageError(f"stats takes no {args.word[0]!r}", code="usage/arguments")
    if args.last is not None and args.last < 1:
        raise UsageError("--last is at least 1", code="usage/value")
    age = parsed(parse_age, args.since, "--since", "24h or 7d")
    with open_session(args) as session:
        found = recent(session.store, args.last or (1 if age is None else 1_000_000))
    if age is not None:
        found = [each for each in found if each.started >= time.time() - age]
    shown = {"json": as_json, "markdown": as_markdown}.get(args.format or "text", as_text)
    print(shown(found), end="")
    return 0
