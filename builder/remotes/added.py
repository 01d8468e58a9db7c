"""What ADD takes from elsewhere: its digest, which goes into the key, and its files.

Of a file the digest is its sha256: it is known beforehand where there is a checksum, and the same file from
another place is the same. Of a repository it is that of the checked out files; which commit has which is
remembered, so nothing is fetched to know it again.
"""

from __future__ import annotations

import json
import os
from threading import Lock, RLock
from typing import TYPE_CHECKING

from builder.keys import VERSION, Part
from builder.remotes.address import Address, GitAddress, HttpAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.fingerprint import Fingerprint
    from builder.placement import Source
    from builder.remotes.fetching import Remotes
    from builder.remotes.git_repository import Commit
    from builder.steps import CopyStep
    from builder.tree import Tree
    from cache.scratch import Staging
    from cache.store import Store

_CHUNK = 1 << 20


class Added:
    """What the ADDs of one recipe take from elsewhere. Close it to release checkouts."""

    def __init__(self, store: Store, remotes: Remotes, remember: Callable[[Fingerprint], str]) -> None:
        """`remember` keeps which files a digest stands for, and returns it."""
        self._store = store
        self._remotes = remotes
        self._remember = remember
        self._trees: dict[GitAddress, Tree] = {}
        self._opened: list[Tree] = []
        self._stagings: list[Staging] = []
        self._lock = Lock()
        self._turns: dict[Address, RLock] = {}

    def known_part(self, address: Address) -> Part | None:
        """Return the key part of `address` as far as it is known without asking anybody, None where it is
        not.
        """
        if isinstance(address, HttpAddress):
            digest = self._remotes.known_file(address)
            return None if digest is None else (address.name, digest)
        commit = self._remotes.known_commit(address)
        if commit is None:
            return None
        known = self._store.memo.get("git", _memo_key(address, commit))
        return None if known is None else (address.name, known.decode())

    def part(self, address: Address) -> Part:
        """Return the key part of `address`: what it is called, and the digest of its content. Raises
        FetchError, HostError."""
        with self._turn(address):
            if isinstance(address, HttpAddress):
                return address.name, self._remotes.file_digest(address)
            return address.name, self._git_digest(address)

    def fetch(self, address: Address) -> None:
        """Fetch what `source` will put in its place. It takes as long as that takes. Raises FetchError,
        HostError.
        """
        with self._turn(address):
            if isinstance(address, HttpAddress):
                self._remotes.file(address)
            else:
                self._tree(address, self._remotes.commit(address))

    def _turn(self, address: Address) -> RLock:
        """Of two stages that want the same, one gets it."""
        with self._lock:
            return self._turns.setdefault(address, RLock())

    def _git_digest(self, address: GitAddress) -> str:
        commit = self._remotes.commit(address)
        key = _memo_key(address, commit)
        known = self._store.memo.get("git", key)
        if known is not None:
            return known.decode()
        from builder.fingerprint import FileDigests, fingerprint

        tree = self._tree(address, commit)
        digest = self._remember(fingerprint(tree, tree.select("."), FileDigests(tree), owners=False))
        self._store.memo.put("git", key, digest.encode())
        return digest

    def source(self, address: Address, step: CopyStep, staging: Staging, number: int) -> Source:
        """Return what `step` takes from `address`: fetched, and put below `staging` where it is a file.

        Raises FetchError, HostError, PlanError for an archive that cannot be unpacked.
        """
        from builder.placement import Source

        if isinstance(address, GitAddress):
            commit = self._remotes.commit(address)
            tree = self._tree(address, commit)
            return Source(tree, tree.select(".", exclude=step.exclude), (0, 0))
        return self._file(address, step, staging, number)

    def close(self) -> None:
        """Let go of what was checked out and opened."""
        for tree in (*self._trees.values(), *self._opened):
            tree.close()
        self._trees = {}
        self._opened = []
        while self._stagings:
            self._stagings.pop().discard()

    def _tree(self, address: GitAddress, commit: Commit) -> Tree:
        from cache.disk import storing

        tree = self._trees.get(address)
        if tree is None:
            with storing("staging a checkout"):
                staging = self._store.scratch.directory("git")
            self._stagings.append(staging)
            found = self._remotes.check_out(address, commit, staging.path)
            tree = self._trees[address] = _open(found.path, address.reference)
        return tree

    def _file(self, address: HttpAddress, step: CopyStep, staging: Staging, number: int) -> Source:
        from builder.archive import is_archive, unpack_archive
        from builder.placement import Source
        from builder.tree import Selection
        from cache.disk import storing

        directory = f"{staging.path}/download-{number}"
        download = self._remotes.file(address)
        with storing("copying a download"), self._remotes.open(download) as file:
            os.mkdir(directory, 0o700)
            path = f"{directory}/{address.name}"
            with open(path, "xb") as out:
                os.fchmod(out.fileno(), 0o600)
                while data := file.read(_CHUNK):
                    out.write(data)
            os.utime(path, (download.modified, download.modified))
        tree = _open(directory, address.shown)
        self._opened.append(tree)
        entry = tree.select(".")[0].entries[1]
        selection = Selection(address.name, entry.path, (entry,))
        if step.unpack_remote and is_archive(tree, selection):
            unpacked = unpack_archive(tree, selection, staging, number)
            self._opened.append(unpacked)
            return Source(unpacked, unpacked.select(".", exclude=step.exclude), unpacked=True)
        return Source(tree, (selection,), (0, 0))


def _open(path: str, name: str) -> Tree:
    from builder.tree import Tree

    return Tree(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name=name)


def _memo_key(address: GitAddress, commit: Commit) -> str:
    # A kept .git says where it is from, and by which name it was found.
    kept = [address.shown, commit.ref, commit.tag] if address.keep_git_dir and not address.subdir else []
    return json.dumps([VERSION, commit.id, address.subdir, address.submodules is not False, kept])
