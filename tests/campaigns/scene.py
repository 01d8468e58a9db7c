"""What the campaigns build, and how they look at this machine: its mounts, its processes."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

PROGRAMS = ("sh", "cat", "chmod", "cp", "dd", "ln", "mkdir", "mv", "rm", "seq", "sleep", "touch")

# A command that is killed must fail its step: a shell that goes on without it makes another image.
RECIPE = """\
FROM scratch AS base
COPY root/ /
ENV PATH=/bin

FROM base AS one
RUN echo one > /one; echo '10.0.0.1 nowhere' > /etc/hosts
COPY src/ /src/
RUN set -e; mkdir /tree; seq 150 > /n; while read i; do echo $i > /tree/$i; done < /n; rm /n
RUN set -e; ln /tree/1 /tree/hard; ln -s 1 /tree/soft
RUN set -e; rm -r /src; mkdir /src; cat /tree/2 > /src/new; sleep 100 &
TEST cat /tree/150

FROM base AS two
RUN set -e; dd if=/dev/zero of=/big bs=64k count=64 2>/dev/null; chmod 600 /big
WORKDIR /work/deep
RUN touch file && mv /big big

FROM base
COPY --from=one /tree /tree
COPY --from=one /src /src
COPY --from=two /work /work
RUN sleep 0.05 && rm /tree/7
TEST ["/bin/sh", "-c", "test ! -e /tree/7"]
CMD ["/bin/sh"]
"""


def write_context(directory: str) -> str:
    """Write the recipe and its context below `directory`; return the recipe's path."""
    root = os.path.join(directory, "root")
    for name in ("bin", "etc", "tmp"):
        os.makedirs(os.path.join(root, name))
    sources = {
        name: shutil.which(name, path="/bin:/usr/bin") or sys.exit(f"{name} is missing") for name in PROGRAMS
    }
    for name, source in sources.items():
        shutil.copy(source, os.path.join(root, "bin", name))
    listing = subprocess.run(["ldd", *sources.values()], check=True, capture_output=True, text=True).stdout
    for library in sorted(set(re.findall(r"(/lib\S*?) \(", listing))):
        os.makedirs(os.path.dirname(root + library), exist_ok=True)
        shutil.copy(library, root + library)
    source = os.path.join(directory, "src")
    os.mkdir(source)
    for number in range(30):
        with open(os.path.join(source, f"{number}.txt"), "w", encoding="utf-8") as file:
            file.write(f"{number}\n" * 1000)
    recipe = os.path.join(directory, "campaign.rec")
    with open(recipe, "w", encoding="utf-8") as file:
        file.write(RECIPE)
    return recipe


def build_command(recipe: str, root: str, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "builder.main",
        "build",
        recipe,
        "--root",
        root,
        "--progress",
        "plain",
        *options,
    ]


def environment(directory: str) -> dict[str, str]:
    """Return the builds' environment: a fixed epoch, and a HOME and TMPDIR in which nothing may be left."""
    own = {"HOME": os.path.join(directory, "home"), "TMPDIR": os.path.join(directory, "tmpdir")}
    for path in own.values():
        os.makedirs(path, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": REPOSITORY,
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": "1700000000",
        **own,
    }


def become_subreaper() -> None:
    """From now on whatever a dead child leaves running becomes a child of this process (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(of: int) -> list[int]:
    """Return the processes below `of`, as /proc shows them now."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [of]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def left_running(patience: float = 10.0) -> list[str]:
    """Reap what is dead, wait `patience` seconds at most for what is dying, say what still runs then."""
    deadline = time.monotonic() + patience
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return []
        if time.monotonic() > deadline:
            return [_describe(pid) for pid in descendants(os.getpid())]
        time.sleep(0.01)


def _describe(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return f"{pid}: {file.read().replace(bytes(1), b' ').decode(errors='replace')}"
    except OSError:
        return f"{pid}: gone"


def mounts() -> list[str]:
    """Return this mount namespace's table, a line a mount."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read().splitlines()


def mounts_of(directory: str) -> list[str]:
    """Return the mounts that stand below `directory` or are made of something in it."""
    return [line for line in mounts() if directory in line]
