"""Owners and ids for a step in a user namespace that has one id: its calls are answered as root's would be.

A program that installs something gives files to others, makes devices, and becomes another user. The kernel
can do none of that with one id. So these calls are put to pid 1 of the sandbox (builder/listener.py), which
records owners and devices (cache/ownership.py) and remembers who a process takes itself for. It decides
nothing about safety: whatever it does, the step may do itself, to its own files, with its own ids. It is what
the decision in docs/decisions/single-id.md is about. Imported by the launcher: nothing heavy.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from builder import creations, filestatus, linux, listener
from builder.caller import OWN_FILES, Caller
from builder.creations import Creations
from builder.credentials import Credentials, Processes
from builder.threadnumbers import ThreadNumbers
from cache import ownership

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.listener import Call

CHOWN = ("chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32")
_MAKE = ("mknod", "mknodat")
_GET = ("getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups")
_SET = (
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
)
DEVICES = _MAKE
CALLS = (*CHOWN, *_MAKE, *(name + wide for name in (*_GET, *_SET) for wide in ("", "32")))
NATIVE = (*filestatus.CALLS, *creations.CALLS)
"""The calls that are put to the supervisor; the latter in the machine's own architecture alone."""

_MAY_BE_EMPTY = ("fchownat", "newfstatat", "statx")
LAST = 0xFFFFFFFF
NOFOLLOW, _EMPTY_PATH = 0x100, 0x1000
_MKNOD = 27  # CAP_MKNOD


