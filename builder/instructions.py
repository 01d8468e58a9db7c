"""What each instruction does to a stage under planning: a step, a change of the config, or both."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from builder.chmod import parse_chmod
from builder.errors import PlanError
from builder.scope import DEFAULT_PATH, PROXY_ARGUMENTS, Scope, split_variable
from builder.steps import (
    ConfigStep,
    ContextTree,
    CopyStep,
    ExecStep,
    Step,
    TestStep,
    Tree,
    WorkdirStep,
)
from cache.oci.platform import Platform
from cache.oci.spec import ContainerConfig, Healthcheck, ImageConfig
from grammar import ast
from grammar.signals import check_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(slots=True)
class StageState:
    """A stage as of one of its lines. Mutable, private to planning."""

    name: str
    image: ImageConfig
    config: ContainerConfig
    scope: Scope
    globals: Scope
    arguments: Mapping[str, str]
    escape: str
    declared: dict[str, None] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    cmd_is_ours: bool = False
    triggers: tuple[str, ...] = ()
    """What the base's ONBUILD wants to be done first. They are not passed on: the child's child has none."""

    @classmethod
    def start(
        cls, name: str, image: ImageConfig, globals_: Scope, arguments: Mapping[str, str], escape: str
    ) -> StageState:
        """Return the state right after FROM an image."""
        environment = dict(split_variable(pair) for pair in image.config.env)
        env = image.config.env
        if "PATH" not in environment:
            environment["PATH"] = DEFAULT_PATH
            env = (*env, f"PATH={DEFAULT_PATH}")
        config = replace(image.config, on_build=(), env=env)
        state = cls(name, image, config, Scope(environment), globals_, arguments, escape)
        state.triggers = image.config.on_build
        return state

    def child(self, name: str) -> StageState:
        """Return the state right after FROM this stage: ENV, ARG values, SHELL, USER, WORKDIR and labels
        come along.
        """
        return StageState(
            name,
            self.image,
            replace(self.config, on_build=()),
            Scope(self.scope.values),
            self.globals,
            self.arguments,
            self.escape,
            dict(self.declared),
            triggers=self.config.on_build,
        )

    @property
    def used(self) -> set[str]:
        return self.scope.used

    @property
    def shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL

    @property
    def workdir(self) -> str:
        return self.config.working_dir or "/"

    def expand(self, word: ast.Word) -> str:
        return self.scope.expand(word, self.escape)

    def set_config(self, instruction: ast.Instruction, created_by: str, **changes: object) -> None:
        """Change the config, and note it in the history."""
        self.config = replace(self.config, **changes)  # type: ignore[arg-type]
        self.steps.append(ConfigStep(instruction.span, _line(instruction), created_by))


def initial_config(platform: Platform) -> ImageConfig:
    """Return the config of FROM scratch: what BuildKit starts from."""
    config = ContainerConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/")
    return ImageConfig(platform.architecture, platform.os, platform.variant, config=config)


def apply(state: StageState, instruction: ast.Instruction, tree: Tree | None) -> None:
    """Add what `instruction` does to `state`. `tree` is what COPY --from names. Raises PlanError,
    RecipeError.
    """
    handler = _HANDLERS.get(instruction.keyword)
    if handler is None:
        raise PlanError(
            f"{instruction.keyword} is not supported by this version",
            code="recipe/unsupported",
            span=instruction.span,
        )
    if isinstance(instruction, ast.Copy):
        _copy(state, instruction, tree or ContextTree())
    else:
        handler(state, instruction)


def _line(instruction: ast.Instruction) -> str:
    first = instruction.text.split("\n", 1)[0]
    command = getattr(instruction, "command", None)
    if isinstance(command, ast.Command) and command.alone:
        # What the document does says more than its delimiter.
        lines = (line.strip() for line in command.heredocs[0].content.split("\n"))
        told = [line for line in lines if line and not line.startswith(("#", "set -"))]
        first = f"{first} {told[0] if told else ''}{' …' if len(told) > 1 else ''}"
    return f"{instruction.keyword} {first}"


def _argv(state: StageState, command: ast.Command) -> tuple[str, ...]:
    if not command.shell:
        return command.args
    return (*state.shell, command.script)


def _script(command: ast.Command) -> bytes | None:
    """Return a heredoc that picks its own interpreter: it is mounted and executed, as BuildKit does."""
    if command.alone and command.heredocs[0].content.startswith("#!"):
        return command.heredocs[0].content.encode("utf-8", "surrogateescape")
    return None


def _arg(state: StageState, instruction: ast.Arg) -> None:
    words: list[str] = []
    for pair in instruction.pairs:
        name = state.expand(pair.key)
        if not name:
            raise PlanError("ARG: a name must not be empty", code="arg/name", span=instruction.span)
        value: str | None = None
        if name in state.arguments:
            value = state.arguments[name]
            state.scope.used.add(name)
        elif pair.value is not None:
            value = state.expand(pair.value)
        else:
            value = state.globals.lookup(name)
        words.append(name if value is None else f"{name}={value}")
        state.declared[name] = None
        if value is not None:
            state.scope.values[name] = value
    state.steps.append(ConfigStep(instruction.span, _line(instruction), "ARG " + " ".join(words)))


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
        state.scope.values[name] = value
    env = tuple(f"{name}={value}" for name, value in environment.items())
    created_by = "ENV " + " ".join(f"{name}={value}" for name, value in new)
    state.set_config(instruction, created_by, env=env)


def _label(state: StageState, instruction: ast.Label) -> None:
    new = [
        (state.expand(pair.key), state.expand(pair.value))
        for pair in instruction.pairs
        if pair.value is not None
    ]
    labels = dict(state.config.labels) | dict(new)
    created_by = "LABEL " + " ".join(f"{name}={value}" for name, value in new)
    state.set_config(instruction, created_by, labels=tuple(sorted(labels.items())))


def _run(state: StageState, instruction: ast.Run) -> None:
    if instruction.mounts:
        raise PlanError(
            "RUN --mount is not supported by this version", code="recipe/unsupported", span=instruction.span
        )
    if instruction.security == "insecure":
        raise PlanError("RUN --security=insecure is not allowed", code="run/insecure", span=instruction.span)
    argv = _argv(state, instruction.command)
    if not argv:
        raise PlanError("RUN: the command is empty", code="run/empty", span=instruction.span)
    arguments = "".join(f" {name}={state.scope.lookup(name) or ''}" for name in state.declared)
    shown = f"|{len(state.declared)}{arguments} " if state.declared else ""
    state.steps.append(
        ExecStep(
            span=instruction.span,
            text=_line(instruction),
            created_by=f"RUN {shown}{' '.join(argv)} # pybuild",
            argv=argv,
            env=tuple(state.scope.values.items()),
            user=state.config.user,
            workdir=state.workdir,
            network="none" if instruction.network == "none" else "host",
            proxies=tuple((k, v) for k, v in state.arguments.items() if k in PROXY_ARGUMENTS),
            script=_script(instruction.command),
        )
    )


def _add(state: StageState, instruction: ast.Add) -> None:
    _refuse(instruction, {"--checksum": instruction.checksum, "--keep-git-dir": instruction.keep_git_dir})
    for word in instruction.sources:
        source = state.expand(word)
        if _REMOTE.match(source):
            raise PlanError(
                f"ADD {source}: this version adds nothing from the network",
                code="recipe/unsupported",
                span=word.span,
                hint="RUN curl or git, and have it check a digest",
            )
    _copy(state, instruction, ContextTree())


_REMOTE = re.compile(r"(https?|git|ssh)://|git@|github\.com/", re.IGNORECASE)


def _refuse(instruction: ast.Copy | ast.Add, flags: Mapping[str, object]) -> None:
    for flag, given in flags.items():
        if given:
            raise PlanError(
                f"{instruction.keyword} {flag} is not supported by this version",
                code="recipe/unsupported",
                span=instruction.span,
            )


def _copy(state: StageState, instruction: ast.Copy | ast.Add, tree: Tree) -> None:
    _refuse(instruction, {"--parents": instruction.parents, "--exclude": instruction.exclude})
    keyword = instruction.keyword
    chown = state.expand(instruction.chown) if instruction.chown else ""
    chmod = state.expand(instruction.chmod) if instruction.chmod else ""
    if chmod:
        _at(instruction, lambda: parse_chmod(chmod))
    dest = state.expand(instruction.dest)
    sources = tuple(state.expand(word) for word in instruction.sources)
    documents = tuple((doc.name, _document(state, doc)) for doc in instruction.heredocs)
    into = dest in ("", ".", "..") or dest.endswith(("/", "/.", "/.."))
    if len(sources) + len(documents) > 1 and not into:
        raise PlanError(
            f"{keyword} of several sources needs a destination that ends in /: {dest!r}",
            code="copy/several",
            span=instruction.span,
            hint=f"write {dest}/",
        )
    for name, _ in documents:
        # In the sandbox of a name alone: a path here would lead out of the destination.
        if "/" in name or name in ("", ".", ".."):
            raise PlanError(
                f"{keyword} <<{name}: a document is called what stands behind <<, so that cannot be a path",
                code="copy/document",
                span=instruction.span,
                hint=f"write {keyword} <<EOF {posixpath.join(dest, posixpath.basename(name) or 'NAME')}",
            )
    flags = [f"--chown={chown}"] * bool(chown) + [f"--chmod={chmod}"] * bool(chmod)
    shown = " ".join([*flags, *sources, *(f"<<{name}" for name, _ in documents), dest])
    state.steps.append(
        CopyStep(
            span=instruction.span,
            text=_line(instruction),
            created_by=f"{keyword} {shown} # pybuild",
            tree=tree,
            sources=sources,
            documents=documents,
            dest=_absolute(state, dest),
            into_directory=into,
            chown=chown,
            chmod=chmod,
            link=instruction.link,
            unpack=isinstance(instruction, ast.Add) and instruction.unpack is not False,
        )
    )


def _absolute(state: StageState, path: str) -> str:
    # normpath keeps two slashes at the beginning.
    return "/" + posixpath.normpath(posixpath.join("/", state.workdir, path)).lstrip("/")


def _at(instruction: ast.Instruction, check: Callable[[], object]) -> None:
    """Run `check`, and give what it raises the instruction's place."""
    try:
        check()
    except PlanError as error:
        error.span = instruction.span
        raise


