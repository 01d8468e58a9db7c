"""COPY lines carried out on an overlay, without a build around them."""

from __future__ import annotations

import contextlib
import gc
import os
import stat

from builder.accounts import resolve_owner
from builder.chmod import parse_chmod
from builder.fingerprint import FileDigests, Fingerprint, fingerprint
from builder.overlay import Overlay, detached
from builder.patterns import IgnoreRules
from builder.placement import Placement, Source, place
from builder.plan import PlanOptions, outline, plan
from builder.steps import CopyStep
from builder.tree import Tree
from cache.oci.platform import Platform
from grammar.parser import parse
from grammar.source import Source as Text

OLD = 1_000_000_000


def _descriptors() -> dict[str, str]:
    """What is open in this process, but for the trash that an earlier test's store empties in a thread: what
    that test left to the garbage collector is gone."""
    gc.collect()
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return {name: path for name, path in found.items() if "/tmp/trash-" not in path}


class Copying:
    """`context` and `root` are directories to be filled; what COPY changes of `root` goes to `upper`."""

    def __init__(self, directory: str) -> None:
        self.context, self.root, self.upper, self._works = (
            os.path.join(directory, name) for name in ("context", "root", "upper", "works")
        )
        for path in (self.context, self.root, self.upper, self._works):
            os.mkdir(path)

    def write(self, path: str, data: str = "", mode: int = 0o644, below: str | None = None) -> str:
        """Write a file of the context, or of the directory `below`; its times are long ago."""
        full = os.path.join(self.context if below is None else below, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(data)
        os.chmod(full, mode)
        os.utime(full, (OLD, OLD))
        return full

    def tree(self, rules: tuple[str, ...] = (), directory: str | None = None) -> Tree:
        fd = os.open(directory or self.context, os.O_RDONLY | os.O_DIRECTORY)
        return Tree(fd, name="the context", rules=IgnoreRules(rules), hint="look again")

    def select(self, *sources: str, rules: tuple[str, ...] = ()) -> list[str]:
        """Return the paths that the sources select."""
        tree = self.tree(rules)
        try:
            return [
                entry.path for source in sources for found in tree.select(source) for entry in found.entries
            ]
        finally:
            tree.close()

    def fingerprint(self, *sources: str, rules: tuple[str, ...] = (), owners: bool = False) -> Fingerprint:
        tree = self.tree(rules)
        try:
            selections = [found for source in sources for found in tree.select(source)]
            return fingerprint(tree, selections, FileDigests(tree), owners=owners)
        finally:
            tree.close()

    def copy(
        self, line: str, *, workdir: str = "/", rules: tuple[str, ...] = (), owners: bool = False
    ) -> None:
        """Carry out a COPY line. With `owners`, as from a stage. Nothing stays open."""
        step = _step(line, workdir)
        tree = self.tree(rules)
        work = os.path.join(self._works, str(len(os.listdir(self._works))))
        os.mkdir(work)  # the kernel marks it as used
        root_fd = detached(Overlay((self.root,), self.upper, work))
        before = _descriptors()
        try:
            found = tuple(
                found
                for source in step.sources
                for found in tree.select(source, parents=step.parents, exclude=step.exclude)
            )
            owner = resolve_owner(root_fd, step.chown) if step.chown else None
            mode = parse_chmod(step.chmod) if step.chmod else None
            placement = Placement(step.dest, step.into_directory, owner, mode)
            source = Source(tree, found, None if owners else (0, 0))
            place([source], step.documents, root_fd, placement)
        finally:
            left = _descriptors().items() - before.items()
            assert not left, f"left open: {left}"
            os.close(root_fd)
            tree.close()

    def files(self, below: str = "") -> dict[str, str]:
        """Return what is in the root filesystem now: path -> what it is, in short."""
        fd = detached(Overlay((self.upper, self.root)))
        found: dict[str, str] = {}
        try:
            for directory, names, files, at in os.fwalk(".", dir_fd=fd):
                for name in (*names, *files):
                    path = os.path.normpath(os.path.join(directory, name))
                    if path.startswith(below):
                        found[path] = _describe(at, name)
        finally:
            os.close(fd)
        return found

    def stat(self, path: str) -> os.stat_result:
        fd = detached(Overlay((self.upper, self.root)))
        try:
            return os.stat(path, dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)


def _step(line: str, workdir: str) -> CopyStep:
    platform = Platform("linux", "amd64")
    options = PlanOptions(platform, platform)
    recipe = parse(Text("Dockerfile", f"FROM scratch\nWORKDIR {workdir}\n{line}\n"))
    step = plan(outline(recipe, options), options, {}).stages[0].steps[-1]
    assert isinstance(step, CopyStep)
    return step


def _describe(at: int, name: str) -> str:
    status = os.stat(name, dir_fd=at, follow_symlinks=False)
    owner = "" if (status.st_uid, status.st_gid) == (0, 0) else f" {status.st_uid}:{status.st_gid}"
    mode = f"{stat.S_IMODE(status.st_mode):o}{owner}"
    if stat.S_ISLNK(status.st_mode):
        return f"-> {os.readlink(name, dir_fd=at)}"
    if stat.S_ISDIR(status.st_mode):
        return f"dir {mode}"
    if not stat.S_ISREG(status.st_mode):
        return f"special {mode}"
    with open(os.open(name, os.O_RDONLY, dir_fd=at), encoding="utf-8") as file:
        return f"{file.read()!r} {mode}"
