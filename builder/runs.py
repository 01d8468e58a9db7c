"""RUN and TEST under planning: the commands that run in the sandbox."""

from __future__ import annotations

from builder.errors import PlanError
from builder.scope import PROXY_ARGUMENTS
from builder.stagestate import StageState, line_of
from builder.steps import ExecStep, TestStep
from grammar import ast


def argv_of(state: StageState, command: ast.Command) -> tuple[str, ...]:
    """Return what is executed: the exec form as it is, the shell form handed to SHELL."""
    if not command.shell:
        return command.args
    return (*state.shell, command.script)


def script_of(command: ast.Command) -> bytes | None:
    """Return a heredoc that picks its own interpreter: it is mounted and executed, as BuildKit does."""
    if command.alone and command.heredocs[0].content.startswith("#!"):
        return command.heredocs[0].content.encode("utf-8", "surrogateescape")
    return None


def run(state: StageState, instruction: ast.Run) -> None:
    """RUN. Raises PlanError."""
    if instruction.mounts:
        raise PlanError(
            "RUN --mount is not supported by this version", code="recipe/unsupported", span=instruction.span
        )
    if instruction.security == "insecure":
        raise PlanError("RUN --security=insecure is not allowed", code="run/insecure", span=instruction.span)
    argv = argv_of(state, instruction.command)
    if not argv:
        raise PlanError("RUN: the command is empty", code="run/empty", span=instruction.span)
    arguments = "".join(f" {name}={state.scope.lookup(name) or ''}" for name in state.declared)
    shown = f"|{len(state.declared)}{arguments} " if state.declared else ""
    state.steps.append(
        ExecStep(
            span=instruction.span,
            text=line_of(instruction),
            created_by=f"RUN {shown}{' '.join(argv)} # pybuild",
            argv=argv,
            env=tuple(state.scope.values.items()),
            user=state.config.user,
            workdir=state.workdir,
            network="none" if instruction.network == "none" else "host",
            proxies=tuple((k, v) for k, v in state.arguments.items() if k in PROXY_ARGUMENTS),
            script=script_of(instruction.command),
        )
    )


def test(state: StageState, instruction: ast.Test) -> None:
    """TEST."""
    name = state.expand(instruction.name) if instruction.name else ""
    command = instruction.command
    suite = state.expand(instruction.testinfra) if instruction.testinfra else None
    state.steps.append(
        TestStep(
            span=instruction.span,
            text=line_of(instruction),
            name=name,
            config=state.config,
            argv=argv_of(state, command) if command else (),
            script=script_of(command) if command else None,
            suite=suite,
        )
    )
