"""What `pybuild cache` does with shared caches: each action gets the caches and the keys that were named."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.cacheaudit import Audit, Audited
from builder.cachespec import CacheSpec, merged
from builder.cachetiers import KEY, CacheTier, open_cache
from builder.config import load
from builder.errors import UsageError
from builder.table import ago, human_size, parse_age, print_table

if TYPE_CHECKING:
    from builder.config import Config
    from cache.remote import RemoteCache

_SHORT = 12


def list_entries(args: argparse.Namespace, caches: list[str], keys: list[str]) -> int:
    """Print what is in caches; return the exit code."""
    rows = []
    for tier, remote in _opened(args, caches):
        found = sorted(Audit(tier, remote).entries(keys), key=lambda each: -each.stored.changed)
        rows += [(tier.name, each) for each in found]
    if args.json:
        print(json.dumps([_value(name, each) for name, each in rows], indent=2))
    elif args.quiet:
        for key in dict.fromkeys(each.stored.key for _, each in rows):
            print(key)
    else:
        head = ("KEY", "STEP", "LAYER", "TIME", "SIGNER", "BELIEVED", "WRITTEN", "USED", "CACHE")
        print_table(head, [_row(name, each, whole=args.no_trunc) for name, each in rows])
    return 0


def explain_key(args: argparse.Namespace, caches: list[str], keys: list[str]) -> int:
    """Print what is known of one key, here and in caches; return the exit code."""
    from builder.cachewhy import known_here, print_json, print_text

    if len(keys) != 1:
        raise UsageError("why takes one key, or how it begins", code="usage/arguments")
    (start,) = keys
    config = load(args.config)
    elsewhere: list[tuple[str, Audited, str]] = []
    for tier, remote in _opened(args, caches, config=config, may_be_none=True):
        audit = Audit(tier, remote)
        for each in audit.entries([start]):
            missing = "" if each.entry is None else _missing(remote, each)
            elsewhere.append((tier.name, each, missing))
    here = known_here(args, start)
    found = here.keys() | {each.stored.key for _, each, _ in elsewhere}
    if not found:
        raise UsageError(
            f"nothing is known of the key {start}",
            code="cache/unknown",
            hint="a build's json events, and `pybuild cache ls`, have keys",
        )
    if len(found) > 1:
        shown = ", ".join(sorted(found)[:4])
        raise UsageError(f"{len(found)} keys begin with {start}: {shown}", code="cache/unknown")
    (key,) = found
    (print_json if args.json else print_text)(key, here.get(key), elsewhere)
    return 0


def verify(args: argparse.Namespace, caches: list[str], keys: list[str]) -> int:
    """Read all that is in caches; print what is wrong with it; return 1 if anything is."""
    wrong: list[tuple[str, Audited, str]] = []
    good = layers = size = 0
    for tier, remote in _opened(args, caches):
        tier.check()
        audit = Audit(tier, remote)
        for each in audit.entries(keys):
            problem = each.doubt or ""
            if not problem and each.entry is not None and not args.no_layers:
                problem = audit.damage(each.entry)
                layers += len(each.entry.layers)
                size += sum(blob.size for blob in each.entry.layers)
            if problem:
                wrong.append((tier.name, each, problem))
            else:
                good += 1
    if args.json:
        bad = [_value(name, each) | {"problem": problem} for name, each, problem in wrong]
        print(json.dumps({"good": good, "layers": layers, "bytes": size, "bad": bad}, indent=2))
        return 1 if wrong else 0
    for name, each, problem in wrong:
        print(_plain(f"{name}: {each.stored.key} of {each.stored.signer[:_SHORT]}: {problem}"))
    if not args.quiet or wrong:
        read = "" if args.no_layers else f"; read {layers} layers, {human_size(size)}"
        print(f"{good} entries are good, {len(wrong)} are not{read}")
    return 1 if wrong else 0


def sign(args: argparse.Namespace, caches: list[str], keys: list[str]) -> int:
    """Add a signature of one's own to what is believed in caches; return the exit code."""
    path = args.key or os.environ.get(KEY, "")
    if not path:
        raise UsageError(
            "no key to sign with", hint=f"--key FILE, or ${KEY}; keygen makes one", code="usage/arguments"
        )
    added = there = left = 0
    for tier, remote in _opened(args, caches):
        tier.check()
        own = tier.with_key(path)
        audit = Audit(tier, remote)
        found = list(audit.entries(keys))
        signed = {each.stored.key for each in found if each.stored.signer == own.public.id}
        there += len(signed)
        for each in found:
            if each.stored.key in signed:
                continue
            if each.doubt or each.entry is None or audit.damage(each.entry):
                left += 1
            elif audit.sign(each, own):
                added += 1
                signed.add(each.stored.key)
    print(f"signed {added}; {there} were signed already, {left} are not believed, or damaged")
    return 0


