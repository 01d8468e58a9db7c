"""A user of a test's own, with subordinate ids or with none, and pybuild as that user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import IO, Any

from tests.command_fixtures.pybuild import ARGV, ROOT, Done, Pybuild

_BECOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "become.py")
NAME = "tess"


class User(Pybuild):
    """Runs commands as a user who is not on this machine; `subordinate`: with 65536 ids beside its own.

    `home` is the user's, and holds the context (`cwd`) and the store. The user id is this process's own, so
    that tests at the same time do not take each other's processes for theirs.
    """

    def __init__(self, directory: str, *, subordinate: bool) -> None:
        number = os.getpid() % 10_000
        self.uid = 50_000 + number
        self.first = 1_000_000_000 + number * 65_536
        self.home = os.path.join(directory, "home")
        super().__init__("", os.path.join(self.home, "work"))
        self.store = os.path.join(self.home, ".local/share/pybuild")
        self._accounts = os.path.join(directory, "accounts")
        self.fuse = False
        for path in (self.home, self.cwd, os.path.join(self.home, "tmp"), self._accounts):
            os.makedirs(path)
            os.chmod(path, 0o755)
        for path in (self.home, self.cwd, os.path.join(self.home, "tmp")):
            os.chown(path, self.uid, self.uid)
        self.have_ids(subordinate)

    def have_ids(self, subordinate: bool) -> None:
        """Give the user subordinate ids, or take them away."""
        self.subordinate = subordinate
        own = f"{NAME}:{self.first}:65536\n" if self.subordinate else ""
        line = f"{NAME}:x:{self.uid}:{self.uid}::/home/{NAME}:/bin/sh\n"
        texts = {
            "passwd": f"root:x:0:0:root:/root:/bin/sh\n{line}",
            "group": f"root:x:0:\n{NAME}:x:{self.uid}:\n",
            "subuid": own,
            "subgid": own,
        }
        for name, text in texts.items():
            with open(os.path.join(self._accounts, name), "w") as file:
                file.write(text)
            os.chmod(os.path.join(self._accounts, name), 0o644)

    def accounts(self) -> dict[str, str]:
        """Return what stands for the account files in /etc: path -> file."""
        return {f"/etc/{name}": os.path.join(self._accounts, name) for name in os.listdir(self._accounts)}

    def command(self, *argv: str, **env: str) -> list[str]:
        """Return what runs `argv` as the user, in the directory `work` of its home."""
        order = {
            "name": NAME, "uid": self.uid, "gid": self.uid, "home": self.home, "files": self.accounts(),
            "fuse": self.fuse, "environment": self.environment(**env),
        }  # fmt: skip
        return [sys.executable, _BECOME, json.dumps(order), "sh", "-c", 'cd work && exec "$@"', "sh", *argv]

    def environment(self, **more: str) -> dict[str, str]:
        home = f"/home/{NAME}"
        path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
        own = {"HOME": home, "TMPDIR": f"{home}/tmp", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        return {**own, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}

    def start(self, *argv: str, env: dict[str, str] | None = None, **popen: Any) -> subprocess.Popen[str]:
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
        return subprocess.Popen(self.command(*ARGV, *argv, **(env or {})), text=True, **popen)

    def try_(self, *argv: str, stdin: str | IO[Any] | None = None, **env: str) -> Done:
        return self.shell(*ARGV, *argv, stdin=stdin, **env)

    def shell(self, *argv: str, stdin: str | IO[Any] | None = None, **env: str) -> Done:
        """Run any command, however it ends."""
        feed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"stdin": stdin}
        if isinstance(stdin, str):
            feed = {"input": stdin}
        done = subprocess.run(self.command(*argv, **env), capture_output=True, text=True, timeout=300, **feed)
        return Done(done.returncode, done.stdout, done.stderr)

    def processes(self) -> list[str]:
        """Return what runs with an id of the user's, as the host sees it."""
        mine = {self.uid, *range(self.first, self.first + 65_536)}
        found = []
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    command = file.read()
                owner = os.stat(f"/proc/{name}").st_uid
                with open(f"/proc/{name}/status") as file:
                    uids = next(line.split()[1:] for line in file if line.startswith("Uid:"))
            except (OSError, StopIteration):
                continue
            if owner in mine or any(int(uid) in mine for uid in uids):
                found.append(f"{name}: {command!r}")
        return found

    def leftovers(self) -> list[str]:
        """Return what a command has left that it should not: processes, temporary files."""
        left = self.processes()
        for path in (os.path.join(self.home, "tmp"), os.path.join(self.store, "tmp")):
            if os.path.isdir(path):
                left += [os.path.join(path, name) for name in os.listdir(path)]
        return left
