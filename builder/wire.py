"""An ExecRequest on its way to the launcher: a marshal'ed dictionary, with its fds beside it.

The launcher's side reads it into SimpleNamespace objects of the same attributes: dataclasses would bring in
so many modules that each fork cost a third more. marshal is safe here: both sides are the same interpreter,
and the sender is trusted.
"""

from __future__ import annotations

import marshal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.executor import ExecRequest, Mount
    from builder.overlay import Overlay

_LOCAL = ("stdin", "stdio", "timeout", "platform", "ports")  # of no use beyond the builder


def encode(request: ExecRequest, standard: Sequence[int | None], fds: list[int]) -> bytes:
    """Return `request` as bytes. Fds in it are appended to `fds` and written as indices of that list.

    standard: the command's standard streams, None for /dev/null; empty for a pseudo-terminal.
    """
    fields = {name: getattr(request, name) for name in type(request).__slots__ if name not in _LOCAL}
    fields["mounts"] = [_mount(mount, fds) for mount in request.mounts]
    fields["standard"] = [fd if fd is None else _index(fd, fds) for fd in standard]
    if request.emulator is not None:
        fields["emulator"] = (*request.emulator[:3], _index(request.emulator[3], fds))
    if request.join is not None:
        fields["join"] = _index(request.join, fds)
    return marshal.dumps(fields)


def _index(fd: int, fds: list[int]) -> int:
    fds.append(fd)
    return len(fds) - 1


def _mount(mount: Mount, fds: list[int]) -> dict[str, Any]:
    fields = {name: getattr(mount, name) for name in type(mount).__slots__}
    source = mount.source
    if isinstance(source, int):
        fields["source"] = _index(source, fds)
    elif source is not None and not isinstance(source, str):
        fields["source"] = {name: getattr(source, name) for name in type(source).__slots__}
    return fields


def decode(data: bytes, fds: Sequence[int]) -> tuple[ExecRequest, list[int | None]]:
    """Return what `encode` wrote, without what concerns the builder alone; `fds` are those received."""
    fields = marshal.loads(data)
    if fields["emulator"] is not None:
        fields["emulator"] = (*fields["emulator"][:3], fds[fields["emulator"][3]])
    if fields["join"] is not None:
        fields["join"] = fds[fields["join"]]
    for mount in fields["mounts"]:
        source = mount["source"]
        if isinstance(source, int):
            mount["source"] = fds[source]
        elif isinstance(source, dict):
            mount["source"] = cast("Overlay", SimpleNamespace(**source))
    fields["mounts"] = tuple(cast("Mount", SimpleNamespace(**mount)) for mount in fields["mounts"])
    standard = [index if index is None else fds[index] for index in fields.pop("standard")]
    return cast("ExecRequest", SimpleNamespace(**fields)), standard
