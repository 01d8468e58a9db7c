"""How much a build may take: each of its commands of memory, processors and processes, each and all of them
of time.

None of it is in a step key: a limit does not change what a command makes, and one that it killed leaves no
record. They are enforced by builder/cgroups.py, builder/running.py and builder/deadline.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from builder.errors import StepFailed, UsageError

if TYPE_CHECKING:
    import argparse

    from builder.config import Config
    from builder.executor import ExecRequest, ExecResult

_SECOND = 1_000_000_000
_UNITS = (("h", 3600 * _SECOND), ("m", 60 * _SECOND), ("s", _SECOND), ("ms", 1_000_000), ("ns", 1))


@dataclass(frozen=True, slots=True)
class Limits:
    """`memory` in bytes, `cpus` how many, `pids` how many processes and threads: of each command. `timeout`
    in seconds: of the whole build. None for no limit.
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    timeout: float | None = None


UNLIMITED = Limits()


def add_options(parser: argparse.ArgumentParser, *, of: str, timeout: str) -> None:
    """Add the options, which docker and podman spell so. `of` is what is limited, `timeout` what is told of
    the last one.
    """
    parser.add_argument("-m", "--memory", metavar="SIZE", help=f"how much memory {of} may use, such as 2g")
    parser.add_argument("--cpus", metavar="N", help=f"how many processors {of} may use, such as 1.5")
    parser.add_argument("--pids-limit", metavar="N", help=f"how many processes and threads {of} may have")
    parser.add_argument("--timeout", metavar="DURATION", help=timeout)


def limits(args: argparse.Namespace, config: Config | None = None) -> Limits:
    """Return what `args`, or else `config`, ask for. Raises UsageError."""

    def given(name: str, option: str) -> str | None:
        value: str | None = getattr(args, option)
        if value is None and config is not None:
            value = getattr(config, name)
        return value

    return Limits(
        memory=_memory(given("memory", "memory")),
        cpus=_cpus(given("cpus", "cpus")),
        pids=_pids(given("pids", "pids_limit")),
        timeout=_timeout(given("timeout", "timeout")),
    )


def amount(name: str, text: str) -> float:
    """Return what a limit of pybuild.toml's is, to be compared with others: infinite for none. `name` is a
    field of Limits. Raises UsageError.
    """
    readers = {"memory": _memory, "cpus": _cpus, "pids": _pids, "timeout": _timeout}
    found = readers[name](text)
    return float("inf") if found is None else found


def _memory(text: str | None) -> int | None:
    """As with docker, 0 is no limit."""
    from builder.asked import size

    return (size(text, "--memory") or None) if text is not None else None


def _cpus(text: str | None) -> float | None:
    try:
        cpus = float(text or 0)
        if not 0 <= cpus < 1e6:
            raise ValueError
    except ValueError:
        raise UsageError(f"--cpus {text!r}: write a number such as 1.5", code="usage/value") from None
    return cpus or None


def _pids(text: str | None) -> int | None:
    """As with docker, 0 and -1 are no limit."""
    try:
        pids = int(text or 0)
        if not -1 <= pids < 1 << 31:
            raise ValueError
    except ValueError:
        raise UsageError(f"--pids-limit {text!r}: write a number such as 500", code="usage/value") from None
    return pids if pids > 0 else None


def _timeout(text: str | None) -> float | None:
    """A number without a unit is seconds, as with `podman run`; 0 is no limit."""
    from grammar.durations import parse_duration

    if text is None:
        return None
    time = parse_duration(f"{text}s" if text.isascii() and text.isdecimal() else text)
    if time is None or time < 0:
        raise UsageError(f"--timeout {text!r}: write it like 90s, 5m or 1h30m", code="usage/value")
    return time / _SECOND or None


def limited(request: ExecRequest, limits: Limits, timeout: int | None = None) -> ExecRequest:
    """Return `request` with limits; `timeout` is that of its own line, in nanoseconds."""
    if timeout is None and limits.memory is limits.cpus is limits.pids is None:
        return request
    seconds = None if timeout is None else timeout / _SECOND
    return replace(request, memory=limits.memory, cpus=limits.cpus, pids=limits.pids, timeout=seconds)


def timed_out(noun: str, timeout: float | None, keyword: str, what: str) -> StepFailed:
    """Return the error of what took longer than the `timeout` of its line, in seconds."""
    return StepFailed(
        f"{noun} timed out after {duration(timeout)} ({keyword} --timeout): {what}",
        status=137,
        code="step/timeout",
        limit="timeout",
    )


def failed(request: ExecRequest, result: ExecResult, keyword: str, what: str) -> StepFailed:
    """Return the error of a command that ended with a code other than 0: which limit it ran into, if any.
    `keyword` is the instruction's, `what` what is told of it.
    """
    noun = "the test" if keyword == "TEST" else "the command"
    code, hint = "test/failed" if keyword == "TEST" else "step/failed", None
    how = f"{noun} failed with exit code {result.status}"
    if result.timed_out:
        return timed_out(noun, request.timeout, keyword, what)
    if result.limit == "memory":
        code = "step/memory"
        killed = f"{noun} was killed" if result.status == 137 else f"{how}, and processes of it were killed"
        how = f"{killed}: it used more than --memory {memory(request.memory)}"
        hint = "what it writes to a tmpfs, as /dev/shm is, counts as well"
    elif result.limit == "pids":
        code = "step/pids"
        how = f"{how}: it would have had more processes and threads than --pids-limit {request.pids}"
    return StepFailed(f"{how}: {what}", status=result.status, code=code, hint=hint, limit=result.limit)


def told(request: ExecRequest, result: ExecResult) -> str:
    """Return what is told of a container that ran into a limit and failed; "" of any other."""
    if result.timed_out:
        return f"the container was killed: it ran longer than --timeout {duration(request.timeout)}"
    if result.status and result.limit == "memory":
        whose = "the container was" if result.status == 137 else "processes of the container were"
        return f"{whose} killed: it used more than --memory {memory(request.memory)}"
    if result.status and result.limit == "pids":
        return f"the container would have had more processes and threads than --pids-limit {request.pids}"
    return ""


def duration(seconds: float | None) -> str:
    """Return seconds as a recipe writes them: 1m30s."""
    left = round((seconds or 0) * _SECOND)
    words = []
    for name, unit in _UNITS:
        if count := left // unit:
            words.append(f"{count}{name}")
            left -= count * unit
    return "".join(words) or "0s"


def memory(size: int | None) -> str:
    """Return bytes as --memory takes them: 64m."""
    left, unit = size or 0, ""
    for name in ("k", "m", "g"):
        if left % 1024 == 0 and left:
            left, unit = left // 1024, name
    return f"{left}{unit or 'b'}"
