"""What each instruction does to a stage under planning: a step, a change of the config, or both."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from builder import copies, runs
from builder.errors import PlanError
from builder.runs import argv_of
from builder.scope import split_variable
from builder.stagestate import StageState, absolute, line_of
from builder.steps import ConfigStep, WorkdirStep
from cache.oci.spec import Healthcheck
from grammar import ast
from grammar.signals import check_signal

if TYPE_CHECKING:
    from collections.abc import Callable


def apply(state: StageState, instruction: ast.Instruction) -> None:
    """Add what `instruction` does to `state`. Raises PlanError, RecipeError."""
    _HANDLERS[instruction.keyword](state, instruction)


def _arg(state: StageState, instruction: ast.Arg) -> None:
    words: list[str] = []
    for pair in instruction.pairs:
        name = state.expand(pair.key)
        if not name:
            raise PlanError("ARG: a name must not be empty", code="arg/name", span=instruction.span)
        value: str | None = None
        if name in state.arguments:
            state.scope.used.add(name)
        if name in state.given:
            value = state.given[name]
        elif name in state.arguments:
            value = state.arguments[name]
        elif pair.value is not None:
            value = state.expand(pair.value)
        else:
            value = state.globals.lookup(name)
        words.append(name if value is None else f"{name}={value}")
        state.declared[name] = None
        if value is not None:
            state.scope.values[name] = value
    state.steps.append(ConfigStep(instruction.span, line_of(instruction), "ARG " + " ".join(words)))


def _env(state: StageState, instruction: ast.Env) -> None:
    # All values of one line see what was before that line.
    new = [
        (state.expand(pair.key), state.expand(pair.value))
        for pair in instruction.pairs
        if pair.value is not None
    ]
    environment = dict(split_variable(pair) for pair in state.config.env)
    for name, value in new:
        if not name:
            raise PlanError("ENV: a name must not be empty", code="env/name", span=instruction.span)
        environment[name] = value
        for scope in (state.scope, *state.enclosing):
            scope.values[name] = value
    env = tuple(f"{name}={value}" for name, value in environment.items())
    created_by = "ENV " + " ".join(f"{name}={value}" for name, value in new)
    state.set_config(instruction, created_by, env=env)


def _include(state: StageState, instruction: ast.Include) -> None:
    fragment = instruction.fragment
    if fragment is None:
        raise PlanError(
            "INCLUDE: nobody has read the fragment", code="include/missing", span=instruction.span
        )
    given = {pair.key.text: state.expand(pair.value) for pair in instruction.pairs if pair.value is not None}
    with state.fragment(given, fragment.directives.escape):
        for each in fragment.instructions:
            apply(state, each)


def _packages(state: StageState, instruction: ast.Packages) -> None:
    from builder.packages import packages

    packages(state, instruction)


def _label(state: StageState, instruction: ast.Label) -> None:
    new = [
        (state.expand(pair.key), state.expand(pair.value))
        for pair in instruction.pairs
        if pair.value is not None
    ]
    labels = dict(state.config.labels) | dict(new)
    created_by = "LABEL " + " ".join(f"{name}={value}" for name, value in new)
    state.set_config(instruction, created_by, labels=tuple(sorted(labels.items())))


def _workdir(state: StageState, instruction: ast.Workdir) -> None:
    path = state.expand(instruction.path)
    if not path:
        raise PlanError("WORKDIR: the path is empty", code="workdir/empty", span=instruction.span)
    full = absolute(state, path)
    state.config = replace(state.config, working_dir=full)
    state.steps.append(
        WorkdirStep(instruction.span, line_of(instruction), f"WORKDIR {full}", full, state.config.user)
    )


def _user(state: StageState, instruction: ast.User) -> None:
    user = state.expand(instruction.user)
    state.set_config(instruction, f"USER {user}", user=user)


def _expose(state: StageState, instruction: ast.Expose) -> None:
    from grammar.ports import parse_all_ports

    words = state.scope.expand_all(instruction.ports, state.escape)
    new = parse_all_ports(words, instruction.span)
    ports = tuple(dict.fromkeys([*state.config.exposed_ports, *new]))
    state.set_config(instruction, "EXPOSE " + " ".join(new), exposed_ports=tuple(sorted(ports)))


def _volume(state: StageState, instruction: ast.Volume) -> None:
    new = [state.expand(word) for word in instruction.paths]
    if not all(new):
        raise PlanError("VOLUME: a path is empty", code="volume/empty", span=instruction.span)
    volumes = tuple(sorted({*state.config.volumes, *new}))
    state.set_config(instruction, f"VOLUME [{' '.join(new)}]", volumes=volumes)


def _cmd(state: StageState, instruction: ast.Cmd) -> None:
    argv = argv_of(state, instruction.command)
    state.cmd_is_ours = True
    state.set_config(instruction, f"CMD {json.dumps(argv, ensure_ascii=False)}", cmd=argv)


def _entrypoint(state: StageState, instruction: ast.Entrypoint) -> None:
    argv = argv_of(state, instruction.command)
    cmd = state.config.cmd if state.cmd_is_ours else None
    state.set_config(
        instruction, f"ENTRYPOINT {json.dumps(argv, ensure_ascii=False)}", entrypoint=argv, cmd=cmd
    )


def _healthcheck(state: StageState, instruction: ast.Healthcheck) -> None:
    command = instruction.command
    if command is None:
        test: tuple[str, ...] = ("NONE",)
    elif command.shell:
        test = ("CMD-SHELL", command.script)
    else:
        test = ("CMD", *command.args)
    check = Healthcheck(
        test=test,
        interval=instruction.interval or 0,
        timeout=instruction.timeout or 0,
        start_period=instruction.start_period or 0,
        start_interval=instruction.start_interval or 0,
        retries=instruction.retries or 0,
    )
    state.set_config(instruction, f"HEALTHCHECK {json.dumps(test, ensure_ascii=False)}", healthcheck=check)


def _stopsignal(state: StageState, instruction: ast.Stopsignal) -> None:
    signal = state.expand(instruction.signal)
    check_signal(signal, instruction.signal.span)
    state.set_config(instruction, f"STOPSIGNAL {signal}", stop_signal=signal)


def _shell(state: StageState, instruction: ast.Shell) -> None:
    state.set_config(instruction, f"SHELL [{' '.join(instruction.args)}]", shell=instruction.args)


def _onbuild(state: StageState, instruction: ast.Onbuild) -> None:
    # As with BuildKit, history does not tell.
    triggers = (*state.config.on_build, instruction.expression)
    state.config = replace(state.config, on_build=triggers)


def _maintainer(state: StageState, instruction: ast.Maintainer) -> None:
    state.image = replace(state.image, author=instruction.name)
    state.steps.append(ConfigStep(instruction.span, line_of(instruction), f"MAINTAINER {instruction.name}"))


_HANDLERS: dict[str, Callable[..., None]] = {
    "ADD": copies.add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": copies.copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "INCLUDE": _include,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "PACKAGES": _packages,
    "RUN": runs.run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "TEST": runs.test,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
