"""failed/: what steps that failed had changed by then, for somebody to look at. docs/decisions/debug.md says
why here.

    failed/<id>/diff/          what the step had changed: an overlay upperdir
    failed/<id>/step.json      which step that was, and what it needs to be entered
    failed/<id>/log            the end of what it printed
    failed/<id>/events.json    what the build told until then

Who is in one holds the flock of its directory. There are few of them, and none for long: see `keep`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cache.disk import storing
from cache.errors import StoreError
from cache.locks import flocked, is_at, try_flock
from cache.ownership import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cache.scratch import Scratch, Staging

LONGEST = 24 * 3600
"""How long one is kept, in seconds."""
MOST = 10
MOST_OF_A_LINE = 2
"""How many are kept: at all, and of the same line of the same recipe."""

_ID = re.compile(r"[0-9a-f]{16}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step that failed. `recipe` (absolute) is what was built, `file` and `line` where the step stands,
    `directory` where pybuild was started. `parent` is the root filesystem below its upper ("" for an empty
    one); `created` in seconds since 1970. `more` is the builder's: what it needs to go there again.
    """

    id: str
    recipe: str
    directory: str
    file: str
    line: int
    stage: str
    text: str
    key: str
    parent: str
    status: int
    message: str
    created: float
    more: Mapping[str, Any] = field(default_factory=dict)


