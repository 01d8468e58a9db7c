"""Where a step's root filesystem comes from: the kernel's overlay, fuse-overlayfs, or a plain copy.

One choice for the whole process: builder/session.py makes it, before it opens anything. docs/rootless.md says
what each costs. An overlay that the kernel mounts needs none of this (builder/mounts.py); the others are
directories that are ready before the sandbox is made (`prepare`), and become a changeset after its end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Literal

from builder import userns
from builder.errors import BuildError, HostError
from builder.overlay import Overlay

if TYPE_CHECKING:
    from builder import mountpoints
    from builder.executor import ExecRequest, Mount
    from builder.snapshotroots import Root
    from cache.scratch import Scratch

Driver = Literal["overlay", "fuse-overlayfs", "copy"]
CHOICES = ("auto", "overlay", "fuse-overlayfs", "copy")

_current: Snapshots | None = None


def use(choice: Driver | Literal["auto"], scratch: Scratch) -> Snapshots:
    """Make the choice for this process; `scratch` is where directories are made. One thread runs yet."""
    global _current
    _current = Snapshots(choice, scratch)
    if choice == "fuse-overlayfs" and userns.entered() is None:
        # What is mounted is to be seen by nobody else, and to go with this process.
        from builder import linux

        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    return _current


def other_than_overlay() -> Snapshots | None:
    """Return what makes root filesystems here, None if the kernel's overlay does."""
    if _current is None or _current.driver == "overlay":
        return None
    return _current


def told() -> tuple[Driver, str] | None:
    """Return what `use_told` takes in another process of the same build; None if nothing has to be told."""
    made = other_than_overlay()
    return None if made is None else (made.driver, made.scratch.path)


def use_told(driver: Driver, path: str) -> Snapshots:
    """Use what another process has chosen, until `end`. One thread runs yet."""
    from cache.scratch import Scratch

    return use(driver, Scratch(path))


def end() -> None:
    """Let go of everything, and return when it is removed."""
    if _current is not None:
        _current.close()
        _current.scratch.settle()


@dataclass(frozen=True, slots=True)
class Found:
    """Which driver is used, and why none that would be quicker: (driver, reason)."""

    driver: Driver
    refused: tuple[tuple[Driver, str], ...] = ()


