"""Writing the receipt that builder.direct reads: what a build that hit throughout had looked at, and what
it showed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import marshal
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO, cast

from builder import direct
from builder.events import BuildFinished, Emit, Event, StepFinished, StepOutput
from cache.errors import CacheError
from cache.images import canonical_name

if TYPE_CHECKING:
    from builder.build import Build, Built
    from builder.config import Config
    from builder.direct import Status
    from builder.progress import Mode
    from builder.session import Session

_RACY_NS = 100_000_000
"""What changed less than this ago may change again without another status (see builder.fingerprint)."""

_ENVIRONMENT = (
    "SOURCE_DATE_EPOCH",
    "PYBUILD_ROOT",
    "HOME",
    "XDG_CONFIG_HOME",
    "TERM",
    "CI",
    "NO_COLOR",
    "COLUMNS",
    "PYBUILD_CACHE_KEY",
)
"""What a cached build asks of the environment, beside the build arguments that come from there."""


class Recorder:
    """Passes events on to a display, and remembers them for the receipt."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Take one event."""
        if not isinstance(event, StepOutput):
            self.events.append(event)
        self._emit(event)


def wanted(args: argparse.Namespace, config: Config) -> bool:
    """Return whether the same command line could be answered without being carried out."""
    if "-" in (args.file, args.recipe):
        return False
    asked = (args.output, args.push, args.iidfile, args.metadata_file, args.explain, args.pull)
    anew = (args.no_cache, args.no_cache_filter)
    # What aliases say is in files that a receipt does not know.
    configured = (config.outputs, config.pull, config.short_names == "aliases")
    return (
        not any(asked)
        and not any(anew)
        and not any(configured)
        and (args.progress or config.progress) != "json"
    )


def leave_receipt(
    session: Session,
    args: argparse.Namespace,
    context: str,
    build: Build,
    built: Built,
    events: Iterable[Event],
    *,
    started: int,
) -> None:
    """Keep the receipt of a build, unless something that it looked at may have changed since it began
    (`started`, in ns): what was read cannot be told from the next version then.

    A receipt is a convenience: a store that has no room for it is no error.
    """
    bases, caches = _bases(session), session.cache_files
    if bases is None or caches is None:
        return
    files = {**build.looked_at, **_around(session, args, context), **direct.looked_at(caches)}
    young = started - _RACY_NS
    if any(found is not None and max(found[1], found[2]) > young for found in files.values()):
        return
    asked = [*_ENVIRONMENT, *(name for name in args.build_arg if "=" not in name)]
    names = [(canonical_name(name) or name, str(built.image_id)) for name in built.names]
    receipt = {
        "time": time.time(),
        "environment": [(name, os.environ.get(name)) for name in asked],
        "files": files,
        "stored": _in_store(session, built),
        "names": [*names, *bases, *session.locked_names().items()],
        "work_tree": session.epoch.work_tree,
        "git": session.epoch.commit,
        "shown": "" if args.quiet else _shown(args, session, events),
        "quiet": args.quiet,
        "image": str(built.image_id),
    }
    with contextlib.suppress(CacheError):
        session.store.receipts.put(direct.key(sys.argv[1:]), marshal.dumps(receipt))
        session.store.sync()


def _bases(session: Session) -> list[tuple[str, str]] | None:
    """Return the names that image bases were found under, None if one has no name: it comes from a file."""
    known = session.store.images.names()
    found: list[tuple[str, str]] = []
    for reference, base in session.bases():
        name = next((n for n in (reference, canonical_name(reference, strict=False)) if n in known), None)
        if name is None or known[name] != base.image_id:
            return None
        found.append((name, str(base.image_id)))
    return found


def _around(session: Session, args: argparse.Namespace, context: str) -> dict[str, Status]:
    """Return the files that say what is built, and when: configuration, the recipe that was looked for,
    git's marks.
    """
    from builder.config import search_path
    from builder.epoch import git_markers

    places = [args.config] if args.config else list(search_path(os.getcwd(), os.environ))
    if args.recipe is None or os.path.isdir(args.recipe):
        # Which recipe is meant depends on what there is.
        directory = args.recipe or "."
        places += [directory, *(os.path.join(directory, name) for name in ("Dockerfile", "dockerfile"))]
    if session.epoch.seconds is None and not session.epoch.work_tree:
        places += git_markers(os.path.abspath(context))
    return direct.looked_at(places)


def _in_store(session: Session, built: Built) -> list[str]:
    """Return what has to be in the store still: the image, and each of its layers that has come in."""
    from builder.bases.base import chain_of
    from cache.absent import AbsentLayer

    store = session.store
    paths = [store.images.path(built.image_id)]
    chain_id = chain_of(built.config.diff_ids)
    for layer in store.stack(chain_id) or ():
        if isinstance(layer, AbsentLayer):
            continue
        paths.append(store.layers.diff_path(layer).removesuffix("diff") + "committed")
        paths.append(f"{store.layers.layerdb}/{layer.chain_id.hex}")
    return paths


def _shown(args: argparse.Namespace, session: Session, events: Iterable[Event]) -> str:
    """Return what a display prints for the events of a build that hits throughout, at once."""
    from builder.progress import open_display

    stream = _Transcript(sys.stderr)
    mode = cast("Mode", args.progress or session.config.progress or "auto")
    with open_display(mode, stream, clock=lambda: 0.0) as display:
        for event in events:
            if isinstance(event, (StepFinished, BuildFinished)):
                event = replace(event, seconds=0.0)
            display.emit(event)
    return stream.getvalue()


class _Transcript(io.StringIO):
    """A text that a display takes for the stream `like`: as wide, and as able to redraw."""

    def __init__(self, like: TextIO) -> None:
        super().__init__()
        self._like = like

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._like, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._like.isatty()

    def fileno(self) -> int:
        return self._like.fileno()
