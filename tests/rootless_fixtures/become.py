"""Become a user who is not on this machine, and run a command: `become.py JSON ARGV…`, as root.

In a mount namespace of its own, where the account files are the test's, the user's home is below /home, and
what Python runs on can be reached whatever the modes on the way. Nothing on the host changes.
"""

from __future__ import annotations

import json
import os
import pathlib
import stat
import sys
import tempfile
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main(order: dict[str, Any], argv: list[str]) -> None:
    """`order`: name, uid, gid, home (a directory), files (path -> what is mounted over it), environment,
    fuse (whether there is /dev/fuse).
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
        words = [os.fsencode(word) for word in (source, target, kind)]
        if libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(data)) != 0:
            raise OSError(ctypes.get_errno(), f"mount {source} {target}: {os.strerror(ctypes.get_errno())}")

    def umount(target: str) -> None:
        if libc.umount2(os.fsencode(target), 2) != 0:  # MNT_DETACH
            raise OSError(ctypes.get_errno(), f"umount {target}")

    bind, private = 0x5000, 0x4000 | 1 << 18
    if libc.unshare(0x00020000) != 0:  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "unshare")
    mount("", "/", "", private, "")
    held = os.open(order["home"], os.O_PATH)
    for path, source in order["files"].items():
        mount(source, path, "", bind, "")
    open_the_way(mount, umount)
    home = f"/home/{order['name']}"
    os.mkdir(home)
    mount(f"/proc/self/fd/{held}", home, "", bind, "")
    if os.path.exists("/dev/net/tun"):
        offer(mount, "/dev/net/tun", os.makedev(10, 200))
    if order["fuse"]:
        offer(mount, "/dev/fuse", os.makedev(10, 229))
    elif os.path.exists("/dev/fuse"):
        mount("/dev/null", "/dev/fuse", "", 0x1000, "")
    os.close(held)
    os.chdir(home)
    os.setgroups([])
    os.setresgid(*[order["gid"]] * 3)
    os.setresuid(*[order["uid"]] * 3)
    os.execvpe(argv[0], argv, order["environment"])


def offer(mount: Any, path: str, number: int) -> None:
    """Let everybody have a device, as on a host with udev."""
    place = tempfile.mkdtemp(dir="/home")
    os.mknod(f"{place}/node", stat.S_IFCHR, number)
    os.chmod(f"{place}/node", 0o666)
    mount(f"{place}/node", path, "", 0x1000, "")


def open_the_way(mount: Any, umount: Any, also: tuple[str, ...] = ()) -> None:
    """Have everybody reach the interpreter, its libraries, the checkout and `also`; nothing else is in /home.

    `mount` takes source, target, type, flags and data as mount(2) does.
    """
    bind = 0x5000  # MS_BIND | MS_REC
    needed = {*also, ROOT, sys.prefix, sys.base_prefix, sys.executable, os.path.realpath(sys.executable)}
    needed |= {path for path in sys.path if path and os.path.isdir(path)}
    closed: dict[str, list[str]] = {"/home": []}
    for path in sorted(needed):
        for above in reversed([str(each) for each in pathlib.Path(path).parents]):
            if above == "/home" or not os.stat(above).st_mode & stat.S_IXOTH:
                inside = closed.setdefault(above, [])
                if not any(path.startswith(other + "/") for other in inside):
                    inside.append(path)
                break
    for above, paths in closed.items():
        mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
        for number, path in enumerate(paths):
            _place(f"/run/{number}", path)
            mount(path, f"/run/{number}", "", bind, "")
        mount("tmpfs", above, "tmpfs", 0, "mode=755")
        for number, path in enumerate(paths):
            _place(path, f"/run/{number}")
            mount(f"/run/{number}", path, "", bind, "")
        umount("/run")


def _place(path: str, like: str) -> None:
    """Make a mount point: a directory or a file."""
    if os.path.isdir(like):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "x").close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
