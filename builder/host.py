"""What this host can do of what builds need. Everything is tried for real, and nothing is left behind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from builder.errors import BuildError

Status = Literal["ok", "missing", "optional"]
"""ok: it is there; missing: no build can run without it; optional: what needs it says so, all else works."""

KERNEL = (6, 7)
"""The first release whose overlayfs takes its layers one by one (`lowerdir+`), instead of in one page of
options.
"""

CAPABILITIES = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
    "sys_chroot": 18,
    "sys_admin": 21,
    "mknod": 27,
    "setfcap": 31,
}
"""What making namespaces, mounts, owners and whiteouts takes (capabilities(7))."""

LIBRARIES = ("blake3", "isal", "lark", "rich", "tomli", "urllib3", "zstandard")

_LOW_SPACE = 2_000_000_000
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_KEYRINGS = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: how it stands, and what to do where it is not ok."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def examine(store: str) -> Iterator[Check]:
    """Yield a check for each thing that builds into the store at `store` (it need not exist) can need."""
    yield _kernel()
    yield _privileges()
    yield _namespaces()
    yield _seccomp()
    yield from _store(store)
    yield _libraries()
    yield from _programs()
    yield _certificates()
    yield _cgroups()
    yield _foreign()
    yield from _rootless()


def _kernel() -> Check:
    uname = os.uname()
    detail = f"Linux {uname.release} on {uname.machine}"
    version = tuple(
        int("".join(c for c in part if c.isdigit()) or 0) for part in uname.release.split(".")[:2]
    )
    if version < KERNEL:
        package = {"x86_64": "linux-image-amd64", "aarch64": "linux-image-arm64"}.get(
            uname.machine, "linux-image"
        )
        remedy = (
            f"Linux {KERNEL[0]}.{KERNEL[1]}; on Debian 12: apt-get install -t bookworm-backports {package}"
        )
        return Check("kernel", "missing", detail, remedy)
    if uname.machine not in ("x86_64", "aarch64"):
        return Check("kernel", "missing", detail, "steps are run on x86_64 and aarch64 only")
    return Check("kernel", "ok", detail)


def _privileges() -> Check:
    from builder import linux

    remedy = "run pybuild as root, with sudo, or in a container with --cap-add of what is missing"
    if os.geteuid() != 0:
        return Check("privileges", "missing", f"user {os.geteuid()}, not root", remedy)
    effective = linux.capget()[0]
    lacking = [f"CAP_{name.upper()}" for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        return Check("privileges", "missing", f"root without {', '.join(lacking)}", remedy)
    return Check("privileges", "ok", "root, with every capability that steps need")


def _namespaces() -> Check:
    from builder import linux

    kinds = {
        "mnt": linux.CLONE_NEWNS,
        "pid": linux.CLONE_NEWPID,
        "ipc": linux.CLONE_NEWIPC,
        "uts": linux.CLONE_NEWUTS,
        "cgroup": linux.CLONE_NEWCGROUP,
        "net": linux.CLONE_NEWNET,
    }
    refused = [f"{name} ({os.strerror(error)})" for name, flag in kinds.items() if (error := _unshared(flag))]
    if refused:
        remedy = "as root, outside of a container or in a privileged one; see /proc/sys/user/max_*_namespaces"
        return Check("namespaces", "missing", f"no new ones of {', '.join(refused)}", remedy)
    return Check("namespaces", "ok", ", ".join(kinds))


def _unshared(flag: int) -> int:
    """Try unshare(2) in a child; return the errno, 0 if it works."""
    from builder import linux

    child = os.fork()
    if child == 0:
        code = 255
        try:
            linux.unshare(flag)
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _seccomp() -> Check:
    actions = _text("/proc/sys/kernel/seccomp/actions_avail").split()
    if "errno" in actions:
        return Check("seccomp", "ok", "system call filters")
    return Check("seccomp", "missing", "no system call filters", "a kernel with CONFIG_SECCOMP_FILTER")


def _store(store: str) -> Iterator[Check]:
    existing = os.path.abspath(store)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    kind = _file_system(existing)
    where = f"{store} on {kind}" + ("" if existing == os.path.abspath(store) else ", not there yet")
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Check("store", "missing", f"{where}: not writable", "another --root, or another user")
        return
    yield Check("store", "ok", where)
    yield _space(existing)
    with _scratch(existing) as scratch:
        yield _attributes(scratch, kind)
        yield _overlay(scratch, kind)


@contextmanager
def _scratch(directory: str) -> Iterator[str]:
    """Lend an empty directory on the file system of `directory`; an existing store has a place for such
    things.
    """
    import shutil
    import tempfile

    inside = os.path.join(directory, "tmp")
    scratch = tempfile.mkdtemp(prefix="doctor-", dir=inside if os.path.isdir(inside) else directory)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _space(directory: str) -> Check:
    from builder.progress.units import size

    facts = os.statvfs(directory)
    free = facts.f_bavail * facts.f_frsize
    inodes = facts.f_favail if facts.f_files else None
    detail = f"{size(free)} free" + (f", {inodes} inodes" if inodes is not None else "")
    if free < _LOW_SPACE or (inodes is not None and inodes < 50_000):
        return Check("space", "optional", detail, "pybuild prune, or a larger file system with --root")
    return Check("space", "ok", detail)


def _attributes(scratch: str, kind: str) -> Check:
    path = os.path.join(scratch, "attributes")
    with open(path, "wb"):
        pass
    refused = []
    # VFS_CAP_REVISION_2 with cap_net_raw: what `setcap cap_net_raw+ep` writes.
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    for name, value in (
        ("user.pybuild", b"1"),
        ("trusted.pybuild", b"1"),
        ("security.capability", capability),
    ):
        try:
            os.setxattr(path, name, value)
        except OSError as error:
            refused.append(f"{name} ({os.strerror(error.errno or 0)})")
    if refused:
        remedy = "a store on ext4, xfs or btrfs (--root)"
        return Check("attributes", "missing", f"{kind} takes no {', '.join(refused)}", remedy)
    return Check("attributes", "ok", "extended attributes: user, trusted, file capabilities")


def _overlay(scratch: str, kind: str) -> Check:
    """Mount an overlay nowhere, write and delete in it, and look at its upper directory."""
    lower, upper, work = (os.path.join(scratch, name) for name in ("lower", "upper", "work"))
    for path in (lower, upper, work):
        os.mkdir(path)
    with open(os.path.join(lower, "below"), "wb"):
        pass
    try:
        _write_through(lower, upper, work)
        facts = os.lstat(os.path.join(upper, "below"))
        whole = (
            os.path.isfile(os.path.join(upper, "new")) and stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0
        )
    except (OSError, BuildError) as error:
        remedy = "`modprobe overlay`; a store on ext4, xfs or btrfs, not itself on an overlay (--root)"
        return Check("overlay", "missing", f"{kind} cannot hold an upper directory: {error}", remedy)
    if not whole:
        return Check(
            "overlay", "missing", f"on {kind}, the upper directory lacks what was written", "another --root"
        )
    return Check("overlay", "ok", f"mounted without a trace, its upper directory on {kind}")


def _write_through(lower: str, upper: str, work: str) -> None:
    from builder.overlay import Overlay, detached

    mounted = detached(Overlay((lower,), upper, work))
    try:
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=mounted))
        os.unlink("below", dir_fd=mounted)
    finally:
        os.close(mounted)


def _libraries() -> Check:
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError, version

    found, lacking = [], []
    for name in LIBRARIES:
        try:
            import_module(name)
            found.append(f"{name} {version(name)}")
        except (ImportError, PackageNotFoundError):
            lacking.append(name)
    if lacking:
        return Check("libraries", "missing", f"no {', '.join(lacking)}", f"pip install {' '.join(lacking)}")
    return Check("libraries", "ok", ", ".join(found))


def _programs() -> Iterator[Check]:
    from shutil import which

    wanted = {
        "mmdebstrap": "FROM mmdebstrap://SUITE makes Debian's packages into a base",
        "gpgv": "checks the signature of a Debian suite's Release file",
        "git": "gives the time of the last commit, and contexts from repositories",
    }
    for name, purpose in wanted.items():
        path = which(name)
        if path is None:
            yield Check(name, "optional", f"not there; {purpose}", f"apt-get install {name}")
        else:
            yield Check(name, "ok", path)
    if os.path.exists(_KEYRINGS):
        yield Check("debian keys", "ok", _KEYRINGS)
    else:
        yield Check(
            "debian keys",
            "optional",
            "not there; Debian's Release files are checked with them",
            "apt-get install debian-archive-keyring",
        )


def _certificates() -> Check:
    path = os.environ.get("SSL_CERT_FILE") or _CERTIFICATES
    if os.path.exists(path):
        return Check("certificates", "ok", path)
    return Check(
        "certificates",
        "optional",
        "not there; registries are verified with them",
        "apt-get install ca-certificates",
    )


def _cgroups() -> Check:
    from builder import cgroups

    version = "v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "v1"
    if not os.path.isdir("/sys/fs/cgroup"):
        return Check("cgroups", "optional", "not mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    options = {"memory": "--memory", "cpu": "--cpus", "pids": "--pids-limit"}
    reasons = cgroups.usable()
    able = [option for name, option in options.items() if not reasons[name]]
    unable = [f"{option}: {reasons[name]}" for name, option in options.items() if reasons[name]]
    if not unable:
        return Check("cgroups", "ok", f"{version}: {', '.join(able)} can be had")
    detail = "; ".join([f"{version}: {', '.join(able)} can be had", *unable] if able else [version, *unable])
    remedy = (
        "run as root, or where systemd delegates them: systemd-run --user --scope -p Delegate=yes pybuild"
    )
    return Check("cgroups", "optional", detail, remedy)


def _foreign() -> Check:
    from builder.emulationcheck import architectures

    try:
        ways, problem, remedy = architectures()
    except (OSError, BuildError) as error:
        return Check("emulation", "optional", f"no step can be run to try it: {error}")
    detail = "; ".join(f"{', '.join(names)} run {how}" for how, names in ways.items())
    emulated = any(how != "as they are" for how in ways)
    if emulated:
        return Check("emulation", "ok", detail)
    return Check("emulation", "optional", f"{detail}; {problem}", remedy)


def _rootless() -> Iterator[Check]:
    from builder import linux

    limit = _text("/proc/sys/user/max_user_namespaces").strip()
    blocked = _text("/proc/sys/kernel/unprivileged_userns_clone").strip() == "0"
    if limit == "0" or blocked or _unshared(linux.CLONE_NEWUSER):
        name = "kernel.unprivileged_userns_clone=1" if blocked else "user.max_user_namespaces=10000"
        yield Check("user namespaces", "optional", "none; builds without root need them", f"sysctl -w {name}")
    else:
        yield Check("user namespaces", "ok", f"at most {limit}" if limit else "yes")
    yield _subordinate()


def _subordinate() -> Check:
    from shutil import which

    users = [line.partition(":")[0] for line in _text("/etc/subuid").splitlines() if line.count(":") == 2]
    if users and which("newuidmap"):
        return Check("subordinate ids", "ok", f"for {', '.join(users)}")
    remedy = "apt-get install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
    return Check("subordinate ids", "optional", "none; builds without root need them", remedy)


def _file_system(path: str) -> str:
    """Return the type of the file system that `path` is on (proc(5), mountinfo)."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    found = "an unknown file system"
    for line in _text("/proc/self/mountinfo").splitlines():
        fields = line.split()
        if fields[2] == number:
            found = fields[fields.index("-") + 1]
    return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
