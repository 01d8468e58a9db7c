"""Trees that COPY reads: the build context, another stage, an image. Everything goes through one directory
descriptor, so that no symbolic link and no `..` leads out of it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import PlanError
from builder.patterns import IgnoreRules, glob, has_wildcard
from builder.sieve import Sieve, State, state_of
from cache import ownership

if TYPE_CHECKING:
    from collections.abc import Callable

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
MOST_LEVELS = 256
"""How many directories may lie within each other. Each is open while what is below it is read, and Python's
own recursion ends somewhere."""

_MAX_LINKS = 40


class Entry(NamedTuple):
    """A file as lstat sees it. `path` is relative to the tree's root; '' is the root itself. Times in ns."""

    path: str
    mode: int
    size: int
    mtime: int
    ctime: int
    ino: int
    uid: int
    gid: int
    nlink: int
    rdev: int
    dev: int


class Selection(NamedTuple):
    """What one source of a COPY stands for: `origin` in the tree, and with a directory all that is to be
    copied below it.

    `entries` are in the byte order of their paths, `origin` itself first. The directories in `implied` are
    taken for what is below them alone.

    With --parents it is a directory whose contents go to `lead` below the destination, into the directories
    `above`: path, and what is to be had of it.
    """

    source: str
    origin: str
    entries: tuple[Entry, ...]
    implied: frozenset[str] = frozenset()
    above: tuple[tuple[str, Entry], ...] = ()
    lead: str = ""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.entries[0].mode)


_Listing = tuple[tuple[Entry, ...], frozenset[str]]
"""Entries, and the paths of those of them that are implied."""
_NOTHING: _Listing = ((), frozenset())
_NO_RULES = IgnoreRules(())


