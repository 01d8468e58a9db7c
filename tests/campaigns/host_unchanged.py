"""A build leaves the host as it was: `python tests/campaigns/host_unchanged.py`, as root.

Mounts, processes, and every file of the root file system outside of the store and the context are compared
before and after a build that succeeds, one that fails, one that is interrupted, and a run of the image.
Other programs of this machine write files as well: what changes while nothing is built is left out, and
what counts is what changes each time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import scene

ROUNDS = 3

FAILING = "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN mkdir /half; touch /etc/new; sleep 100 & false\n"
ENDLESS = "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN echo begun; sleep 100\n"


def changed_files(since: float, apart_from: str) -> set[str]:
    """Return the paths of the root file system whose inode changed after `since`, in seconds.

    A directory changes when a name in it comes or goes. Nothing below `apart_from` is looked at.
    """
    done = subprocess.run(
        ["find", "/", "-xdev", "-path", apart_from, "-prune", "-o", "-newerct", f"@{since:.6f}", "-print0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what vanishes while find looks at it
    )
    return {os.fsdecode(path) for path in done.stdout.split(b"\0") if path}


def other_files() -> set[str]:
    """Return the names in those file systems in memory where a sandbox might leave something."""
    found = set()
    for top in ("/dev", "/run", "/dev/shm", "/sys/fs/cgroup"):
        for directory, names, files in os.walk(top):
            found |= {os.path.join(directory, name) for name in names + files}
    return found


class Host:
    """Runs something, and says what is different afterwards."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def difference(self, action: Callable[[], None]) -> set[str]:
        """Return what `action` changed: mounts, names in memory, processes, files."""
        mounts, memory, start = set(scene.mounts()), other_files(), time.time()
        action()
        running = scene.left_running()
        changed = {f"mount: {line}" for line in set(scene.mounts()) ^ mounts}
        changed |= {f"name: {path}" for path in other_files() ^ memory}
        changed |= {f"process: {line.partition(': ')[2]}" for line in running}
        changed |= {f"file: {path}" for path in changed_files(start, self.directory)}
        return changed


class Scenes:
    """What is done to the host: each method once a round."""

    def __init__(self, directory: str) -> None:
        self._context = os.path.join(directory, "context")
        os.mkdir(self._context)
        self._recipe = scene.write_context(self._context)
        self._root = os.path.join(directory, "store")
        self._environment = scene.environment(directory)

    def _recipe_of(self, name: str, text: str) -> str:
        path = os.path.join(self._context, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=self._environment,
            cwd=self._context,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _expect(self, status: int, command: list[str]) -> None:
        process = self._start(command)
        output, _ = process.communicate(timeout=120)
        if process.returncode != status:
            sys.exit(f"{command} ended with {process.returncode}, not {status}:\n{output}")

    def build(self) -> None:
        self._expect(0, scene.build_command(self._recipe, self._root, "--no-cache", "-t", "campaign"))

    def run(self) -> None:
        command = [sys.executable, "-m", "builder.main", "run", "--root", self._root, "--rm", "campaign"]
        self._expect(0, [*command, "/bin/sh", "-c", "echo hello > /new; mkdir /tmp/x"])

    def failing_build(self) -> None:
        self._expect(1, scene.build_command(self._recipe_of("failing.rec", FAILING), self._root))

    def interrupted_build(self) -> None:
        process = self._start(scene.build_command(self._recipe_of("endless.rec", ENDLESS), self._root))
        assert process.stdout is not None
        for line in process.stdout:
            if line.rstrip().endswith("begun") and "echo" not in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        if process.returncode == 0:
            sys.exit("an interrupted build says that it succeeded")


def run() -> int:
    """Do all scenes; return the exit code."""
    scene.become_subreaper()
    faults = 0
    with tempfile.TemporaryDirectory(prefix="pybuild-host-") as directory:
        scenes, host = Scenes(directory), Host(directory)
        scenes.build()  # what is made once, such as byte code, is made before anything is compared
        for action in (scenes.build, scenes.run, scenes.failing_build, scenes.interrupted_build):
            left = host.difference(action)
            for _ in range(ROUNDS - 1):
                if left:
                    left &= host.difference(action)
            if left:
                left -= host.difference(lambda: time.sleep(3))
            own = {name for name in ("home", "tmpdir") if os.listdir(os.path.join(directory, name))}
            left |= {f"file: left in the directory that the build was given as its {name}" for name in own}
            print(f"{action.__name__}: {'unchanged' if not left else 'CHANGED'}")
            for line in sorted(left):
                print(f"  {line}")
            faults += len(left)
    return 1 if faults else 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("host_unchanged.py: builds need root here: run this as root")
    sys.exit(run())