def _document(state: StageState, doc: ast.Heredoc) -> bytes:
    content = doc.content
    if doc.expand:
        from grammar.expand import expand_document

        content = expand_document(content, state.scope.lookup, span=doc.span)
    return content.encode("utf-8", "surrogateescape")


def _workdir(state: StageState, instruction: ast.Workdir) -> None:
    path = state.expand(instruction.path)
    if not path:
        raise PlanError("WORKDIR: the path is empty", code="workdir/empty", span=instruction.span)
    full = _absolute(state, path)
    state.config = replace(state.config, working_dir=full)
    state.steps.append(
        WorkdirStep(instruction.span, _line(instruction), f"WORKDIR {full}", full, state.config.user)
    )


def _user(state: StageState, instruction: ast.User) -> None:
    user = state.expand(instruction.user)
    state.set_config(instruction, f"USER {user}", user=user)


def _expose(state: StageState, instruction: ast.Expose) -> None:
    from grammar.ports import parse_ports

    words = state.scope.expand_all(instruction.ports, state.escape)
    new = [port for word in words for port in parse_ports(word, instruction.span)]
    ports = tuple(dict.fromkeys([*state.config.exposed_ports, *new]))
    state.set_config(instruction, "EXPOSE " + " ".join(new), exposed_ports=tuple(sorted(ports)))


