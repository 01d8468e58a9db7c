"""cachemounts/: directories that `RUN --mount=type=cache` keeps from one build to the next.

    cachemounts/<key>-<number>/data/       what is mounted
    cachemounts/<key>-<number>/id          the id, as the recipe has it
    cachemounts/<key>-<number>/meta.json   what it was made of, and when
    cachemounts/<key>-<number>/used        the sharing mode of its last user; its mtime is that of the last
    use

The key is a digest of what BuildKit tells such mounts apart by: the id, the content that it began with, and
the owner and mode that it was made with. Of one key there may be several instances, numbered from 0, since a
private one that is in use makes the next user begin another. Which one a user gets is as in BuildKit's
solver/llbsolver/mounts (getRefCacheDir): `shared` joins the one that others share, whoever finds none in use
takes any that is free, `locked` waits for one, and otherwise a new one is made.

An instance in use is held by the flock of its directory, shared or exclusive: a build that is killed leaves
nothing locked. Who looks for one, makes one or takes one away holds the key's lock meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cache import idmap
from cache.disk import read_small, storing, write_new
from cache.errors import StoreError
from cache.locks import LockHeld, is_at, try_flock, unlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from cache.locks import Lock
    from cache.scratch import Scratch, Staging

Sharing = Literal["shared", "private", "locked"]
SHARINGS: tuple[Sharing, ...] = ("shared", "private", "locked")

DEFAULT_MODE = 0o755
KEY_LENGTH = 32
_NAME = re.compile(rf"([0-9a-f]{{{KEY_LENGTH}}})-(0|[1-9][0-9]{{0,8}})")
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FIRST_WAIT, _LONGEST_WAIT = 0.005, 0.1
"""Seconds between two looks for a free instance, as they grow; BuildKit looks every 100 ms."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two cache mounts the same one.

    `base` names the content that it begins with ("" for an empty directory): anything that differs when the
    content does, a ChainID and a path in it. `uid`, `gid` and `mode` are those of a new one's directory:
    BuildKit, too, makes another one for another owner, so that each user finds a directory to write to.
    """

    id: str
    base: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = DEFAULT_MODE

    @property
    def key(self) -> str:
        """The name of its directories, without their number: 32 hexadecimal digits."""
        parts = (self.id, self.base, f"{self.uid}:{self.gid}:{self.mode:o}")
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hashlib.sha256(text).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True, slots=True)
class Request:
    """A cache mount that a step asks for. `fill` is called with the path of a new one's directory, to put
    there what it begins with."""

    identity: Identity
    sharing: Sharing = "shared"
    fill: Callable[[str], None] | None = None


class Held:
    """An instance that is in use until `release`, or the end of the `with`. `path` is the directory to mount,
    absolute, `created` whether it was made for this user."""

    __slots__ = ("_fd", "_used", "created", "instance", "path")

    def __init__(self, directory: str, instance: str, fd: int, *, created: bool) -> None:
        self.path = directory + "/data"
        self.instance = instance
        self.created = created
        self._used = directory + "/used"
        self._fd = fd

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def fileno(self) -> int:
        """Return the descriptor whose flock says that it is in use: a child that inherits it uses it, too."""
        return self._fd

    def release(self) -> None:
        """Let others have it. Without effect the second time."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            with contextlib.suppress(OSError):  # a full or broken disk: nothing depends on that time
                os.utime(self._used)
            unlock(fd)


