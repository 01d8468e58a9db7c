"""A step, and what a build told, as plain values that can be written down: without the values of secrets."""

from __future__ import annotations

import io
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from builder.scope import DEFAULT_PATH, split_variable
from builder.steps import (
    BindMount,
    CacheMount,
    ExecStep,
    PackagesStep,
    SecretMount,
    SshMount,
    StageBase,
    TestStep,
    TmpfsMount,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.events import Event
    from builder.executor import ExecRequest
    from builder.inspection import OpenStep
    from builder.masking import Mask
    from builder.steps import StepMount
    from cache.oci.spec import ContainerConfig

T = TypeVar("T")


def hidden(mask: Mask, value: T) -> T:
    """Return `value`, of plain values, with `***` for what `mask` has."""
    return cast("T", _hidden(mask, value))


def _hidden(mask: Mask, value: Any) -> Any:
    if isinstance(value, str):
        return masked_bytes(mask, value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {_hidden(mask, key): _hidden(mask, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(mask, each) for each in value]
    return value


def masked_bytes(mask: Mask, data: bytes) -> bytes:
    """Return `data` with `***` for what `mask` has."""
    from builder.masking import Masked

    shown: list[bytes] = []
    stream = Masked(mask, shown.append)
    stream.feed(data)
    stream.flush()
    return b"".join(shown)


def described(opened: OpenStep) -> dict[str, Any]:
    """Return what a step's command sees: to be shown, and for `detached`."""
    step = opened.step
    request = plain_request(opened)
    found: dict[str, Any] = {
        "kind": type(step).__name__.removesuffix("Step"),
        "env": [list(pair) for pair in request.env],
        "user": request.user,
        "workdir": request.workdir,
        "network": request.network,
        "platform": str(opened.stage.image.platform),
        "base": _base(opened),
        "argv": list(request.argv),
        "script": "",
        "mounts": [],
    }
    if isinstance(step, ExecStep | TestStep) and step.script is not None:
        found["script"] = step.script.decode("utf-8", "surrogateescape")
    if isinstance(step, ExecStep):
        found["mounts"] = [describe_mount(mount) for mount in step.mounts]
    if isinstance(step, ExecStep | TestStep | PackagesStep):
        found["hosts"] = [list(pair) for pair in step.extra_hosts]
        found["rlimits"] = [list(limit) for limit in step.rlimits]
        found["shm_size"] = step.shm_size
    found["privileged"] = request.privileged
    return found


def _base(opened: OpenStep) -> str:
    from builder.steps import describe

    base = opened.stage.base
    return f"stage {base.index}" if isinstance(base, StageBase) else describe(base, {})


def describe_mount(mount: StepMount) -> dict[str, str]:
    """Return a mount in words. Of a secret and an agent that is its id alone."""
    if isinstance(mount, SecretMount):
        return {"type": "secret", "target": mount.target, "id": mount.id, "env": mount.env}
    if isinstance(mount, SshMount):
        return {"type": "ssh", "target": mount.target, "id": mount.id}
    if isinstance(mount, CacheMount):
        return {"type": "cache", "target": mount.target, "id": mount.id}
    if isinstance(mount, TmpfsMount):
        return {"type": "tmpfs", "target": mount.target}
    assert isinstance(mount, BindMount)
    return {"type": "bind", "target": mount.target, "source": mount.source}


def plain_request(opened: OpenStep) -> ExecRequest:
    """Return how a command is executed in the step's surroundings, but for its mounts, on no root filesystem.
    A step that runs none, such as COPY, has those that its stage ends with.
    """
    return replace(_request(opened), platform=opened.stage.image.platform)


def _request(opened: OpenStep) -> ExecRequest:
    from builder.asked import network, with_asked
    from builder.executor import ExecRequest

    step = opened.step
    if isinstance(step, ExecStep):
        request = ExecRequest(
            argv=step.argv,
            env=(*step.proxies, *step.env),
            user=step.user,
            workdir=step.workdir,
            network=network(step.network),
            privileged=step.security == "insecure",
        )
        return with_asked(request, step)
    if isinstance(step, PackagesStep):
        way = network(step.network)
        return with_asked(ExecRequest(argv=(), env=(*step.proxies, *step.env), network=way), step)
    if isinstance(step, TestStep):
        request = _of_config(step.config)
        request = replace(request, argv=step.argv, network=network(step.network))
        return with_asked(request, step)
    return _of_config(opened.stage.config)


def _of_config(config: ContainerConfig) -> ExecRequest:
    from builder.executor import ExecRequest

    env = dict(split_variable(pair) for pair in config.env)
    env.setdefault("PATH", DEFAULT_PATH)
    return ExecRequest(
        argv=(),
        env=tuple(env.items()),
        user=config.user,
        workdir=posixpath.join("/", config.working_dir or "/"),
    )


def detached(facts: Mapping[str, Any]) -> ExecRequest:
    """Return the request that `described` was told of, with what mounts there can be without a build: those
    in memory.
    """
    from builder.asked import network
    from builder.executor import ExecRequest, Mount
    from cache.oci.platform import Platform

    mounts = [Mount("tmpfs", mount["target"]) for mount in facts["mounts"] if mount["type"] == "tmpfs"]
    argv = tuple(facts["argv"])
    if facts["script"]:
        argv = ("/dev/pipes/script",)
        data = facts["script"].encode("utf-8", "surrogateescape")
        mounts.append(Mount("file", argv[0], read_only=True, mode=0o755, data=data))
    request = ExecRequest(
        argv=argv,
        platform=Platform.parse(facts["platform"]),
        env=tuple((name, value) for name, value in facts["env"]),
        user=facts["user"],
        workdir=facts["workdir"],
        network=network(facts["network"]),
        mounts=tuple(mounts),
        privileged=bool(facts["privileged"]),
        extra_hosts=tuple((name, address) for name, address in facts.get("hosts", ())),
        rlimits=tuple((name, soft, hard) for name, soft, hard in facts.get("rlimits", ())),
    )
    size = facts.get("shm_size")
    return request if size is None else replace(request, shm_size=size)


def as_json(mask: Mask, events: Iterable[tuple[float, Event]]) -> str:
    """Return events, each with its time, as an array of what `--progress json` prints, masked."""
    import json

    from builder.progress.json import JsonDisplay
    from builder.progress.sink import Sink

    text = io.StringIO()
    now = [0.0]
    display = JsonDisplay(Sink(text), clock=lambda: 0.0, wall=lambda: now[0])
    for time, event in tuple(events):
        now[0] = time
        display.emit(event)
    display.close()
    # Masked as values: a secret with a quote in it is another text in JSON.
    lines = [json.dumps(hidden(mask, json.loads(line))) for line in text.getvalue().split("\n") if line]
    return "[\n" + ",\n".join(lines) + "\n]\n"
