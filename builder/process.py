"""The process that becomes a step's command: its user, limits, capabilities and filter, then execve.

Runs as a child of pid 1 of the sandbox, with the step's root. What goes wrong is raised as StepFailed, with
the code that a shell would give and in Docker's words.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from builder import binfmt, capabilities, inherited, linux, reports, seccomp
from builder.errors import StepFailed
from builder.users import Identity, identify, read
from cache import idmap

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from builder.executor import ExecRequest

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SPEC_ALLOW = (
    4  # SECCOMP_FILTER_FLAG_SPEC_ALLOW: no mitigation that slows down the whole process, as runc has it
)


def become(
    request: ExecRequest, stdio: tuple[int, int, int], supervisor: socket.socket | None = None
) -> NoReturn:
    """Turn this process into the request's command. Raises StepFailed if that cannot be.

    `supervisor`: where the descriptor goes that the command's calls are put to, where it needs one.
    """
    identity = identify(request.user, read("/etc/passwd"), read("/etc/group"))
    os.setsid()
    if request.tty:
        fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
    _hand_over(stdio, identity[0])
    for target, fd in enumerate(stdio):
        os.dup2(fd, target)
    for number in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
    ):  # the interpreter ignores them, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    inherited.limit(request.rlimits)
    _change_directory(request.workdir)
    single = idmap.single()
    if request.emulator is not None:
        binfmt.enter(request.emulator, alone=request.network == "none")
    if single and identity[:2] != (0, 0):
        _map(identity)
    _confine(request)
    if supervisor is not None:
        _be_supervised(supervisor, identity, single=single)
        supervisor.close()
    _change_user(identity)
    if not _unconfined(request):
        # The kernel opens a script's interpreter with what this process may, not with what the step may.
        capabilities.keep(capabilities.mask(_capabilities(request)))
    if request.join is not None:
        _depend_on_parent()
    while request.idle:
        signal.pause()
    execute(request.argv, _environment(request, identity))


def _hand_over(stdio: tuple[int, int, int], uid: int) -> None:
    """Give pipes and terminal to the user, who could not open /dev/stdout otherwise (runc does the same)."""
    for fd in set(stdio):
        mode = os.fstat(fd).st_mode
        if uid and idmap.holds(uid, 0) and (stat.S_ISFIFO(mode) or os.isatty(fd)):
            # In a user namespace, a pipe of somebody else's stays that: it is open already.
            with suppress(PermissionError):
                os.fchown(fd, uid, -1)


def _change_directory(workdir: str) -> None:
    """Go there, and make it where it is missing. A magic link of /proc leads nowhere: it is no path, but some
    process's own file, root or directory.
    """
    path = os.path.join("/", workdir)
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        try:
            fd = linux.openat2(linux.AT_FDCWD, path, flags, linux.RESOLVE_NO_MAGICLINKS)
        except FileNotFoundError:
            os.makedirs(path, 0o755, exist_ok=True)
            fd = linux.openat2(linux.AT_FDCWD, path, flags, linux.RESOLVE_NO_MAGICLINKS)
        os.fchdir(fd)
        os.close(fd)
    except OSError as error:
        raise StepFailed(
            f"cannot change to the working directory {path}: {os.strerror(error.errno or 0)}",
            status=126,
            code="step/workdir",
        ) from None


def _confine(request: ExecRequest) -> None:
    """Lay down what the command may never do. This process keeps its capabilities until execve."""
    unconfined = _unconfined(request)
    names = _capabilities(request)
    capabilities.limit(capabilities.mask(names))
    if request.no_new_privileges:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    if request.seccomp and not unconfined:
        program = seccomp.compile_filter(os.uname().machine, names)
        try:
            linux.seccomp_filter(program, _SPEC_ALLOW)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            linux.seccomp_filter(program, 0)


def _unconfined(request: ExecRequest) -> bool:
    return request.privileged or request.root == "host"


def _capabilities(request: ExecRequest) -> Sequence[str]:
    names = capabilities.NAMES if _unconfined(request) else request.capabilities
    return capabilities.DEFAULT if names is None else names


def _map(identity: Identity) -> None:
    """Enter a user namespace in which the one id that there is, is that of the command's user: who it is
    then, and whose its files are, it is told alike. All files look like its own.
    """
    uid, gid = identity[:2]
    linux.unshare(linux.CLONE_NEWUSER)
    for name, text in (("uid_map", f"{uid} 0 1"), ("gid_map", f"{gid} 0 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    idmap.forget()


def _be_supervised(supervisor: socket.socket, identity: Identity, *, single: bool) -> None:
    from builder import listener, refusals
    from builder.supervisor import CALLS, DEVICES, NATIVE

    if not single:
        fd = listener.install(DEVICES, ())
    elif identity[:2] == (0, 0):
        fd = listener.install(CALLS, NATIVE)
    else:
        fd = listener.install(refusals.CALLS, refusals.NATIVE, opens=True)
    reports.send(supervisor, identity[:3], fd)
    os.close(fd)


def _change_user(identity: Identity) -> None:
    uid, gid, groups, _ = identity
    if idmap.may_set_groups():
        os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def _depend_on_parent() -> None:
    """Die with the process that waits for this one, which no pid namespace of its own ties it to. Asked for
    last: a change of the user takes it back (prctl(2), PR_SET_PDEATHSIG).
    """
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it is dead by now
        os._exit(128 + signal.SIGKILL)


def _environment(request: ExecRequest, identity: Identity) -> dict[str, str]:
    env = dict(request.env)
    if not env.get("HOME"):
        env["HOME"] = identity[3]
    return env


def execute(argv: tuple[str, ...], env: dict[str, str]) -> NoReturn:
    """Replace this process by `argv`, found by the PATH in `env`. Raises StepFailed."""
    if not argv or not argv[0]:
        raise StepFailed("there is no command to run", status=127, code="step/not-found")
    name = argv[0]
    refused: OSError | None = None
    for path in _candidates(name, env.get("PATH", DEFAULT_PATH)):
        try:
            _refuse_magic(path)
            os.execve(path, argv, env)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.isfile(path):
                continue
            error.filename = path
            if error.errno != errno.EACCES:
                raise _not_started(error) from None
            refused = refused or error  # execvp(3) goes on, as a shell does
        except ValueError as error:
            raise StepFailed(f'exec: "{name}": {error}', status=126) from None
    if refused is not None:
        raise _not_started(refused)
    where = (
        "executable file not found in $PATH" if "/" not in name else f"stat {name}: no such file or directory"
    )
    raise StepFailed(f'exec: "{name}": {where}', status=127, code="step/not-found")


def _refuse_magic(path: str) -> None:
    """Raise OSError (ELOOP) for a path through a magic link of /proc: /proc/self/exe is pybuild's interpreter
    still, which is a file of the host's (CVE-2019-5736).
    """
    try:
        os.close(linux.openat2(linux.AT_FDCWD, path, os.O_PATH, linux.RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), path) from None


def _candidates(name: str, path: str) -> list[str]:
    if "/" in name:
        return [name]
    return [f"{directory}/{name}" for directory in path.split(":") if directory]


def _not_started(error: OSError) -> StepFailed:
    path = error.filename
    if error.errno == errno.ENOENT:
        return StepFailed(
            f"exec {path}: no such file or directory",
            status=127,
            code="step/not-found",
            hint="the file is there; what it needs to run, its `#!` interpreter or its ELF loader, is not",
        )
    if error.errno == errno.ENOEXEC:
        return StepFailed(
            f"exec {path}: exec format error",
            status=126,
            code="step/not-executable",
            hint="it was built for another architecture, or it is a script without a `#!` line",
        )
    reason = "is a directory" if os.path.isdir(path) else str(error.strerror).lower()
    return StepFailed(f'exec: "{path}": {reason}', status=126, code="step/not-executable")