class Tree:
    """A directory tree below an open descriptor, seen through ignore rules."""

    def __init__(
        self,
        root_fd: int,
        *,
        name: str,
        rules: IgnoreRules | None = None,
        hint: str | None = None,
        owner: Callable[[str], tuple[int, int]] | None = None,
    ) -> None:
        """`hint` is what to say to somebody who asks for what is not there; `owner` tells whose a path is,
        where the file system does not.
        """
        self._owner = owner
        self.root_fd = root_fd
        self.name = name
        self._hint = hint
        self.rules = rules or _NO_RULES
        # What a key was made of is what is copied, though the files may change in between.
        self._selected: dict[tuple[str, bool, tuple[str, ...]], tuple[Selection, ...]] = {}
        self._listed: dict[tuple[str, tuple[str, ...]], _Listing] = {}
        self.seen: dict[str, Entry | None] = {}
        """Every path that was looked at, with what was there: what an answer out of this tree depends on."""

    def close(self) -> None:
        os.close(self.root_fd)

    def select(
        self, source: str, *, parents: bool = False, exclude: tuple[str, ...] = ()
    ) -> tuple[Selection, ...]:
        """Return what `source` (a path or a pattern as of Go's filepath.Match) stands for, in the byte order
        of the names.

        `parents`: it keeps its directories, from /./ on, and what stands there is a pattern as in an ignore
        file. `exclude`: patterns of what is left out, relative to the source if that is a directory, to /./
        with `parents`; a file is left out by its name. A leading `/` and `..` stay inside of the tree. Raises
        PlanError if a plain name is not there; a pattern that matches nothing gives ().
        """
        key = (source, parents, exclude)
        known = self._selected.get(key)
        if known is None:
            rules = _NO_RULES if not exclude else IgnoreRules(exclude)
            if parents:
                from builder.parents import select_with_parents

                known = select_with_parents(self, source, rules)
            else:
                known = self._select(source, rules)
            if self._owner is not None:
                known = tuple(_owned(each, self._owner) for each in known)
            self._selected[key] = known
        return known

    def _select(self, source: str, exclude: IgnoreRules) -> tuple[Selection, ...]:
        parts = clean(source)
        if not any(has_wildcard(part) for part in parts):
            origin = "/".join(parts)
            entry = self.resolve(origin)
            entries, implied = self._visible(origin, entry, exclude)
            if not entries:
                raise self.missing(source, entry is not None)
            origins = [(origin, entries, implied)]
        else:
            origins = [
                (origin, *self._visible(origin, self.resolve(origin), exclude))
                for origin in self.matches(source, parts)
            ]
        return tuple(
            Selection(source, origin, entries, implied)
            for origin, entries, implied in origins
            if entries and not _excluded(origin, entries[0], exclude)
        )

    def open_parent(self, path: str) -> tuple[int, str]:
        """Return an open descriptor of the directory that holds `path`, and the last name in it."""
        directory, _, name = path.rpartition("/")
        return self.open_directory(directory), name

    def open_directory(self, path: str) -> int:
        """Return an open descriptor of the directory `path`, none of whose components may be a symbolic
        link.
        """
        # Opened anew: the descriptor of a mount that is mounted nowhere cannot be read from.
        fd = os.open(".", _DIR_FLAGS, dir_fd=self.root_fd)
        for part in path.split("/") if path else ():
            try:
                below = os.open(part, _DIR_FLAGS, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def missing(self, source: str, ignored: bool) -> PlanError:
        """Return the error that `source` is not there, or is `ignored`."""
        if ignored:
            return PlanError(
                f"{source!r} is left out of {self.name} by its ignore file",
                code="copy/ignored",
                hint="add a line with ! and the path to the ignore file, after the pattern that matches it",
            )
        return PlanError(
            f"{source!r} is not in {self.name}",
            code="copy/missing",
            hint=self._hint,
        )

    def resolve(self, path: str) -> Entry | None:
        """Follow symbolic links within the tree; return the entry that `path` leads to, under its real
        path.
        """
        todo = clean(path)
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                del done[-1:]
                continue
            here = "/".join([*done, part])
            entry = self.lstat(here)
            if entry is None:
                return None
            if not stat.S_ISLNK(entry.mode):
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise PlanError(f"too many symbolic links in {path!r} of {self.name}", code="copy/links")
            target = self.readlink(here)
            if target.startswith("/"):
                done = []
            todo = [p for p in target.split("/") if p not in ("", ".")] + todo
        return self.lstat("/".join(done))

    def readlink(self, path: str) -> str:
        """Return the target of the symbolic link `path`."""
        parent, name = self.open_parent(path)
        try:
            return os.readlink(name, dir_fd=parent)
        finally:
            os.close(parent)

    def lstat(self, path: str) -> Entry | None:
        """Return the entry at `path`, none of whose directories may be a symbolic link."""
        entry = self.seen[path] = self._stat(path)
        return entry

    def _stat(self, path: str) -> Entry | None:
        if not path:
            return entry_of("", os.fstat(self.root_fd))
        try:
            parent, name = self.open_parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return entry_of(path, os.stat(name, dir_fd=parent, follow_symlinks=False))
        except FileNotFoundError:
            return None
        finally:
            os.close(parent)

    def _visible(self, origin: str, entry: Entry | None, exclude: IgnoreRules) -> _Listing:
        """Return `entry`, that `origin` leads to, and what is below it, nothing if the ignore rules hide
        it.
        """
        if entry is None:
            return _NOTHING
        # Neither the name nor, through a symbolic link, what it leads to may be ignored.
        ignored = any(path and self.rules.ignores(path) for path in {origin, entry.path})
        if not ignored:
            return self._below(entry, exclude)
        if not stat.S_ISDIR(entry.mode) or not self.rules.has_exceptions:
            return _NOTHING
        # A directory that is ignored is there for what an exception brings back below it, and only then.
        if len(self._below(entry, _NO_RULES)[0]) == 1:
            return _NOTHING
        return self._below(entry, exclude)

    def matches(self, source: str, parts: list[str]) -> list[str]:
        """Return the paths that the pattern `parts` matches, in byte order. Symbolic links are followed
        before the first wildcard only. Raises PlanError, which names `source`."""
        plain = next(i for i, part in enumerate(parts) if has_wildcard(part))
        start = self.resolve("/".join(parts[:plain]))
        try:
            patterns = [glob(part) for part in parts[plain:]]
        except ValueError as error:
            raise bad_pattern(source, error) from None
        found = [] if start is None else [start.path]
        for pattern in patterns:
            found = [
                f"{base}/{name}" if base else name
                for base in found
                for name in self._names(base)
                if pattern.match(name)
            ]
        return sorted(found, key=os.fsencode)

    def _names(self, path: str) -> list[str]:
        self.lstat(path)
        try:
            fd = self.open_directory(path)
        except OSError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _below(self, entry: Entry, exclude: IgnoreRules) -> _Listing:
        if not stat.S_ISDIR(entry.mode):
            return (entry,), frozenset()
        key = (entry.path, exclude.source)
        known = self._listed.get(key)
        if known is None:
            sieve = Sieve(self.rules, entry.path, exclude=exclude) if exclude else None
            found, implied = self.walk(entry.path, sieve)
            known = self._listed[key] = (entry, *found), implied
        return known

    def walk(self, path: str, sieve: Sieve | None = None, state: State | None = None) -> _Listing:
        """Return what is below the directory `path`, in byte order: all that is not ignored, or what `sieve`
        lets through. `state` is the directory's own, where that is not the one that the sieve starts in."""
        if state is None:
            state = state_of(self.rules, path) if sieve is None else sieve.start
        walk = _Walk(self.rules if sieve is None else sieve, self.seen)
        fd = self.open_directory(path)
        try:
            walk.into(fd, path, state)
        finally:
            os.close(fd)
        walk.found.sort(key=lambda e: os.fsencode(e.path))
        self.seen.update((e.path, e) for e in walk.found)
        return tuple(walk.found), frozenset(walk.implied)


class _Walk:
    """Collects what is below a directory in `found`, and in `implied` the directories that are there for that
    alone."""

    def __init__(self, rules: IgnoreRules | Sieve, seen: dict[str, Entry | None]) -> None:
        self._rules = rules
        self._sieve = rules if isinstance(rules, Sieve) else None
        self._seen = seen
        self.found: list[Entry] = []
        self.implied: set[str] = set()

    def into(self, fd: int, prefix: str, state: State) -> bool:
        """Append what is below the directory `fd`; return whether there was anything that is not left out."""
        lead = prefix + "/" if prefix else ""
        rules = self._rules
        any_kept = False
        with os.scandir(fd) as listing:
            for item in listing:
                path = lead + item.name
                left_out, matched = rules.match(path, state) if rules else (False, state)
                if not item.is_dir(follow_symlinks=False):
                    # Whose status nobody asks for may change without a word.
                    if not left_out:
                        entry = entry_of(path, item.stat(follow_symlinks=False))
                        # No layer has sockets.
                        if not stat.S_ISSOCK(entry.mode):
                            self.found.append(entry)
                            any_kept = True
                    continue
                if left_out and not self._reaches(path, matched):
                    continue
                entry = self._seen[path] = entry_of(path, item.stat(follow_symlinks=False))
                kept = self._below(fd, item.name, path, matched)
                # A directory that is left out comes back for what is kept below it, and only then.
                if kept or not left_out:
                    self.found.append(entry)
                    any_kept = True
                    if left_out and self._sieve is not None and self._sieve.implies(path, matched):
                        self.implied.add(path)
        return any_kept

    def _reaches(self, path: str, state: State) -> bool:
        if isinstance(self._rules, Sieve):
            return self._rules.reaches(path, state)
        return self._rules.has_exceptions

    def _below(self, fd: int, name: str, path: str, state: State) -> bool:
        if path.count("/") >= MOST_LEVELS:
            raise PlanError(
                f"{path[:80]!r}... has more than {MOST_LEVELS} directories within each other",
                code="copy/depth",
                hint="leave it out with --exclude or the ignore file",
            )
        below = os.open(name, _DIR_FLAGS, dir_fd=fd)
        try:
            return self.into(below, path, state)
        finally:
            os.close(below)


def _excluded(origin: str, entry: Entry, exclude: IgnoreRules) -> bool:
    """Whether a file that is named, or matched by a wildcard, is left out by its name. Of a directory only
    what is in it is copied."""
    return bool(exclude) and not stat.S_ISDIR(entry.mode) and exclude.ignores(os.path.basename(origin))


def bad_pattern(source: str, error: ValueError) -> PlanError:
    """Return the error that `source` is no pattern."""
    return PlanError(f"bad pattern {source!r}: {error}", code="copy/pattern")


def _owned(selection: Selection, owner: Callable[[str], tuple[int, int]]) -> Selection:
    """Return the selection with the owners of its entries as `owner` has them."""

    def own(entry: Entry) -> Entry:
        uid, gid = owner(entry.path)
        return entry._replace(uid=uid, gid=gid)

    return selection._replace(
        entries=tuple(map(own, selection.entries)),
        above=tuple((path, own(entry)) for path, entry in selection.above),
    )


def kept_xattr(name: str) -> bool:
    """Return whether COPY takes the extended attribute along: those that a layer can carry."""
    return name == "security.capability" or (
        name.startswith("user.") and not name.startswith("user.overlay.") and name != ownership.OWNER
    )


def entry_of(path: str, status: os.stat_result) -> Entry:
    """Return the entry for the status of `path`."""
    return Entry(
        path,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_uid,
        status.st_gid,
        status.st_nlink,
        status.st_rdev,
        status.st_dev,
    )


def clean(path: str) -> list[str]:
    """Split a path at its slashes, clamping `..` at the root as BuildKit does."""
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return parts
