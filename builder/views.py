"""What a mount shows of a directory on this machine's disk: a copy of what the ignore file lets through.

The directory itself will not do: its owners are this machine's, it may have sockets in it, and it can change
while a step runs. Copies share their extents with the files where the file system can (copy_file_range).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from builder.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.tree import Selection, Tree

Owner = tuple[int, int] | None
"""Whose the copies are; None: those that the files belong to in their tree."""

_MODE = 0o755
"""Of the top of a context: what a checkout gave it is a matter of the umask."""


def make_view(tree: Tree, selection: Selection, owner: Owner, directory: str) -> str:
    """Copy what `selection` has of `tree` into `directory`, which is empty. Return the path of what is to be
    mounted: of the directory that was copied, or of the file.

    Raises HostError if a file has changed since it was selected.
    """
    name = "tree" if selection.is_directory else "file"
    _copy(tree, selection, owner, directory, "/" + name)
    path = f"{directory}/{name}"
    if selection.is_directory:
        top = selection.entries[0]
        os.chmod(path, stat.S_IMODE(top.mode) if top.path else _MODE)
        os.utime(path, ns=(top.mtime, top.mtime))
    return path


def make_places(directory: str, places: Iterable[tuple[str, bool]]) -> None:
    """Make `directory`, and in it empty directories and files (path, whether it is a directory) that others
    are mounted on.
    """
    _make_directory(directory)
    for path, is_directory in places:
        full = f"{directory}/{path}"
        _make_directory(full if is_directory else os.path.dirname(full))
        if not is_directory and not os.path.lexists(full):
            os.close(os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


def _make_directory(path: str) -> None:
    if not os.path.isdir(path):
        _make_directory(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, _MODE)  # whatever the umask is


def fill(tree: Tree, selection: Selection, owner: Owner, directory: str) -> None:
    """Copy what is in the directory that `selection` has into `directory`. Raises PlanError if it is none,
    HostError as `make_view`.
    """
    if not selection.is_directory:
        raise PlanError(
            f"{selection.source!r} of {tree.name} is no directory, which a cache mount is", code="run/cache"
        )
    _copy(tree, selection, owner, directory, "/")


def _copy(tree: Tree, selection: Selection, owner: Owner, directory: str, dest: str) -> None:
    from builder.placement import Placement, Source, place

    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place([Source(tree, (selection,), owner)], (), root, Placement(dest, selection.is_directory, None))
    finally:
        os.close(root)
