"""What can go wrong in a build. Only the CLI prints errors and exits (docs/errors.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grammar.source import Span


class BuildError(Exception):
    """Base of the builder's errors: a stable code, a message, a hint, the span in the recipe if any."""

    code = "build/error"
    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        span: Span | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.span = span
        if code is not None:
            self.code = code


class UsageError(BuildError):
    """The command line or the configuration is wrong."""

    code = "usage/error"
    exit_code = 2


class PlanError(BuildError):
    """The recipe parses, but does not make sense: an unknown stage, a cycle, a missing source."""

    code = "recipe/plan"
    exit_code = 2


class StepFailed(BuildError):
    """A step's command or a test ended with a code other than 0: `status` (128 + n for signal n). `limit`
    is what it ran into: memory, pids or timeout, "" for nothing.
    """

    code = "step/failed"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        status: int,
        hint: str | None = None,
        span: Span | None = None,
        code: str | None = None,
        limit: str = "",
    ) -> None:
        super().__init__(message, hint=hint, span=span, code=code)
        self.status = status
        self.limit = limit


class BaseError(BuildError):
    """A base image cannot be had: no such name, or nobody to ask."""

    code = "base/error"
    exit_code = 3


class FetchError(BuildError):
    """Something from elsewhere (a URL, a git repository) cannot be had, or is not what it has to be."""

    code = "fetch/error"
    exit_code = 3


class HostError(BuildError):
    """This host lacks what a build needs: privileges, a kernel feature, a program."""

    code = "host/error"
    exit_code = 4