class CacheMounts:
    """The cache mounts of the store at `root`."""

    def __init__(self, root: str, scratch: Scratch) -> None:
        self.path = root + "/cachemounts"
        self.scratch = scratch

    def acquire(
        self,
        mount_id: str,
        *,
        sharing: Sharing = "shared",
        uid: int = 0,
        gid: int = 0,
        mode: int = DEFAULT_MODE,
        base: str = "",
        fill: Callable[[str], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Held:
        """Return an instance of the cache mount `mount_id`, in use from now on: a context manager.

        See `Identity` for `base` and the owner, `Request` for `fill`; `on_wait` is called once if another has
        to end first. Raises StoreError, StoreFull, and what `fill` raises: then nothing was made.
        """
        with storing(f"preparing the cache mount {mount_id}"):
            return self._acquire(Request(Identity(mount_id, base, uid, gid, mode), sharing, fill), on_wait)

    @contextlib.contextmanager
    def acquire_all(
        self, requests: Iterable[Request], *, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[list[Held]]:
        """Give a step all of its cache mounts, in the order of `requests`.

        Those of one identity are one instance, that of the first one's sharing mode, as with BuildKit. They
        are taken in the order of their keys, so that two steps that lock the same ones do not wait for each
        other for ever. `on_wait` gets the id that is waited for. Raises as `acquire`.
        """
        wanted = list(requests)
        first: dict[str, Request] = {}
        for request in wanted:
            first.setdefault(request.identity.key, request)
        with contextlib.ExitStack() as stack:
            held: dict[str, Held] = {}
            for key in sorted(first):
                request = first[key]
                with storing(f"preparing the cache mount {request.identity.id}"):
                    waits = None if on_wait is None else _told(on_wait, request.identity.id)
                    held[key] = stack.enter_context(self._acquire(request, waits))
            yield [held[request.identity.key] for request in wanted]

    def lock(self, key: str, *, blocking: bool = True, on_wait: Callable[[], None] | None = None) -> Lock:
        """Return the lock of a key: who holds it sees its instances neither come into use nor vanish."""
        return self.scratch.lock("cachemount-" + key, blocking=blocking, on_wait=on_wait)

    def instances(self, key: str) -> list[str]:
        """Return the names of a key's instances, by their number."""
        found = [name for name in self.names() if name.startswith(key + "-")]
        return sorted(found, key=lambda name: int(name.rpartition("-")[2]))

    def names(self) -> list[str]:
        """Return the names of all instances, sorted."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if _NAME.fullmatch(name))

    def try_lock(self, name: str) -> int | None:
        """Return a descriptor that holds an instance alone; None if it is in use, or gone. The caller holds
        the key's lock."""
        fd = self._open(name)
        if fd is None:
            return None
        if try_flock(fd) and is_at(fd, f"{self.path}/{name}"):
            return fd
        os.close(fd)
        return None

    def _acquire(self, request: Request, on_wait: Callable[[], None] | None) -> Held:
        if request.sharing not in SHARINGS:
            raise ValueError(request.sharing)
        key = request.identity.key
        told = _once(on_wait)
        pause = _FIRST_WAIT
        patience = time.monotonic() + _LONGEST_WAIT
        while True:
            try:
                with self.lock(key, blocking=False):
                    names = self.instances(key)
                    held = self._take(names, request.sharing)
                    if held is None and not (names and request.sharing == "locked"):
                        held = self._make(request, names)
                    if held is not None:
                        self._note(held, request.sharing)
                        return held
                told()
            except LockHeld:  # for a moment, by who looks; for longer, by who fills, exports or imports
                if time.monotonic() > patience:
                    told()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT)

    def _take(self, names: list[str], sharing: Sharing) -> Held | None:
        """Take an instance that there is, if one may be had."""
        free: tuple[str, int] | None = None
        try:
            for name in names:
                fd = self._open(name)
                if fd is None:
                    continue
                if try_flock(fd):
                    if free is None and os.path.isdir(f"{self.path}/{name}/data"):
                        free = name, fd
                    else:
                        os.close(fd)
                elif sharing == "shared" and try_flock(fd, fcntl.LOCK_SH):
                    return Held(f"{self.path}/{name}", name, fd, created=False)
                else:
                    os.close(fd)
            if free is None:
                return None
            name, fd = free
            if sharing == "shared":
                fcntl.flock(fd, fcntl.LOCK_SH)  # nobody else gets in between: we hold the key's lock
            free = None
            return Held(f"{self.path}/{name}", name, fd, created=False)
        finally:
            if free is not None:
                os.close(free[1])

    def _make(self, request: Request, names: list[str]) -> Held:
        """Make an instance under the first number that is free."""
        identity = request.identity
        if not idmap.holds(identity.uid, identity.gid):
            raise StoreError(
                f"no directory can be given to {identity.uid}:{identity.gid} here: this user namespace "
                "has no such id",
                hint="give your user more subordinate ids (subuid(5), subgid(5)), or build as root",
                code="cachemount/owner",
            )
        os.makedirs(self.path, 0o700, exist_ok=True)
        name = free_name(identity.key, names)
        with self.scratch.directory("cachemount") as staging:
            data = staging.path + "/data"
            os.mkdir(data, 0o700)
            os.chown(data, identity.uid, identity.gid)
            os.chmod(data, identity.mode)  # whatever the umask is; after the chown, which drops setgid
            if request.fill is not None:
                request.fill(data)
            describe(staging, identity, int(time.time()))
            fd = os.dup(staging.fileno())  # its lock is ours, too
            try:
                staging.move(f"{self.path}/{name}")
                if request.sharing == "shared":  # out of tmp/: no sweep gets in between
                    fcntl.flock(fd, fcntl.LOCK_SH)
            except BaseException:
                os.close(fd)
                raise
        return Held(f"{self.path}/{name}", name, fd, created=True)

    def _note(self, held: Held, sharing: Sharing) -> None:
        """Write down that it is used, and how. A torn or missing note harms nobody."""
        path = f"{self.path}/{held.instance}"
        with contextlib.suppress(OSError):
            if read_sharing(path) == sharing:
                os.utime(path + "/used")  # a file that is emptied and written again is waited for by ext4
                return
            with open(path + "/used", "w") as file:
                file.write(sharing + "\n")

    def _open(self, name: str) -> int | None:
        try:
            return os.open(f"{self.path}/{name}", _OPEN)
        except (FileNotFoundError, NotADirectoryError):
            return None


def free_name(key: str, names: Iterable[str]) -> str:
    """Return the name of a new instance of `key`, where there are `names`."""
    taken = set(names)
    number = 0
    while f"{key}-{number}" in taken:
        number += 1
    return f"{key}-{number}"


def describe(staging: Staging, identity: Identity, created: int, sharing: str = "") -> None:
    """Write the files beside data/ of an instance that is being made."""
    write_new(staging.path + "/id", identity.id.encode("utf-8", "surrogateescape") + b"\n")
    meta = {
        "base": identity.base,
        "uid": identity.uid,
        "gid": identity.gid,
        "mode": f"{identity.mode:04o}",
        "created": created,
    }
    write_new(staging.path + "/meta.json", (json.dumps(meta, indent=2) + "\n").encode())
    write_new(staging.path + "/used", f"{sharing}\n".encode())


def read_identity(path: str) -> tuple[Identity, int] | None:
    """Return what the instance at `path` is one of, and when it was made (s since 1970); None if its files do
    not say, or not what its name does."""
    name = os.path.basename(path).rpartition("-")[0]
    try:
        text = read_small(path + "/id", limit=1 << 20)
        meta = json.loads(read_small(path + "/meta.json") or b"")
        identity = Identity(
            (text or b"").removesuffix(b"\n").decode("utf-8", "surrogateescape"),
            str(meta["base"]),
            int(meta["uid"]),
            int(meta["gid"]),
            int(meta["mode"], 8),
        )
        return (identity, int(meta["created"])) if identity.key == name else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_sharing(path: str) -> str:
    """Return how the last user of the instance at `path` shared it, "" if there was none."""
    text = (read_small(path + "/used", limit=20) or b"").decode("ascii", "replace").strip()
    return text if text in SHARINGS else ""


def _once(call: Callable[[], None] | None) -> Callable[[], None]:
    called = call is None

    def once() -> None:
        nonlocal called
        if not called and call is not None:
            called = True
            call()

    return once


def _told(on_wait: Callable[[str], None], mount_id: str) -> Callable[[], None]:
    return lambda: on_wait(mount_id)
