"""What this host can do of what builds need. Everything is tried for real, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from builder.errors import BuildError, HostError

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
    from builder import userns

    yield _kernel()
    if userns.is_root():
        yield _privileges()
        yield from _as_root(store)
    else:
        yield from _in_namespace(store)
    yield _seccomp()
    yield _libraries()
    yield from _programs()
    yield _certificates()
    yield _network()
    yield from _rootless()


def _as_root(store: str) -> Iterator[Check]:
    """What takes root, of the machine or of a user namespace."""
    from builder.hoststore import examine_store

    yield _namespaces()
    yield from examine_store(store)
    yield _cgroups()
    yield _foreign()


def _in_namespace(store: str) -> Iterator[Check]:
    """Become root as a build does, in a child, and look around there."""
    import json
    from dataclasses import asdict

    ready, written = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ready)
            found = json.dumps([asdict(check) for check in _entered(store)]).encode()
            with open(written, "wb") as pipe:
                pipe.write(found)
        finally:
            os._exit(0)
    os.close(written)
    with open(ready, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    if not found:
        yield Check(
            "privileges", "missing", "what was tried in a user namespace failed", "run pybuild as root"
        )
        return
    for facts in json.loads(found):
        yield Check(**facts)


def _entered(store: str) -> Iterator[Check]:
    from builder import userns
    from builder.reports import PRIVILEGES_HINT

    uid = os.geteuid()
    try:
        userns.enter()
    except HostError as error:
        yield Check("privileges", "missing", error.message, error.hint or PRIVILEGES_HINT)
        return
    yield Check("privileges", "ok", userns.describe(uid))
    yield from _as_root(store)


def _network() -> Check:
    from builder.privatenetwork import find

    path = find()
    if path is None:
        detail = "the host's; a private one (--network=private) takes pasta, or slirp4netns"
        return Check("network", "optional", detail, "apt-get install passt")
    few = "" if path.endswith("/pasta") else ", which publishes no ports"
    return Check("network", "ok", f"the host's; a private one (--network=private) through {path}{few}")


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

    remedy = "in a container, --cap-add of what is missing"
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
    remedy = "where systemd delegates them: systemd-run --user --scope -p Delegate=yes pybuild; or as root"
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
    return Check("subordinate ids", "optional", "none; builds without root do with one id", remedy)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