class Snapshots:
    """The choice, and the root filesystems that are open. Safe from several threads at once."""

    def __init__(self, choice: Driver | Literal["auto"], scratch: Scratch) -> None:
        self._choice = choice
        self.scratch = scratch
        self._lock = Lock()
        self._views: dict[Overlay, Root] = {}
        self._open: set[Root] = set()

    @property
    def driver(self) -> Driver:
        """The driver; with `auto` the first that works, tried for real when it is asked for."""
        with self._lock:
            return self.found.driver

    @cached_property
    def found(self) -> Found:
        """What `auto` comes to, and why. Raises HostError where nothing works."""
        if self._choice != "auto":
            return Found(self._choice)
        refused: list[tuple[Driver, str]] = []
        candidates: tuple[Driver, ...] = ("overlay", "fuse-overlayfs", "copy")
        for driver in candidates:
            reason = self._refusal(driver)
            if not reason:
                return Found(driver, tuple(refused))
            refused.append((driver, reason))
        told = "; ".join(f"{driver}: {reason}" for driver, reason in refused)
        raise HostError(
            f"no root filesystem can be made in the store: {told}",
            code="host/snapshotter",
            hint="put the store on ext4, xfs, btrfs or tmpfs (--root); in a container, on a volume",
        )

    def _refusal(self, driver: Driver) -> str:
        """Return why `driver` does not work here, "" if it does: it is tried."""
        from builder.snapshotprobe import refusal

        if driver == "fuse-overlayfs" and userns.entered() is None:
            return "it is used without root alone, or where it is asked for"
        return refusal(driver, self.scratch)

    def view(self, overlay: Overlay) -> str:
        """Return the path of a directory that shows `overlay`, which has no upper. It stays until `close`."""
        with self._lock:
            root = self._views.get(overlay)
            if root is None:
                root = self._views[overlay] = self._make(overlay)
        return root.path

    def open(self, overlay: Overlay) -> Root:
        """Return the root filesystem that shows `overlay`; to be closed. Raises HostError, OSError."""
        root = self._make(overlay)
        with self._lock:
            self._open.add(root)
        return root

    def _make(self, overlay: Overlay) -> Root:
        from builder.snapshotroots import CopiedRoot, FuseRoot

        kind = FuseRoot if self.found.driver == "fuse-overlayfs" else CopiedRoot
        return kind(overlay, self.scratch, self._forget)

    def _forget(self, root: Root) -> None:
        with self._lock:
            self._open.discard(root)

    def prepare(self, request: ExecRequest) -> tuple[ExecRequest, list[Root]]:
        """Return `request` with its root filesystem made, and every mount point in it; and what is to be
        closed after its command's end. Raises HostError, StepFailed.
        """
        from builder import mountpoints

        opened: list[Root] = []
        try:
            made = [self._opened(mount, opened) for mount in request.mounts]
            targets = [mountpoints.target_path(request.workdir, mount.target) for mount in made]
            points = mountpoints.wanted(zip(targets, map(_is_directory, made), strict=True))
            root = self._root(request, points)
            opened.append(root)
            upper = None if request.upper is None else root.written
            ready = replace(request, mounts=tuple(made), prepared=root.path, lower=(), upper=upper, work=None)
        except BaseException:
            close(opened, keep=False)
            raise
        return ready, opened

    def _opened(self, mount: Mount, opened: list[Root]) -> Mount:
        if not isinstance(mount.source, Overlay):
            return mount
        opened.append(self.open(mount.source))
        return replace(mount, source=opened[-1].path)

    def _root(self, request: ExecRequest, points: list[mountpoints.Point]) -> Root:
        from builder import mountpoints

        place = self.scratch.directory("points")
        try:
            bottom, top = place.path + "/bottom", place.path + "/top"
            os.mkdir(bottom, 0o755)
            mountpoints.make(bottom, points)
            overlay = Overlay((*request.lower, bottom), request.upper, request.work)
            root = self.open(overlay)
            try:
                missing = _make_missing(root.path, points, top)
            except BaseException:
                root.close(keep=False)
                raise
            if missing:
                root.close(keep=False)
                root = self.open(replace(overlay, lower=(top, *overlay.lower)))
            root.own(place)
        except BaseException:
            place.discard()
            raise
        return root

    def close(self) -> None:
        """Let go of everything that is open."""
        with self._lock:
            left = [*self._open, *self._views.values()]
            self._views.clear()
        close(left, keep=False)


def _make_missing(root: str, points: list[mountpoints.Point], top: str) -> bool:
    """Make the mount points that `root` lacks in a directory for on top of it. Returns whether it lacks
    any.
    """
    from builder import mountpoints

    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        missing = mountpoints.missing(fd, points)
        if missing:
            os.mkdir(top, 0o755)
            mountpoints.make_above(top, root, fd, missing)
        return bool(missing)
    finally:
        os.close(fd)


def close(roots: list[Root], *, keep: bool) -> None:
    """Close all of `roots`, the last first; raise what the first failure was."""
    failure: BaseException | None = None
    for root in reversed(roots):
        try:
            root.close(keep=keep)
        except (BuildError, OSError) as error:
            failure = failure or error
    if isinstance(failure, OSError):
        raise HostError(f"what a step wrote cannot be taken over: {failure}", code="host/snapshotter")
    if failure is not None:
        raise failure


def _is_directory(mount: Mount) -> bool:
    from builder import mounts

    if mount.kind != "bind":
        return mount.kind == "tmpfs"
    try:
        if isinstance(mount.source, str):
            place = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
        else:
            assert isinstance(mount.source, int)
            place = os.dup(mount.source)
        try:
            if not mount.subpath:
                return os.path.isdir(f"/proc/self/fd/{place}")
            inside = mounts.open_in(place, mount.subpath)
        finally:
            os.close(place)
        try:
            return os.path.isdir(f"/proc/self/fd/{inside}")
        finally:
            os.close(inside)
    except OSError:
        return False  # the sandbox tells what is wrong with it
