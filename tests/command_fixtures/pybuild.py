"""pybuild as a user has it: a process of its own, on a store of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import IO, Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ARGV = (sys.executable, "-m", "builder.main")


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Pybuild:
    """Runs commands on the store at `root`, in the directory `cwd`."""

    def __init__(self, root: str, cwd: str) -> None:
        self.root = root
        self.cwd = cwd

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        path = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
        return {**kept, "PYTHONPATH": path, "PYBUILD_ROOT": self.root, **more}

    def start(self, *argv: str, env: dict[str, str] | None = None, **popen: Any) -> subprocess.Popen[str]:
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
        return subprocess.Popen(
            (*ARGV, *argv), env=self.environment(**(env or {})), cwd=self.cwd, text=True, **popen
        )

    def try_(self, *argv: str, stdin: str | IO[Any] | None = None, **env: str) -> Done:
        """Run a command, however it ends."""
        feed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"stdin": stdin}
        if isinstance(stdin, str):
            feed = {"input": stdin}
        done = subprocess.run(
            (*ARGV, *argv),
            env=self.environment(**env),
            cwd=self.cwd,
            capture_output=True,
            text=True,
            timeout=120,
            **feed,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def __call__(self, *argv: str, stdin: str | IO[Any] | None = None, **env: str) -> str:
        """Run a command, which must succeed, and return what it printed."""
        done = self.try_(*argv, stdin=stdin, **env)
        assert done.code == 0, f"pybuild {' '.join(argv)}: {done.code}\n{done.out}{done.err}"
        return done.out

    def json(self, *argv: str) -> Any:
        return json.loads(self(*argv))

    def build(self, recipe: str, *argv: str, **env: str) -> str:
        """Build a recipe, given as text, on the working directory; return the image id."""
        path = os.path.join(self.cwd, "test.rec")
        with open(path, "w", encoding="utf-8") as file:
            file.write(recipe)
        return self("build", "test.rec", *argv, **env).strip()

    def write(self, name: str, text: str = "", mode: int = 0o644) -> str:
        """Write a file of the context."""
        path = os.path.join(self.cwd, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path


BOX = """\
FROM scratch AS box
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY passwd /etc/passwd
COPY group /etc/group
ENV PATH=/bin
CMD ["sh"]
"""
"""A root filesystem of busybox, in four layers."""


def write_box(directory: str) -> None:
    """Write what BOX copies."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox-static is not on this machine (make test installs it)"
    shutil.copy(busybox, f"{directory}/busybox")
    with open(f"{directory}/passwd", "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n")
    with open(f"{directory}/group", "w") as file:
        file.write("root:x:0:\napp:x:1000:\nextra:x:50:app\n")
