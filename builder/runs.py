"""RUN and TEST under planning: the commands that run in the sandbox."""

from __future__ import annotations

from builder.errors import PlanError
from builder.runmounts import mounts
from builder.scope import PROXY_ARGUMENTS
from builder.stagestate import StageState, line_of
from builder.steps import Asked, ExecStep, TestStep
from grammar import ast

INSECURE = "security.insecure"
"""What --allow has to say before a command may have every privilege."""


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
    """RUN. Raises PlanError, RecipeError."""
    insecure = instruction.security == "insecure"
    if insecure and INSECURE not in state.asked.allowed:
        raise PlanError(
            "RUN --security=insecure is not allowed",
            code="run/insecure",
            hint=f"if you trust the recipe with this host, allow it: --allow {INSECURE}",
            span=instruction.span,
        )
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
            network=_network(instruction.network, state.asked),
            proxies=tuple((k, v) for k, v in state.arguments.items() if k in PROXY_ARGUMENTS),
            script=script_of(instruction.command),
            mounts=mounts(state, instruction) if instruction.mounts else (),
            security="insecure" if insecure else "",
            extra_hosts=state.asked.extra_hosts,
            rlimits=state.asked.rlimits,
            shm_size=state.asked.shm_size,
            no_new_privileges=state.asked.no_new_privileges,
            timeout=instruction.timeout,
        )
    )


def _network(given: str | None, asked: Asked) -> str:
    """Return the network of a RUN: what it says itself, else what the command line says, else the host's."""
    return asked.network if given in (None, "default") else str(given)


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
            network="" if state.asked.network == "host" else state.asked.network,
            extra_hosts=state.asked.extra_hosts,
            rlimits=state.asked.rlimits,
            shm_size=state.asked.shm_size,
            no_new_privileges=state.asked.no_new_privileges,
            timeout=instruction.timeout,
        )
    )
