"""git/: bare repositories, one for each remote that something was fetched from
(builder.remotes.git_repository).

Whoever uses one holds it by a shared flock on its directory (`cache.pins`); a prune takes it away alone. When
it was used last is the directory's mtime.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class GitRepository:
    """A repository. `title` is its remote; `size` in bytes, `used` in seconds since 1970."""

    name: str
    title: str
    size: int
    used: int


def path_of(root: str, name: str) -> str:
    """Return where the repository `name` of the store at `root` is, or would be."""
    return f"{root}/git/{name}"


def all_repositories(root: str) -> Iterator[GitRepository]:
    """Yield every repository of the store at `root`."""
    try:
        names = sorted(os.listdir(f"{root}/git"))
    except FileNotFoundError:
        return
    for name in names:
        path = path_of(root, name)
        if _NAME.fullmatch(name) is None:
            continue
        try:
            used = int(os.stat(path).st_mtime)
        except FileNotFoundError:
            continue  # pruned meanwhile
        yield GitRepository(name, _title(path), size_of(path), used)


def size_of(path: str) -> int:
    """Return the bytes of all files below `path`."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(f"{directory}/{name}", follow_symlinks=False).st_size
    return total


def _title(path: str) -> str:
    try:
        with open(f"{path}/description", encoding="utf-8", errors="replace") as file:
            return file.read(1000).strip()
    except OSError:
        return ""
