"""The config.json of a runtime bundle: what an ExecRequest asks for, in the words of the OCI runtime-spec 1.0
(config.md, config-linux.md), so that runc and crun can do it.

Pure: who the user is, is told.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from builder import capabilities
from builder.rootfs import MASKED, UNWRITABLE
from builder.seccomp_document import document

if TYPE_CHECKING:
    from builder.executor import ExecRequest, Mount
    from builder.userns import Mapping
    from builder.users import Identity

_STRICT = ["nosuid", "noexec", "nodev"]
_PERIOD = 100_000  # microseconds, of the scheduler's quota


def runtime_config(
    request: ExecRequest, identity: Identity, *, root: str = "rootfs", mapping: Mapping | None = None
) -> dict[str, Any]:
    """Return the document for the request's command as `identity`. `root` is the root filesystem, relative to
    the bundle; `mapping` the ids of the user namespace that this process has entered, None for none.
    """
    return {
        "ociVersion": "1.0.2",
        "root": {"path": root, "readonly": request.upper is None},
        "hostname": request.hostname,
        "process": _process(request, identity, mapping),
        "mounts": [*_standard_mounts(request, mapping), *map(_mount, request.mounts)],
        "linux": _linux(request, mapping),
    }


def _process(request: ExecRequest, identity: Identity, mapping: Mapping | None) -> dict[str, Any]:
    uid, gid, groups, home = identity
    env = dict(request.env)
    env["HOME"] = env.get("HOME") or home
    kept = capabilities.NAMES if request.privileged else request.capabilities
    names = [f"CAP_{name}" for name in (capabilities.DEFAULT if kept is None else kept)]
    sets = ("bounding", "effective", "permitted") if uid == 0 else ("bounding",)
    user: dict[str, Any] = {"uid": uid, "gid": gid, "umask": 0o022}
    if mapping is None or mapping.kind != "single":  # else setgroups(2) is denied
        user["additionalGids"] = list(groups)
    return {
        "terminal": request.tty,
        "user": user,
        "args": list(request.argv),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": os.path.join("/", request.workdir),
        "capabilities": dict.fromkeys(sets, names),
        "rlimits": [
            {"type": f"RLIMIT_{name.upper()}", "soft": _limit(soft), "hard": _limit(hard)}
            for name, soft, hard in request.rlimits
        ],
        "noNewPrivileges": request.no_new_privileges,
    }


def _limit(value: int) -> int:
    return value if value >= 0 else (1 << 64) - 1


def _standard_mounts(request: ExecRequest, mapping: Mapping | None) -> list[dict[str, Any]]:
    writable = [] if request.privileged else ["ro"]
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    devpts += [] if mapping is not None and mapping.kind == "single" else ["gid=5"]
    mounts = [
        _special("/proc", "proc", _STRICT),
        _special("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _special("/dev/pts", "devpts", devpts),
        _special("/dev/shm", "tmpfs", [*_STRICT, "mode=1777", f"size={request.shm_size}"], "shm"),
        _special("/dev/mqueue", "mqueue", _STRICT),
    ]
    if mapping is not None and request.network == "host":
        # The kernel mounts the sysfs of a network only for root of the user namespace that this belongs to.
        mounts.append(_special("/sys", "none", ["rbind", *_STRICT, *writable], "/sys"))
    else:
        mounts.append(_special("/sys", "sysfs", [*_STRICT, *writable]))
        mounts.append(_special("/sys/fs/cgroup", "cgroup", [*_STRICT, "relatime", *writable]))
    if request.network == "host":
        mounts.append(_special("/etc/resolv.conf", "bind", ["rbind", "ro"], "/etc/resolv.conf"))
    return mounts


def _special(target: str, kind: str, options: list[str], source: str | None = None) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source or kind, "options": options}


def _mount(mount: Mount) -> dict[str, Any]:
    if mount.kind == "tmpfs":
        mode = 0o1777 if mount.mode is None else mount.mode
        size = [] if mount.size is None else [f"size={mount.size}"]
        return _special(mount.target, "tmpfs", ["nosuid", "nodev", f"mode={mode:o}", *size])
    assert mount.kind == "bind" and isinstance(mount.source, str)
    options = ["rbind", "rprivate", "nodev", *(["ro"] if mount.read_only else [])]
    return _special(mount.target, "bind", options, mount.source)


def _linux(request: ExecRequest, mapping: Mapping | None) -> dict[str, Any]:
    kinds = ["pid", "ipc", "uts", "mount"]
    kinds += ["network"] if request.network != "host" else []
    kinds += ["user"] if mapping is not None else []
    found: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in kinds],
        "resources": _resources(request),
    }
    if mapping is not None:
        for name, lines in (("uidMappings", mapping.uids), ("gidMappings", mapping.gids)):
            found[name] = [
                {"containerID": inside, "hostID": inside, "size": count} for inside, _, count in lines
            ]
    if request.privileged:
        return found
    kept = capabilities.DEFAULT if request.capabilities is None else request.capabilities
    if request.seccomp:
        found["seccomp"] = document(os.uname().machine, kept)
    found["maskedPaths"] = ["/" + path for path in MASKED]
    found["readonlyPaths"] = ["/" + path for path in UNWRITABLE]
    return found


def _resources(request: ExecRequest) -> dict[str, Any]:
    found: dict[str, Any] = {"devices": [{"allow": request.privileged, "access": "rwm"}]}
    if request.memory is not None:
        found["memory"] = {"limit": request.memory, "swap": request.memory}
    if request.cpus is not None:
        found["cpu"] = {"quota": max(int(request.cpus * _PERIOD), 1000), "period": _PERIOD}
    if request.pids is not None:
        found["pids"] = {"limit": request.pids}
    return found