def _volume(state: StageState, instruction: ast.Volume) -> None:
    new = [state.expand(word) for word in instruction.paths]
    if not all(new):
        raise PlanError("VOLUME: a path is empty", code="volume/empty", span=instruction.span)
    volumes = tuple(sorted({*state.config.volumes, *new}))
    state.set_config(instruction, f"VOLUME [{' '.join(new)}]", volumes=volumes)


def _cmd(state: StageState, instruction: ast.Cmd) -> None:
    argv = _argv(state, instruction.command)
    state.cmd_is_ours = True
    state.set_config(instruction, f"CMD {json.dumps(argv, ensure_ascii=False)}", cmd=argv)


def _entrypoint(state: StageState, instruction: ast.Entrypoint) -> None:
    argv = _argv(state, instruction.command)
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
    state.steps.append(ConfigStep(instruction.span, _line(instruction), f"MAINTAINER {instruction.name}"))


def _test(state: StageState, instruction: ast.Test) -> None:
    name = state.expand(instruction.name) if instruction.name else ""
    command = instruction.command
    suite = state.expand(instruction.testinfra) if instruction.testinfra else None
    state.steps.append(
        TestStep(
            span=instruction.span,
            text=_line(instruction),
            name=name,
            config=state.config,
            argv=_argv(state, command) if command else (),
            script=_script(command) if command else None,
            suite=suite,
        )
    )


_HANDLERS: dict[str, Callable[..., None]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "TEST": _test,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
