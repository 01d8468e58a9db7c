"""Root without being root: entering a user namespace, where this user is root of the ids that it has.

See user_namespaces(7), newuidmap(1), subuid(5), and docs/rootless.md. Entered by the whole of pybuild, once,
before it opens the store: then all that it does is done as root of the namespace, and a step needs no other
code than with the machine's root but for what the kernel keeps from a user namespace (device nodes, sysfs).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal

from builder.errors import HostError
from cache import idmap

Kind = Literal["root", "subordinate", "container", "single"]
"""root: of the machine, or as good as it; subordinate: a user with the ids of /etc/subuid; container: root of
a container, with the ids that are mapped into it; single: with no other id than its own."""


_SET_IDS = 1 << 6 | 1 << 7 | 1 << 31
"""CAP_SETGID, CAP_SETUID; and CAP_SETFCAP, without which id 0 is mapped for nobody (user_namespaces(7))."""

_FELL_BACK = 3


@dataclass(frozen=True, slots=True)
class Mapping:
    """What /proc/PID/uid_map and gid_map are to say: (first id inside, first id outside, how many).
    `why_single` says why there are no more than one.
    """

    kind: Kind
    uids: tuple[tuple[int, int, int], ...]
    gids: tuple[tuple[int, int, int], ...]
    why_single: str = ""


_entered: Mapping | None = None
_refusal: HostError | None = None
_uid: int | None = None


def entered() -> Mapping | None:
    """Return how this process became root of a namespace; None if it did not."""
    return _entered


def describe(uid: int) -> str:
    """Return in words how this process became root of a namespace; `uid` is whose it was."""
    if _entered is None:
        return "root"
    count = sum(count for _, _, count in _entered.uids)
    if _entered.kind == "subordinate":
        return f"user {uid}, root of a user namespace with {count - 1} subordinate ids"
    if _entered.kind == "container":
        return f"root of a container that may not mount, but in a user namespace of its own: with {count} ids"
    why = f" ({_entered.why_single})" if _entered.why_single else ""
    return f"user {uid}, root of a user namespace with that id alone{why}: owners are recorded"


def real_uid() -> int:
    """Return the effective user id that this process had before it became root of a namespace."""
    return os.geteuid() if _uid is None else _uid


def try_enter() -> None:
    """As `enter`, but keep what speaks against it for `require`: there are commands that do without."""
    global _refusal
    try:
        enter()
    except HostError as error:
        _refusal = error


def require() -> None:
    """Raise HostError if this process is not root, and say why it could not become it."""
    if _refusal is not None:
        raise _refusal
    if not is_root():
        raise HostError("building needs root, or a user namespace", code="host/privileges")


def is_root() -> bool:
    """Return whether this process can make mounts: it is root here, with CAP_SYS_ADMIN (capabilities(7))."""
    return os.geteuid() == 0 and bool(idmap.capabilities() & idmap.SYS_ADMIN)


def enter() -> None:
    """Become root of a new user namespace, with a mount namespace of its own; nothing if that is not needed.

    The process must have one thread. Raises HostError where the kernel, or newuidmap, refuses.
    """
    global _entered, _uid
    if is_root():
        return
    uid, gid = os.geteuid(), os.getegid()
    from builder import linux
    from builder.usernsrefusal import refused, unmapped

    mapping, capable = find_mapping(), idmap.capabilities()
    ready, written = os.pipe()
    mapper = _fork_mapper(mapping, ready, written)
    os.close(ready)
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    except OSError as error:
        raise refused(error) from None
    finally:
        # The mapper goes on when this end is closed, or gives up if there is no namespace.
        os.close(written)
        status = os.waitstatus_to_exitcode(os.waitpid(mapper, 0)[1])
    if status == _FELL_BACK:
        mapping = replace(_own(uid, gid), why_single="newuidmap failed")
    elif status:
        raise unmapped(uid, capable)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    try:
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    except OSError as error:  # a namespace whose root may do nothing: AppArmor
        raise refused(error) from None
    idmap.forget()
    _entered, _uid = mapping, uid


def join(pidfd: int) -> None:
    """Become root of the user namespace of a process, if it has another than this one: of a pybuild of the
    same user. The process must have one thread. Raises HostError where the kernel refuses.
    """
    global _entered, _uid
    if is_root():
        return
    uid = os.geteuid()
    from builder import linux

    mapping = find_mapping()
    try:
        linux.setns(pidfd, linux.CLONE_NEWUSER)
        linux.unshare(linux.CLONE_NEWNS)
    except OSError as error:
        raise HostError(
            f"the container's user namespace cannot be entered: {error.strerror}", code="host/user-namespace"
        ) from None
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    idmap.forget()
    _entered, _uid = mapping, uid


def find_mapping() -> Mapping:
    """Return the ids that a namespace of this user can have."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and idmap.capabilities() & _SET_IDS == _SET_IDS:
        # Root of a container that may set ids: as many as it has itself.
        return Mapping("container", _all("uid"), _all("gid"))
    own = _own(uid, gid)
    if idmap.status("NoNewPrivs") == "1":
        return _single(own, "no_new_privs is set, with which newuidmap can do nothing")
    from shutil import which

    lacking = [name for name in ("newuidmap", "newgidmap") if which(name) is None]
    if lacking:
        return _single(own, f"there is no {lacking[0]}")
    ranges = [subordinate(f"/etc/sub{kind}", uid) for kind in ("uid", "gid")]
    for kind, found in zip(("uid", "gid"), ranges, strict=True):
        if not found:
            return _single(own, f"/etc/sub{kind} has nothing for this user")
    return Mapping("subordinate", _after(uid, ranges[0]), _after(gid, ranges[1]))


