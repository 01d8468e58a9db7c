"""A small root file system, and commands that are run on it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from typing import Any

from builder.executor import ExecRequest, ExecResult, Executor, Mount

USR = Mount("bind", "/usr", source="/usr", read_only=True)
"""The host's programs, for a command that busybox lacks: perl, which can make any system call."""

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:App:/home/app:/bin/sh
other:x:1001:100::/:/bin/sh
"""
GROUP = """\
root:x:0:
users:x:100:app
app:x:1000:
wheel:x:10:root,app
"""


def make_root(path: str) -> None:
    """Make a root file system of busybox at `path`, with a few users. It has no mount points, but for
    /usr.
    """
    busybox = shutil.which("busybox")
    assert busybox is not None, "the tests of the sandbox need busybox (apt-get install busybox-static)"
    for name in ("bin", "etc", "home/app", "usr"):
        os.makedirs(f"{path}/{name}")
    shutil.copy(busybox, f"{path}/bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in set(applets) - {"busybox"}:
        os.symlink("busybox", f"{path}/bin/{applet}")
    for name, target in {"lib": "usr/lib", "lib64": "usr/lib64"}.items():
        os.symlink(target, f"{path}/{name}")
    for name, text in {"passwd": PASSWD, "group": GROUP}.items():
        with open(f"{path}/etc/{name}", "w") as file:
            file.write(text)


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    result: ExecResult
    stdout: str
    stderr: str
    upper: str

    @property
    def status(self) -> int:
        return self.result.status

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def written(self) -> list[str]:
        """Every path in the upper directory, sorted; a whiteout with `!` behind it."""
        return tree(self.upper)


def tree(path: str) -> list[str]:
    found = []
    for directory, names, files in os.walk(path):
        for name in (*names, *files):
            entry = os.path.join(directory, name)
            status = os.lstat(entry)
            whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            found.append(os.path.relpath(entry, path) + ("!" if whiteout else ""))
    return sorted(found)


class Scene:
    """Runs commands on the base, each with an upper directory of its own in `directory`."""

    def __init__(self, executor: Executor, base: str, directory: str) -> None:
        self.executor = executor
        self.base = base
        self.directory = directory
        self._count = 0

    def request(self, *argv: str, **fields: Any) -> ExecRequest:
        """Return a request with the base as its only lower directory, unless told otherwise."""
        self._count += 1
        upper, work = (f"{self.directory}/{self._count}/{name}" for name in ("upper", "work"))
        os.makedirs(upper)
        os.makedirs(work)
        defaults: dict[str, Any] = {
            "lower": (self.base,),
            "upper": upper,
            "work": work,
            "env": (("PATH", "/bin:/usr/bin"),),
        }
        return ExecRequest(argv, **(defaults | fields))

    def run(self, *argv: str, **fields: Any) -> Outcome:
        """Run a command to its end."""
        return self.carry_out(self.request(*argv, **fields))

    def sh(self, script: str, **fields: Any) -> Outcome:
        """Run a script of busybox's shell."""
        return self.run("sh", "-c", script, **fields)

    def perl(self, script: str, **fields: Any) -> Outcome:
        """Run a script of the host's perl."""
        mounts = (USR, *fields.pop("mounts", ()))
        return self.run("perl", "-e", script, mounts=mounts, **fields)

    def carry_out(self, request: ExecRequest) -> Outcome:
        streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        result = self.executor.run(request, lambda stream, data: streams[stream].append(data))
        texts = {name: b"".join(pieces).decode() for name, pieces in streams.items()}
        return Outcome(result, texts["stdout"], texts["stderr"], request.upper or "")


def processes(word: str) -> list[int]:
    """Return the ids of the host's processes that have `word` in their command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if word.encode() in file.read() and int(name) != os.getpid():
                    found.append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def mount_table() -> str:
    with open("/proc/self/mountinfo") as file:
        return file.read()
