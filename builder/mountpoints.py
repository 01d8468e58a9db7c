"""Mount points that a root file system lacks, made in lower directories of its own. Runs as pid 1 of the
sandbox.

They come from one more lower below all others, so that they are part of no layer, and the image's own
attributes win where it has the directory itself: what Docker keeps in an `-init` layer.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from builder import mounts
from builder.errors import StepFailed
from cache import ownership

if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORIES = ("/proc", "/sys", "/dev")
"""None of them may be or contain a symbolic link: a step's view of the kernel must be where programs look
for it.
"""

FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")

Point = tuple[str, bool]
"""An absolute path, and whether it is to be a directory."""

_SYMLINKS = 40  # the kernel's limit in one path


def target_path(workdir: str, target: str) -> str:
    """Return the absolute, normalised path of a mount's target; a relative one is relative to the workdir."""
    path = os.path.normpath("/" + os.path.join(workdir, target).lstrip("/"))
    if path == "/":
        raise failure("/", "a mount cannot take the root's place")
    return path


def wanted(targets: Iterable[Point]) -> list[Point]:
    """Return what a root needs to be there: for the file systems that each has, and for mounts on `targets`,
    one after the other. What is within another mount is made there.
    """
    points = [(path, True) for path in DIRECTORIES] + [(path, False) for path in FILES]
    above = [path + "/" for path in DIRECTORIES]
    for path, is_directory in targets:
        if not path.startswith(tuple(above)):
            points.append((path, is_directory))
        above.append(path + "/")
    return points


def make(base: str, points: Iterable[Point]) -> None:
    """Make the mount points and their parents in the directory `base`, which is ours alone."""
    for path, is_directory in points:
        _make_point(base + path, is_directory)


def missing(root: int, points: Iterable[Point]) -> list[Point]:
    """Return the points that are not there. Raises StepFailed (step/mount) where there can be none."""
    result: list[Point] = []
    for path, is_directory in points:
        try:
            os.close(open_point(root, path, is_directory))
        except FileNotFoundError:
            result.append((path, is_directory))
    return result


def open_point(root: int, path: str, is_directory: bool) -> int:
    """Open a mount point in `root`. Raises FileNotFoundError, or StepFailed where it is of another type."""
    try:
        point = mounts.open_in(root, path, follow=path not in DIRECTORIES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise failure(path, str(error.strerror).rpartition(": ")[2]) from None
    if stat.S_ISDIR(os.fstat(point).st_mode) == is_directory:
        return point
    os.close(point)
    raise failure(
        path, "it is not a directory" if is_directory else "it is a directory, and the source is not"
    )


def open_or_make(root: int, path: str, is_directory: bool) -> int:
    """Open a mount point, and make it where it is missing: within another mount, which the layer has no
    part in.
    """
    try:
        return open_point(root, path, is_directory)
    except FileNotFoundError:
        physical = physical_path(root, path)
        parent = os.dup(root)
        try:
            for name in physical[:-1]:
                parent = _enter(parent, name)
            _make_last(parent, physical[-1], is_directory)
        except OSError as error:
            raise failure(path, f"no mount point can be made there: {error.strerror}") from None
        finally:
            os.close(parent)
        return open_point(root, path, is_directory)


def _enter(parent: int, name: str) -> int:
    """Make the directory `name` if it is missing, open it, and close `parent`."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    child = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    os.close(parent)
    return child


def _make_last(parent: int, name: str, is_directory: bool) -> None:
    if is_directory:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))


def failure(target: str, reason: str) -> StepFailed:
    return StepFailed(f"cannot mount on {target}: {reason}", status=126, code="step/mount")


def physical_path(root: int, path: str) -> list[str]:
    """Return the components of `path` in the root `root`, all symbolic links followed; those that are missing
    stay.

    Nothing else may change the tree meanwhile.
    """
    done: list[str] = []
    todo = path.split("/")
    links = 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        try:
            target = os.readlink("/".join([*done, part]), dir_fd=root)
        except OSError:  # missing, or no symbolic link
            done.append(part)
            continue
        links += 1
        if links > _SYMLINKS:
            raise failure(path, os.strerror(errno.ELOOP))
        done = [] if target.startswith("/") else done
        todo = target.split("/") + todo
    return done


def make_above(base: str, view: str, root: int, points: Iterable[Point]) -> None:
    """Make the points in `base`, a lower that goes on top, for what a whiteout or an opaque directory hides
    below.

    The directories that lead to them get the attributes that they have in `view`, the path of the mount
    `root`: those of the topmost layer are what the command sees.
    """
    existing = {"."}
    for path, is_directory in points:
        components = physical_path(root, path)
        prefixes = ["/".join(components[:depth]) for depth in range(1, len(components))]
        existing.update(name for name in prefixes if os.path.lexists(f"{view}/{name}"))
        _make_point("/".join([base, *components]), is_directory)
    for name in sorted(existing, reverse=True):  # children first: making them changed their parents' times
        _copy_attributes(f"{view}/{name}", f"{base}/{name}")


def _make_point(path: str, is_directory: bool) -> None:
    try:
        os.makedirs(path if is_directory else os.path.dirname(path), exist_ok=True)
        if not is_directory:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        point = path[path.index("/") :]
        raise failure(point, "another mount needs a file where this one needs a directory") from None


def _copy_attributes(source: str, target: str) -> None:
    status = os.lstat(source)
    ownership.give(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for key in os.listxattr(source):
        if not key.startswith(("trusted.overlay.", "user.overlay.")):
            os.setxattr(target, key, os.getxattr(source, key))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