def subordinate(path: str, uid: int) -> list[tuple[int, int]]:
    """Return the ranges (first id, how many) that `path`, /etc/subuid or /etc/subgid, gives to the user."""
    import pwd

    names = {str(uid)}
    try:
        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return []  # newuidmap refuses who has no name
    found: list[tuple[int, int]] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal() and fields[2].isdecimal():
            found.append((int(fields[1]), int(fields[2])))
    return found


def _own(uid: int, gid: int) -> Mapping:
    return Mapping("single", ((0, uid, 1),), ((0, gid, 1),))


def _single(own: Mapping, why: str) -> Mapping:
    return Mapping(own.kind, own.uids, own.gids, why)


def _after(own: int, ranges: list[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Return a map with `own` as 0, and from 1 on the subordinate ids."""
    lines, inside = [(0, own, 1)], 1
    for first, count in ranges:
        lines.append((inside, first, count))
        inside += count
    return tuple(lines)


def _all(kind: str) -> tuple[tuple[int, int, int], ...]:
    return tuple((first, first, count) for first, count in idmap.mapped(kind))


def _fork_mapper(mapping: Mapping, ready: int, written: int) -> int:
    """Fork a process that writes the map of this one from outside, once the pipe is closed at its other end.

    newuidmap(1) has to run in the namespace above; so has who writes more than one id.
    """
    target = os.getpid()
    mapper = os.fork()
    if mapper:
        return mapper
    code = 1
    try:
        os.close(written)
        os.read(ready, 1)
        code = _write_maps(mapping, target)
    finally:
        os._exit(code)


def _write_maps(mapping: Mapping, target: int) -> int:
    if mapping.kind == "subordinate":
        import subprocess

        for program, lines in (("newuidmap", mapping.uids), ("newgidmap", mapping.gids)):
            words = [str(number) for line in lines for number in line]
            quiet = subprocess.DEVNULL if program == "newuidmap" else None
            try:
                code = subprocess.run([program, str(target), *words], check=False, stderr=quiet).returncode
            except OSError:  # its file capabilities are none that this process may ever have (execve(2))
                code = 1
            if code:
                break
        if not code or program != "newuidmap":
            return code
        # It has no privileges: not setuid, on a file system mounted nosuid. One id is better than none.
        own = _own(mapping.uids[0][1], mapping.gids[0][1])
        return _write_maps(own, target) or _FELL_BACK
    if mapping.kind == "single":
        # Without it a group could be dropped that denies something (user_namespaces(7), CVE-2014-8989).
        _write(f"/proc/{target}/setgroups", "deny")
    for kind, lines in (("uid", mapping.uids), ("gid", mapping.gids)):
        _write(f"/proc/{target}/{kind}_map", "".join("{} {} {}\n".format(*line) for line in lines))
    return 0


def _write(path: str, text: str) -> None:
    # One write(2) for the whole map: the kernel takes no second one.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
