"""Copying selected files of a tree into a root filesystem: what COPY does, and what it leaves alone.

The root filesystem is the descriptor of an overlay mount, so the kernel does the copy-up and the whiteouts.
Semantics as in BuildKit's copy (fsutil/copy).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from builder.destination import destination, is_directory, open_directory
from builder.errors import HostError, PlanError
from builder.tree import Entry, Selection, Tree, kept_xattr
from cache import idmap, ownership

_CHUNK = 1 << 20
_SMALL = 1 << 16
_SECOND = 1_000_000_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A fifo that took the place of a file must not make us wait.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how to copy. `dest` is absolute. `owner` is of everything that is made; with None, what is
    copied has the owner that its source says, and missing parents are root's. `mode` makes permission bits of
    the source's st_mode, None keeps them.
    """

    dest: str
    into_directory: bool
    owner: tuple[int, int] | None
    mode: Callable[[int], int] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A tree, and what of it is to be copied. `owner`: whose the files are; None: whose they are there.

    `unpacked`: it was an archive. Then `Placement.mode` does not count, and what is in the way is replaced,
    as by tar.
    """

    tree: Tree
    selections: tuple[Selection, ...]
    owner: tuple[int, int] | None = None
    unpacked: bool = False


def place(
    sources: Sequence[Source], documents: Sequence[tuple[str, bytes]], root_fd: int, placement: Placement
) -> dict[bytes, tuple[int, int]]:
    """Copy `sources`, and write `documents` (name and content), to `placement.dest` below `root_fd`.

    A directory's contents are copied, a file goes into `dest` if that is a directory. Return the owners that
    the file system cannot hold, nor an attribute (cache/ownership.py), by path. Raises PlanError where
    a directory would replace a file or the other way round, HostError if a file changes meanwhile.
    """
    target = _Target(root_fd, placement)
    try:
        for source in sources:
            target.copy(source)
        for name, data in documents:
            target.write_document(name, data)
        target.set_times()
        return target.owners
    finally:
        target.close()


class _Target:
    def __init__(self, root_fd: int, placement: Placement) -> None:
        self.root_fd = root_fd
        self.placement = placement
        self.owners: dict[bytes, tuple[int, int]] = {}
        self.tree: Tree
        self._owner_of_source: tuple[int, int] | None = None
        self._unpacked = False
        self._directory = -1
        # All by paths below `_directory`.
        self._links: dict[tuple[int, int], tuple[str, int]] = {}
        self._times: list[tuple[str, int]] = []
        self._implied: set[str] = set()

    def close(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)

    def set_times(self) -> None:
        """Set the times of the directories that were copied, when nothing is put into them any more."""
        for path, mtime in reversed(self._times):
            os.utime(path, ns=(mtime, mtime), dir_fd=self._directory, follow_symlinks=False)

    def copy(self, source: Source) -> None:
        self.tree = source.tree
        self._owner_of_source = source.owner
        self._unpacked = source.unpacked
        for selection in source.selections:
            if selection.is_directory:
                self._copy_directory(selection)
            else:
                self._copy_file(selection)

    def _copy_file(self, selection: Selection) -> None:
        entry = selection.entries[0]
        fd, name = self._place_of(os.path.basename(selection.origin))
        try:
            source, source_name = self.tree.open_parent(entry.path)
            try:
                self._copy(entry, source, source_name, fd, name, "")
            finally:
                os.close(source)
        finally:
            self._release(fd)

    def write_document(self, name: str, data: bytes) -> None:
        assert "/" not in name and name not in ("", ".", ".."), "planning has seen to it"
        fd, name = self._place_of(name)
        try:
            out = self._create(fd, name)
            try:
                _write_all(out, data)
                ownership.give(out, *(self.placement.owner or (0, 0)))
                os.fchmod(out, self.placement.mode(0o644) if self.placement.mode else 0o644)
            finally:
                os.close(out)
        finally:
            self._release(fd)

    def _copy_directory(self, selection: Selection) -> None:
        origin = selection.entries[0]
        skip = len(origin.path) + 1 if origin.path else 0
        # Hard links are kept within a directory that is copied, not between sources or matches of a wildcard:
        # as BuildKit and buildah have it.
        self._links.clear()
        # Entries come sorted, so the directories of the last one are mostly those of the next.
        targets = _Cursor(self._into(selection.source))
        sources = _Cursor(self.tree.root_fd)
        lead = selection.lead + "/" if selection.lead else ""
        try:
            for path, entry in selection.above:
                directory, _, name = path.rpartition("/")
                self._copy_implied(entry, sources.at(entry.path), targets.at(directory), name, path)
            for entry in selection.entries[1:]:
                path = lead + entry.path[skip:]
                directory, _, name = path.rpartition("/")
                target = targets.at(directory)
                if not stat.S_ISDIR(entry.mode):
                    source = sources.at(entry.path.rpartition("/")[0])
                    self._copy(entry, source, name, target, name, path)
                elif entry.path in selection.implied:
                    self._copy_implied(entry, sources.at(entry.path), target, name, path)
                else:
                    self._copy_subdirectory(entry, sources.at(entry.path), target, name, path)
        finally:
            sources.close()
            targets.close()

    def _into(self, source: str | None = None) -> int:
        """Return the open directory `dest`, made if it is missing. It stays open until `close`."""
        if self._directory < 0:
            self._directory = open_directory(self.root_fd, self.placement.dest, self.placement.owner, source)
        return self._directory

    def _place_of(self, base: str) -> tuple[int, str]:
        """Return where a file called `base` goes: an open directory, to be released, and its name there."""
        if self.placement.into_directory:
            return self._into(), base
        fd, name = destination(self.root_fd, self.placement.dest, self.placement.owner)
        if not is_directory(fd, name):
            return fd, name
        os.close(fd)
        return self._into(), base

    def _release(self, fd: int) -> None:
        if fd != self._directory:
            os.close(fd)

    def _copy(self, entry: Entry, source: int, source_name: str, fd: int, name: str, path: str) -> None:
        """Copy one file to `name` in `fd`. `path` is the same place below `dest`, "" if it is `dest`."""
        if stat.S_ISSOCK(entry.mode):
            return
        if stat.S_ISREG(entry.mode):
            if entry.nlink == 1 or not path or not self._linked(entry, fd, name):
                self._copy_regular(entry, source, source_name, fd, name)
                self._note_link(entry, fd, name, path)
            return
        if stat.S_ISCHR(entry.mode) and not entry.rdev:
            raise PlanError(
                f"{entry.path!r} is a character device 0:0: in a layer that says that something is deleted",
                code="copy/device",
                hint="leave it out with --exclude or the ignore file",
            )
        self._make_way(fd, name)
        if stat.S_ISLNK(entry.mode):
            os.symlink(os.readlink(source_name, dir_fd=source), name, dir_fd=fd)
        else:
            ownership.make_special(name, entry.mode, entry.rdev, fd)
        self._set_attributes(entry, fd, name)

    def _copy_subdirectory(self, entry: Entry, source: int, fd: int, name: str, path: str) -> None:
        self._make_directory(entry, fd, name)
        # Also where it is there already, as with BuildKit: only `dest` itself keeps what it has.
        self._set_directory(entry, source, fd, name, path)

    def _copy_implied(self, entry: Entry, source: int, fd: int, name: str, path: str) -> None:
        """Make a directory that something is below that is copied. Where it is there already, it takes the
        source's mode and nothing else, as with BuildKit.
        """
        if self._make_directory(entry, fd, name):
            self._implied.add(path)
            self._set_directory(entry, source, fd, name, path)
        elif path not in self._implied:
            os.chmod(name, stat.S_IMODE(entry.mode), dir_fd=fd)

    def _make_directory(self, entry: Entry, fd: int, name: str) -> bool:
        """Make the directory; return False if it is there already."""
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            if is_directory(fd, name):
                return False
            if not self._unpacked:
                raise PlanError(
                    f"cannot copy the directory {entry.path!r} onto what is no directory",
                    code="copy/onto-file",
                ) from None
            os.unlink(name, dir_fd=fd)
            os.mkdir(name, 0o700, dir_fd=fd)
        return True

    def _set_directory(self, entry: Entry, source: int, fd: int, name: str, path: str) -> None:
        """Give the directory `name` what the open directory `source` has. Its time comes at the end."""
        ownership.give(name, *self._owner(entry), directory=fd)
        os.chmod(name, self._mode(entry), dir_fd=fd)
        names = _kept_xattrs(source)
        if names:
            out = os.open(name, _DIRECTORY, dir_fd=fd)
            try:
                _set_xattrs(source, out, names)
            finally:
                os.close(out)
        self._times.append((path, entry.mtime))

    def _set_attributes(self, entry: Entry, fd: int, name: str) -> None:
        owner = self._owner(entry)
        if not ownership.give(name, *owner, directory=fd):
            self.owners[ownership.path_of(self.root_fd, fd, name)] = owner
        if not stat.S_ISLNK(entry.mode):
            # After chown, which clears setuid and setgid.
            os.chmod(name, self._mode(entry), dir_fd=fd)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)

    def _copy_regular(self, entry: Entry, source: int, source_name: str, fd: int, name: str) -> None:
        src = os.open(source_name, _READ, dir_fd=source)
        try:
            mode = self._mode(entry)
            # Not setuid nor setgid: they would be lost with the first byte that is written.
            out = self._create(fd, name, mode & 0o777)
            try:
                if entry.size <= _SMALL:
                    _pump(src, out, entry.size)
                else:
                    _copy_range(src, out)
                _set_owner_and_mode(out, self._owner(entry), mode)
                _set_xattrs(src, out, _kept_xattrs(src))
                # As a layer has it: then nobody has to set it once more.
                mtime = entry.mtime // _SECOND * _SECOND
                os.utime(out, ns=(mtime, mtime))
            finally:
                os.close(out)
            self._refuse_change(entry, os.fstat(src))
        finally:
            os.close(src)

    def _refuse_change(self, entry: Entry, status: os.stat_result) -> None:
        now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if now != (entry.size, entry.mtime, entry.ctime):
            # The key was made of what was there before: its record must not stand for something else.
            raise HostError(
                f"{entry.path} in {self.tree.name} changed while it was copied",
                code="copy/changed",
                hint="build again, while nothing writes there",
            )

    def _create(self, fd: int, name: str, mode: int = 0o600) -> int:
        """Create an empty file, whatever else is there, and open it for writing."""
        try:
            return os.open(name, _CREATE, mode, dir_fd=fd)
        except FileExistsError:
            self._make_way(fd, name)
            return os.open(name, _CREATE, mode, dir_fd=fd)

    def _make_way(self, fd: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            if not self._unpacked:
                raise PlanError(
                    f"cannot write the file {name!r} onto a directory", code="copy/onto-directory"
                ) from None
            _remove_tree(fd, name)

    def _owner(self, entry: Entry) -> tuple[int, int]:
        return self.placement.owner or self._owner_of_source or (entry.uid, entry.gid)

    def _mode(self, entry: Entry) -> int:
        change = None if self._unpacked else self.placement.mode
        return change(entry.mode) if change else stat.S_IMODE(entry.mode)

    def _linked(self, entry: Entry, fd: int, name: str) -> bool:
        """Make `name` another name of the copy of the same file, if there is one still."""
        path, ino = self._links.get((entry.dev, entry.ino), ("", 0))
        if not path or os.stat(path, dir_fd=self._directory, follow_symlinks=False).st_ino != ino:
            return False
        self._make_way(fd, name)
        os.link(path, name, src_dir_fd=self._directory, dst_dir_fd=fd, follow_symlinks=False)
        return True

    def _note_link(self, entry: Entry, fd: int, name: str, path: str) -> None:
        if entry.nlink > 1 and path:
            ino = os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino
            self._links[entry.dev, entry.ino] = (path, ino)


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
            fd = os.open(part, _DIRECTORY, dir_fd=fd)
            here = f"{here}/{part}" if here else part
            self._stack.append((here, fd))
        return fd

    def close(self) -> None:
        for _, fd in self._stack:
            os.close(fd)


def _holds(directory: str, path: str) -> bool:
    return not directory or path == directory or path.startswith(directory + "/")


def _remove_tree(fd: int, name: str) -> None:
    from cache.upperdir import remove_tree

    # Whatever its depth, other than shutil's; nothing else changes the tree meanwhile.
    remove_tree(fd, os.fsencode(name))


def _copy_range(src: int, out: int) -> None:
    """copy_file_range(2) of all that is no hole: shares extents where the file system can. Plain reads where
    it cannot."""
    size = os.fstat(src).st_size
    end = 0
    while end < size:
        try:
            start = os.lseek(src, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole up to the end
        end = os.lseek(src, start, os.SEEK_HOLE)
        _copy_extent(src, out, start, end)
    os.ftruncate(out, size)


def _copy_extent(src: int, out: int, start: int, end: int) -> None:
    while start < end:
        try:
            count = os.copy_file_range(src, out, end - start, start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            data = os.pread(src, min(_CHUNK, end - start), start)
            count = os.pwrite(out, data, start) if data else 0
        if not count:
            return  # it has become shorter: whoever compares its status finds that out
        start += count


def _pump(src: int, out: int, size: int) -> None:
    """Copy a file that had `size` bytes: a byte more is asked for, so that one read finds out if it still
    does."""
    while data := os.read(src, size + 1):
        _write_all(out, data)
        if len(data) == size:
            return


def _write_all(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def _set_owner_and_mode(out: int, owner: tuple[int, int], mode: int) -> None:
    """Give the open file an owner and a mode, where it was not created with them: that depends on the umask,
    and on what its directory hands down (setgid, an ACL).
    """
    status = os.fstat(out)
    if idmap.confined() or (status.st_uid, status.st_gid) != owner:
        ownership.give(out, *owner)
        os.fchmod(out, mode)  # after chown, which clears setuid and setgid
    elif stat.S_IMODE(status.st_mode) != mode:
        os.fchmod(out, mode)


def _kept_xattrs(src: int) -> list[str]:
    try:
        return [name for name in os.listxattr(src) if kept_xattr(name)]
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []


def _set_xattrs(src: int, out: int, names: Sequence[str]) -> None:
    for name in names:
        os.setxattr(out, name, os.getxattr(src, name))
