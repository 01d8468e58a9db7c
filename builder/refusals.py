"""What a step with USER is refused, in a user namespace that has one id.

All files are that id's, and so to the kernel are the user's own, whoever it is. What the user of another
machine would be refused, because a file is root's or somebody else's, is refused here, by the recorded owner
and the mode. It is a courtesy to programs that ask, and to tests: a call is looked at before the kernel
carries it out, and by then its arguments may be others. What keeps a step in is not this, but its namespaces
(docs/decisions/single-id.md). Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from builder import creations, filestatus, linux, listener, permissions
from builder.caller import OWN_FILES
from builder.permissions import READ, SEARCH, WRITE
from builder.supervisor import CHOWN, LAST, NOFOLLOW, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.credentials import Credentials
    from builder.listener import Call

_ACCESS = ("access", "faccessat", "faccessat2")
_ENTRIES = ("unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat")
_MODES = ("chmod", "fchmod", "fchmodat", "fchmodat2", "utimensat")
_PATHS = ("truncate", "chdir", "execve", "execveat")
CALLS = (*CHOWN, "getgroups", "getgroups32")
NATIVE = (*filestatus.CALLS, *creations.CALLS, *_ACCESS, *_ENTRIES, *_MODES, *_PATHS)
"""The calls that are put to it; the latter in the machine's own architecture alone."""

_CLOCK_REALTIME_COARSE = 5  # the clock that the times of files are of
_AT_FDCWD = linux.AT_FDCWD & LAST
_MNT_ID, _BTIME = 0x1000, 0x800  # STATX_*
_UTIME_NOW = (1 << 30) - 1
_OWN = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK)


