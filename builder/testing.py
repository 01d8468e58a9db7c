"""TEST --testinfra: a pytest run of a testinfra suite, whose every command is run on the root filesystem
under test.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from builder.errors import HostError, PlanError, StepFailed
from builder.scope import split_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.executor import Stream
    from builder.steps import TestStep
    from builder.surroundings import Surroundings
    from cache.scratch import Staging

VARIABLE = "PYBUILD_TESTINFRA"
"""The environment variable that tells the connection backend, in the process of pytest, what to run
commands on.
"""


def suite_path(recipe: str, suite: str) -> str:
    """Return the path of a suite that is named relative to the recipe. Raises PlanError if it is not
    there.
    """
    path = os.path.normpath(os.path.join(os.path.dirname(recipe), suite))
    if not os.path.exists(path):
        raise PlanError(
            f"TEST --testinfra={suite}: there is no {path}",
            code="test/missing",
            hint="the path is relative to the recipe's directory",
        )
    return path


def suite_digest(recipe: str, suite: str) -> str:
    """Return a digest of the suite's content: all of its files, and the conftest.py beside it."""
    from blake3 import blake3

    path = suite_path(recipe, suite)
    hasher = blake3()
    for file in _suite_files(path):
        with open(file, "rb") as stream:
            data = stream.read()
        name = os.path.relpath(file, os.path.dirname(path)).encode("utf-8", "surrogateescape")
        hasher.update(len(name).to_bytes(4, "little") + name + len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()


def suite_places(recipe: str, suites: Iterable[str]) -> list[str]:
    """Return the files and directories that `suite_digest` of these suites depends on."""
    places: list[str] = []
    for suite in suites:
        path = suite_path(recipe, suite)
        places += [path, os.path.join(os.path.dirname(path), "conftest.py")]
        for directory, _, files in os.walk(path):
            places += [directory, *(os.path.join(directory, name) for name in files)]
    return places


def _suite_files(path: str) -> list[str]:
    found = [os.path.join(os.path.dirname(path), "conftest.py")]
    if not os.path.isdir(path):
        found.append(path)
    for directory, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name != "__pycache__")
        found += [os.path.join(directory, name) for name in sorted(files)]
    return [file for file in found if os.path.isfile(file)]


def run_suite(
    recipe: str,
    platform: str,
    step: TestStep,
    lower: tuple[str, ...],
    staging: Staging,
    output: Callable[[Stream, bytes], None],
    around: Surroundings,
) -> None:
    """Run the suite of `step` with pytest; its writes go to `staging`. Raises StepFailed if a test fails or
    it takes too long, Cancelled if the build ends meanwhile.
    """
    import subprocess
    import threading

    from builder import snapshots
    from builder.limits import timed_out

    require_testinfra()
    assert step.suite is not None
    path = suite_path(recipe, step.suite)
    spec = {
        "lower": lower,
        "staging": staging.path,
        "platform": platform,
        "env": [split_variable(pair) for pair in step.config.env],
        "user": step.config.user,
        "workdir": step.config.working_dir or "/",
        "network": step.network or "host",
        "hosts": step.extra_hosts,
        "rlimits": step.rlimits,
        "shm_size": step.shm_size,
        "no_new_privileges": step.no_new_privileges,
        "memory": around.limits.memory,
        "cpus": around.limits.cpus,
        "pids": around.limits.pids,
        "snapshots": snapshots.told(),
    }
    plugins = ("-p", "builder.testinfra", "-p", "testinfra.plugin", "-p", "no:cacheprovider")
    # No plugin that happens to be installed, and no configuration of a project that the suite happens to lie
    # in, changes what the suite means.
    options = ("-c", os.devnull, "--rootdir", os.path.dirname(path) or ".", "-q", "--no-header")
    environment = {
        **os.environ,
        VARIABLE: json.dumps(spec),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [_our_path(), os.environ.get("PYTHONPATH", "")])),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *plugins, *options, "--hosts=pybuild://root", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    timeout = None if step.timeout is None else step.timeout / 1e9
    timer, late = threading.Timer(timeout or 0, process.kill), False
    try:
        assert process.stdout is not None
        if timeout is not None:
            timer.start()
        with around.cancellation.ending(process.kill):
            while data := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
                output("stdout", data)
            status = process.wait()
        late = timer.finished.is_set()
        around.cancellation.check()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
    if late and status:
        raise timed_out("the suite", timeout, "TEST", path)
    if status == 5:
        raise StepFailed(f"the suite has no test: {path}", status=status, code="test/empty")
    if status:
        raise StepFailed(f"the suite failed: {path}", status=status, code="test/failed")


def _our_path() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def require_testinfra() -> None:
    """Raise HostError without pytest and testinfra."""
    if find_spec("testinfra") is None or find_spec("pytest") is None:
        raise HostError(
            "tests with testinfra need it and pytest beside pybuild",
            code="test/testinfra",
            hint="install pybuild with the extra that brings them: pipx install 'pybuild[testinfra]'",
        )
