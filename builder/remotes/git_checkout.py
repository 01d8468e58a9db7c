"""A commit's files as a directory.

git itself checks out, since attributes of the repository (line ends, encodings) say what a file becomes; it
refuses names that would do harm. What comes out is the same for the same commit, wherever and whenever: files
are 0644 or 0755, directories 0755, and every time is that of the commit. (BuildKit leaves the time of the
checkout; then no two images of a commit would be the same.)

Submodules are checked out by us: `git submodule` would be steered by what strangers wrote. Of `.gitmodules`,
path and URL are read, and `update = none`. Each submodule's repository is kept in the store like any other.
With its `.git` kept, a checkout is a repository of one commit with a detached HEAD and `origin` without
credentials; its submodules are plain directories.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import FetchError
from builder.remotes.address import parse_repository, redact
from builder.remotes.git_command import GitFailed
from builder.remotes.git_repository import Commit

if TYPE_CHECKING:
    from builder.remotes.address import GitAddress
    from builder.remotes.git_command import Git
    from builder.remotes.git_repository import Repositories

_MOST_LEVELS = 20
_COMMITTER = re.compile(rb"^committer .* (-?\d+) [+-]\d+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of a commit: a directory, and the commit's time in seconds since 1970."""

    path: str
    time: int


class Checkouts:
    """Makes directories of commits."""

    def __init__(self, repositories: Repositories, git: Git) -> None:
        self._repositories = repositories
        self._git = git

    def check_out(self, address: GitAddress, commit: Commit, directory: str) -> Checkout:
        """Check out what `address` names of `commit` below the empty `directory`. As with BuildKit, `.git` is
        kept of a whole repository only.

        Raises FetchError (git/checkout, git/subdir, git/submodule, and those of fetching), HostError.
        """
        tree = f"{directory}/tree"
        os.mkdir(tree, 0o755)
        time = self._one(address, commit, tree, f"{directory}/index", 0)
        path = _subdirectory(address, tree)
        _make_plain(path, time)
        if address.keep_git_dir and not address.subdir:
            from builder.remotes.git_directory import write_git_directory

            with self._repositories.repository(address, commit) as repository:
                write_git_directory(self._git, repository, address, commit, f"{tree}/.git")
            _make_plain(path, time)
        return Checkout(path, time)

    def _one(self, address: GitAddress, commit: Commit, tree: str, index: str, level: int) -> int:
        """Check out one repository into the empty directory `tree`, and its submodules; return its time."""
        if level > _MOST_LEVELS:
            raise FetchError(f"{address.shown}: its submodules go too deep", code="git/submodule")
        wanted = f"{commit.id}^{{commit}}"
        with self._repositories.repository(address, commit, main=level == 0) as repository:
            try:
                told = self._git("cat-file", "commit", wanted, directory=repository)
                # Into an empty index: so every file is written, and no ref of the repository is touched.
                read = ("read-tree", "--reset", "-u", wanted)
                self._git(*read, directory=repository, work_tree=tree, index=index)
                submodules = () if address.submodules is False else self._submodules(repository, wanted)
            except GitFailed as failed:
                damaged = any(word in failed.told for word in ("corrupt", "unable to read", "missing"))
                raise FetchError(
                    f"{address.shown} cannot be checked out:\n{failed.told[-1000:]}",
                    code="git/checkout",
                    hint="`pybuild prune` removes what was kept of it, if that is damaged"
                    if damaged
                    else None,
                ) from None
        if os.path.exists(index):
            os.unlink(index)
        subdir = _real(tree, address.subdir) or address.subdir
        for each in submodules:
            if _concerns(each.path, subdir):
                self._submodule(address, each, tree, index, level)
        found = _COMMITTER.search(told)
        return max(0, int(found[1])) if found else 0

    def _submodules(self, repository: str, commit: str) -> tuple[_Submodule, ...]:
        """Return the submodules that the commit has."""
        told = self._git("ls-tree", "-r", "-z", "--full-tree", commit, directory=repository)
        entries = [line.partition(b"\t") for line in told.split(b"\0")]
        links = [(os.fsdecode(path), facts) for facts, _, path in entries if facts.startswith(b"160000 ")]
        if not links:
            return ()
        known: dict[str, dict[str, str]] = {}
        if any(path == b".gitmodules" for _, _, path in entries):
            # What it includes would be read from this host.
            read = ("config", "--no-includes", "--blob", f"{commit}:.gitmodules", "-z", "--list")
            known = _by_path(self._git(*read, directory=repository))
        found = []
        for path, facts in links:
            told_of = known.get(path, {})
            ignored = told_of.get("update") == "none"
            found.append(_Submodule(path, facts.split()[2].decode(), told_of.get("url", ""), ignored))
        return tuple(found)

    def _submodule(self, parent: GitAddress, module: _Submodule, tree: str, index: str, level: int) -> None:
        if module.ignored:
            return
        shown = f"the submodule {module.path!r} of {parent.shown}"
        if not module.url:
            raise FetchError(
                f"{shown} is not in its .gitmodules",
                code="git/submodule",
                hint="?submodules=false leaves them out",
            )
        address = parse_repository(_relative_url(parent.remote, module.url))
        if address is None:
            raise FetchError(
                f"{shown} is at {redact(module.url)[:200]!r}, which is no https, ssh or git URL",
                code="git/submodule",
            )
        place = f"{tree}/{module.path}"
        # git has made an empty directory for it; what else is there, or on the way there, is none of ours.
        try:
            fd = _open_below(tree, module.path)
        except OSError as error:
            raise FetchError(f"{shown} has no place: {error.strerror}", code="git/submodule") from None
        try:
            if os.listdir(fd):
                raise FetchError(f"{shown} has no place: something is there", code="git/submodule")
        finally:
            os.close(fd)
        self._one(address, Commit(module.commit), place, index, level + 1)


