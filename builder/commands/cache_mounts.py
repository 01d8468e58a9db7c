"""Look at what `RUN --mount=type=cache` keeps in the store, remove it, or take it to another store.

ls lists the mounts, rm removes those that are named, prune the longest unused. export writes them (all, if
none is named) to an archive, which import reads: a CI job that begins with an empty store begins with warm
caches. What a build has in use stays; export and import wait for it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from builder.errors import BaseError, UsageError
from builder.formats import displayed, fill
from builder.prunepolicies import parsed
from builder.session import open_session
from builder.table import ago, human_size, parse_age, parse_size, print_table
from cache.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.cachemounts_usage import CacheMount
    from cache.compression import Kind
    from cache.store import Store

ACTIONS = ("ls", "rm", "prune", "export", "import")
STDIO = "-"
INTERMIXED = True
"""An option may stand between the action and the ids."""

_GOES_WITH = {
    "format": ("ls",),
    "no_trunc": ("ls",),
    "json": ("ls", "prune"),
    "all": ("prune",),
    "older_than": ("prune",),
    "keep_storage": ("prune",),
    "filter": ("prune",),
    "dry_run": ("prune",),
    "output": ("export",),
    "compression": ("export",),
    "replace": ("import",),
}
"""Options, as argparse stores them, and the actions that they go with."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to `parser`."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=ACTIONS,
        default="ls",
        metavar="ACTION",
        help="ls (default), rm, prune, export or import",
    )
    parser.add_argument(
        "id",
        nargs="*",
        metavar="ID",
        help="the mounts to list, remove or export: ids, or names of instances; of import, the archive",
    )
    parser.add_argument("--no-trunc", action="store_true", help="ls: print whole names")
    parser.add_argument(
        "--format",
        metavar="TEXT",
        help="ls: print TEXT for each, with {{.ID}}, {{.Name}}, {{.Size}}, ... filled in",
    )
    parser.add_argument("--json", action="store_true", help="ls, prune: print JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids alone; prune: the sum alone")
    parser.add_argument("-a", "--all", action="store_true", help="prune: all that are not in use")
    parser.add_argument("--older-than", metavar="AGE", help="prune: what was not used for AGE (24h, 7d)")
    parser.add_argument(
        "--keep-storage", metavar="SIZE", help="prune: leave up to SIZE (10GB, 512MiB), the newest"
    )
    parser.add_argument("--filter", metavar="id=PATTERN", help="prune: only ids that fit, such as id=*/apt/*")
    parser.add_argument("--dry-run", action="store_true", help="prune: only say what would go")
    parser.add_argument(
        "-f", "--force", action="store_true", help="rm: what is not there is no error; else without effect"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="export: write to FILE (default, or -: standard output)"
    )
    parser.add_argument(
        "--compression",
        choices=("zstd", "gzip", "none"),
        help="export: how the archive is compressed (default: as FILE's ending says, else zstd)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="import: keep nothing of a mount that the archive has, too"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; return the exit code."""
    for option, actions in _GOES_WITH.items():
        if getattr(args, option) and args.action not in actions:
            raise UsageError(
                f"--{option.replace('_', '-')} goes with {' and '.join(actions)}, not with {args.action}",
                code="usage/arguments",
            )
    command = {"ls": _list, "rm": _remove, "prune": _prune, "export": _export, "import": _import}
    return command[args.action](args)


def _list(args: argparse.Namespace) -> int:
    with open_session(args) as session:
        found = _named(session.store, args.id) if args.id else _all(session.store)
    if args.json:
        print(json.dumps([asdict(mount) for mount in found], indent=2))
    elif args.quiet:
        _print_ids(found)
    elif args.format is not None:
        for mount in found:
            print(displayed(fill(args.format, dict(_row(mount, whole=args.no_trunc)))))
    else:
        _print_rows(found, whole=args.no_trunc)
    return 0


def _remove(args: argparse.Namespace) -> int:
    from builder.cli import ERRORS, show
    from builder.excerpts import exit_code
    from cache.cachemounts_usage import remove

    if not args.id:
        raise UsageError("name the cache mounts to remove", hint="or `prune --all`", code="usage/arguments")
    code = 0
    with open_session(args) as session:
        mounts = session.store.cache_mounts
        found = _all(session.store)
        for text in args.id:
            try:
                for mount in _matching(found, text, may_miss=args.force):
                    if not remove(mounts, mount.name):
                        raise _in_use(mount)
                    print(mount.id or mount.name)
            except ERRORS as error:
                show(error)
                code = exit_code(error)
    return code


def _prune(args: argparse.Namespace) -> int:
    from cache.cachemounts_usage import choose, prune

    if args.id:
        raise UsageError("prune takes no ids", hint="`rm ID`, or --filter id=PATTERN", code="usage/arguments")
    if not (args.all or args.older_than or args.keep_storage or args.filter):
        raise UsageError(
            "say which are to go: --all, --older-than, --keep-storage or --filter", code="usage/arguments"
        )
    older_than = parsed(parse_age, args.older_than, "--older-than", "24h or 7d")
    keep_storage = parsed(parse_size, args.keep_storage, "--keep-storage", "10GB or 512MiB")
    pattern = _pattern(args.filter)
    with open_session(args) as session:
        found = _all(session.store)
        chosen = choose(
            found, now=time.time(), older_than=older_than, keep_storage=keep_storage, pattern=pattern
        )
        if not args.dry_run:
            chosen = prune(session.store.root, session.store.cache_mounts, chosen)
    freed = sum(mount.size for mount in chosen)
    kept = sum(mount.size for mount in found) - freed
    if args.json:
        items = [asdict(mount) for mount in chosen]
        print(json.dumps({"items": items, "freed": freed, "kept": kept, "dry_run": args.dry_run}, indent=2))
        return 0
    if chosen and not args.quiet:
        _print_rows(chosen, whole=False)
    verb = "would free" if args.dry_run else "freed"
    print(f"{verb} {human_size(freed)} in {len(chosen)} cache mounts; kept {human_size(kept)}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from builder.exporters.destination import open_output
    from cache.cachemounts_export import export
    from cache.compression import Compression, compressed

    dest = args.output or STDIO
    if dest == STDIO and os.isatty(1):
        raise UsageError(
            "an archive does not go to a terminal", code="usage/terminal", hint="use --output FILE"
        )
    compression = Compression.parse(args.compression or _compression_of(dest))
    with open_session(args) as session:
        found = _named(session.store, args.id) if args.id else _all(session.store)
        with open_output(dest) as stream, compressed(stream, compression) as out:
            exported = export(
                session.store.cache_mounts, [mount.name for mount in found], out, on_wait=_waiting
            )
    for each in exported:
        left_out = f"; {each.left_out} sockets and devices left out" if each.left_out else ""
        if not args.quiet:
            _tell(f"exported {each.identity.id}: {_entries(each.entries)}, {human_size(each.size)}{left_out}")
    if not exported and not args.quiet:
        _tell("there are no cache mounts: the archive is an empty one")
    return 0


def _import(args: argparse.Namespace) -> int:
    from cache.cachemounts_import import import_archive
    from cache.decompression import decompress

    if len(args.id) > 1:
        raise UsageError("import takes one archive", code="usage/arguments")
    source = args.id[0] if args.id else STDIO
    if source == STDIO and os.isatty(0):
        raise BaseError(
            "no archive on standard input", hint="name a file, or pipe one in", code="cachemount/archive"
        )
    try:
        fd = os.dup(0) if source == STDIO else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        file = open(fd, "rb")  # noqa: SIM115 - entered below; a directory is refused here
    except OSError as error:
        raise BaseError(f"{source} cannot be read: {error.strerror}", code="cachemount/archive") from None
    with file, open_session(args) as session:
        imported = import_archive(
            session.store.cache_mounts, decompress(file), replace=args.replace, on_wait=_waiting
        )
    for each in imported:
        if args.quiet:
            print(_printable(each.identity.id))
        else:
            how = "merged" if each.merged else "imported"
            print(f"{how} {_printable(each.identity.id)}: {_entries(each.entries)}")
    return 0


def _all(store: Store) -> list[CacheMount]:
    from cache.cachemounts_usage import all_mounts

    return all_mounts(store.cache_mounts)


def _named(store: Store, texts: Iterable[str]) -> list[CacheMount]:
    """Return each mount that is meant, once."""
    found = _all(store)
    meant = {mount.name: mount for text in texts for mount in _matching(found, text)}
    return list(meant.values())


def _matching(found: list[CacheMount], text: str, *, may_miss: bool = False) -> list[CacheMount]:
    """Return the mounts that `text` means. Raises UsageError if there are none."""
    matching = [mount for mount in found if mount.matches(text)]
    if not matching and not may_miss:
        import difflib

        near = difflib.get_close_matches(text, [mount.id for mount in found], n=1)
        raise UsageError(
            f"there is no cache mount {text!r}",
            code="cachemount/unknown",
            hint=f"Did you mean {near[0]}?" if near else "`pybuild cache-mounts` lists them",
        )
    return matching


def _in_use(mount: CacheMount) -> StoreError:
    return StoreError(
        f"the cache mount {mount.id or mount.name} is in use",
        code="cachemount/in-use",
        hint="it can be removed once the build that uses it has ended",
    )


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    key, equals, value = text.partition("=")
    if key != "id" or not equals:
        raise UsageError(f"--filter {text!r}: write it like id=*/apt/*", code="usage/value")
    return value


def _compression_of(dest: str) -> Kind:
    if dest.endswith(".tar"):
        return "none"
    return "gzip" if dest.endswith((".gz", ".tgz")) else "zstd"


def _print_rows(found: Iterable[CacheMount], *, whole: bool) -> None:
    head = ("ID", "NAME", "SIZE", "FILES", "CREATED", "LAST USED", "SHARING", "IN USE")
    columns = ("ID", "Name", "Size", "Files", "CreatedSince", "LastUsedSince", "Sharing", "InUse")
    rows = [_row(mount, whole=whole) for mount in found]
    print_table(head, [tuple(row[column] or "-" for column in columns) for row in rows])


def _row(mount: CacheMount, *, whole: bool) -> dict[str, str]:
    return {
        "ID": mount.id,
        "Name": mount.name if whole else mount.short_name,
        "Base": mount.base,
        "Owner": f"{mount.uid}:{mount.gid}",
        "Mode": f"{mount.mode:04o}",
        "Size": human_size(mount.size),
        "Files": str(mount.files),
        "CreatedSince": ago(mount.created),
        "LastUsedSince": ago(mount.used),
        "Sharing": mount.sharing,
        "InUse": "yes" if mount.in_use else "no",
    }


def _print_ids(found: Iterable[CacheMount]) -> None:
    for each in dict.fromkeys(mount.id or mount.name for mount in found):
        print(_printable(each))


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _printable(text: str) -> str:
    from builder.progress.printable import printable

    return printable(text)


def _waiting(mount_id: str) -> None:
    _tell(f"waiting for the cache mount {mount_id}, which is in use")


def _tell(text: str) -> None:
    print(_printable(text), file=sys.stderr)
