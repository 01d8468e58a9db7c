"""Git repositories in the store: for each remote a bare one, in which each commit that was asked for is kept,
alone (shallow).

Resolving a ref takes one question to the server (`git ls-remote`), a whole commit id none; a commit that is
here takes none either. As with BuildKit, a branch is preferred to a tag of the same name, and an annotated
tag stands for the commit that it leads to. That a commit is complete is written down in the store, which
trusts such notes after a sync or within the same boot, and by a ref, `refs/pybuild/ID`, which git makes when
all is there.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import FetchError
from builder.remotes.address import is_commit
from builder.remotes.git_command import GitFailed, Secrets, failure, login_for
from cache.disk import storing
from cache.locks import unlock
from cache.pins import hold
from cache.repositories import path_of, size_of

if TYPE_CHECKING:
    from builder.events import Emit
    from builder.remotes.address import GitAddress
    from builder.remotes.git_command import Git
    from cache.store import Store

_ABBREVIATED = re.compile(r"[0-9a-f]{4,63}")
# Servers that do not give single commits away, or know nothing of shallow ones: from git's upload-pack.c,
# fetch-pack.c, remote-curl.c.
_ALL_OR_NOTHING = (
    "not our ref",
    "unadvertised object",
    "does not allow request",
    "shallow",
    "--depth",
    "Server does not support",
)


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit by its id. `ref` is the whole name of what it was found by, "" if it was asked for by its id;
    `tag` the id of the annotated tag that leads to it, "" where there is none."""

    id: str
    ref: str = ""
    tag: str = ""

    @property
    def wanted(self) -> str:
        """The object that brings all along."""
        return self.tag or self.id


