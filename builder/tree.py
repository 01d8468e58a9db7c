"""Trees that COPY reads: the build context, another stage, an image. Everything goes through one directory
descriptor, so that no symbolic link and no `..` leads out of it."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from builder.errors import PlanError
from builder.patterns import IgnoreRules, glob, has_wildcard

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
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

    `entries` are in the byte order of their paths, `origin` itself first.
    """

    source: str
    origin: str
    entries: tuple[Entry, ...]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.entries[0].mode)


class Tree:
    """A directory tree below an open descriptor, seen through ignore rules."""

    def __init__(
        self, root_fd: int, *, name: str, rules: IgnoreRules | None = None, hint: str | None = None
    ) -> None:
        """`hint` is what to say to somebody who asks for what is not there."""
        self.root_fd = root_fd
        self.name = name
        self._hint = hint
        self.rules = rules or IgnoreRules(())
        # What a key was made of is what is copied, though the files may change in between.
        self._selected: dict[str, tuple[Selection, ...]] = {}
        self._listed: dict[str, tuple[Entry, ...]] = {}
        self.seen: dict[str, Entry | None] = {}
        """Every path that was looked at, with what was there: what an answer out of this tree depends on."""

    def close(self) -> None:
        os.close(self.root_fd)

    def select(self, source: str) -> tuple[Selection, ...]:
        """Return what `source` (a path or a pattern as of Go's filepath.Match) stands for, in the byte order
        of the names.

        A leading `/` and `..` stay inside of the tree. Raises PlanError if a plain name is not there; a
        pattern that matches nothing gives ().
        """
        known = self._selected.get(source)
        if known is None:
            known = self._selected[source] = self._select(source)
        return known

    def _select(self, source: str) -> tuple[Selection, ...]:
        parts = _clean(source)
        if not any(has_wildcard(part) for part in parts):
            origin = "/".join(parts)
            entry = self._resolve(origin)
            entries = self._visible(origin, entry)
            if not entries:
                raise self._missing(source, entry is not None)
            return (Selection(source, origin, entries),)
        found: list[Selection] = []
        for origin in sorted(self._matches(source, parts), key=os.fsencode):
            entries = self._visible(origin, self._resolve(origin))
            if entries:
                found.append(Selection(source, origin, entries))
        return tuple(found)

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

    def _missing(self, source: str, ignored: bool) -> PlanError:
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

    def _resolve(self, path: str) -> Entry | None:
        """Follow symbolic links within the tree; return the entry that `path` leads to, under its real
        path.
        """
        todo = _clean(path)
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                del done[-1:]
                continue
            here = "/".join([*done, part])
            entry = self._lstat(here)
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
        return self._lstat("/".join(done))

    def readlink(self, path: str) -> str:
        """Return the target of the symbolic link `path`."""
        parent, name = self.open_parent(path)
        try:
            return os.readlink(name, dir_fd=parent)
        finally:
            os.close(parent)

    def _lstat(self, path: str) -> Entry | None:
        entry = self.seen[path] = self._stat(path)
        return entry

    def _stat(self, path: str) -> Entry | None:
        if not path:
            return _entry("", os.fstat(self.root_fd))
        try:
            parent, name = self.open_parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return _entry(path, os.stat(name, dir_fd=parent, follow_symlinks=False))
        except FileNotFoundError:
            return None
        finally:
            os.close(parent)

    def _visible(self, origin: str, entry: Entry | None) -> tuple[Entry, ...]:
        """Return `entry`, that `origin` leads to, and what is below it, () if the ignore rules hide it."""
        if entry is None:
            return ()
        # Neither the name nor, through a symbolic link, what it leads to may be ignored.
        ignored = any(path and self.rules.ignores(path) for path in {origin, entry.path})
        if not ignored:
            return self._below(entry)
        if not stat.S_ISDIR(entry.mode) or not self.rules.has_exceptions:
            return ()
        # A directory that is ignored is there for what an exception brings back below it, and only then.
        entries = self._below(entry)
        return entries if len(entries) > 1 else ()

    def _matches(self, source: str, parts: list[str]) -> list[str]:
        """Return the paths that match the pattern. Symbolic links are followed before the first wildcard
        only."""
        plain = next(i for i, part in enumerate(parts) if has_wildcard(part))
        start = self._resolve("/".join(parts[:plain]))
        try:
            patterns = [glob(part) for part in parts[plain:]]
        except ValueError as error:
            raise PlanError(f"bad pattern {source!r}: {error}", code="copy/pattern") from None
        found = [] if start is None else [start.path]
        for pattern in patterns:
            found = [
                f"{base}/{name}" if base else name
                for base in found
                for name in self._names(base)
                if pattern.match(name)
            ]
        return found

    def _names(self, path: str) -> list[str]:
        self._lstat(path)
        try:
            fd = self.open_directory(path)
        except OSError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _below(self, entry: Entry) -> tuple[Entry, ...]:
        if not stat.S_ISDIR(entry.mode):
            return (entry,)
        known = self._listed.get(entry.path)
        if known is None:
            fd = self.open_directory(entry.path)
            found: list[Entry] = []
            try:
                self._walk(fd, entry.path, self._state(entry.path), found)
            finally:
                os.close(fd)
            self.seen.update((e.path, e) for e in found)
            found.sort(key=lambda e: os.fsencode(e.path))
            known = self._listed[entry.path] = (entry, *found)
        return known

    def _state(self, path: str) -> tuple[bool, ...]:
        state: tuple[bool, ...] = ()
        parts = path.split("/") if path and self.rules else []
        for depth in range(1, len(parts) + 1):
            _, state = self.rules.match("/".join(parts[:depth]), state)
        return state

    def _walk(self, fd: int, prefix: str, state: tuple[bool, ...], found: list[Entry]) -> bool:
        """Append what is below the directory `fd`; return whether there was anything that is not ignored."""
        lead = prefix + "/" if prefix else ""
        rules = self.rules
        any_kept = False
        with os.scandir(fd) as listing:
            for item in listing:
                path = lead + item.name
                ignored, matched = rules.match(path, state) if rules else (False, state)
                if not item.is_dir(follow_symlinks=False):
                    entry = _entry(path, item.stat(follow_symlinks=False))
                    # No layer has sockets.
                    if not ignored and not stat.S_ISSOCK(entry.mode):
                        found.append(entry)
                        any_kept = True
                    continue
                if ignored and not rules.has_exceptions:
                    continue
                entry = self.seen[path] = _entry(path, item.stat(follow_symlinks=False))
                kept = self._walk_into(fd, item.name, path, matched, found)
                # An ignored directory comes back for what an exception keeps below it, and only then.
                if kept or not ignored:
                    found.append(entry)
                    any_kept = True
        return any_kept

    def _walk_into(self, fd: int, name: str, path: str, state: tuple[bool, ...], found: list[Entry]) -> bool:
        below = os.open(name, _DIR_FLAGS, dir_fd=fd)
        try:
            return self._walk(below, path, state, found)
        finally:
            os.close(below)


def kept_xattr(name: str) -> bool:
    """Return whether COPY takes the extended attribute along: those that a layer can carry."""
    return name == "security.capability" or (
        name.startswith("user.") and not name.startswith("user.overlay.")
    )


def _entry(path: str, status: os.stat_result) -> Entry:
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


def _clean(path: str) -> list[str]:
    """Split a path, clamping `..` at the root as BuildKit does."""
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return parts
