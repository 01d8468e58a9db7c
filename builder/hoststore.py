"""What the place of a store can do: its file system, its space, and what root filesystems come from there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import HostError
from builder.host import Check, Status
from cache import idmap
from cache.filesystem import file_system

if TYPE_CHECKING:
    from builder.snapshots import Found

_LOW_SPACE = 2_000_000_000
_COSTS = {
    "overlay": "the kernel's overlay: nothing is copied",
    "fuse-overlayfs": "fuse-overlayfs: nothing is copied, file access is slower",
    "copy": "plain copies: each step copies its root filesystem",
}


def examine_store(store: str) -> Iterator[Check]:
    """Yield what is to be said of a store at `store`, which need not exist. Takes root, or a user
    namespace's.
    """
    existing = os.path.abspath(store)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    kind = file_system(existing)
    where = f"{store} on {kind}" + ("" if existing == os.path.abspath(store) else ", not there yet")
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Check("store", "missing", f"{where}: not writable", "another --root, or another user")
        return
    yield Check("store", "ok", where)
    yield _space(existing)
    with _scratch(existing) as scratch:
        yield _attributes(scratch, kind)
        yield from _snapshots(scratch, kind)


@contextmanager
def _scratch(directory: str) -> Iterator[str]:
    """Lend an empty directory on the file system of `directory`; an existing store has a place for such
    things.
    """
    import shutil
    import tempfile

    inside = os.path.join(directory, "tmp")
    scratch = tempfile.mkdtemp(prefix="doctor-", dir=inside if os.path.isdir(inside) else directory)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _space(directory: str) -> Check:
    from builder.progress.units import size

    facts = os.statvfs(directory)
    free = facts.f_bavail * facts.f_frsize
    inodes = facts.f_favail if facts.f_files else None
    detail = f"{size(free)} free" + (f", {inodes} inodes" if inodes is not None else "")
    if free < _LOW_SPACE or (inodes is not None and inodes < 50_000):
        return Check("space", "optional", detail, "pybuild prune, or a larger file system with --root")
    return Check("space", "ok", detail)


def _attributes(scratch: str, kind: str) -> Check:
    path = os.path.join(scratch, "attributes")
    with open(path, "wb"):
        pass
    refused = []
    # VFS_CAP_REVISION_2 with cap_net_raw: what `setcap cap_net_raw+ep` writes.
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    names = (
        ["user", "security.capability"] if idmap.confined() else ["user", "trusted", "security.capability"]
    )
    for name in names:
        value = capability
        if name != "security.capability":
            name, value = f"{name}.pybuild", b"1"
        try:
            os.setxattr(path, name, value)
        except OSError as error:
            refused.append(f"{name} ({os.strerror(error.errno or 0)})")
    if refused:
        remedy = "a store on ext4, xfs or btrfs (--root)"
        return Check("attributes", "missing", f"{kind} takes no {', '.join(refused)}", remedy)
    return Check("attributes", "ok", f"extended attributes: {', '.join(names[:-1])}, file capabilities")


def _snapshots(scratch: str, kind: str) -> Iterator[Check]:
    """Make a root filesystem, write and delete in it, and look at its upper directory."""
    from builder.snapshots import Snapshots
    from cache.scratch import Scratch

    problem = ""
    try:
        found = Snapshots("auto", Scratch(scratch)).found
    except HostError as error:
        found, problem = None, error.message
    refused = dict(found.refused) if found is not None else {}
    if found is not None and found.driver == "overlay":
        yield Check("overlay", "ok", f"mounted without a trace, its upper directory on {kind}")
    else:
        remedy = "`modprobe overlay`; a store on ext4, xfs or btrfs, not itself on an overlay (--root)"
        status: Status = "optional" if found is not None else "missing"
        detail = f"{kind} cannot hold an upper directory: {refused.get('overlay') or problem}"
        yield Check("overlay", status, detail, remedy)
    yield _driver(found, problem)


def _driver(found: Found | None, problem: str) -> Check:
    if found is None:
        return Check(
            "snapshotter", "missing", problem, "another --root; in a container, on a volume of its own"
        )
    reasons = "; ".join(f"{driver}: {reason}" for driver, reason in found.refused)
    detail = _COSTS[found.driver] + (f" ({reasons})" if reasons else "")
    if found.driver == "copy":
        return Check("snapshotter", "optional", detail, "apt-get install fuse-overlayfs, and have /dev/fuse")
    return Check("snapshotter", "ok", detail)
