"""Copying selected files of a tree into a root filesystem: what COPY does, and what it leaves alone.

The root filesystem is the descriptor of an overlay mount, so the kernel does the copy-up and the whiteouts,
and openat2(2) with RESOLVE_IN_ROOT keeps every symbolic link in the destination inside of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from builder import linux
from builder.errors import PlanError
from builder.tree import Entry, Selection, Tree

_CHUNK = 1 << 20
_SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how to copy. `dest` is absolute. `owner` is of everything that is made; None keeps the
    source's owner for what is copied, and gives missing parents to 0:0. `mode` changes the source's
    permission bits, None keeps them.
    """

    dest: str
    into_directory: bool
    owner: tuple[int, int] | None
    mode: Callable[[int], int] | None = None


def place(tree: Tree, selections: Sequence[Selection], root_fd: int, placement: Placement) -> None:
    """Copy `selections` out of `tree` to `placement.dest` below `root_fd`.

    A directory's contents are copied, a file goes into `dest` if that is a directory. Raises PlanError where
    a directory would replace a file.
    """
    target = _Target(tree, root_fd, placement)
    for selection in selections:
        if selection.is_directory:
            target.copy_directory(selection)
        else:
            target.copy_file(selection)
    target.finish()


def make_directory(root_fd: int, path: str, owner: tuple[int, int]) -> bool:
    """Create `path` and its missing parents, 0755 and owned by `owner`, inside of `root_fd`; return
    whether any was missing.
    """
    fd, created = _open_directory(root_fd, path, owner)
    os.close(fd)
    return created


def write_file(
    root_fd: int, path: str, data: bytes, mode: int, owner: tuple[int, int], into_directory: str | None
) -> None:
    """Write `data` to `path` inside of `root_fd`; with `into_directory`, to that name in the directory
    `path`.
    """
    fd, name = _destination(root_fd, path, into_directory, owner)
    try:
        _make_way(fd, name)
        out = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd
        )
        try:
            _write_all(out, data)
            os.fchown(out, *owner)
            os.fchmod(out, mode)
        finally:
            os.close(out)
    finally:
        os.close(fd)


class _Target:
    def __init__(self, tree: Tree, root_fd: int, placement: Placement) -> None:
        self.tree = tree
        self.root_fd = root_fd
        self.placement = placement
        self.parent_owner = placement.owner or (0, 0)
        self._links: dict[int, tuple[int, str]] = {}
        self._times: list[tuple[int, str, int]] = []
        self._open: list[int] = []

    def copy_file(self, selection: Selection) -> None:
        entry = selection.entries[0]
        into = os.path.basename(selection.origin) if self.placement.into_directory else None
        fd, name = _destination(self.root_fd, self.placement.dest, into, self.parent_owner)
        if into is None and _is_directory(fd, name):
            os.close(fd)
            base = os.path.basename(selection.origin)
            fd, name = _destination(self.root_fd, self.placement.dest, base, self.parent_owner)
        self._open.append(fd)
        source, source_name = self.tree.open_parent(entry.path)
        try:
            self._copy(entry, source, source_name, fd, name)
        finally:
            os.close(source)

    def copy_directory(self, selection: Selection) -> None:
        origin = selection.entries[0]
        fd, _ = _open_directory(self.root_fd, self.placement.dest, self.parent_owner, selection.source)
        self._open.append(fd)
        skip = len(origin.path) + 1 if origin.path else 0
        # Entries come sorted, so the directories of the last one are mostly those of the next.
        sources = _Cursor(self.tree.root_fd)
        targets = _Cursor(fd)
        try:
            for entry in selection.entries[1:]:
                directory, _, name = entry.path[skip:].rpartition("/")
                source_dir = entry.path.rpartition("/")[0]
                self._copy(
                    entry, sources.at(source_dir), name, targets.at(directory), name, (fd, entry.path[skip:])
                )
        finally:
            sources.close()
            targets.close()

    def finish(self) -> None:
        """Set the times of the directories that were made, when nothing is put into them any more."""
        for fd, path, mtime in reversed(self._times):
            os.utime(path, ns=(mtime, mtime), dir_fd=fd, follow_symlinks=False)
        for fd in self._open:
            os.close(fd)

    def _copy(
        self,
        entry: Entry,
        source: int,
        source_name: str,
        fd: int,
        name: str,
        place: tuple[int, str] | None = None,
    ) -> None:
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFDIR:
            self._copy_subdirectory(entry, fd, name, place or (fd, name))
            return
        if _is_directory(fd, name):
            raise PlanError(
                f"cannot copy the file {entry.path!r} onto a directory", code="copy/onto-directory"
            )
        _make_way(fd, name)
        if kind == stat.S_IFREG:
            if self._linked(entry, fd, name):
                return
            _copy_bytes(source, source_name, fd, name, entry.size)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(source_name, dir_fd=source), name, dir_fd=fd)
        elif kind == stat.S_IFSOCK:
            return
        else:
            os.mknod(name, entry.mode, entry.rdev, dir_fd=fd)
        self._copy_attributes(entry, source, source_name, fd, name)

    def _copy_subdirectory(self, entry: Entry, fd: int, name: str, place: tuple[int, str]) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            if not _is_directory(fd, name):
                raise PlanError(
                    f"cannot copy the directory {entry.path!r} onto a file", code="copy/onto-file"
                ) from None
            # An existing directory keeps its mode and owner, as with BuildKit.
            return
        owner = self.placement.owner or (entry.uid, entry.gid)
        os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
        os.chmod(name, self._mode(entry), dir_fd=fd)
        self._times.append((place[0], place[1], entry.mtime))

    def _linked(self, entry: Entry, fd: int, name: str) -> bool:
        if entry.nlink == 1:
            return False
        first = self._links.get(entry.ino)
        if first is None:
            keep = os.dup(fd)
            self._open.append(keep)
            self._links[entry.ino] = (keep, name)
            return False
        os.link(first[1], name, src_dir_fd=first[0], dst_dir_fd=fd, follow_symlinks=False)
        return True

    def _mode(self, entry: Entry) -> int:
        mode = stat.S_IMODE(entry.mode)
        return self.placement.mode(mode) if self.placement.mode else mode

    def _copy_attributes(self, entry: Entry, source: int, source_name: str, fd: int, name: str) -> None:
        owner = self.placement.owner or (entry.uid, entry.gid)
        os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISLNK(entry.mode):
            # After chown, which clears setuid and setgid.
            os.chmod(name, self._mode(entry), dir_fd=fd)
        if stat.S_ISREG(entry.mode):
            _copy_xattrs(source, source_name, fd, name)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)