class Supervisor:
    """Answers the calls of one step. `upper` is its upperdir, open: what has no attributes is known by its
    inode there.
    """

    def __init__(self, fd: int, upper: int, proc: int, credentials: Credentials) -> None:
        """`proc`: the /proc that is pinned, and is this process's working directory (builder/caller.py);
        `credentials`: those that the command starts with.
        """
        self._credentials = credentials
        self._fd = fd
        self._upper = upper
        self._proc = proc
        self._numbers = ThreadNumbers()
        self._processes = Processes(proc)
        self._caller: Caller
        self._creations = Creations()
        self._pinned: dict[tuple[int, int], tuple[int, tuple[int, int]]] = {}

    def answer(self) -> None:
        """Take the next call, and answer it."""
        call = listener.receive(self._fd)
        if call is None:
            return
        try:
            call = call._replace(thread=self._numbers.shown(call.thread))
            with Caller(self._proc, call.thread) as self._caller:
                # The thread may be gone, and its number another one's, up to when its directory was opened.
                if listener.valid(self._fd, call):
                    self._settle(call.thread)
                    self._handle(call)
        except OSError as error:
            listener.answer(self._fd, call, error=error.errno or errno.EIO)
        except Exception:  # a call that is left without an answer hangs its process for ever
            listener.answer(self._fd, call, error=errno.EIO)

    def _handle(self, call: Call) -> None:
        handler = _HANDLERS.get(call.name.removesuffix("32"))
        if handler is None:
            listener.proceed(self._fd, call)
        else:
            handler(self, call)

    def settle(self) -> None:
        """Give what was made last to whom it belongs: no further call will come."""
        self._settle()

    def owners(self) -> dict[bytes, tuple[int, int]]:
        """Return the owners of what has no attributes and is still there, by its path in the upperdir."""
        found: dict[bytes, tuple[int, int]] = {}
        self._settle()
        if self._pinned:
            self._find(self._upper, b"", found)
        return found

    def _find(self, directory: int, prefix: bytes, found: dict[bytes, tuple[int, int]]) -> None:
        with os.scandir(directory) as entries:
            listed = list(entries)
        for entry in listed:
            path = prefix + os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(entry.name, flags, dir_fd=directory)
                try:
                    self._find(fd, path + b"/", found)
                finally:
                    os.close(fd)
            elif not entry.is_file(follow_symlinks=False):
                status = os.lstat(entry.name, dir_fd=directory)
                pinned = self._pinned.get((status.st_dev, status.st_ino))
                if pinned is not None:
                    found[path] = pinned[1]

    # chown

    def _chown(self, call: Call) -> None:
        name = call.name.removesuffix("32")
        if name == "fchown":
            directory, path, (uid, gid), follow = call.arguments[0], None, call.arguments[1:3], True
        elif name == "fchownat":
            directory, address, uid, gid, flags = call.arguments[:5]
            path = self._string(call, address)
            follow = not flags & NOFOLLOW
            if not path and not flags & _EMPTY_PATH:
                raise OSError(errno.ENOENT, "")
            path = path or None
        else:
            address, uid, gid = call.arguments[:3]
            directory, path, follow = linux.AT_FDCWD & LAST, self._string(call, address), name == "chown"
        fd = self._caller.open(directory, path, follow)
        try:
            if not listener.valid(self._fd, call):
                return
            self._give(fd, uid & LAST, gid & LAST)
        finally:
            os.close(fd)
        listener.answer(self._fd, call)

    def _give(self, fd: int, uid: int, gid: int) -> None:
        status = os.fstat(fd)
        before = self._owner(fd, status)
        owner = (before[0] if uid == LAST else uid, before[1] if gid == LAST else gid)
        # Also for what chown(2) does beside: it takes away set-user-ID and capabilities, and copies up.
        linux.fchownat(fd, "", 0, 0, linux.AT_EMPTY_PATH)
        self._record(fd, owner)

    def _owner(self, fd: int, status: os.stat_result) -> tuple[int, int]:
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return ownership.recorded(f"{OWN_FILES}/{fd}", status)
        return self._table_owner(fd, status)

    def _looks_like(self, fd: int, status: os.stat_result) -> tuple[int, int]:
        """Return whose the kernel tells the step that a file is."""
        return status.st_uid, status.st_gid

    def _record(self, fd: int, owner: tuple[int, int]) -> None:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            ownership.record(f"{OWN_FILES}/{fd}", *owner, status)
        else:
            self._pin(fd, owner)

    def _table_owner(self, fd: int, status: os.stat_result) -> tuple[int, int]:
        held = status.st_uid, status.st_gid
        upper = self._in_upper(fd) if self._pinned else None
        if upper is None:
            return held
        status = os.fstat(upper)
        os.close(upper)
        pinned = self._pinned.get((status.st_dev, status.st_ino))
        return pinned[1] if pinned is not None else held

    def _pin(self, fd: int, owner: tuple[int, int]) -> None:
        """Remember the owner by the inode in the upperdir, which stays open: no other file gets its
        number.
        """
        upper = self._in_upper(fd)
        if upper is None:
            return  # not in the root file system of the step: a mount, /dev, /proc
        status = os.fstat(upper)
        key = status.st_dev, status.st_ino
        if key in self._pinned:
            os.close(upper)
            self._pinned[key] = self._pinned[key][0], owner
        else:
            self._pinned[key] = upper, owner

    def _in_upper(self, fd: int) -> int | None:
        path = os.readlink(f"{OWN_FILES}/{fd}").lstrip("/")
        try:
            return linux.openat2(self._upper, path, os.O_PATH | os.O_NOFOLLOW, linux.RESOLVE_IN_ROOT)
        except OSError:
            return None

    # What is made

    def _settle(self, thread: int = 0) -> None:
        """Give what was made meanwhile to whom it belongs; `thread` is about to make a call."""
        for fd, owner in self._creations.settle(thread):
            try:
                self._record(fd, owner)
            finally:
                os.close(fd)

    def _create(self, call: Call) -> None:
        credentials = self._who(call)
        if credentials is not None and credentials.uids[1] != 0:
            with suppress(OSError):  # the kernel will say what is wrong with it
                self._expect(call, (credentials.uids[1], credentials.gids[1]))
        listener.proceed(self._fd, call)

    def _expect(self, call: Call, owner: tuple[int, int]) -> None:
        at = call.name.endswith(("at", "at2"))
        # symlink(2) has the new name last; all others first.
        number = 1 + at if call.name.startswith("symlink") else int(at)
        directory = call.arguments[number - 1] if at else linux.AT_FDCWD & LAST
        path = self._string(call, call.arguments[number]).rstrip("/")
        parent = self._caller.open(directory, os.path.dirname(path) or ".", True)
        status = os.fstat(parent)
        if status.st_mode & stat.S_ISGID:
            owner = owner[0], self._owner(parent, status)[1]
        self._creations.expect(parent, os.path.basename(path), owner, call.thread)

    def _make(self, call: Call) -> None:
        directory, (address, mode, device) = linux.AT_FDCWD & LAST, call.arguments[:3]
        if call.name == "mknodat":
            directory, address, mode, device = call.arguments[:4]
        kind = stat.S_IFMT(mode & 0xFFFF)
        if kind not in (stat.S_IFCHR, stat.S_IFBLK) or (kind == stat.S_IFCHR and device == 0):
            self._create(call)
            return
        path = self._string(call, address)
        parent = self._caller.open(directory, os.path.dirname(path.rstrip("/")) or ".", True)
        try:
            if not listener.valid(self._fd, call):
                return
            self._device(call, os.path.basename(path.rstrip("/")), mode & 0xFFFF, device & LAST, parent)
        finally:
            os.close(parent)
        listener.answer(self._fd, call)

    def _device(self, call: Call, name: str, mode: int, device: int, parent: int) -> None:
        ownership.make_device(name, stat.S_IFMT(mode), device, parent)
        umask = int(self._caller.status().get("Umask", "022"), 8)
        os.chmod(name, mode & 0o7777 & ~umask, dir_fd=parent)

    # stat

    def _stat(self, call: Call) -> None:
        try:
            data, address = self._told(call)
        except OSError:  # the kernel will say what is wrong with it
            data, address = b"", 0
        if not data:
            listener.proceed(self._fd, call)
        elif listener.valid(self._fd, call):
            self._caller.poke(address, data)
            listener.answer(self._fd, call)

    def _told(self, call: Call) -> tuple[bytes, int]:
        """Return what the call is to tell, and where to; nothing where the kernel knows as much."""
        name, arguments = call.name, call.arguments
        directory, path, address, flags = linux.AT_FDCWD & LAST, arguments[0], arguments[1], 0
        if name == "newfstatat":
            directory, path, address, flags = arguments[:4]
        elif name == "statx":
            directory, path, flags, _, address = arguments[:5]
        elif name == "lstat":
            flags = NOFOLLOW
        elif name == "fstat":
            directory, path, flags = arguments[0], 0, _EMPTY_PATH
        text = self._string(call, path) if path else ""
        if not text and not flags & _EMPTY_PATH:
            return b"", 0
        fd = self._caller.open(directory, text or None, not flags & NOFOLLOW)
        try:
            status = os.fstat(fd)
            owner = self._owner(fd, status)
            if owner == self._looks_like(fd, status):
                return b"", 0
            if name == "statx":
                return filestatus.extended(fd, flags & ~NOFOLLOW, arguments[3] & LAST, owner), address
            return filestatus.of(fd, owner), address
        finally:
            os.close(fd)

    # Ids

    def _who(self, call: Call) -> Credentials | None:
        """Return who the caller takes itself for; None: for whom the kernel says."""
        return self._processes.of(call.thread)

    def _get(self, call: Call) -> None:
        credentials = self._who(call)
        if credentials is None:
            listener.proceed(self._fd, call)
            return
        name = call.name.removesuffix("32")
        if name == "getgroups":
            size, address = call.arguments[:2]
            groups = credentials.groups
            if size and size < len(groups):
                raise OSError(errno.EINVAL, "")
            if size:
                self._caller.poke(address, struct.pack(f"={len(groups)}I", *groups))
            listener.answer(self._fd, call, len(groups))
        elif name.startswith("getres"):
            for address, value in zip(call.arguments[:3], credentials.ids(name), strict=True):
                self._caller.poke(address, struct.pack("=I", value))
            listener.answer(self._fd, call)
        else:
            real, effective, _ = credentials.ids(name)
            listener.answer(self._fd, call, effective if name.startswith("gete") else real)

    def _set(self, call: Call) -> None:
        name = call.name.removesuffix("32")
        before = self._processes.of(call.thread)
        credentials = before or Credentials()
        if name == "setgroups":
            size, address = call.arguments[:2]
            groups = struct.unpack(f"={size}I", self._caller.peek(address, 4 * size)) if size else ()
            after = credentials.with_groups(groups)
        else:
            after = credentials.changed(name, [value & LAST for value in call.arguments[:3]])
        self._processes.set(call.thread, after)
        value = credentials.ids(name)[1] if name.startswith("setfs") else 0
        listener.answer(self._fd, call, value)

    def _string(self, call: Call, address: int) -> str:
        path = self._caller.string(address)
        if not path and call.name not in _MAY_BE_EMPTY:
            raise OSError(errno.ENOENT, "")
        return path


