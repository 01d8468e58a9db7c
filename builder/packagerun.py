"""PACKAGES as it runs: the script in the sandbox, its cache, and what it installed.

It runs as root, whatever USER says, since nobody else may install; with the directories /run/pybuild and /tmp
of its own, so that neither downloads nor unfinished business gets into the layer. Files that every
installation rewrites, logs and such, are put back as they were.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from builder.errors import StepFailed
from builder.packagescripts import (
    MANAGERS,
    NO_MANAGER,
    REPORT,
    Package,
    arguments,
    changed,
    pin_file,
    pin_variables,
    same_name,
    script,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.executor import ExecRequest, ExecResult, Output, Stream
    from builder.steps import PackagesStep
    from cache.cachemounts import Held
    from cache.scratch import Staging
    from cache.store import Store

_MEMO = "packages"
_LARGEST_REPORT = 64 << 20
_KEPT_ERRORS = 5
_NO_SERVICES = b"#!/bin/sh\nexit 101\n"
"""What invoke-rc.d asks before it starts a service: 101 is no (/usr/share/doc/init-system-helpers)."""


def installed_packages(store: Store, step_key: str) -> tuple[Package, ...] | None:
    """Return the names and versions that the PACKAGES step of a key installed, or found there, sorted; None
    if there was no such step in this store.
    """
    known = store.memo.get(_MEMO, step_key)
    if known is None:
        return None
    return tuple((name, version) for name, version in json.loads(known))


def remember(store: Store, step_key: str, installed: tuple[Package, ...]) -> None:
    """Keep what a step installed: before its record, so that none is without."""
    store.memo.put(_MEMO, step_key, json.dumps(installed, ensure_ascii=False).encode())


def remembered(store: Store, step_key: str) -> str:
    """Return what was kept of a step, to be told to others; "" if nothing was."""
    return (store.memo.get(_MEMO, step_key) or b"").decode()


def recall(store: Store, step_key: str, told: str) -> None:
    """Keep what others told of a step. It counts for nothing if it makes no sense."""
    try:
        known = tuple((str(name), str(version)) for name, version in json.loads(told))
    except (ValueError, TypeError):
        return
    remember(store, step_key, known)


@contextmanager
def prepared(
    step: PackagesStep, store: Store, staging: Staging, request: ExecRequest, on_wait: Callable[[str], None]
) -> Iterator[ExecRequest]:
    """Lend what the script needs: yield `request`, which has the root filesystem and the environment, with
    the command and its mounts. `on_wait` gets the id of a cache that another has to give back first.
    """
    from dataclasses import replace

    from builder.executor import Mount

    manager = MANAGERS[step.manager]
    own = staging.path + "/packages"
    for name, mode in (("", 0o755), ("/report", 0o700), ("/tmp", 0o1777)):
        os.mkdir(own + name)
        os.chmod(own + name, mode)
    mounts = [Mount("bind", REPORT, source=own + "/report"), Mount("bind", "/tmp", source=own + "/tmp")]
    if step.manager == "apt":
        mounts.append(Mount("file", "/usr/sbin/policy-rc.d", mode=0o755, data=_NO_SERVICES, read_only=True))
    pins = step.pins or ()
    file = pin_file(step.manager, pins) if pins else None
    if file is not None:
        mounts.append(Mount("file", file[0], mode=0o644, data=file[1].encode(), read_only=True))
    # What stands in apk's world stays: the versions of the lock file do not belong there.
    wanted = step.packages if step.manager == "apk" else _with_versions(step)
    argv = ("/bin/sh", "-c", script(step.manager, pinned=bool(pins)), "PACKAGES")
    with ExitStack() as stack:
        for place in manager.cache:
            held = stack.enter_context(_cache(store, step.manager, place, on_wait))
            mounts.append(Mount("bind", place, source=held.path))
        yield replace(
            request,
            argv=(*argv, *arguments(step.manager, wanted)),
            env=(*request.env, *(pin_variables(step.manager, pins) if pins else ())),
            user="",
            workdir="/",
            mounts=(*request.mounts, *mounts),
        )


def finish(step: PackagesStep, staging: Staging, result: ExecResult, errors: Errors) -> tuple[Package, ...]:
    """Return what was installed, once the script has ended with `result`; put back what belongs into no
    layer. Raises StepFailed: the script failed, or versions are others than they should be.
    """
    if result.status:
        raise _failed(step, result.status, errors)
    wanted = [name for name, _ in step.packages]
    try:
        reports = [_read(f"{staging.path}/packages/report/{name}") for name in ("before", "after")]
        installed = changed(step.manager, reports[0], reports[1], wanted)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise StepFailed(
            f"PACKAGES {step.manager}: what the image says of its packages makes no sense",
            status=1,
            code="packages/report",
        ) from None
    if step.pins is not None:
        _check_pins(step, installed)
    _put_back(staging.upper, MANAGERS[step.manager].leftovers)
    return installed


class Errors:
    """Passes output on, and keeps the lines in which the package manager tells what went wrong."""

    def __init__(self, manager: str, output: Output) -> None:
        self._pattern = MANAGERS[manager].errors
        self._output = output
        self._rest: dict[str, bytes] = {}
        self.lines: dict[str, None] = {}

    def __call__(self, stream: Stream, data: bytes) -> None:
        """Take a piece of output."""
        self._output(stream, data)
        *lines, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        self._rest[stream] = rest[-4096:]
        for line in lines:
            match = self._pattern.match(line.decode("utf-8", "replace").strip())
            if match and len(self.lines) < _KEPT_ERRORS:
                self.lines[next(filter(None, match.groups()), "")] = None


def _with_versions(step: PackagesStep) -> list[Package]:
    """Return what is asked for, in the pinned versions where there are some."""
    known = {same_name(step.manager, name): version for name, version in step.pins or ()}
    return [
        (name, version or known.get(same_name(step.manager, name), "")) for name, version in step.packages
    ]


@contextmanager
def _cache(store: Store, manager: str, place: str, on_wait: Callable[[str], None]) -> Iterator[Held]:
    name = f"PACKAGES {manager}" if place.startswith("/run/") else f"PACKAGES {manager} {place}"
    # No mount of a RUN has this base: what it leaves in its cache is not what is installed from here.
    held = store.cache_mounts.acquire(
        name,
        sharing=MANAGERS[manager].sharing,
        base="PACKAGES",
        on_wait=lambda: on_wait(name),
    )
    with held:
        yield held


def _failed(step: PackagesStep, status: int, errors: Errors) -> StepFailed:
    manager = step.manager
    if status == NO_MANAGER:
        return StepFailed(
            f"PACKAGES {manager}: the image has no {manager}", status=status, code="packages/no-manager"
        )
    told = "\n".join(line for line in errors.lines if line)
    hint = "pybuild lock --update takes the versions that there are now" if step.pins else None
    return StepFailed(
        f"PACKAGES {manager} failed with exit code {status}" + (f": {told}" if told else ""),
        status=status,
        code="packages/locked" if step.pins else "packages/failed",
        hint=hint,
    )


def _check_pins(step: PackagesStep, installed: tuple[Package, ...]) -> None:
    pins = {same_name(step.manager, name): version for name, version in step.pins or ()}
    found = {same_name(step.manager, name): version for name, version in installed}
    wrong = [
        f"{name}: {pins.get(name, 'nothing')} is locked, and {found.get(name, 'nothing')} was installed"
        for name in sorted(pins.keys() | found.keys())
        if pins.get(name) != found.get(name)
    ]
    if wrong:
        raise StepFailed(
            f"PACKAGES {step.manager}: other versions than the locked ones\n" + "\n".join(wrong[:20]),
            status=1,
            code="packages/locked",
            hint="pybuild lock --update takes the versions that there are now",
        )


def _read(path: str) -> str:
    """Return a report. It was written by the image's programs: it may be anything. Raises OSError,
    ValueError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is no file")
        with open(fd, "rb", closefd=False) as file:
            return file.read(_LARGEST_REPORT).decode("utf-8", "replace")
    finally:
        os.close(fd)


def _put_back(upper: str, leftovers: tuple[str, ...]) -> None:
    """Remove files from an upper directory: so they are as they were below, or not there."""
    for path in leftovers:
        *parents, pattern = path.split("/")
        fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in parents:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = below
            matches = re.compile(fnmatch.translate(pattern)).match
            for name in filter(matches, os.listdir(fd)):
                if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    os.unlink(name, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):
            continue
        finally:
            os.close(fd)
