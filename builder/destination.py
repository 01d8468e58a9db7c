"""Directories and names inside of a root filesystem: found through its symbolic links, made where missing.

openat2(2) with RESOLVE_IN_ROOT keeps every symbolic link inside of the root. What is missing is made as
BuildKit makes it: with a mode of 0755, also where a dangling symbolic link leads to; in a directory with
setgid, with that bit, and with the group of that directory unless an owner is asked for.
"""

from __future__ import annotations

import errno
import os
import stat

from builder import linux
from builder.errors import PlanError
from cache import ownership

_MAX_LINKS = 40

Owner = tuple[int, int] | None
"""uid and gid of what is made; None: root's, of the group that it has by itself."""


def make_directory(root_fd: int, path: str, owner: Owner) -> None:
    """Create `path` and its missing parents, owned by `owner`, inside of `root_fd`."""
    os.close(open_directory(root_fd, path, owner))


def open_directory(root_fd: int, path: str, owner: Owner, source: str | None = None) -> int:
    """Open the directory `path` inside of the root; make what is missing, owned by `owner`.

    `source`: the directory that is to be copied there, for the message. Raises PlanError where a file is in
    the way.
    """
    todo = _parts(path)
    done: list[str] = []
    links = 0
    fd = _open_in_root(root_fd, ".")
    try:
        while todo:
            part = todo.pop(0)
            here = "/".join([*done, part])
            try:
                below = _open_in_root(root_fd, here)
            except FileNotFoundError:
                link = _make_directory(fd, part, owner)
                if link is not None:
                    # It leads to what is missing still: that is made, as BuildKit does.
                    links += 1
                    if links > _MAX_LINKS:
                        raise _circle(path) from None
                    done, todo, below = _follow(link, done, todo, root_fd)
                    os.close(fd)
                    fd = below
                    continue
                below = _open_in_root(root_fd, here)
            except OSError as error:
                raise _unusable(error, here, path, source) from None
            os.close(fd)
            fd = below
            done.append(part)
    except BaseException:
        os.close(fd)
        raise
    return fd


def destination(root_fd: int, path: str, owner: Owner) -> tuple[int, str]:
    """Return an open directory, and the name in it that writing to the file `path` means.

    A symbolic link at `path` leads to the file that it names, be it there or not; where it leads to a
    directory, the name is `.`.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    fd = open_directory(root_fd, parent or "/", owner)
    for _ in range(_MAX_LINKS):
        try:
            link = os.readlink(name, dir_fd=fd)
        except OSError:
            return fd, name
        os.close(fd)
        path = link if link.startswith("/") else f"{parent}/{link}"
        if _leads_to_directory(root_fd, path):
            return open_directory(root_fd, path, owner), "."
        parent, _, name = path.rstrip("/").rpartition("/")
        fd = open_directory(root_fd, parent or "/", owner)
    os.close(fd)
    raise _circle(path)


def is_directory(fd: int, name: str) -> bool:
    """Whether `name` in the directory `fd` is a directory itself, and no link to one."""
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _open_in_root(root_fd: int, path: str) -> int:
    return linux.openat2(root_fd, path, os.O_RDONLY | os.O_DIRECTORY, resolve=linux.RESOLVE_IN_ROOT)


def _make_directory(fd: int, name: str, owner: Owner) -> str | None:
    """Make the directory; return the target of the symbolic link that stands there instead."""
    try:
        os.mkdir(name, 0o755, dir_fd=fd)
    except FileExistsError:
        return os.readlink(name, dir_fd=fd)
    above = os.fstat(fd)
    inherited = above.st_mode & stat.S_ISGID
    if owner is None:
        owner = 0, ownership.recorded(fd, above)[1] if inherited else 0
    ownership.give(name, *owner, directory=fd)
    os.chmod(name, 0o755 | inherited, dir_fd=fd)  # whatever the umask is
    return None


def _follow(link: str, done: list[str], todo: list[str], root_fd: int) -> tuple[list[str], list[str], int]:
    """Return where to go on behind a symbolic link in `done`: what is done, what is to do, the directory."""
    done = [] if link.startswith("/") else done
    return done, _parts(link) + todo, _open_in_root(root_fd, "/".join(done) or ".")


def _leads_to_directory(root_fd: int, path: str) -> bool:
    try:
        os.close(_open_in_root(root_fd, path.lstrip("/") or "."))
    except OSError:
        return False
    return True


def _circle(path: str) -> PlanError:
    return PlanError(f"too many symbolic links at {path!r}", code="copy/links")


def _unusable(error: OSError, here: str, path: str, source: str | None) -> Exception:
    if error.errno == errno.ELOOP:
        return _circle(path)
    if error.errno != errno.ENOTDIR:
        return error
    what = f"cannot copy the directory {source!r} onto it" if source else "it would have to be a directory"
    return PlanError(f"/{here} is a file: {what}", code="copy/onto-file")
