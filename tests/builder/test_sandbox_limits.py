"""What a command may not do: capabilities, system calls, other namespaces. Needs root, busybox and perl."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from builder import capabilities, linux
from builder.syscalls import numbers
from tests.sandbox_fixtures.scene import USR, Outcome, Scene

pytestmark = [pytest.mark.peer("busybox"), pytest.mark.peer("perl")]

DOCKER = "00000000a80425fb"
NOTHING = "0000000000000000"
UNNAMED = {
    "x86_64": {"keyctl": 250, "io_uring_setup": 425},
    "aarch64": {"keyctl": 219, "io_uring_setup": 425},
}


def status(outcome: Outcome) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in outcome.lines if ":\t" in line)


def call(scene: Scene, name: str, *arguments: int, **fields: Any) -> int:
    """Make a system call in the sandbox; return its errno, 0 for success."""
    machine = os.uname().machine
    number = {**numbers(machine), **UNNAMED[machine]}[name]
    words = ", ".join(map(str, (number, *arguments)))
    outcome = scene.perl(f"my $r = syscall({words}); print $r < 0 ? $!+0 : 0", **fields)
    assert outcome.stderr == ""
    return int(outcome.stdout)


# Capabilities


def test_root_has_dockers_default(scene: Scene) -> None:
    have = status(scene.run("cat", "/proc/self/status"))
    assert (have["CapEff"], have["CapPrm"], have["CapBnd"]) == (DOCKER, DOCKER, DOCKER)
    assert (have["CapInh"], have["CapAmb"]) == (NOTHING, NOTHING)
    assert have["NoNewPrivs"] == "0"
    assert have["Seccomp"] == "2"


def test_another_user_has_none_and_can_gain_no_more_than_root(scene: Scene) -> None:
    have = status(scene.run("cat", "/proc/self/status", user="app"))
    assert {have[f"Cap{name}"] for name in ("Eff", "Prm", "Inh", "Amb")} == {NOTHING}
    assert have["CapBnd"] == DOCKER


def test_capabilities_that_are_asked_for(scene: Scene) -> None:
    have = status(scene.run("cat", "/proc/self/status", capabilities=("CHOWN", "CAP_SYS_CHROOT")))
    assert int(have["CapEff"], 16) == capabilities.mask(("CHOWN", "SYS_CHROOT"))
    assert int(status(scene.run("cat", "/proc/self/status", capabilities=()))["CapBnd"], 16) == 0


def test_privileged_has_what_this_process_has_and_no_filter(scene: Scene) -> None:
    have = status(scene.run("cat", "/proc/self/status", privileged=True))
    assert int(have["CapEff"], 16) == linux.capget()[1]
    assert have["Seccomp"] == "0"


def test_privileged_can_mount_write_proc_and_open_devices(scene: Scene) -> None:
    script = (
        "mkdir /m && mount -t tmpfs none /m && cat /proc/sys/kernel/printk > /proc/sys/kernel/printk; ls /dev"
    )
    outcome = scene.sh(script, privileged=True)
    assert outcome.stderr == ""
    assert set(outcome.lines) > {"null", "kmsg", "pts", "shm"}
    script = "mknod /device c 1 5 && head -c1 /device | wc -c"
    assert scene.sh(script, privileged=True).stdout.strip() == "1"
    assert scene.sh(script).stdout.strip() == "0"


@pytest.mark.parametrize(("no_new_privileges", "gained"), [(False, True), (True, False)])
def test_setuid_programs_gain_root_unless_switched_off(
    scene: Scene, no_new_privileges: bool, gained: bool
) -> None:
    first = scene.sh(
        "cp /usr/bin/cat /bin/su-cat; chmod 4755 /bin/su-cat; umask 77; echo yes > /closed", mounts=(USR,)
    )
    fields = {"lower": (first.upper, scene.base), "mounts": (USR,), "no_new_privileges": no_new_privileges}
    assert (scene.run("su-cat", "/closed", user="app", **fields).stdout == "yes\n") == gained
    flag = status(scene.run("cat", "/proc/self/status", no_new_privileges=no_new_privileges))["NoNewPrivs"]
    assert flag == str(int(no_new_privileges))


# System calls


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mount", (0, 0, 0, 0, 0)),
        ("umount2", (0, 0)),
        ("unshare", (linux.CLONE_NEWUSER,)),
        ("setns", (0, 0)),
        ("bpf", (0, 0, 0)),
        ("perf_event_open", (0, 0, 0, 0, 0)),
        ("open_by_handle_at", (0, 0, 0)),
        ("fsopen", (0, 0)),
        ("move_mount", (0, 0, 0, 0, 0)),
        ("keyctl", (0, 0)),
        ("io_uring_setup", (1, 0)),
        ("reboot", (0, 0, 0, 0)),
        ("init_module", (0, 0, 0)),
        ("syslog", (3, 0, 0)),
        ("settimeofday", (0, 0)),
        ("kcmp", (1, 1, 0, 0, 0)),
        ("personality", (0x0400000,)),
        ("clone", (linux.CLONE_NEWUSER | 17, 0, 0, 0, 0)),
    ],
)
def test_refused_calls(scene: Scene, name: str, arguments: tuple[int, ...]) -> None:
    assert call(scene, name, *arguments) == errno.EPERM


@pytest.mark.parametrize("name", ["clone3"])
def test_calls_that_seem_to_be_missing(scene: Scene, name: str) -> None:
    assert call(scene, name, 0, 0) == errno.ENOSYS


@pytest.mark.parametrize(("family", "error"), [(1, 0), (2, 0), (16, 0), (38, errno.EPERM), (40, errno.EPERM)])
def test_socket_families(scene: Scene, family: int, error: int) -> None:
    assert call(scene, "socket", family, 3 if family == 16 else 1, 0) == error


@pytest.mark.parametrize(
    ("name", "arguments"), [("chroot", (0,)), ("personality", (0,)), ("ptrace", (0, 0, 0, 0))]
)
def test_allowed_calls_reach_the_kernel(scene: Scene, name: str, arguments: tuple[int, ...]) -> None:
    assert call(scene, name, *arguments) in (0, errno.EFAULT)


def test_a_capability_opens_its_calls(scene: Scene) -> None:
    given = (*capabilities.DEFAULT, "SYS_ADMIN")
    assert scene.sh("mkdir /m && mount -t tmpfs none /m", capabilities=given).status == 0


def test_without_seccomp_the_capabilities_still_hold(scene: Scene) -> None:
    outcome = scene.sh("mkdir /m && mount -t tmpfs none /m", seccomp=False)
    assert "permission denied" in outcome.stderr
    assert call(scene, "clone3", 0, 0, seccomp=False) == errno.EINVAL


# Namespaces


@pytest.mark.parametrize("kind", ["mnt", "pid", "ipc", "uts", "cgroup"])
def test_own_namespaces(scene: Scene, kind: str) -> None:
    assert scene.run("readlink", f"/proc/self/ns/{kind}").stdout.strip() != os.readlink(
        f"/proc/self/ns/{kind}"
    )


def test_the_network_is_the_hosts_or_none(scene: Scene) -> None:
    assert scene.run("readlink", "/proc/self/ns/net").stdout.strip() == os.readlink("/proc/self/ns/net")
    assert scene.run("readlink", "/proc/self/ns/net", network="none").stdout.strip() != os.readlink(
        "/proc/self/ns/net"
    )


def test_no_network_has_loopback_and_nothing_else(scene: Scene) -> None:
    outcome = scene.sh(
        "ls /sys/class/net; ping -c1 -W1 127.0.0.1 | grep -c '1 packets received'; ip route", network="none"
    )
    assert outcome.lines == ["lo", "1"]


def test_the_hostname_is_the_sandboxes(scene: Scene) -> None:
    before = os.uname().nodename
    assert scene.sh("hostname; uname -n", hostname="here").lines == ["here", "here"]
    assert os.uname().nodename == before


@pytest.mark.parametrize("path", ["root", "cwd", "exe", "environ", "mem", "fd/0", "ns/pid"])
def test_pid_1_is_out_of_reach(scene: Scene, path: str) -> None:
    """It holds the socket to the builder, and every capability."""
    look = {"environ": "cat", "mem": "head -c1"}.get(path, "readlink")
    outcome = scene.sh(f"{look} /proc/1/{path}")
    assert outcome.status != 0
    assert outcome.stdout == ""


def test_pid_1_cannot_be_traced_or_killed(scene: Scene) -> None:
    ptrace = numbers(os.uname().machine)["ptrace"]
    outcome = scene.perl(
        f"print syscall({ptrace}, 16, 1, 0, 0) < 0 ? $!+0 : 0; kill 9, 1; kill 15, 1; print ' alive'"
    )
    assert outcome.stdout == f"{errno.EPERM} alive"


def test_processes_of_the_host_are_out_of_sight(scene: Scene) -> None:
    assert scene.sh(f"kill -0 {os.getpid()}; ls -d /proc/{os.getpid()}").stdout == ""


def test_the_root_cannot_be_left_by_chroot(scene: Scene) -> None:
    """The classic way out of a chroot ends in the sandbox's own root: pivot_root has let go of the host's."""
    script = "mkdir 'x'; chroot 'x'; chdir '..' for 1..64; chroot '.'; print join ' ', sort glob '*'"
    assert scene.perl(script).stdout == "bin dev etc home lib lib64 proc sys usr x"


def test_a_new_session_keyring(scene: Scene) -> None:
    """The host's session keyring may hold its tickets and keys."""
    keyctl = UNNAMED[os.uname().machine]["keyctl"]
    session = -3
    outcome = scene.perl(f"print syscall({keyctl}, 0, {session}, 0)", seccomp=False)
    ours = int(os.popen(f"perl -e 'print syscall({keyctl}, 0, {session}, 0)'").read())
    assert int(outcome.stdout) not in (ours, -1)


def test_usr_is_mounted_for_these_tests_only(scene: Scene) -> None:
    assert scene.run("true", mounts=(USR,)).written == []
