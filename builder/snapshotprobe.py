"""Whether a driver of root filesystems works in a store: a small one is made, written to, and looked at."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.overlay import Overlay
from cache.idmap import overlay_attribute
from cache.upperdir import is_whiteout

if TYPE_CHECKING:
    from builder.snapshots import Driver
    from cache.scratch import Scratch


def refusal(driver: Driver, scratch: Scratch) -> str:
    """Return why the driver does not work; "" if it does."""
    try:
        if driver == "copy":
            return _unmarkable(scratch)
        with scratch.stage() as staging:
            lower = staging.path + "/lower"
            os.mkdir(lower)
            for name in ("below", "replaced"):
                with open(f"{lower}/{name}", "wb"):
                    pass
            overlay = Overlay((lower,), staging.upper, staging.work)
            if driver == "overlay":
                _through_kernel(overlay)
            else:
                _through_fuse(overlay, scratch)
            whole = os.path.isfile(f"{staging.upper}/new")
            if not whole or not is_whiteout(os.lstat(f"{staging.upper}/below")):
                return "its upper directory lacks what was written"
            if not os.path.lexists(f"{staging.upper}/replaced"):
                return "it brings back what was replaced and then removed (as fuse-overlayfs 1.10 does)"
    except BuildError as error:
        return error.message
    except OSError as error:
        return f"{error.strerror} ({os.path.basename(os.fsdecode(error.filename or driver))})"
    return ""


def _unmarkable(scratch: Scratch) -> str:
    """Return why no changeset can be in the store, however it was made."""
    with scratch.stage() as staging:
        try:
            os.mknod(staging.upper + "/whiteout", stat.S_IFCHR, os.makedev(0, 0))
        except OSError as error:
            return f"no whiteout can be made there ({error.strerror})"
        try:
            os.setxattr(staging.upper, overlay_attribute("opaque"), b"y")
        except OSError as error:
            return f"no extended attribute can be set there ({error.strerror})"
    return ""


def _through_kernel(overlay: Overlay) -> None:
    from builder import mounts

    mounted = mounts.overlay(overlay.lower, overlay.upper, overlay.work)
    try:
        _write(mounted)
    finally:
        os.close(mounted)


def _through_fuse(overlay: Overlay, scratch: Scratch) -> None:
    from builder.snapshotroots import FuseRoot

    root = FuseRoot(overlay, scratch, lambda _: None)
    keep = False
    try:
        fd = os.open(root.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _write(fd)
        finally:
            os.close(fd)
        keep = True
    finally:
        root.close(keep=keep)


def _write(root: int) -> None:
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=root))
    os.unlink("below", dir_fd=root)
    os.rename("new", "replaced", src_dir_fd=root, dst_dir_fd=root)
    os.unlink("replaced", dir_fd=root)
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=root))