class Repositories:
    """The repositories of a store."""

    def __init__(self, store: Store, emit: Emit, git: Git, secrets: Secrets | None = None) -> None:
        self._store = store
        self._emit = emit
        self._git = git
        self._secrets = secrets
        self._resolved: dict[tuple[str, str], Commit] = {}

    def resolve(self, address: GitAddress, *, main: bool = True) -> Commit:
        """Return the commit that `address` names; asked once in a build. Raises FetchError (git/ref,
        git/refused, fetch/unreachable), HostError."""
        key = (address.remote, address.ref)
        found = self._resolved.get(key)
        if found is None:
            known = address.ref if is_commit(address.ref) else ""
            found = self._resolved[key] = Commit(known) if known else self._ask(address, main)
        return found

    @contextlib.contextmanager
    def repository(self, address: GitAddress, commit: Commit, *, main: bool = True) -> Iterator[str]:
        """Hold the repository that has `commit`, and yield its path. What is missing is fetched before.
        Raises FetchError.
        """
        path, held = self._hold(address, len(commit.id))
        try:
            if not self._has(path, commit):
                with self._store.lock(f"git {os.path.basename(path)}"):
                    if not self._has(path, commit):
                        self._fetch(address, path, commit, main)
            yield path
        finally:
            unlock(held)

    def _hold(self, address: GitAddress, digits: int) -> tuple[str, int]:
        """Return the repository of a remote, made if it is not there, and what keeps prunes off it."""
        path = path_of(self._store.root, self._name(address, digits))
        while True:
            held = hold(path)
            if held is not None:
                os.utime(path)
                return path, held
            with self._store.lock(f"git {os.path.basename(path)}"):
                if not os.path.isdir(path):
                    self._make(address, path, digits)

    def _name(self, address: GitAddress, digits: int) -> str:
        import hashlib

        remote = login_for(address, None)[0]
        return hashlib.sha256(f"{digits} {remote}".encode("utf-8", "surrogateescape")).hexdigest()[:40]

    def _has(self, path: str, commit: Commit) -> bool:
        name = os.path.basename(path)
        return (
            os.path.exists(f"{path}/refs/pybuild/{commit.wanted}")
            and self._store.receipts.get(f"git {name} {commit.wanted}") is not None
        )

    def _ask(self, address: GitAddress, main: bool) -> Commit:
        remote, login = login_for(address, self._secrets, main=main)
        wanted = address.ref or "HEAD"
        patterns = (wanted,) if not address.ref else (wanted, f"{wanted}^{{}}")
        try:
            # From a directory that is no repository: none has a say in it.
            told = self._git(
                "ls-remote", "--symref", "--", remote, *patterns, directory=self._store.root, login=login
            )
        except GitFailed as failed:
            raise failure(address, failed) from None
        refs: dict[str, str] = {}
        head = ""
        for line in told.decode("utf-8", "replace").splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: ") and name == "HEAD":
                head = value.removeprefix("ref: ")
            elif is_commit(value):
                refs[name] = value
        if not address.ref and "HEAD" in refs:
            return Commit(refs["HEAD"], head)
        found = _choose(wanted, refs)
        if found is None and _ABBREVIATED.fullmatch(wanted):
            found = self._abbreviated(address, main)
        if found is None:
            what = f"has no branch or tag {address.ref}" if address.ref else "is empty"
            raise FetchError(f"{address.shown} {what}", code="git/ref")
        return found

    def _abbreviated(self, address: GitAddress, main: bool) -> Commit | None:
        """Find a commit by how its id begins. No server answers that: it takes the whole history."""
        path, held = self._hold(address, 40)
        try:
            with self._store.lock(f"git {os.path.basename(path)}"):
                self._fetch_all(address, path, main)
            told = self._git("rev-parse", "--verify", "-q", f"{address.ref}^{{commit}}", directory=path)
        except GitFailed:
            return None
        finally:
            unlock(held)
        return Commit(told.decode().strip())

    def _fetch(self, address: GitAddress, path: str, commit: Commit, main: bool) -> None:
        from builder.events import TransferFinished, TransferStarted

        transfer = f"git {address.shown} {commit.id}"
        before = size_of(path)
        self._emit(TransferStarted(transfer, f"{address.shown} {commit.id[:12]}", None))
        self._fetch_commit(address, path, commit, main)
        self._store.receipts.put(f"git {os.path.basename(path)} {commit.wanted}", b"")
        self._emit(TransferFinished(transfer, max(0, size_of(path) - before)))

    def _fetch_commit(self, address: GitAddress, path: str, commit: Commit, main: bool) -> None:
        _unlock(path)
        remote, login = login_for(address, self._secrets, main=main)
        target = f"refs/pybuild/{commit.wanted}"
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--force", "--depth=1", "--", remote)
        try:
            self._git("fetch", *options, f"+{commit.wanted}:{target}", directory=path, login=login)
        except GitFailed as failed:
            if not any(text in failed.told for text in _ALL_OR_NOTHING):
                raise failure(address, failed) from None
            self._fetch_all(address, path, main)
        try:
            self._git("rev-parse", "--verify", "--quiet", f"{commit.wanted}^{{commit}}", directory=path)
            self._git("update-ref", target, commit.wanted, directory=path)
        except GitFailed:
            raise FetchError(f"{address.shown} has no commit {commit.wanted}", code="git/ref") from None

    def _fetch_all(self, address: GitAddress, path: str, main: bool) -> None:
        """Fetch every branch and tag with all that was before."""
        _unlock(path)
        remote, login = login_for(address, self._secrets, main=main)
        whole = ("--unshallow",) if os.path.exists(f"{path}/shallow") else ()
        options = (
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--force",
            "--prune",
            *whole,
            "--",
            remote,
        )
        refs = ("+refs/heads/*:refs/pybuild-all/heads/*", "+refs/tags/*:refs/pybuild-all/tags/*")
        try:
            self._git("fetch", *options, *refs, directory=path, login=login)
        except GitFailed as failed:
            raise failure(address, failed) from None

    def _make(self, address: GitAddress, path: str, digits: int) -> None:
        """Make a bare repository."""
        with storing("making a git repository"):
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            with self._store.scratch.directory("git") as staging:
                made = f"{staging.path}/bare"
                os.mkdir(made, 0o700)
                form = "sha256" if digits == 64 else "sha1"
                self._git("init", "-q", "--bare", "--template=", f"--object-format={form}", directory=made)
                with open(f"{made}/description", "w", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(address.shown + "\n")
                os.rename(made, path)


def _unlock(path: str) -> None:
    """Remove the locks of a git that was killed: ours is the only one now that fetches here."""
    with storing("preparing a git repository"):
        for directory, _, names in os.walk(path):
            for name in names:
                if name.endswith(".lock"):
                    os.unlink(f"{directory}/{name}")


def check(address: GitAddress, found: Commit) -> None:
    """Raise FetchError (git/checksum) unless `found`, or the tag that leads to it, is what the checksum
    says.
    """
    if address.checksum and not any(each.startswith(address.checksum) for each in (found.id, found.tag)):
        ids = found.id + (f" (tag {found.tag})" if found.tag else "")
        raise FetchError(
            f"{address.reference} is not what the checksum says:\n"
            f"expected {address.checksum}\nfound    {ids}",
            code="git/checksum",
            hint="the branch or tag has moved on, or the checksum is that of another one",
        )


def _choose(wanted: str, refs: dict[str, str]) -> Commit | None:
    """Return what git would take `wanted` for: a whole name, a branch, a tag."""
    short = wanted.removeprefix("refs/")
    candidates = (
        f"refs/{short}",
        f"refs/heads/{short.removeprefix('heads/')}",
        f"refs/tags/{short.removeprefix('tags/')}",
    )
    for name in candidates:
        if name in refs:
            peeled = refs.get(f"{name}^{{}}")
            return Commit(peeled, name, refs[name]) if peeled else Commit(refs[name], name)
    return None