def remove(args: argparse.Namespace, caches: list[str], keys: list[str]) -> int:
    """Remove what is under keys from caches; return the exit code."""
    if not keys:
        raise UsageError(
            "name the keys to remove", hint="`pybuild cache ls` has them", code="usage/arguments"
        )
    gone: dict[str, int] = {}
    for _, remote in _opened(args, caches):
        stored = {each.key for each in remote.stored()}
        for start in keys:
            found = [key for key in stored if key.startswith(start)]
            if len(found) > 1:
                raise UsageError(f"{len(found)} keys begin with {start}", code="cache/unknown")
            for key in found:
                count = (
                    sum(1 for each in remote.stored() if each.key == key)
                    if args.dry_run
                    else remote.remove(key)
                )
                gone[key] = gone.get(key, 0) + count
    missing = [start for start in keys if not any(key.startswith(start) for key in gone)]
    if args.json:
        print(json.dumps({"removed": gone, "dry_run": args.dry_run}, indent=2))
    else:
        for key, count in gone.items():
            print(f"{key}  {count}")
    if missing:
        raise UsageError(f"there is no entry under {', '.join(missing)}", code="cache/unknown")
    return 0


def collect(args: argparse.Namespace, caches: list[str], keys: list[str]) -> int:
    """Remove from caches what is old or unused, and blobs that no entry speaks of; return the exit code."""
    from builder.prunepolicies import parsed

    if keys:
        raise UsageError("gc takes no keys", hint="`rm KEY` does", code="usage/arguments")
    now = int(time.time())
    older = parsed(parse_age, args.older_than, "--older-than", "24h or 30d")
    unused = parsed(parse_age, args.unused_for, "--unused-for", "24h or 30d")
    reports = {}
    for tier, remote in _opened(args, caches):
        reports[tier.name] = remote.collect(
            older=None if older is None else int(now - older),
            unused=None if unused is None else int(now - unused),
            dry_run=args.dry_run,
        )
    if args.json:
        value = {
            name: {"entries": each.entries, "blobs": each.blobs, "bytes": each.size}
            for name, each in reports.items()
        }
        print(json.dumps({"caches": value, "dry_run": args.dry_run}, indent=2))
        return 0
    verb = "would remove" if args.dry_run else "removed"
    for name, each in reports.items():
        print(
            _plain(f"{name}: {verb} {each.entries} entries and {each.blobs} blobs, {human_size(each.size)}")
        )
    return 0


def _opened(
    args: argparse.Namespace,
    texts: Sequence[str],
    *,
    config: Config | None = None,
    may_be_none: bool = False,
) -> Iterator[tuple[CacheTier, RemoteCache]]:
    """Yield each cache that is meant, open."""
    config = config or load(args.config)
    tiers = _named(texts, config)
    if not tiers and not may_be_none:
        raise UsageError(
            "no shared cache is named",
            hint="type=registry,ref=HOST/NAME, type=dir,path=DIR, or [cache] in pybuild.toml",
            code="usage/arguments",
        )
    for tier in tiers:
        with _open(tier, config) as remote:
            yield tier, remote


@contextmanager
def _open(tier: CacheTier, config: Config) -> Iterator[RemoteCache]:
    from builder.registries import configured

    remote = open_cache(tier.spec, configured(config))
    try:
        yield remote
    finally:
        remote.close()


def _named(texts: Sequence[str], config: Config) -> list[CacheTier]:
    """Return the caches that `texts` name; all of the configuration's if there are none."""
    given = [("--cache-from", *each) for each in config.cache.from_]
    given += [("--cache-to", *each) for each in config.cache.to]
    known = merged(CacheSpec.parse(text, option=option, directory=at) for option, text, at in given)
    specs = []
    for text in texts:
        same = [spec for spec in known if spec.name == text]
        if not same and "=" not in text and "/" not in text:
            raise UsageError(
                f"pybuild.toml has no shared cache {text!r}",
                hint=f"it has {', '.join(spec.name for spec in known)}" if known else None,
                code="usage/cache",
            )
        specs += same or [CacheSpec.parse(text)]
    chosen = merged(specs) if texts else known
    return [CacheTier(spec, config.cache.trust, os.environ) for spec in chosen]


def _missing(remote: RemoteCache, each: Audited) -> str:
    """Return which of an entry's blobs is not there, "" if all are."""
    assert each.entry is not None
    gone = [blob.digest for blob in each.entry.layers if not remote.has_blob(blob.digest)]
    return gone[0] if gone else ""


def _row(name: str, each: Audited, *, whole: bool) -> tuple[str, ...]:
    entry, stored = each.entry, each.stored
    record = None if entry is None else entry.record
    step = "?" if entry is None else record.line if record is not None else entry.kind
    size = sum(blob.size for blob in entry.layers) if entry is not None else 0
    doubt = "-" if each.doubt is None else each.doubt or "yes"
    return (
        stored.key if whole else stored.key[:_SHORT],
        step,
        human_size(size) if size else "-",
        f"{record.seconds:.1f}s" if record is not None else "-",
        stored.signer if whole else stored.signer[:_SHORT],
        doubt,
        ago(stored.changed),
        ago(stored.used) if stored.used else "-",
        name,
    )


def _value(name: str, each: Audited) -> dict[str, object]:
    entry, stored = each.entry, each.stored
    record = None if entry is None else entry.record
    return {
        "cache": name,
        "key": stored.key,
        "signer": stored.signer,
        "kind": None if entry is None else entry.kind,
        "line": None if record is None else record.line,
        "seconds": None if record is None else record.seconds,
        "layers": [] if entry is None else [{"digest": b.digest, "size": b.size} for b in entry.layers],
        "believed": None if each.doubt is None else not each.doubt,
        "doubt": each.doubt or None,
        "created": None if entry is None else entry.created,
        "expires": None if entry is None else entry.expires,
        "written": stored.changed,
        "used": stored.used,
    }


def _plain(text: str) -> str:
    from builder.progress.printable import printable

    return printable(text)
