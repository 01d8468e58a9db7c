"""A process that goes on when the command that the user typed has ended: it holds a container that is run in
the background.
"""

from __future__ import annotations

import os
import sys
import threading

_LONGEST = 4096


class Detached:
    """The end of the process that goes on. Until it says that it is ready, what it has to tell reaches the
    user: errors on standard error, and its exit code is that of the command.
    """

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether `ready` was called."""
        return self._pipe < 0

    def ready(self, text: str) -> None:
        """Let the command print `text` and end well; let go of its standard streams."""
        with self._lock:
            if not self.is_ready:
                self._let_go(text)

    def _let_go(self, text: str) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(self._pipe, text.encode())
        os.close(self._pipe)
        self._pipe = -1


def detach() -> Detached | int:
    """Fork. Return a Detached in the new process, which has a session of its own, and in this one, once
    that is ready or has ended, the exit code. Call it while there is one thread.
    """
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        # What the user's shell had open beside the standard streams, somebody may wait for the end of.
        os.closerange(3, theirs)
        os.closerange(theirs + 1, max(map(int, os.listdir("/proc/self/fd"))) + 1)
        os.setsid()
        return Detached(theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        text = pipe.read(_LONGEST)
    if text:
        print(text.decode())
        return 0
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
