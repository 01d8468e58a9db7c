"""Having the kernel run another architecture's programs, for one step: binfmt_misc in a user namespace.

Since Linux 6.7 each user namespace can have handlers of its own (binfmt-misc.rst); those of the host stay as
they are. So the command of such a step enters a user namespace in which every id is what it was, with a
mount namespace to mount binfmt_misc in. It has all that it would have without, but for what the kernel asks
of the machine's own root: see docs/platforms.md. Runs in the sandbox, in the process that becomes the
command. Imported before the root is entered.
"""

from __future__ import annotations

import os

from builder import linux, mounts, network
from builder.errors import HostError
from cache import idmap

_KINDS = ("uid", "gid")
_PLACE = "/proc/sys/fs/binfmt_misc"
_FLAGS = "OCPF"
"""The emulator gets the program open (O), with the privileges of set-user-ID programs and capabilities (C),
and the argv[0] that it was started with (P); it is itself opened now, not when it is needed (F)."""

_STRICT = linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV | linux.MOUNT_ATTR_NOEXEC


def enter(handler: tuple[str, bytes, bytes, int], *, alone: bool) -> None:
    """Go on in namespaces in which the programs of `handler` (ExecRequest.emulator) run. `alone`: without
    the host's network. This process must have one thread. Raises HostError.
    """
    name, magic, mask, fd = handler
    try:
        _enter_namespaces(linux.CLONE_NEWNET if alone else 0)
        if alone:
            # It belongs to this user namespace: a port below 1024 takes a capability there.
            network.loopback_up()
        _register(name, magic, mask, fd)
    except OSError as error:
        raise HostError(
            f"the kernel does not let {name} run programs: {error.strerror}",
            code="host/emulation",
            hint="it takes Linux 6.7 with CONFIG_BINFMT_MISC, and user namespaces; or register the emulator "
            "on this host with its flag F: apt-get install binfmt-support qemu-user-static",
        ) from None


def _enter_namespaces(more: int) -> None:
    maps = [(kind, "".join(f"{at} {at} {count}\n" for at, count in idmap.mapped(kind))) for kind in _KINDS]
    ready, written = os.pipe()
    mapper = _fork_mapper(maps, ready, written)
    os.close(ready)
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS | more)
    finally:
        os.close(written)
        status = os.waitstatus_to_exitcode(os.waitpid(mapper, 0)[1])
    if status:
        raise OSError(status, os.strerror(status))
    idmap.forget()


def _fork_mapper(maps: list[tuple[str, str]], ready: int, written: int) -> int:
    """Fork a process that maps all ids to themselves, from the namespace above, once the pipe is closed at
    its other end. Its exit code is an errno.
    """
    target = os.getpid()
    mapper = os.fork()
    if mapper:
        return mapper
    code = 1
    try:
        os.close(written)
        os.read(ready, 1)
        for kind, text in maps:
            fd = os.open(f"/proc/{target}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, text.encode())
        code = 0
    except OSError as error:
        code = error.errno or 1
    finally:
        os._exit(code)


def _register(name: str, magic: bytes, mask: bytes, fd: int) -> None:
    """Register a handler in this user namespace. It lives as long as the mount, which goes with the step's
    processes; nobody in there can change it.
    """
    mounted = mounts.filesystem("binfmt_misc", (), _STRICT)
    entry = f":{name}:M::{_escaped(magic)}:{_escaped(mask)}:/proc/self/fd/{fd}:{_FLAGS}"
    register = os.open("register", os.O_WRONLY | os.O_CLOEXEC, dir_fd=mounted)
    try:
        os.write(register, entry.encode())
    finally:
        os.close(register)
    mounts.restrict(mounted, linux.MOUNT_ATTR_RDONLY)
    mounts.attach(mounted, os.open(_PLACE, os.O_PATH | os.O_CLOEXEC))


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)
