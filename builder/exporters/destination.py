"""Where an output goes: a file that appears when it is whole, or standard output."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from builder.errors import UsageError
from builder.exporters.base import OutputError, output_error, writing
from builder.exporters.output_spec import STDOUT, OutputSpec

_BUFFER = 1 << 18
_MOST_AT_ONCE = 1 << 30  # sendfile(2) takes up to 2 GiB less a page


def check(spec: OutputSpec) -> None:
    """Find out, before anything is built for it, if an output cannot be written. Raises UsageError."""
    if spec.type == "registry":
        return
    if spec.dest == STDOUT:
        if os.isatty(1):
            raise _usage(spec, "an image is nothing for a terminal", "redirect it, or give dest=FILE")
        return
    parent = os.path.dirname(os.path.realpath(spec.dest))
    if spec.type in ("dir", "oci-layout"):
        if os.path.lexists(spec.dest) and not os.path.isdir(spec.dest):
            raise _usage(spec, f"{spec.dest} is no directory")
        if _is_root(spec.dest):
            # An image's passwd, libraries and package database over those of the host that runs it.
            raise _usage(
                spec,
                f"{spec.dest} is the root of this host",
                "name a directory of its own, such as dest=rootfs",
            )
        return
    if os.path.isdir(spec.dest) or spec.dest.endswith("/"):
        raise _usage(spec, f"{spec.dest} is a directory", "name the file in it that is to be written")
    if not os.path.isdir(parent):
        raise _usage(spec, f"there is no directory {parent}", f"mkdir -p {parent}")


def _is_root(path: str) -> bool:
    """Return whether `path` is `/`, under whatever name: `..`, a symbolic link, a bind mount."""
    try:
        return os.path.samestat(os.stat(path), os.stat("/"))
    except OSError:
        return False


def _usage(spec: OutputSpec, problem: str, hint: str | None = None) -> UsageError:
    return UsageError(f"--output {spec.text or spec.dest}: {problem}", hint=hint, code="usage/output")


class Stream:
    """Takes bytes for a descriptor: gathers small ones, hands on large ones, and parts of files as they are.

    Raises OutputError, which names `dest`.
    """

    __slots__ = ("_dest", "_fd", "_held", "_parts", "size")

    def __init__(self, fd: int, dest: str) -> None:
        self._fd = fd
        self._dest = dest
        self._parts: list[bytes] = []
        self._held = 0
        self.size = 0

    def write(self, data: bytes, /) -> int:
        self._parts.append(data)
        self._held += len(data)
        if self._held >= _BUFFER:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Hand on what is held."""
        parts, self._parts = self._parts, []
        self._held = 0
        self._write(parts[0] if len(parts) == 1 else b"".join(parts))

    def copy(self, source: int, size: int) -> None:
        """Append the next `size` bytes of the file open as `source`, within the kernel if it can do that."""
        self.flush()
        left = size
        while left:
            try:
                count = os.sendfile(self._fd, source, None, min(left, _MOST_AT_ONCE))
                self.size += count
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS):
                    raise output_error(error, self._dest) from error
                data = os.read(source, min(left, _BUFFER))
                count = len(data)
                self._write(data)
            if not count:
                raise OutputError("a file became shorter while it was read", code="output/changed")
            left -= count

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise output_error(error, self._dest) from error
        self.size += len(data)


@contextmanager
def open_output(dest: str) -> Iterator[Stream]:
    """Open the file `dest`, or standard output (`-`), for one output.

    A file is there when the context ends, or not at all: it is written without a name, so that even a killed
    process leaves nothing, and then replaces what `dest` was. What is no regular file (/dev/null, a FIFO) is
    written to. Raises OutputError.
    """
    if dest == STDOUT:
        stream = Stream(1, dest)
        yield stream
        stream.flush()
    elif _is_special(dest):
        with writing(dest):
            fd = os.open(dest, os.O_WRONLY | os.O_CLOEXEC)
        try:
            stream = Stream(fd, dest)
            yield stream
            stream.flush()
        finally:
            os.close(fd)
    else:
        parent, name = os.path.split(os.path.realpath(dest))
        with writing(dest):
            directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with new_file(directory, name, dest) as fd:
                stream = Stream(fd, dest)
                yield stream
                stream.flush()
        finally:
            os.close(directory)


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def new_file(directory: int, name: str, dest: str, mode: int = 0o666) -> Iterator[int]:
    """Give a descriptor of a file that appears as `name` in the open `directory` when the context ends.

    Nothing appears if it ends by an exception. Raises OutputError, which names `dest`.
    """
    with writing(dest):
        fd, staged = _unnamed(directory, mode)
    try:
        yield fd
        with writing(dest):
            if staged is None:
                staged = _link(fd, directory, name)
            if staged is not None:
                os.rename(staged, name, src_dir_fd=directory, dst_dir_fd=directory)
        staged = None
    finally:
        os.close(fd)
        if staged is not None:
            os.unlink(staged, dir_fd=directory)


def _link(fd: int, directory: int, name: str) -> str | None:
    """Give an unnamed file its name; if that is taken, another one, which is returned."""
    source = f"/proc/self/fd/{fd}"
    try:
        os.link(source, name, dst_dir_fd=directory)  # by dst_dir_fd it is linkat(2), which follows the link
    except FileExistsError:
        staged = _staging_name()
        os.link(source, staged, dst_dir_fd=directory)
        return staged
    return None


def _unnamed(directory: int, mode: int) -> tuple[int, str | None]:
    """Open a new file without a name (open(2), O_TMPFILE), or with a hidden one where the file system knows
    no such."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode, dir_fd=directory), None
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise
    name = _staging_name()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, mode, dir_fd=directory), name


def _staging_name() -> str:
    return f".pybuild-{os.urandom(8).hex()}"
