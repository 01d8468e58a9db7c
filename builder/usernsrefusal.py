"""Why there is no user namespace to be root of, and what to do about it."""

from __future__ import annotations

import errno

from builder.errors import HostError
from cache import idmap

_SETTINGS = (
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for "
        "pybuild's interpreter",
    ),
)
"""Files, what stands in them where they are in the way, what to do (user_namespaces(7); Debian; Ubuntu)."""

_FILTERED = (
    "in a container: --security-opt seccomp=unconfined, in Kubernetes seccompProfile: {type: Unconfined}; or "
    "with CAP_SYS_ADMIN"
)


def refused(error: OSError) -> HostError:
    """Return what to say of a namespace that the kernel does not give, or with nothing allowed in it."""
    hint = next((remedy for path, value, remedy in _SETTINGS if _text(path) == value), None)
    if hint is None and idmap.status("Seccomp") == "2" and error.errno in (errno.EPERM, errno.ENOSYS):
        return HostError(
            "building needs root, or a user namespace, and a seccomp filter refuses one",
            code="host/user-namespace",
            hint=_FILTERED,
        )
    if hint is None and error.errno == errno.ENOSPC:
        hint = "there are as many as user.max_user_namespaces allows, or 32 within each other"
    return HostError(
        f"building needs root, or a user namespace, and the kernel refuses one: {error.strerror}",
        code="host/user-namespace",
        hint=hint or "in a chroot there is none, nor for a user that this namespace does not know",
    )


def unmapped(uid: int, capable: int) -> HostError:
    """Return what to say of a namespace in which the user has no id; `capable`: what it could do outside."""
    hint = "`pybuild doctor` says what is missing"
    if uid == 0 and not capable >> 31 & 1:
        hint = "root without CAP_SETFCAP has none: run as another user (--user 1000), or --cap-add SETFCAP"
    return HostError(
        "the ids of this user cannot be mapped into a user namespace", code="host/user-namespace", hint=hint
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
