"""A mount of fuse-overlayfs(1), and the process that serves it. It ends with the mount, or with this process.

The mount namespace must be this process's own. A shell stands between: where this process is killed, a pipe
is closed that it reads from, and it kills the server, which would keep the namespace otherwise.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time

from builder import linux
from builder.errors import HostError

_SCRIPT = """\
exec 3<&0
"$@" </dev/null 3<&- & server=$!
exec >&-
read -r _ <&3 || kill -9 $server
wait $server
"""
"""Standard output is the server's alone: a pipe that is closed when it has ended."""

_PATIENCE = 30.0
_INTERVAL = 2  # milliseconds


def program() -> str:
    """Return the path of fuse-overlayfs. Raises HostError where it, or /dev/fuse, is not to be had."""
    path = shutil.which("fuse-overlayfs")
    if path is None:
        raise HostError(
            "there is no fuse-overlayfs", code="host/snapshotter", hint="apt-get install fuse-overlayfs"
        )
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise HostError(
            f"fuse-overlayfs cannot have /dev/fuse: {error.strerror}",
            code="host/snapshotter",
            hint="in a container: --device /dev/fuse; on a host: modprobe fuse",
        ) from None
    return path


class FuseOverlay:
    """The mount on the directory `point`; `upper` None for one that is read-only."""

    def __init__(self, lower: tuple[str, ...], upper: str | None, work: str, point: str) -> None:
        """Return when it is mounted. Raises HostError."""
        self._point = point
        # Relative paths are short, and have none of the characters that separate options.
        start = os.path.dirname(work)
        layers = ":".join(os.path.relpath(os.path.realpath(path), start) for path in lower)
        options = f"lowerdir={layers}"
        if upper is not None:
            options += f",upperdir={os.path.relpath(upper, start)},workdir={os.path.relpath(work, start)}"
        argv = [program(), "-f", "-o", options, os.path.relpath(point, start)]
        self._said = os.memfd_create("fuse-overlayfs", os.MFD_CLOEXEC)
        lives, self._alive = os.pipe()
        self._gone, theirs = os.pipe()
        try:
            device = os.stat(point).st_dev
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "sh", *argv],
                stdin=lives, stdout=theirs, stderr=self._said, cwd=start, start_new_session=True,
            )  # fmt: skip
        except OSError:
            for fd in (self._said, self._alive, self._gone):
                os.close(fd)
            raise
        finally:
            os.close(lives)
            os.close(theirs)
        self._await(device)

    def _await(self, device: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        try:
            while os.stat(self._point).st_dev == device:
                if self._has_ended(_INTERVAL) or time.monotonic() > deadline:
                    os.lseek(self._said, 0, os.SEEK_SET)
                    said = os.read(self._said, 4096).decode(errors="replace").strip().rpartition("\n")[2]
                    raise HostError(
                        f"fuse-overlayfs does not mount: {said or 'it does not answer'}",
                        code="host/snapshotter",
                    )
        except BaseException:
            self._end(kill=True)
            raise

    def _has_ended(self, patience: float) -> bool:
        """Wait for the server's end, `patience` milliseconds at most."""
        poll = select.poll()
        poll.register(self._gone, select.POLLHUP)
        return bool(poll.poll(patience))

    def close(self) -> None:
        """Unmount it, and return when everything that was written is in the upper. Raises HostError."""
        linux.umount2(self._point, linux.MNT_DETACH)
        ended = self._has_ended(_PATIENCE * 1000)
        self._end(kill=not ended)
        if not ended:
            raise HostError(
                "fuse-overlayfs does not end: something has its files open still", code="host/snapshotter"
            )

    def _end(self, *, kill: bool) -> None:
        if not kill:
            os.write(self._alive, b"\n")
        for fd in (self._alive, self._said, self._gone):  # without a line before: the server is killed
            os.close(fd)
        self._process.wait()
