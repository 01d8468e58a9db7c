"""A `.git` of one commit, for a checkout that keeps it: the same bytes for the same commit, as far as one
version of git packs.

What git itself would leave differs each time: an index with inode numbers and times, packs as the server's
threads had them, a reflog. So it is made by hand: HEAD at the commit, the branch or tag that it was found by,
one pack of its objects (deltas made anew, by one thread), an index that knows nothing of the files' status,
which git looks up when it is asked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import FetchError
from builder.remotes.git_command import GitFailed

if TYPE_CHECKING:
    from builder.remotes.address import GitAddress
    from builder.remotes.git_command import Git
    from builder.remotes.git_repository import Commit

_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
{extensions}[remote "origin"]
\turl = {url}
\tfetch = +refs/heads/*:refs/remotes/origin/*
"""


def write_git_directory(git: Git, repository: str, address: GitAddress, commit: Commit, target: str) -> None:
    """Make `target`, the .git of a checkout of `commit` of `repository`. Raises FetchError."""
    try:
        head = git("rev-parse", "--verify", f"{commit.id}^{{commit}}", directory=repository).decode().strip()
        for directory in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
            os.makedirs(f"{target}/{directory}", 0o755, exist_ok=True)
        sha256 = len(head) == 64
        extensions = "[extensions]\n\tobjectformat = sha256\n" if sha256 else ""
        url = address.shown.replace("\\", "\\\\").replace('"', '\\"')
        _write(f"{target}/config", _CONFIG.format(version=int(sha256), extensions=extensions, url=f'"{url}"'))
        _write(f"{target}/HEAD", f"{head}\n")
        if commit.ref.startswith(("refs/heads/", "refs/tags/")):
            _write(f"{target}/{commit.ref}", f"{commit.tag or head}\n")
        parents = git("cat-file", "commit", head, directory=repository).partition(b"\n\n")[0]
        if b"\nparent " in parents:
            _write(f"{target}/shallow", f"{head}\n")
        listed = git(
            "rev-list", "--objects", "--no-object-names", "--max-count=1", head, directory=repository
        )
        objects = sorted({*listed.split(), *([commit.tag.encode()] if commit.tag else [])})
        pack = ("pack-objects", "--quiet", "--threads=1", "--no-reuse-delta", "--no-reuse-object")
        git(*pack, f"{target}/objects/pack/pack", directory=repository, feed=b"\n".join(objects) + b"\n")
        git("read-tree", head, directory=target)
    except GitFailed as failed:
        raise FetchError(
            f"{address.shown}: its .git cannot be kept:\n{failed.told[-1000:]}", code="git/checkout"
        ) from None


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
