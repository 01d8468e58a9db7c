"""A build leaves the host as it was: `python tests/campaigns/host_unchanged.py`, as root.

Mounts, processes and files are compared before and after a build that succeeds, one that fails, one that is
interrupted, and a run of the image. Other programs write files on this machine meanwhile. So the builds see
its root file system through an overlay, in a mount namespace of their own: whatever they write outside of
the store and the context is found in that overlay's upper directory, and nothing else is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import scene

FAILING = "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN mkdir /half; touch /etc/new; sleep 100 & false\n"
ENDLESS = "FROM scratch\nCOPY root/ /\nENV PATH=/bin\nRUN echo begun; sleep 100\n"

_KERNEL = ("/proc", "/sys", "/dev")
_IN_MEMORY = ("/dev", "/run", "/dev/shm", "/sys/fs/cgroup")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def enter(directory: str) -> None:
    """Go on with the root file system behind an overlay whose upper is `directory`/up/upper.

    The caller has a mount namespace of its own. `directory` stays what it is; other file systems are
    read-only.
    """
    up = os.path.join(directory, "up")
    os.mkdir(up)
    # In memory: an upper within its own lower is refused.
    mount("-t", "tmpfs", "tmpfs", up)
    for name in ("upper", "work", "merged"):
        os.mkdir(os.path.join(up, name))
    merged = os.path.join(up, "merged")
    points = [line.split()[4] for line in scene.mounts()]
    mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={up}/upper,workdir={up}/work", merged)
    for point in points:
        if point not in ("/", up) and not (point + "/").startswith(tuple(f"{top}/" for top in _KERNEL)):
            mount("--bind", point, merged + point)
            mount("-o", "remount,bind,ro", merged + point)
    for point in _KERNEL:
        mount("--rbind", point, merged + point)
    mount("--bind", directory, merged + directory)
    mount("--bind", up, merged + up)
    os.chroot(merged)
    os.chdir("/")


def written(directory: str) -> Iterator[str]:
    """Yield what was written outside of `directory` since `enter`, directories with new names among it."""
    upper = os.path.join(directory, "up", "upper")
    for parent, names, files in os.walk(upper):
        for name in names + files:
            yield os.path.join(parent, name).removeprefix(upper)


def names_in_memory() -> set[str]:
    """Return the names in those file systems in memory where a sandbox might leave something."""
    found = set()
    for top in _IN_MEMORY:
        for directory, names, files in os.walk(top):
            found |= {os.path.join(directory, name) for name in names + files}
    return found


def difference(directory: str, action: Callable[[], None], *, patience: float = 10.0) -> set[str]:
    """Return what `action` left: mounts, names in memory, files, processes after `patience` seconds."""
    mounts, memory = set(scene.mounts()), names_in_memory()
    action()
    left = {f"process: {line}" for line in scene.left_running(patience)}
    left |= {f"mount: {line}" for line in set(scene.mounts()) ^ mounts}
    left |= {f"name: {path}" for path in names_in_memory() ^ memory}
    left |= {f"file: {path}" for path in written(directory)}
    own = [name for name in ("home", "tmpdir") if os.listdir(os.path.join(directory, name))]
    return left | {f"file: left in the directory that the build was given as its {name}" for name in own}


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


def leak() -> None:
    """Leave one of each, behind the overlay: shows that `difference` sees them."""
    with open("/etc/leaked", "w", encoding="utf-8"):
        pass
    os.unlink("/etc/hostname")
    mount("-t", "tmpfs", "leaked", "/mnt")
    subprocess.Popen(["sleep", "100"])


def inside(directory: str, *, leaky: bool = False) -> int:
    """Do all scenes in `directory`, which is empty; return the exit code."""
    enter(directory)
    scene.become_subreaper()
    scenes = Scenes(directory)
    faults = 0
    if leaky:
        print(*sorted(difference(directory, leak, patience=0.1)), sep="\n")
        for pid in scene.descendants(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        return 0
    for action in (scenes.build, scenes.run, scenes.failing_build, scenes.interrupted_build):
        left = difference(directory, action)
        # Terminals and control groups of other programs come and go: what is ours would be left each time.
        if any(line.startswith("name: ") for line in left):
            left &= {
                *difference(directory, action),
                *(line for line in left if not line.startswith("name: ")),
            }
        print(f"{action.__name__}: {'unchanged' if not left else 'CHANGED'}")
        for line in sorted(left):
            print(f"  {line}")
        faults += len(left)
    return 1 if faults else 0


def run(options: list[str]) -> int:
    """Run `inside` in a new mount namespace, and see that the host's own table is the same after it."""
    with tempfile.TemporaryDirectory(prefix="pybuild-host-") as directory:
        again = [sys.executable, os.path.abspath(__file__), "--inside", directory, *options]
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", *again])
        mounted = scene.mounts_of(directory)
        for line in mounted:
            print(f"mounted on the host: {line}")
        return done.returncode or (1 if mounted else 0)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("host_unchanged.py: builds need root here: run this as root")
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(sys.argv[2], leaky=sys.argv[3:] == ["--leaky"]))
    sys.exit(run(sys.argv[1:]))
