"""What was thrown away, removed by a thread while the build goes on."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue

from cache.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cache.scratch import Staging


class Trash:
    """A directory of tmp/ that a thread empties. Like all in tmp/, it is swept if we are killed."""

    def __init__(self, directory: Staging) -> None:
        self._directory = directory
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._count = 0
        self._left: list[str] = []
        self._thread = threading.Thread(target=self._run, name="pybuild-trash", daemon=True)
        self._thread.start()

    def put(self, path: str) -> None:
        """Take `path`, in one rename. Raises OSError; the thread's own errors come from `close`."""
        self._count += 1
        target = f"{self._directory.path}/{self._count}"
        os.rename(path, target)
        self._queue.put(target)

    def close(self) -> list[str]:
        """Wait until it is empty, remove it, and return what could not be removed, with the reason."""
        self._queue.put(None)
        self._thread.join()
        self._directory.remove()
        return self._left

    def _run(self) -> None:
        while (path := self._queue.get()) is not None:
            try:
                remove_tree(path)
            except OSError as error:
                self._left.append(f"{path}: {error.strerror}")