class _Cursor:
    """Opens directories below a root one after the other, and keeps open what the next one is likely to
    need.
    """

    def __init__(self, root_fd: int) -> None:
        self._stack: list[tuple[str, int]] = [("", os.dup(root_fd))]

    def at(self, path: str) -> int:
        """Return a descriptor of the directory `path`, valid until the next call."""
        while not _holds(self._stack[-1][0], path):
            os.close(self._stack.pop()[1])
        here, fd = self._stack[-1]
        rest = path[len(here) + 1 :] if here else path
        for part in rest.split("/") if rest else ():
            fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            here = f"{here}/{part}" if here else part
            self._stack.append((here, fd))
        return fd

    def close(self) -> None:
        for _, fd in self._stack:
            os.close(fd)


def _holds(directory: str, path: str) -> bool:
    return not directory or path == directory or path.startswith(directory + "/")


def _destination(root_fd: int, path: str, into: str | None, owner: tuple[int, int]) -> tuple[int, str]:
    """Return the open directory and the name to write to. A symbolic link at `path` to a file leads to
    that file.
    """
    if into is not None:
        return _open_directory(root_fd, path, owner)[0], into
    parent, _, name = path.rstrip("/").rpartition("/")
    fd, _ = _open_directory(root_fd, parent or "/", owner)
    for _ in range(40):
        try:
            link = os.readlink(name, dir_fd=fd)
        except OSError:
            return fd, name
        os.close(fd)
        path = link if link.startswith("/") else f"{parent}/{link}"
        if _leads_to_directory(root_fd, path):
            return _open_directory(root_fd, path, owner)[0], "."
        parent, _, name = path.rstrip("/").rpartition("/")
        fd, _ = _open_directory(root_fd, parent or "/", owner)
    os.close(fd)
    raise PlanError(f"too many symbolic links at {path!r}", code="copy/links")


def _leads_to_directory(root_fd: int, path: str) -> bool:
    try:
        fd = linux.openat2(
            root_fd, path.lstrip("/") or ".", os.O_PATH | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT
        )
    except OSError:
        return False
    os.close(fd)
    return True


def _open_directory(
    root_fd: int, path: str, owner: tuple[int, int], source: str | None = None
) -> tuple[int, bool]:
    """Open the directory `path` inside of the root, making what is missing; tell whether the last part
    was made.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    fd = linux.openat2(root_fd, ".", os.O_RDONLY | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT)
    created = False
    for depth in range(1, len(parts) + 1):
        here = "/".join(parts[:depth])
        try:
            below = _open_in_root(root_fd, here)
            created = False
        except FileNotFoundError:
            _make_directory(fd, parts[depth - 1], owner, here)
            below = _open_in_root(root_fd, here)
            created = True
        except NotADirectoryError:
            os.close(fd)
            what = (
                f"cannot copy the directory {source!r} onto it"
                if source
                else "it would have to be a directory"
            )
            raise PlanError(f"/{here} is a file: {what}", code="copy/onto-file") from None
        os.close(fd)
        fd = below
    return fd, created


def _open_in_root(root_fd: int, path: str) -> int:
    return linux.openat2(root_fd, path, os.O_RDONLY | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT)


def _make_directory(fd: int, name: str, owner: tuple[int, int], path: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=fd)
    except FileExistsError:
        raise PlanError(f"/{path} is a symbolic link that leads nowhere", code="copy/dangling") from None
    os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
    os.chmod(name, 0o755, dir_fd=fd)


def _is_directory(fd: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _make_way(fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise PlanError(
            f"cannot write the file {name!r} onto a directory", code="copy/onto-directory"
        ) from None


def _copy_bytes(source: int, source_name: str, fd: int, name: str, size: int) -> None:
    src = os.open(source_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        out = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd
        )
        try:
            if size <= _SMALL:
                _pump(src, out)
            else:
                _copy_range(src, out)
        finally:
            os.close(out)
    finally:
        os.close(src)


def _copy_range(src: int, out: int) -> None:
    """copy_file_range(2) until the end: shares extents where the file system can; plain reads where it
    cannot.
    """
    try:
        while os.copy_file_range(src, out, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _pump(src, out)


def _pump(src: int, out: int) -> None:
    while data := os.read(src, _CHUNK):
        _write_all(out, data)


def _write_all(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def _copy_xattrs(source: int, source_name: str, fd: int, name: str) -> None:
    src = os.open(source_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        names = [n for n in os.listxattr(src) if kept_xattr(n)]
        if not names:
            return
        out = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            for attribute in names:
                os.setxattr(out, attribute, os.getxattr(src, attribute))
        finally:
            os.close(out)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    finally:
        os.close(src)


def kept_xattr(name: str) -> bool:
    """Return whether COPY takes the extended attribute along: those that a layer can carry."""
    return name == "security.capability" or (
        name.startswith("user.") and not name.startswith("user.overlay.")
    )
