"""What a debug shell has at hand: small programs that speak to the pybuild outside, and a shell where the
image has none.

They are mounted on /run/pybuild-debug, so that no layer has them, and are written for any sh, since an image
may have nothing else. A program writes what is wished into the FIFO `wish`, and prints what comes from the
FIFO `answer`: that is all that there is between the inside and the outside. What ends the shell ends it by
its death, which no program in there can be in the way of.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from builder.executor import ExecRequest, Mount
    from cache.scratch import Staging
    from cache.store import Store

PLACE = "/run/pybuild-debug"
_SHELLS = ("/bin/bash", "/usr/bin/bash", "/bin/sh", "/usr/bin/sh", "/bin/ash")
_ENDING = ("retry", "reset", "continue")
_LONGEST_WISH = 4096  # PIPE_BUF: what is longer is not written at once

_PROGRAM = """\
#!{shell}
{before}printf '%s %s\\n' {wish} "$PWD" > {place}/wish
while IFS= read -r line; do printf '%s\\n' "$line"; done < {place}/answer
"""
_DIFF = """\
if [ $# -gt 0 ]; then
    if [ -n "$PYBUILD_DIFF" ]; then echo "diff: the image has none" >&2; exit 127; fi
    PYBUILD_DIFF=1 exec diff "$@"
fi
"""
"""With arguments it is diff(1)."""
_FRONT = """\
#!{shell}
case $1 in
{cases}    *) echo "pybuild: here there is {names}" >&2; exit 2;;
esac
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was typed in a shell, and in which directory."""

    word: str
    directory: str


class Kit:
    """The mounts of one debug shell after another. Enter it: what it needs is in a scratch directory
    meanwhile.

    `answers` are the words that leave the shell as it is, and what they print. `words`: the programs that
    there are; without one, it is just a shell.
    """

    def __init__(
        self,
        store: Store,
        lower: tuple[str, ...],
        words: tuple[str, ...],
        answers: Mapping[str, Callable[[], str]],
        prompt: str,
    ) -> None:
        self._store = store
        self._words = words
        self._answers = answers
        self._prompt = prompt
        self._lower = lower
        self._staging: Staging | None = None
        self._busybox = ""
        self.shell = ""

    @property
    def borrowed(self) -> bool:
        """True if the image has no shell, and the host's busybox is lent."""
        return bool(self._busybox)

    def __enter__(self) -> Kit:
        """Raises HostError where neither the image nor this host has a shell, StoreError."""
        self.shell = find_shell(self._lower)
        if not self.shell:
            self._busybox = static_busybox()
            if not self._busybox:
                raise HostError(
                    "the image has no shell, and this host has no static busybox to lend",
                    code="debug/no-shell",
                    hint="apt-get install busybox-static",
                )
        self._staging = self._store.scratch.directory("debug")
        try:
            self._fill(self._staging.path)
        except BaseException:
            self._staging.discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._staging is not None
        self._staging.discard()

    def interactive(self, request: ExecRequest, directory: str) -> ExecRequest:
        """Return `request` with a shell on a terminal in place of its command, that begins in `directory`."""
        from dataclasses import replace

        self._write("kit/rc", self._rc(directory), 0o644)
        if self._busybox:
            argv: tuple[str, ...] = (f"{PLACE}/busybox", "sh", "-i")
        elif self.shell.endswith("bash"):
            argv = (self.shell, "--rcfile", f"{PLACE}/rc", "-i")
        else:
            argv = (self.shell, "-i")
        more = {"TERM": os.environ.get("TERM", "xterm"), "ENV": f"{PLACE}/rc"}
        return replace(self._with_mounts(request, more), argv=argv, tty=True, stdin=None, timeout=None)

    def carrying_out(self, request: ExecRequest, command: str) -> ExecRequest:
        """Return `request` with a command for the shell in place of its own."""
        from dataclasses import replace

        shell = (f"{PLACE}/busybox", "sh") if self._busybox else (self.shell,)
        return replace(self._with_mounts(request, {}), argv=(*shell, "-c", command), timeout=None)

    def listen(self, end: Callable[[], None]) -> Listening:
        """Return what hears wishes while it is entered; `end` is called for one that ends the shell."""
        assert self._staging is not None
        return Listening(self._staging.path + "/kit", self._words, self._answers, end)

    def _with_mounts(self, request: ExecRequest, more: Mapping[str, str]) -> ExecRequest:
        from dataclasses import replace

        from builder.executor import Mount

        assert self._staging is not None
        path = self._staging.path
        mounts: list[Mount] = [
            Mount("bind", PLACE, source=f"{path}/kit", read_only=True),
            Mount("bind", f"{PLACE}/own", source=f"{path}/own"),
        ]
        if self._busybox:
            mounts.append(Mount("bind", f"{PLACE}/busybox", source=self._busybox, read_only=True))
        env = {**dict(request.env), **more}
        # Behind the image's own: only what it lacks is found here.
        env["PATH"] = ":".join(filter(None, (env.get("PATH", ""), f"{PLACE}/bin")))
        return replace(request, env=tuple(env.items()), mounts=(*request.mounts, *mounts))

    def _fill(self, path: str) -> None:
        os.chmod(path, 0o755)
        for name, mode in (("kit", 0o755), ("kit/bin", 0o755), ("kit/own", 0o755), ("own", 0o1777)):
            os.mkdir(f"{path}/{name}")
            os.chmod(f"{path}/{name}", mode)
        for name, mode in (("wish", 0o622), ("answer", 0o644)):
            os.mkfifo(f"{path}/kit/{name}")
            os.chmod(f"{path}/kit/{name}", mode)
        shell = f"{PLACE}/busybox sh" if self._busybox else self.shell
        if self._busybox:
            self._write("kit/busybox", "", 0o755)
            for name in _applets(self._busybox):
                os.symlink("../busybox", f"{path}/kit/bin/{name}")
        for word in self._words:
            before = _DIFF if word == "diff" else ""
            self._write(
                f"kit/bin/{word}", _PROGRAM.format(shell=shell, before=before, wish=word, place=PLACE), 0o755
            )
        if self._words:
            cases = "".join(f"    {word}) exec {PLACE}/bin/{word};;\n" for word in self._words)
            front = _FRONT.format(shell=shell, cases=cases, names=", ".join(self._words))
            self._write("kit/bin/pybuild", front, 0o755)

    def _rc(self, directory: str) -> str:
        # `continue` is a word of the shell itself, `diff` and `reset` are programs of many images.
        aliases = "".join(f"alias {word}={PLACE}/bin/{word}\n" for word in self._words)
        return (
            f"cd {shlex.quote(directory)} 2>/dev/null\n"
            f"{aliases}"
            f"HISTFILE={PLACE}/own/history\n"
            "if [ -n \"$BASH_VERSION\" ]; then PROMPT_COMMAND='history -a'; fi\n"
            f"PS1={shlex.quote(self._prompt + ' $PWD> ')}\n"
            "unset ENV\n"
        )

    def _write(self, name: str, text: str, mode: int) -> None:
        assert self._staging is not None
        path = f"{self._staging.path}/{name}"
        if os.path.islink(path):
            os.unlink(path)  # an applet of that name
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(path, mode)