class FailedSteps:
    """The failed steps of the store at `root`."""

    def __init__(self, root: str, scratch: Scratch) -> None:
        self._path = root + "/failed"
        self._layerdb = root + "/layerdb/sha256"
        self._scratch = scratch

    def keep(self, step: FailedStep, staging: Staging, log: bytes, events: str) -> FailedStep:
        """Move the upper of `staging` here; return the step with its id. What is older than a day, and all
        but the newest few, goes. Raises StoreError; the staging is the caller's still then.
        """
        step = replace(step, id=os.urandom(8).hex())
        with storing("keeping a failed step"), flocked(self._layerdb):  # no prune meanwhile
            os.makedirs(self._path, 0o700, exist_ok=True)
            staging.keep_only("diff")
            for name, data in (
                ("step.json", json.dumps(asdict(step), indent=1).encode("utf-8", "surrogateescape")),
                ("log", log),
                ("events.json", events.encode("utf-8", "surrogateescape")),
            ):
                with open(f"{staging.path}/{name}", "xb") as file:
                    file.write(data)
            staging.move(f"{self._path}/{step.id}")
        self.expire(but=step.id)
        return step

    def all(self) -> tuple[FailedStep, ...]:
        """Return all failed steps, the newest first."""
        return tuple(sorted(self._read_all(), key=lambda step: (-step.created, step.id)))

    def find(self, text: str) -> FailedStep | None:
        """Return the failed step whose id begins with `text`. Raises StoreError if several do."""
        found = [step for step in self._read_all() if len(text) >= 2 and step.id.startswith(text)]
        if len(found) > 1:
            raise StoreError(
                f"{len(found)} failed steps have ids that begin with {text}", code="debug/ambiguous"
            )
        return found[0] if found else None

    def path_of(self, identity: str) -> str:
        """Return the directory of the step with that id."""
        return f"{self._path}/{identity}"

    def upper(self, step: FailedStep) -> str:
        """Return the path of the step's upper."""
        return f"{self.path_of(step.id)}/diff"

    def size(self, step: FailedStep) -> int:
        """Return the bytes that the step's upper takes on the disk."""
        total = 0
        for _, _, names, fd in os.fwalk(self.upper(step)):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # somebody may be in there
                    total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
        return total

    def log(self, step: FailedStep) -> bytes:
        """Return the end of what the step printed."""
        return self._text(step, "log")

    def events(self, step: FailedStep) -> bytes:
        """Return what the build told until the step failed: JSON, an object a line."""
        return self._text(step, "events.json")

    def enter(self, step: FailedStep) -> Staging | None:
        """Return the step's directory, to run commands on its upper; `leave` ends that. None if somebody else
        is in it, or it is gone.
        """
        from cache.scratch import Staging

        path = f"{self._path}/{step.id}"
        try:
            fd = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            return None
        if try_flock(fd) and is_at(fd, path):
            return Staging(self._scratch, path, fd)
        os.close(fd)
        return None

    def prepare(self, entered: Staging, *, anew: bool = False) -> None:
        """Make the directory as a step finds it, its upper as it is; with `anew`, an empty one."""
        kept = {"step.json", "log", "events.json"} | (set() if anew else {"diff", "diff" + TABLE})
        with storing("preparing a failed step"):
            for name in os.listdir(entered.path):
                if name not in kept:
                    self._scratch.throw_away(f"{entered.path}/{name}")
            if not os.path.lexists(entered.upper):
                os.mkdir(entered.upper)
                os.chmod(entered.upper, 0o755)
            os.mkdir(entered.work, 0o700)

    @contextlib.contextmanager
    def taken(self, entered: Staging) -> Iterator[Staging]:
        """Yield a staging that has the upper, to be published; whatever goes wrong, it is back here then."""
        with storing("taking a failed step"), self._scratch.stage() as staging:
            names = [name for name in ("diff", "diff" + TABLE) if os.path.lexists(f"{entered.path}/{name}")]
            os.rmdir(staging.upper)
            for name in names:
                os.rename(f"{entered.path}/{name}", f"{staging.path}/{name}")
            try:
                yield staging
            except BaseException:
                for name in names:
                    with contextlib.suppress(OSError):
                        os.rename(f"{staging.path}/{name}", f"{entered.path}/{name}")
                raise

    def remove(self, step: FailedStep) -> bool:
        """Remove a failed step. False if somebody is in it."""
        with storing("removing a failed step"):
            return self._remove(step.id)

    def expire(self, but: str = "") -> None:
        """Remove what is older than a day, all but the newest few, and what makes no sense; `but` not the one
        of that id.
        """
        now = time.time()
        of_line: dict[tuple[str, str, int], int] = {}
        for number, step in enumerate(self.all()):
            line = (step.recipe, step.file, step.line)
            of_line[line] = of_line.get(line, 0) + 1
            old = not 0 <= now - step.created <= LONGEST
            many = number >= MOST or of_line[line] > MOST_OF_A_LINE
            if (old or many) and step.id != but:
                self.remove(step)
        self.remove_strangers()

    def remove_strangers(self) -> None:
        """Remove what stands among them and is none."""
        with storing("removing what is no failed step"):
            for name in self._names():
                if self._read(name) is None:
                    self._remove(name)

    def _remove(self, name: str) -> bool:
        path = f"{self._path}/{name}"
        try:
            fd = os.open(path, _DIRECTORY)
        except OSError:
            return False
        if not (try_flock(fd) and is_at(fd, path)):
            os.close(fd)
            return False
        self._scratch.take_away(path, fd).discard()
        return True

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._path)
        except FileNotFoundError:
            return []

    def _read_all(self) -> Iterator[FailedStep]:
        for name in self._names():
            found = self._read(name)
            if found is not None:
                yield found

    def _read(self, name: str) -> FailedStep | None:
        if _ID.fullmatch(name) is None:
            return None
        try:
            with open(f"{self._path}/{name}/step.json", encoding="utf-8", errors="surrogateescape") as file:
                step = FailedStep(**json.load(file))
            return step if step.id == name else None
        except (OSError, ValueError, TypeError):
            return None

    def _text(self, step: FailedStep, name: str) -> bytes:
        try:
            with open(f"{self._path}/{step.id}/{name}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""


@contextlib.contextmanager
def held(steps: FailedSteps, step: FailedStep) -> Iterator[None]:
    """Keep a failed step where it is meanwhile, unless somebody is in there anyway."""
    entered = steps.enter(step)
    try:
        yield
    finally:
        if entered is not None:
            leave(entered)


def leave(entered: Staging) -> None:
    """Let go of a failed step that was entered: it stays as it is."""
    fd = entered.fileno()
    if fd != -1:
        os.close(fd)