@dataclass(frozen=True, slots=True)
class _Submodule:
    """Where it is in the tree, its commit, its URL ("" if .gitmodules does not say); `ignored`: it says
    not to check it out.
    """

    path: str
    commit: str
    url: str
    ignored: bool


def _open_below(tree: str, path: str) -> int:
    from cache.openat2 import open_directory

    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_directory(root, os.fsencode(path))
    finally:
        os.close(root)


def _by_path(told: bytes) -> dict[str, dict[str, str]]:
    """Read `git config -z --list` of a .gitmodules: path -> what is said of the submodule there."""
    named: dict[str, dict[str, str]] = {}
    for entry in told.split(b"\0"):
        key, _, value = os.fsdecode(entry).partition("\n")
        section, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        if section == "submodule" and name:
            named.setdefault(name, {})[field] = value
    return {found["path"]: found for found in named.values() if "path" in found}


def _relative_url(remote: str, url: str) -> str:
    """Return what a submodule's `./…` or `../…` means from its parent's remote (git's relative_url,
    remote.c).
    """
    if not url.startswith(("./", "../")):
        return url
    base, separator = remote.rstrip("/"), "/"
    while True:
        if url.startswith("../"):
            url = url[3:]
            if "/" in base:
                base = base.rpartition("/")[0]
            else:
                base, separator = base.rpartition(":")[0], ":"
        elif url.startswith("./"):
            url = url[2:]
        else:
            return (base + separator + url).rstrip("/")


def _concerns(path: str, subdir: str) -> bool:
    """Whether a submodule at `path` has a part in what is below `subdir`."""
    one, other = f"{path}/", f"{subdir}/" if subdir else ""
    return one.startswith(other) or other.startswith(one)


def _real(tree: str, subdir: str) -> str:
    """Return the path below `tree` that `subdir` leads to, "" if it leads out of it, or nowhere."""
    top = os.path.realpath(tree)
    real = os.path.realpath(os.path.join(top, subdir))
    return os.path.relpath(real, top) if real.startswith(f"{top}/") and os.path.exists(real) else ""


def _subdirectory(address: GitAddress, tree: str) -> str:
    """Return the path of the directory that the address names. A symbolic link may lead to it, but not
    out of the repository.
    """
    if not address.subdir:
        return tree
    real = _real(tree, address.subdir)
    if not real or not os.path.isdir(f"{tree}/{real}"):
        why = "is no directory" if real else "is not there"
        raise FetchError(f"{address.subdir} {why} in {address.reference}", code="git/subdir")
    return f"{tree}/{real}"


def _make_plain(path: str, time: int) -> None:
    """Give all below `path`, and itself, the modes and the time that they have everywhere."""
    when = (time * 1_000_000_000,) * 2
    for _, directories, files, fd in os.fwalk(path, topdown=False, follow_symlinks=False):
        for name in (*files, *directories):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                plain = 0o755 if stat.S_ISDIR(status.st_mode) or status.st_mode & 0o100 else 0o644
                if stat.S_IMODE(status.st_mode) != plain:
                    os.chmod(name, plain, dir_fd=fd)
            os.utime(name, ns=when, dir_fd=fd, follow_symlinks=False)
    os.chmod(path, 0o755)
    os.utime(path, ns=when)
