"""A context, a recipe and a store of a test's own; builds in this process, or as the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from builder.build import Built
from builder.cli import parser
from builder.events import Event, Notice, StepFinished, StepOutput, StepRunning, StepStarted
from builder.executor import Executor
from builder.session import Session, store_root
from cache.oci.spec import ContainerConfig, ImageConfig
from cache.store import Store

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_APPLETS = """
    sh cat chmod chown cp date echo env false find id ln ls mkdir mv pwd readlink rm rmdir sed seq sleep sort
    stat test touch tr true wc
"""
APPLETS = _APPLETS.split()

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n"
GROUP = "root:x:0:\nusers:x:100:app\napp:x:1001:\n"

BASE = "FROM scratch\nCOPY root/ /\nENV PATH=/bin\n"
"""A recipe for a root filesystem of busybox; `base.rec`, in a directory of its own."""


@dataclass(frozen=True)
class Outcome:
    """What a build gave, and the events that it sent."""

    built: Built
    events: list[Event]

    @property
    def steps(self) -> dict[str, StepFinished]:
        """How each step ended, by the beginning of its line."""
        texts = {e.step: e.text for e in self.events if isinstance(e, StepStarted)}
        return {texts[e.step]: e for e in self.events if isinstance(e, StepFinished)}

    @property
    def outcomes(self) -> list[str]:
        """How the steps ended, in order, those of the base left out."""
        own = {e.step for e in self.events if isinstance(e, StepStarted) and not e.file.endswith("/base.rec")}
        return [e.outcome for e in self.events if isinstance(e, StepFinished) and e.step in own]

    @property
    def reasons(self) -> list[str]:
        """Why steps missed, in order."""
        return [e.reason for e in self.events if isinstance(e, StepRunning)]

    @property
    def output(self) -> str:
        return b"".join(e.data for e in self.events if isinstance(e, StepOutput)).decode()

    @property
    def notices(self) -> list[str]:
        return [e.code for e in self.events if isinstance(e, Notice)]

    @property
    def image(self) -> ImageConfig:
        return self.built.config

    @property
    def config(self) -> ContainerConfig:
        return self.built.config.config


class Project:
    """`directory` holds the context `app/`, the base `base/` and the store `store/`."""

    def __init__(self, directory: str, executor: Executor) -> None:
        self.directory = directory
        self.context = os.path.join(directory, "app")
        self.store_root = os.path.join(directory, "store")
        self._executor = executor
        os.makedirs(self.context)
        make_base(os.path.join(directory, "base"))

    def path(self, name: str) -> str:
        return os.path.join(self.context, name)

    def write(self, name: str, data: str | bytes = "", mode: int = 0o644, mtime: float | None = None) -> str:
        """Write a file of the context. Its times are long ago unless given: so it is no racy one."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path, mode)
        when = 1_600_000_000 if mtime is None else mtime
        os.utime(path, (when, when))
        return path

    def recipe(self, text: str, name: str = "app.rec") -> str:
        """Write a recipe; `FROM base` in it means the root of busybox."""
        return self.write(name, text.replace("FROM base\n", "FROM ../base/base.rec\n"))

    def build(self, text: str, *options: str, name: str = "app.rec", root: str | None = None) -> Outcome:
        """Build a recipe in this process. Raises what the build raises."""
        recipe = self.recipe(text, name)
        words = ["build", recipe, "--root", root or self.store_root, *options]
        args = parser("build").parse_args(words)
        events: list[Event] = []
        from builder.config import load

        with Session(load(None), store_root(args.root)) as session:
            session.executor = lambda: self._executor  # type: ignore[method-assign]
            build = session.prepare(args, args.context or self.context, events.append, several=True)
            built = build.run(recipe, args.context or self.context)
        return Outcome(built, events)

    def files(self, outcome: Outcome, below: str = "") -> dict[str, os.stat_result]:
        """Return every path in the image below `below`, as lstat sees it."""
        from builder.bases.base import chain_of
        from builder.overlay import Overlay, detached

        found: dict[str, os.stat_result] = {}
        with Store.open(self.store_root) as store:
            chain_id = chain_of(outcome.image.diff_ids)
            assert chain_id is not None
            fd = detached(Overlay(store.layers.lowerdirs(chain_id)))
        try:
            for directory, names, files, at in os.fwalk(".", dir_fd=fd):
                for name in (*names, *files):
                    path = os.path.normpath(os.path.join(directory, name))
                    if path.startswith(below):
                        found[path] = os.stat(name, dir_fd=at, follow_symlinks=False)
        finally:
            os.close(fd)
        return found

    def read(self, outcome: Outcome, path: str) -> bytes:
        """Return the content of a file in the image."""
        from builder.bases.base import chain_of
        from builder.overlay import Overlay, detached

        with Store.open(self.store_root) as store:
            chain_id = chain_of(outcome.image.diff_ids)
            assert chain_id is not None
            fd = detached(Overlay(store.layers.lowerdirs(chain_id)))
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd), "rb") as file:
                return file.read()
        finally:
            os.close(fd)

    def layer(self, outcome: Outcome, number: int = -1) -> list[str]:
        """Return the paths in one layer of the image."""
        with Store.open(self.store_root) as store:
            from builder.bases.base import chain_of

            chain_id = chain_of(outcome.image.diff_ids)
            assert chain_id is not None
            top = store.layers.diff_path(store.layers.chain(chain_id)[number])
        return sorted(
            os.path.relpath(os.path.join(directory, name), top)
            for directory, names, files in os.walk(top)
            for name in (*names, *files)
        )

    def command(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run pybuild, in the context, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "builder.main", *words],
            **{
                "cwd": self.context,
                "env": self.environment,
                "stdin": subprocess.DEVNULL,
                "capture_output": True,
                "text": True,
                "timeout": 120,
                **options,
            },
        )

    @property
    def environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
        return {**environment, "PYTHONPATH": REPOSITORY, "PYBUILD_ROOT": self.store_root, "NO_COLOR": "1"}

    def unsound(self) -> list[str]:
        """Return what is wrong with the layers of the store, each hashed anew, and what is left in tmp/."""
        from cache.errors import CacheError

        faults = []
        with Store.open(self.store_root) as store:
            for layer in store.layers.all():
                try:
                    store.layers.verify(layer.chain_id)
                except CacheError as error:
                    faults.append(str(error))
        return faults + os.listdir(os.path.join(self.store_root, "tmp"))


def make_base(directory: str) -> None:
    """Write `base.rec` and what it copies."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "tests of builds need busybox (apt-get install busybox-static)"
    root = os.path.join(directory, "root")
    for name in ("bin", "etc", "tmp", "home/app"):
        os.makedirs(os.path.join(root, name))
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    shutil.copy(busybox, os.path.join(root, "bin/busybox"))
    for applet in APPLETS:
        os.symlink("busybox", os.path.join(root, "bin", applet))
    for name, text in {"root/etc/passwd": PASSWD, "root/etc/group": GROUP, "base.rec": BASE}.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
