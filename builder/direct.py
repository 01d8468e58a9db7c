"""The direct way: a build that was asked for before, and nothing that it read has changed since, is there
already.

A build that hits throughout leaves a receipt: the status (lstat) of every file and directory that it looked
at, here and in the store, the environment that it asked, and what it printed. The same command line again
compares that, and is done: no recipe is decoded, nothing is planned. It is what ccache calls its direct mode.
Anything else, the smallest doubt included, goes the usual way. This module is what a cached build pays for,
so it imports next to nothing.
"""

from __future__ import annotations

import marshal
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from cache.store import Store

    Status: TypeAlias = tuple[int, int, int, int, int] | None

VERSION = 1
"""Of the receipt's form; pybuild's own version is a part of the key."""

FRESH_SECONDS = 3600
"""After this the usual way is taken once, which notes when layers and records were last used."""

_STORELESS = frozenset(("check", "fmt", "plan", "lsp"))
"""Commands that must not touch the store, let alone mend it."""

GIT = ("status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", ".")


def attempt(argv: Sequence[str]) -> int | None:
    """Return the exit code if `argv` is a build that is there already, and print what it prints; None
    otherwise.
    """
    if argv[:1] and argv[0] in _STORELESS:
        return None
    root = _root(argv)
    if root is None or not os.path.exists(root + "/pybuild.db"):
        return None
    from cache.store import Store

    try:
        warn = lambda message: print(f"warning: {message}", file=sys.stderr)  # noqa: E731
        with Store.open(root, warn=warn, sweep=os.geteuid() == 0) as store:
            blob = store.receipts.get(key(argv))
            receipt = None if blob is None else marshal.loads(blob)
            if receipt is None or not holds(store, receipt):
                return None
    except Exception:  # a receipt that makes no sense, a store that cannot be opened: the usual way will tell
        return None
    return _print(receipt)


def key(argv: Sequence[str]) -> str:
    """Return the name of the receipt for a command line: what is typed, where, on what, with which
    pybuild.
    """
    from builder.version import VERSION as RELEASE

    return repr((RELEASE, VERSION, tuple(argv), os.getcwd(), sys.stderr.isatty(), sys.hexversion))


def status(path: str) -> Status:
    """Return what tells whether a file is the same still: size, mtime, ctime, inode, mode; None if there
    is none.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)


def looked_at(places: Sequence[str]) -> dict[str, Status]:
    """Return the status of each place, and of what it leads to if it is a symbolic link."""
    found: dict[str, Status] = {}
    for place in places:
        path = os.path.abspath(place)
        while path not in found:
            found[path] = status(path)
            try:
                path = os.path.join(os.path.dirname(path), os.readlink(path))
            except OSError:
                break
    return found


def holds(store: Store, receipt: dict[str, object]) -> bool:
    """Return whether everything is as it was when `receipt` was written."""
    if not 0 <= time.time() - receipt["time"] < FRESH_SECONDS:  # type: ignore[operator]
        return False
    environ = os.environ
    if any(environ.get(name) != value for name, value in receipt["environment"]):  # type: ignore[attr-defined]
        return False
    work_tree: str = receipt["work_tree"]  # type: ignore[assignment]
    # git looks at the work tree while we do.
    asked = ask_git(work_tree) if work_tree else None
    same = (
        _same(receipt["files"])  # type: ignore[arg-type]
        and all(map(os.path.lexists, receipt["stored"]))  # type: ignore[call-overload]
        and _named(store, receipt["names"])  # type: ignore[arg-type]
    )
    commit = answer_of(asked) if work_tree else ""
    return same and commit == receipt["git"]


def ask_git(directory: str, arguments: Sequence[str] = GIT) -> tuple[int, int] | None:
    """Start git in a directory; return its pid and the pipe that it writes to, None if there is no git."""
    read_end, write_end = os.pipe()
    # A context is data: what its configuration would have git run is not run.
    command = [
        "git",
        "-C",
        directory,
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=/dev/null",
        *arguments,
    ]
    # Nor may what a caller's git exports (a hook has GIT_DIR) turn it to another work tree.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, write_end, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        pid = os.posix_spawnp("git", command, environment, file_actions=actions)
    except OSError:
        os.close(read_end)
        return None
    finally:
        os.close(write_end)
    return pid, read_end


def answer_of(asked: tuple[int, int] | None) -> str:
    """Return the commit id if the work tree is clean; "" if it is not, or git could not say."""
    commit = ""
    for line in _text_of(asked).split("\n"):
        if line.startswith("# branch.oid "):
            commit = line.removeprefix("# branch.oid ")
        elif line and not line.startswith("#"):
            return ""
    return commit if commit != "(initial)" else ""


def git_output(directory: str, arguments: Sequence[str]) -> str:
    """Return what git prints, "" if it fails."""
    return _text_of(ask_git(directory, arguments))


def _text_of(asked: tuple[int, int] | None) -> str:
    if asked is None:
        return ""
    pid, read_end = asked
    with open(read_end, "rb") as pipe:
        text = pipe.read().decode("utf-8", "replace")
    return text if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else ""


def _same(files: dict[str, Status]) -> bool:
    # The loop that a cached build spends its time in: `status`, spelled out.
    lstat = os.lstat
    for path, known in files.items():
        try:
            found = lstat(path)
        except OSError:
            if known is not None:
                return False
            continue
        if known != (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode):
            return False
    return True


def _named(store: Store, names: Sequence[tuple[str, str]]) -> bool:
    if not names:
        return True
    known: dict[str, str] = dict(store.database.read("SELECT name, image FROM names", ()))
    return all(known.get(name) == image for name, image in names)


def _print(receipt: dict[str, object]) -> int:
    try:
        sys.stderr.write(receipt["shown"])  # type: ignore[arg-type]
        if receipt["quiet"] or not sys.stdout.isatty():
            print(receipt["image"])
        sys.stdout.flush()
    except OSError as error:
        # Whatever is left in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141
        print(f"error: cannot write to standard output: {error.strerror} [output/error]", file=sys.stderr)
        return 4
    return 0


def _root(argv: Sequence[str]) -> str | None:
    """Return the store that the command line names, as far as that is told without parsing it."""
    words = list(argv)
    for index, word in enumerate(words):
        if word.startswith("--root="):
            return os.path.abspath(word[7:])
        if word == "--root":
            return os.path.abspath(words[index + 1]) if index + 1 < len(words) else None
    root = os.environ.get("PYBUILD_ROOT")
    if root:
        return os.path.abspath(root)
    if os.geteuid() == 0:
        return "/var/lib/pybuild"
    home = os.environ.get("HOME")
    data = os.environ.get("XDG_DATA_HOME") or (home and home + "/.local/share")
    return data and os.path.join(data, "pybuild")