class DeviceMaker(Supervisor):
    """Makes device nodes for a command that is root of a user namespace in which every id is what it is
    outside: the kernel makes them for the machine's root alone (mknod(2)).
    """

    def _device(self, call: Call, name: str, mode: int, device: int, parent: int) -> None:
        status = self._caller.status()
        whole = self._caller.uid_map().split() == ["0", "0", str(LAST)]
        if not (whole and int(status["CapEff"], 16) >> _MKNOD & 1):
            raise OSError(errno.EPERM, "")
        umask = int(status.get("Umask", "022"), 8)
        # The kernel's numbers (new_decode_dev): 12 bits of the major one, 8 and 12 of the minor one.
        number = os.makedev(device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00)
        os.mknod(name, stat.S_IFMT(mode), number, dir_fd=parent)
        # What files that the thread makes belong to: the last of its ids (setfsuid(2)).
        uid, gid = (int(status[key].split()[3]) for key in ("Uid", "Gid"))
        directory = os.fstat(parent)
        group = directory.st_gid if directory.st_mode & stat.S_ISGID else gid
        os.chown(name, uid, group, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, mode & 0o7777 & ~umask, dir_fd=parent)


_HANDLERS: dict[str, Callable[[Supervisor, Call], None]] = {
    **dict.fromkeys((name.removesuffix("32") for name in CHOWN), Supervisor._chown),
    **dict.fromkeys(filestatus.CALLS, Supervisor._stat),
    **dict.fromkeys(creations.CALLS, Supervisor._create),
    **dict.fromkeys(_MAKE, Supervisor._make),
    **dict.fromkeys(_GET, Supervisor._get),
    **dict.fromkeys(_SET, Supervisor._set),
}
