"""Where hostile builds run: processes in a mount namespace in which the host's files can be read, and none
written but those of the test.

So a way out that the suite finds does harm to nothing but the canaries, which are among the latter.
"""

from __future__ import annotations

import os
import pickle
import pty
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from builder import linux
from tests.escape_fixtures.ways import ROOT, Way
from tests.rootless_fixtures.become import offer, open_the_way
from tests.rootless_fixtures.user import User

_MS_REMOUNT = 0x20
_MS_BIND = 0x1000
_MS_RDONLY = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_DUMPABLE = 4
_KEPT = ("/dev", "/sys/fs/cgroup")
"""What stays writable, and what is mounted on it: pybuild itself makes control groups and terminals."""
_KEPT_FOR_USERS = ("/proc", "/sys")
"""As far as they are theirs. A user namespace gets no proc of its own where the only one is read-only."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did. `peak`: the most memory of its largest process, in KiB; `left`: processes that
    outlived it."""

    code: int
    out: bytes
    err: bytes
    peak: int
    left: tuple[int, ...]


class Arena:
    """Runs pybuild in `directory`, which is the only one that can be written to."""

    def __init__(self, directory: str, patience: float = 120, way: Way = ROOT) -> None:
        """`patience`: seconds after which a command is taken to wait for something that never comes. `way`:
        who runs the commands.
        """
        import builder.cli
        import builder.commands.build
        import builder.sandbox  # noqa: F401  # what each command would load by itself

        self.directory = directory
        self.patience = patience
        self.way = way
        self.user: User | None = None
        if way.who != "root":
            self.user = User(f"{directory}/user", subordinate=way.who == "subordinate")
            os.chmod(directory, 0o755)
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._ours.close()
                _serve(theirs, directory, self.user)
            finally:
                os._exit(1)
        theirs.close()
        self._file = self._ours.makefile("rwb")

    def run(
        self, words: list[str], cwd: str, env: dict[str, str], *, stdin: bytes = b"", terminal: bool = False
    ) -> Done:
        """Run a command of pybuild to its end; it is killed if that does not come."""
        pickle.dump((words, cwd, env, stdin, terminal, self.patience), self._file)
        self._file.flush()
        done = pickle.load(self._file)
        assert isinstance(done, Done), done
        return done

    def close(self) -> None:
        self._file.close()
        self._ours.close()
        os.waitpid(self._pid, 0)


def _serve(channel: socket.socket, directory: str, user: User | None) -> None:
    linux.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    if user is not None:
        for path, source in user.accounts().items():
            linux.mount(source, path, "", _MS_BIND)
        open_the_way(linux.mount, lambda path: linux.umount2(path, linux.MNT_DETACH), (directory,))
        offer(linux.mount, "/dev/fuse", os.makedev(10, 229))
    _shut(directory, _KEPT if user is None else (*_KEPT, *_KEPT_FOR_USERS))
    with channel.makefile("rwb") as file:
        while True:
            try:
                request = pickle.load(file)
            except EOFError:
                os._exit(0)
            pickle.dump(_command(directory, user, *request), file)
            file.flush()


def _shut(directory: str, kept: tuple[str, ...]) -> None:
    linux.mount(directory, directory, "", _MS_BIND | linux.MS_REC)
    with open("/proc/self/mountinfo") as table:
        points = [os.fsencode(line.split()[4]).decode("unicode_escape") for line in table]
    for point in points:
        if point != directory and not any(point == each or point.startswith(each + "/") for each in kept):
            linux.mount("", point, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def _command(
    directory: str,
    user: User | None,
    words: list[str],
    cwd: str,
    env: dict[str, str],
    stdin: bytes,
    terminal: bool,
    patience: float,
) -> Done:
    names = [os.path.join(directory, name) for name in (".stdin", ".stdout", ".stderr")]
    for name in names:
        with open(name, "wb") as file:
            file.write(stdin if name == names[0] else b"")
    master, slave = pty.openpty() if terminal else (-1, -1)
    pid = os.fork()
    if pid == 0:
        try:
            streams = [slave] * 3 if terminal else [os.open(name, os.O_RDWR) for name in names]
            _become(user, words, cwd, env, streams)
        except BaseException:  # what main() itself does not catch
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(99)
    if terminal:
        os.close(slave)
    shown = _wait(pid, master, patience)
    _, status, usage = os.wait4(pid, 0)
    if terminal:
        os.close(master)
    texts = [open(name, "rb").read() for name in names[1:]]  # noqa: SIM115
    return Done(os.waitstatus_to_exitcode(status), shown + texts[0], texts[1], usage.ru_maxrss, _left())


def _become(user: User | None, words: list[str], cwd: str, env: dict[str, str], streams: list[int]) -> None:
    os.setsid()
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
    os.closerange(3, 1 << 16)
    if user is not None:
        os.setgroups([])
        os.setresgid(*[user.uid] * 3)
        os.setresuid(*[user.uid] * 3)
        linux.prctl(_PR_SET_DUMPABLE, 1)  # as after an exec
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["pybuild", *words]
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace"))
    from builder.main import main

    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(pid: int, master: int, patience: float) -> bytes:
    """Wait for the process, reading what it shows on a terminal. It is killed if it takes too long."""
    poll = select.poll()
    pidfd = os.pidfd_open(pid)
    poll.register(pidfd, select.POLLIN)
    if master >= 0:
        poll.register(master, select.POLLIN)
    shown = b""
    end = time.monotonic() + patience
    while True:
        ready = dict(poll.poll(max(0, end - time.monotonic()) * 1000))
        if not ready:
            os.kill(pid, signal.SIGKILL)
        if master in ready:
            try:
                shown += os.read(master, 1 << 16)
                continue
            except OSError:
                poll.unregister(master)
        if pidfd in ready or not ready:
            os.close(pidfd)
            return shown


def _left() -> tuple[int, ...]:
    """Reap what came to us; return what still runs, killed. Pid 1 of a sandbox may take a moment to go."""
    for _ in range(100):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return ()
        time.sleep(0.01)
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = tuple(int(word) for word in file.read().split())
    for child in children:
        os.kill(child, signal.SIGKILL)
    return children
