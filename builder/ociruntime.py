"""Containers run by another runtime of the OCI runtime-spec, runc or crun, in place of the sandbox.

A child mounts the overlay in a mount namespace of its own, and starts the runtime in a pid namespace that
ends with it, as it ends with this process: whoever is killed, no mount and no process is left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from builder import cgroups, linux, mountpoints, mounts, userns
from builder.errors import HostError
from builder.users import identify, read

if TYPE_CHECKING:
    from builder.executor import ExecRequest
    from builder.users import Identity

RUNTIMES = ("runc", "crun")

_FAILED = 125
_UNIFIED = "/sys/fs/cgroup/unified"
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def identity_in(root: str, user: str) -> Identity:
    """Return who `user` is in the root filesystem `root`. Raises StepFailed (step/user)."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return identify(user, _read_in(fd, "etc/passwd"), _read_in(fd, "etc/group"))
    finally:
        os.close(fd)


def _read_in(root: int, path: str) -> str:
    """Return the text of a file; no symbolic link leads out of the root."""
    try:
        fd = linux.openat2(root, path, os.O_PATH, linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS)
    except OSError:
        return ""
    try:
        return read(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def run(runtime: str, request: ExecRequest, directory: str, container_id: str) -> int:
    """Run the request's command with `runtime` on our own standard streams; return its exit code. The bundle
    is made in `directory`, the container's. Raises HostError; what else is wrong is shown.
    """
    from shutil import which

    path = which(runtime)
    if path is None:
        raise HostError(f"there is no {runtime} here", code="host/runtime", hint=f"apt-get install {runtime}")
    bundle = directory + "/bundle"
    cgroups.sweep_everywhere()
    name = cgroups.name_of_this(container_id[:12])
    argv = [path, "--root", bundle + "/state", "run", "--bundle", bundle, name]
    sys.stdout.flush()
    parent = os.pidfd_open(os.getpid())
    keeper = os.fork()
    if keeper == 0:
        _keep(request, bundle, argv, parent)
    os.close(parent)
    return _wait(keeper)


def _keep(request: ExecRequest, bundle: str, argv: list[str], parent: int) -> NoReturn:
    """Mount the root filesystem, have the program run in a pid namespace, and exit with its code."""
    from builder.cli import ERRORS, show

    code = _FAILED
    try:
        _depend_on(parent)
        _make_bundle(request, bundle, argv)
        own = os.pidfd_open(os.getpid())
        linux.unshare(linux.CLONE_NEWPID)
        first = os.fork()
        if first == 0:
            _be_first(argv, own)
        code = _wait(first)
    except ERRORS as error:
        show(error)
        code = getattr(error, "status", _FAILED)
    except OSError as error:
        show(HostError(f"the bundle cannot be set up: {error.strerror}", code="host/runtime"))
    finally:
        os._exit(code)


def _make_bundle(request: ExecRequest, bundle: str, argv: list[str]) -> None:
    from builder.bundle import runtime_config

    for name in ("", "/rootfs", "/state", "/points"):
        os.makedirs(bundle + name, 0o755, exist_ok=True)
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    mountpoints.make(bundle + "/points", _points(request))
    lowers = (*request.lower, bundle + "/points")
    if os.path.basename(argv[0]) == "crun" and os.path.isdir(_UNIFIED):
        # crun refuses version 1 beside version 2.
        place = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC)
        mounts.attach(mounts.clone(linux.AT_FDCWD, _UNIFIED), place)
    fd = mounts.overlay(lowers, request.upper, request.work, linux.MOUNT_ATTR_NODEV)
    mounts.attach(fd, os.open(bundle + "/rootfs", os.O_PATH | os.O_CLOEXEC))
    identity = identity_in(bundle + "/rootfs", request.user)
    config = runtime_config(request, identity, mapping=userns.entered())
    with open(bundle + "/config.json", "w", encoding="utf-8", errors="surrogateescape") as file:
        json.dump(config, file)


def _points(request: ExecRequest) -> list[tuple[str, bool]]:
    """Return the mount points that the image may lack, so that none is left in what the container wrote."""
    points = [(path, True) for path in mountpoints.DIRECTORIES]
    points += [("/etc/resolv.conf", False)] if request.network == "host" else []
    for mount in request.mounts:
        is_directory = mount.kind == "tmpfs" or os.path.isdir(str(mount.source))
        points.append((mountpoints.target_path(request.workdir, mount.target), is_directory))
    return points


def _be_first(argv: list[str], parent: int) -> NoReturn:
    """Be pid 1: run the program, reap, and exit with its code."""
    try:
        _depend_on(parent)
        # The runtime looks at /proc for its children.
        mounts.attach(mounts.filesystem("proc"), os.open("/proc", os.O_PATH | os.O_CLOEXEC))
        runtime = os.fork()
        if runtime == 0:
            os.execv(argv[0], argv)
        os._exit(_wait(runtime))
    finally:
        os._exit(_FAILED)


def _wait(child: int) -> int:
    """Return the exit code of a child, reaping whatever else ends; meanwhile, signals are passed on to it."""
    before = {number: signal.signal(number, lambda got, _: os.kill(child, got)) for number in _PASSED_ON}
    try:
        while True:
            pid, status = os.waitpid(-1 if os.getpid() == 1 else child, 0)
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _depend_on(parent: int) -> None:
    """Die with the process that `parent` is a pidfd of."""
    import select

    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_DFL)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    if poll.poll(0):  # it died before the signal was asked for
        os._exit(_FAILED)
    os.close(parent)