class Listening:
    """Hears the wishes of one shell. `wish` is the one that ended it, None for none."""

    def __init__(
        self,
        path: str,
        words: tuple[str, ...],
        answers: Mapping[str, Callable[[], str]],
        end: Callable[[], None],
    ) -> None:
        self._path = path
        self._words = words
        self._answers = answers
        self._end = end
        self._fd = -1
        self._stop: tuple[int, int] = (-1, -1)
        self._thread = threading.Thread(target=self._listen, name="debug shell", daemon=True)
        self.wish: Wish | None = None

    def __enter__(self) -> Listening:
        # For writing, too: so it is never at its end, and nobody waits for us.
        self._fd = os.open(f"{self._path}/wish", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop = os.pipe2(os.O_CLOEXEC)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stop[1])
        self._thread.join()
        os.close(self._stop[0])
        os.close(self._fd)

    def _listen(self) -> None:
        import select

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._stop[0], select.POLLHUP)
        rest = b""
        while self.wish is None:
            if any(fd == self._stop[0] for fd, _ in poll.poll()):
                return
            try:
                rest += os.read(self._fd, _LONGEST_WISH)
            except BlockingIOError:
                continue
            *lines, rest = rest.split(b"\n")
            rest = rest[-_LONGEST_WISH:]
            for line in lines:
                self._hear(line.decode("utf-8", "surrogateescape"))

    def _hear(self, line: str) -> None:
        word, _, directory = line.partition(" ")
        if self.wish is not None or word not in self._words:
            return
        answer = self._answers.get(word)
        if answer is not None:
            self._answer(answer())
        elif word in _ENDING:
            self.wish = Wish(word, directory if directory.startswith("/") else "/")
            self._end()

    def _answer(self, text: str) -> None:
        """Write to who waits for an answer; nobody does if they were interrupted."""
        import select
        import time

        for _ in range(50):
            try:
                fd = os.open(f"{self._path}/answer", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                break
            except OSError:  # ENXIO: not yet
                time.sleep(0.02)
        else:
            return
        try:
            view = memoryview(text.encode("utf-8", "surrogateescape"))
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.register(self._stop[0], select.POLLHUP)
            while view:
                if any(each == self._stop[0] for each, _ in poll.poll()):
                    return
                try:
                    view = view[os.write(fd, view) :]
                except BlockingIOError:
                    continue
        except BrokenPipeError:
            return
        finally:
            os.close(fd)


def find_shell(lower: tuple[str, ...]) -> str:
    """Return the path of the shell in a root filesystem: bash, else sh; "" if it has none."""
    from builder.mounts import open_in
    from builder.overlay import Overlay, detached

    if not lower:
        return ""
    root = detached(Overlay(lower))
    try:
        for path in _SHELLS:
            try:
                fd = open_in(root, path)
            except OSError:
                continue
            mode = os.fstat(fd).st_mode
            os.close(fd)
            if stat.S_ISREG(mode) and mode & 0o111:
                return path
    finally:
        os.close(root)
    return ""


def static_busybox() -> str:
    """Return the path of this host's busybox, if it needs no library; "" otherwise."""
    path = shutil.which("busybox")
    if path is None:
        return ""
    path = os.path.realpath(path)
    return path if _is_static(path) else ""


def _is_static(path: str) -> bool:
    """Whether the ELF file names no interpreter (elf(5), PT_INTERP)."""
    import struct

    with open(path, "rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:5] != b"\x7fELF\x02":
            return False
        order = "<" if head[5] == 1 else ">"
        (offset,) = struct.unpack_from(order + "Q", head, 32)
        size, count = struct.unpack_from(order + "HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
    kinds = [struct.unpack_from(order + "I", table, at)[0] for at in range(0, len(table) - 3, size or 1)]
    return 3 not in kinds


def _applets(busybox: str) -> list[str]:
    import subprocess

    done = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split() if "/" not in name and name != "busybox"]
