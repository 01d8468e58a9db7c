"""What a step that failed leaves for `pybuild debug`: its upper, and all that is needed to go there again.

Nothing of it has the value of a secret, as far as the build knows them: they are asked for again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from builder.errors import StepFailed
from builder.events import StepFinished, StepOutput
from builder.stepcache import is_mended
from builder.steps import CopyStep

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from builder.bases.base import BaseImage
    from builder.errors import BuildError
    from builder.events import Emit, Event
    from builder.executor import Executor
    from builder.inspection import OpenStep
    from cache.failedsteps import FailedStep
    from cache.records import Record
    from cache.scratch import Staging
    from cache.store import Store

LONGEST_LOG = 256 << 10
"""Of what a step printed so much is kept, in bytes: the end."""


class Keeper:
    """Keeps the step that a build fails at. `mended` are the steps that somebody has mended by hand, by
    key.
    """

    def __init__(
        self,
        store: Store,
        arguments: argparse.Namespace,
        mended: Mapping[str, Record] | None = None,
    ) -> None:
        self.kept: FailedStep | None = None
        self.recipe = ""
        """The recipe that is built, once that is known."""
        self.bases: Callable[[], list[tuple[str, BaseImage]]] = list
        """Says which image bases were asked for."""
        self.mended = dict(mended or {})
        self._store = store
        self._arguments = arguments
        self._lock = Lock()
        self._tails: dict[int, bytes] = {}
        self._events: list[tuple[float, Event]] = []
        self._expired = False

    def passing(self, emit: Emit) -> Emit:
        """Return `emit`, listened to."""

        def emit_and_listen(event: Event) -> None:
            if isinstance(event, StepOutput):
                tail = self._tails.get(event.step, b"") + event.data
                self._tails[event.step] = tail if len(tail) <= 2 * LONGEST_LOG else tail[-LONGEST_LOG:]
            else:
                self._events.append((time.time(), event))
                if isinstance(event, StepFinished) and event.outcome != "failed":
                    self._tails.pop(event.step, None)
            emit(event)

        return emit_and_listen

    def events(self) -> tuple[tuple[float, Event], ...]:
        """Return what the build has told, and when, in seconds since 1970; but for what its steps printed."""
        return tuple(self._events)

    def reached(self, step: OpenStep) -> Record | None:
        """Return what somebody has made of a step."""
        record = self.mended.get(step.key.key)
        if record is None or (record.diff_id and not self._store.has(record.chain_id)):
            return None
        return record

    def makes(self, step: OpenStep) -> None:
        """Make room, once: what failed a day ago is of no use."""
        with self._lock:
            if not self._expired:
                self._expired = True
                self._store.failed_steps.expire()

    def failed(self, step: OpenStep, staging: Staging, error: BuildError) -> None:
        """Keep a step, unless another one has failed before."""
        if not isinstance(error, StepFailed) and not (
            isinstance(step.step, CopyStep) and os.listdir(staging.upper)
        ):
            return
        from cache.errors import CacheError

        with self._lock:
            if self.kept is not None:
                return
            with contextlib.suppress(CacheError):  # the build has failed, and that is what is told
                self.kept = self._keep(step, staging, error)
        if self.kept is None:
            return
        hint = "`pybuild debug` opens a shell where it failed"
        if os.environ.get("CI", "") not in ("", "0", "false") and not self._arguments.on_failure:
            hint += "; --on-failure=report writes down what it was like"
        error.hint = f"{error.hint}\n{hint}" if error.hint else hint

    def executor(self, executor: Callable[[], Executor]) -> Executor:
        """Return what runs the next command."""
        return executor()

    def _keep(self, step: OpenStep, staging: Staging, error: BuildError) -> FailedStep:
        from builder.debug.description import as_json, described, hidden
        from cache.failedsteps import FailedStep

        mask = step.around.secrets.learn()
        span = step.step.span
        more: dict[str, Any] = {
            "arguments": vars(self._arguments),
            "words": sys.argv[1:],
            "step": described(step),
            "bases": [[name, base.image_id] for name, base in self.bases()],
            "mended": {key: _plain(record) for key, record in self.mended.items()},
        }
        failed = FailedStep(
            id="",
            recipe=os.path.realpath(self.recipe) if self.recipe not in ("", "-") else self.recipe,
            directory=os.getcwd(),
            file=os.path.abspath(span.file),
            line=span.line,
            stage=step.stage.name,
            text=hidden(mask, step.step.text),
            key=step.key.key,
            parent=step.parent or "",
            status=error.status if isinstance(error, StepFailed) else -1,
            message=hidden(mask, error.message),
            created=time.time(),
            more=hidden(mask, more),
        )
        log = self._tails.get(step.line.number, b"")[-LONGEST_LOG:]
        return self._store.failed_steps.keep(failed, staging, log, as_json(mask, self._events))


def _plain(record: Record) -> dict[str, Any]:
    assert is_mended(record)
    return {
        "key": record.key,
        "parent": record.parent,
        "diff_id": record.diff_id,
        "chain_id": record.chain_id,
        "size": record.size,
        "created": record.created,
        "line": record.line,
    }


def mended_of(failed: FailedStep) -> dict[str, Record]:
    """Return the steps above `failed` that somebody has mended by hand, by key."""
    from builder.version import VERSION
    from cache.oci.digest import ChainID, DiffID
    from cache.records import Record

    found = {}
    for key, plain in failed.more.get("mended", {}).items():
        diff_id = None if plain["diff_id"] is None else DiffID(plain["diff_id"])
        found[key] = Record(
            **{**plain, "diff_id": diff_id, "chain_id": ChainID(plain["chain_id"])},
            seconds=0.0,
            version=VERSION,
            parts=(),
        )
    return found