class Refusals(Supervisor):
    """Answers the calls of a step that runs as `credentials`, which it cannot change."""

    def __init__(self, fd: int, upper: int, proc: int, credentials: Credentials) -> None:
        super().__init__(fd, upper, proc, credentials)
        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
        self._mount = self._look(root)[0]
        os.close(root)
        self._begun = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)

    def _who(self, call: Call) -> Credentials:
        return self._credentials

    def _handle(self, call: Call) -> None:
        refuse = _CHECKS.get(call.name)
        if refuse is None:
            super()._handle(call)
            return
        error = 0
        try:
            refuse(self, call)
        except PermissionError as refusal:
            error = refusal.errno or errno.EACCES
        except OSError:
            pass  # the kernel will say what is wrong with it
        if error:
            listener.answer(self._fd, call, error=error)
        elif call.name in creations.CALLS:
            self._create(call)
        elif call.name in filestatus.CALLS:
            self._stat(call)
        else:
            listener.proceed(self._fd, call)

    # Owners

    def _owner(self, fd: int, status: os.stat_result) -> tuple[int, int]:
        """Return whose a file is. What is new and has no record yet is the user's."""
        held = status.st_uid, status.st_gid
        kind = stat.S_IFMT(status.st_mode)
        if held != (0, 0) or kind not in _OWN:
            return held
        mount, born = self._look(fd)
        if mount != self._mount:
            return held
        owner = super()._owner(fd, status)
        if owner == held and kind != stat.S_IFDIR and born > self._begun:
            return self._credentials.uids[1], self._credentials.gids[1]
        return owner

    def _looks_like(self, fd: int, status: os.stat_result) -> tuple[int, int]:
        """To the user, what the one id holds is the user's own."""
        kind = stat.S_IFMT(status.st_mode)
        if (status.st_uid, status.st_gid) != (0, 0) or kind not in _OWN or self._look(fd)[0] != self._mount:
            return status.st_uid, status.st_gid
        return self._credentials.uids[1], self._credentials.gids[1]

    def _look(self, fd: int) -> tuple[int, int]:
        """Return the mount that a file is on, and when it was made, in ns; 0 if its file system does not
        know.
        """
        data = linux.statx(fd, 0, _MNT_ID | _BTIME)
        (mask,) = struct.unpack_from("=I", data, 0)
        seconds, nanoseconds = struct.unpack_from("=qI", data, 0x50)
        (mount,) = struct.unpack_from("=Q", data, 0x90)
        return mount, seconds * 1_000_000_000 + nanoseconds if mask & _BTIME else 0

    # What may be done

    def _need(self, fd: int, wanted: int) -> None:
        """Raise PermissionError unless the user may do that to what `fd` is open on."""
        status = os.fstat(fd)
        if permissions.for_all(status.st_mode, wanted) or not self._ours(fd, status):
            return
        if not permissions.allows(status.st_mode, self._owner(fd, status), self._credentials, wanted):
            raise PermissionError(errno.EACCES, "")

    def _ours(self, fd: int, status: os.stat_result) -> bool:
        """Whether it is a file of the step's root file system, and not of a mount on it."""
        kind = stat.S_IFMT(status.st_mode)
        return status.st_uid == 0 and kind in _OWN and self._look(fd)[0] == self._mount

    def _open(self, call: Call, directory: int, address: int, follow: bool) -> int:
        """Open what a call names, if the user may search the directories on the way."""
        path = self._caller.string(address) if address else None
        fd = self._caller.open(directory, path or None, follow)
        if path:
            try:
                self._search(fd, "/" if path.startswith("/") else self._caller.place(directory))
            except BaseException:
                os.close(fd)
                raise
        return fd

    def _search(self, fd: int, begin: str) -> None:
        """See whether the user may search the directories above what `fd` is open on, but not those above
        where its path begins, of which nobody asks.
        """
        place = os.readlink(f"{OWN_FILES}/{fd}")
        while place != "/" and place.startswith("/"):
            place = os.path.dirname(place)
            if begin != place and begin.startswith(place.rstrip("/") + "/"):
                return
            self._need_search(place)

    def _need_search(self, place: str) -> None:
        if os.lstat(place).st_mode & 0o111 == 0o111:
            return
        directory = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._need(directory, SEARCH)
        finally:
            os.close(directory)

    def _must_be_owner(self, fd: int) -> None:
        status = os.fstat(fd)
        if self._ours(fd, status) and self._credentials.uids[1] not in (0, self._owner(fd, status)[0]):
            raise PermissionError(errno.EPERM, "")

    # Calls

    def _check_open(self, call: Call) -> None:
        arguments = call.arguments
        directory = _AT_FDCWD
        if call.name in ("openat", "openat2"):
            directory, arguments = arguments[0], arguments[1:]
        flags = arguments[1]
        if call.name == "creat":
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        elif call.name == "openat2":
            (flags,) = struct.unpack("=Q", self._caller.peek(arguments[1], 8))
        try:
            fd = self._open(call, directory, arguments[0], not flags & os.O_NOFOLLOW)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                self._check_new(directory, self._caller.string(arguments[0]))
            return
        try:
            if flags & os.O_PATH or (flags & os.O_CREAT and flags & os.O_EXCL):
                return
            wanted = {os.O_RDONLY: READ, os.O_WRONLY: WRITE}.get(flags & os.O_ACCMODE, READ | WRITE)
            self._need(fd, wanted | (WRITE if flags & os.O_TRUNC else 0))
        finally:
            os.close(fd)

    def _check_new(self, directory: int, path: str) -> None:
        """See whether the user may make `path`, where nothing is there."""
        parent = self._parent(directory, path)
        try:
            with suppress(FileNotFoundError):
                os.lstat(os.path.basename(path.rstrip("/")), dir_fd=parent)
                return
            self._need(parent, WRITE | SEARCH)
        finally:
            os.close(parent)

    def _parent(self, directory: int, path: str) -> int:
        above = os.path.dirname(path.rstrip("/")) or "."
        fd = self._caller.open(directory, above, True)
        try:
            self._search(fd, "/" if path.startswith("/") else self._caller.place(directory))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_make(self, call: Call) -> None:
        at = call.name.endswith("at")
        number = 1 + at if call.name.startswith("symlink") else int(at)
        directory = call.arguments[number - 1] if at else _AT_FDCWD
        self._check_new(directory, self._caller.string(call.arguments[number]))

    def _check_entry(self, call: Call) -> None:
        arguments = call.arguments
        if call.name in ("unlink", "rmdir"):
            self._take_away(_AT_FDCWD, arguments[0])
        elif call.name == "unlinkat":
            self._take_away(arguments[0], arguments[1])
        elif call.name == "link":
            self._check_new(_AT_FDCWD, self._caller.string(arguments[1]))
        elif call.name == "linkat":
            self._check_new(arguments[2], self._caller.string(arguments[3]))
        else:
            old, new = (_AT_FDCWD, arguments[0]), (_AT_FDCWD, arguments[1])
            if call.name != "rename":
                old, new = (arguments[0], arguments[1]), (arguments[2], arguments[3])
            self._take_away(*old)
            self._check_new(new[0], self._caller.string(new[1]))
            with suppress(FileNotFoundError):
                self._take_away(*new)

    def _take_away(self, directory: int, address: int) -> None:
        """See whether the user may remove or rename a file. Raises FileNotFoundError if there is none."""
        path = self._caller.string(address)
        parent = self._parent(directory, path)
        try:
            name = os.path.basename(path.rstrip("/"))
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                self._need(parent, WRITE | SEARCH)
                status = os.fstat(parent)
                if status.st_mode & stat.S_ISVTX and self._ours(parent, status):
                    holder = status.st_mode, self._owner(parent, status)
                    owner = self._owner(fd, os.fstat(fd))
                    if not permissions.may_take_away(holder, owner, self._credentials):
                        raise PermissionError(errno.EPERM, "")
            finally:
                os.close(fd)
        finally:
            os.close(parent)

    def _check_access(self, call: Call) -> None:
        directory, arguments = _AT_FDCWD, call.arguments
        if call.name != "access":
            directory, arguments = arguments[0], arguments[1:]
        flags = arguments[2] if call.name == "faccessat2" else 0
        with _Opened(self._open(call, directory, arguments[0], not flags & NOFOLLOW)) as fd:
            self._need(fd, arguments[1] & 7)

    def _check_mode(self, call: Call) -> None:
        directory, address, flags = _AT_FDCWD, call.arguments[0], 0
        if call.name == "fchmod":
            directory, address = address, 0
        elif call.name != "chmod":
            directory, address = call.arguments[:2]
            flags = call.arguments[3] if call.name in ("fchmodat2", "utimensat") else 0
        with _Opened(self._open(call, directory, address, not flags & NOFOLLOW)) as fd:
            if call.name != "utimensat" or not self._sets_now(call.arguments[2]):
                self._must_be_owner(fd)
                return
            try:
                self._must_be_owner(fd)
            except PermissionError:
                self._need(fd, WRITE)

    def _sets_now(self, address: int) -> bool:
        """Whether the times that utimensat(2) is to set are those that whoever may write may set."""
        if not address:
            return True
        _, first, _, second = struct.unpack("=qqqq", self._caller.peek(address, 32))
        return bool(first == second == _UTIME_NOW)

    def _check_path(self, call: Call) -> None:
        directory, address, flags = _AT_FDCWD, call.arguments[0], 0
        if call.name == "execveat":
            directory, address, flags = call.arguments[0], call.arguments[1], call.arguments[4]
        with _Opened(self._open(call, directory, address, not flags & NOFOLLOW)) as fd:
            self._need(fd, WRITE if call.name == "truncate" else SEARCH)

    def _check_stat(self, call: Call) -> None:
        """See whether the user may search the directories on the way."""
        directory, address = _AT_FDCWD, call.arguments[0]
        if call.name in ("newfstatat", "statx"):
            directory, address = call.arguments[:2]
        if call.name != "fstat" and address and self._caller.string(address):
            os.close(self._open(call, directory, address, call.name != "lstat"))

    def _give(self, fd: int, uid: int, gid: int) -> None:
        """chown(2), as a user may: the group of an own file, to one that the user is in."""
        who = self._credentials
        owner = self._owner(fd, os.fstat(fd))
        if who.uids[1] != 0:
            allowed = uid in (LAST, owner[0]) and (gid in (LAST, owner[1]) or permissions.in_group(gid, who))
            if who.uids[1] != owner[0] or not allowed:
                raise PermissionError(errno.EPERM, "")
        super()._give(fd, uid, gid)


class _Opened:
    """Closes a descriptor at the end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


_CHECKS: dict[str, Callable[[Refusals, Call], None]] = {
    **dict.fromkeys(("open", "openat", "openat2", "creat"), Refusals._check_open),
    **dict.fromkeys(("mkdir", "mkdirat", "symlink", "symlinkat", "mknod", "mknodat"), Refusals._check_make),
    **dict.fromkeys(filestatus.CALLS, Refusals._check_stat),
    **dict.fromkeys(_ACCESS, Refusals._check_access),
    **dict.fromkeys(_ENTRIES, Refusals._check_entry),
    **dict.fromkeys(_MODES, Refusals._check_mode),
    **dict.fromkeys(_PATHS, Refusals._check_path),
}
