"""What a /proc calls the threads of this pid namespace, where it is not this namespace's own: in a container
that masks its /proc, a step gets that one (builder/rootfs.py), and there each thread has the container's
number.
"""

from __future__ import annotations

import errno
import os

_PIDFD_THREAD = os.O_EXCL
"""pidfd_open(2): of any thread, since Linux 6.9."""


class ThreadNumbers:
    """Made by a process whose working directory is that /proc."""

    def __init__(self) -> None:
        self._same = os.readlink("self") == str(os.getpid())

    def shown(self, thread: int) -> int:
        """Return what /proc calls the thread that this pid namespace calls `thread`. Raises OSError if it is
        gone.
        """
        if self._same:
            return thread
        try:
            fd = os.pidfd_open(thread, _PIDFD_THREAD)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fd = os.pidfd_open(thread)  # an older kernel's: of a process's first thread alone
        try:
            with open(f"self/fdinfo/{fd}", encoding="ascii") as lines:
                for line in lines:
                    if line.startswith("Pid:") and int(line.split()[1]) > 0:
                        return int(line.split()[1])
        finally:
            os.close(fd)
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
