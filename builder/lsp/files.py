"""Files beside a recipe, for completion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

_MOST = 500
"""Files of one directory that are worth being offered."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file or directory: its name, and its path as it is to be written."""

    name: str
    path: str
    directory: bool


def files(recipe: str, typed: str, endings: tuple[str, ...], *, inside: bool) -> Iterator[Found]:
    """Yield what `typed`, a path beside `recipe`, may go on to: directories, and files with one of `endings`
    (none: all). `inside`: it is a path in the context, which nothing leads out of.
    """
    if not recipe:
        return
    parent, slash, begun = typed.rpartition("/")
    directory = parent + slash
    if inside:
        # What COPY makes of it: /a is a, and ../a is a (docs/language.md).
        parent = os.path.normpath("/" + parent).lstrip("/")
    place = os.path.join(os.path.dirname(recipe), parent or ("/" if slash and not inside else "."))
    try:
        with os.scandir(place) as entries:
            found = sorted(_wanted(entries, begun, endings))[:_MOST]
    except (OSError, ValueError):  # no such directory; a NUL in the path
        return
    for name, is_directory in found:
        yield Found(name, directory + name, is_directory)


def _wanted(
    entries: Iterator[os.DirEntry[str]], begun: str, endings: tuple[str, ...]
) -> Iterator[tuple[str, bool]]:
    for entry in entries:
        name = entry.name
        if name.startswith(".") and not begun.startswith("."):
            continue
        # Other names would be more words than one, or no text.
        if not name.isprintable() or " " in name:
            continue
        # An editor's words may be shorter than ours; what cannot match is left out all the same.
        if not name.lower().startswith(begun[:1].lower()):
            continue
        is_directory = entry.is_dir()
        if is_directory or not endings or name.endswith(endings):
            yield name, is_directory
