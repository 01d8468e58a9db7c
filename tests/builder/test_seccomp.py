"""The seccomp profile, as an interpreter of classic BPF sees it. That the kernel takes it:
test_sandbox_limits.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from errno import ENOSYS, EPERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import capabilities, seccomp, syscalls

MACHINES = ("x86_64", "aarch64")
PAIRS = (("x86_64", "x86_64"), ("x86_64", "i386"), ("aarch64", "aarch64"), ("aarch64", "arm"))
Judge = Callable[..., int]
NEW_USER = 0x10000000
NEW_NET = 0x40000000


def verdict(program: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """Run `program` on a struct seccomp_data, as the kernel would."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, argument & (1 << 64) - 1, 0, 0, 0, 0, 0)
    accumulator = position = 0
    while True:
        code, jump_true, jump_false, k = struct.unpack_from("=HBBI", program, 8 * position)
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x05:
            position += k
        elif code == 0x06:
            return int(k)
        else:
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }
            position += jump_true if holds[code] else jump_false


def errno_of(code: int) -> int:
    assert code & 0xFFFF0000 == 0x00050000
    return code & 0xFFFF


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: pair[1])
def profile(request: pytest.FixtureRequest) -> Judge:
    """Return a function from a call's name and first argument to the default profile's verdict on one
    architecture.
    """
    machine, architecture = request.param
    program = seccomp.compile_filter(machine, capabilities.DEFAULT)
    number = syscalls.numbers(architecture)

    def judge(name: str, argument: int = 0) -> int:
        return verdict(program, seccomp.AUDIT_ARCH[architecture], number[name], argument)

    return judge


def test_everyday_calls_are_allowed(profile: Judge) -> None:
    for name in ("read", "write", "openat", "execve", "exit_group", "ptrace", "seccomp", "chroot", "mknodat"):
        assert profile(name) == seccomp.ALLOW, name


@pytest.mark.parametrize(
    "name",
    [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "perf_event_open",
        "open_by_handle_at",
        "init_module",
        "reboot",
        "settimeofday",
        "mbind",
        "acct",
        "fsopen",
        "move_mount",
        "open_tree",
        "mount_setattr",
        "quotactl",
        "syslog",
    ],
)
def test_what_docker_refuses_is_refused(profile: Judge, name: str) -> None:
    assert errno_of(profile(name)) == EPERM


@pytest.mark.parametrize(
    ("machine", "architecture", "keyctl"),
    [
        ("x86_64", "x86_64", 250),
        ("x86_64", "i386", 288),
        ("aarch64", "aarch64", 219),
        ("aarch64", "arm", 311),
    ],
)
def test_calls_that_the_profile_leaves_out_are_refused(machine: str, architecture: str, keyctl: int) -> None:
    program = seccomp.compile_filter(machine, capabilities.DEFAULT)
    for number in (keyctl, 425):  # the second is io_uring_setup
        assert errno_of(verdict(program, seccomp.AUDIT_ARCH[architecture], number)) == EPERM


def test_a_thread_may_be_made_and_a_namespace_may_not(profile: Judge) -> None:
    assert profile("clone", 0x003D0F00) == seccomp.ALLOW  # what pthread_create asks for
    assert profile("clone", 17) == seccomp.ALLOW
    for flag in (NEW_USER, NEW_NET, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x20000000):
        assert errno_of(profile("clone", flag | 17)) == EPERM


def test_clone3_is_unknown_so_that_glibc_falls_back_to_clone(profile: Judge) -> None:
    assert errno_of(profile("clone3")) == ENOSYS


def test_socket_families(profile: Judge) -> None:
    for family in (1, 2, 10, 16, 17):  # unix, inet, inet6, netlink, packet
        assert profile("socket", family) == seccomp.ALLOW
    for family in (38, 40, 12, 19, 46, 1000):  # alg, vsock, decnet, wanpipe, none
        assert errno_of(profile("socket", family)) == EPERM


def test_personalities(profile: Judge) -> None:
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert profile("personality", persona) == seccomp.ALLOW
    for persona in (1, 0x0400000, 0x20009, 0xFFFFFFFE):  # the second is ADDR_NO_RANDOMIZE
        assert errno_of(profile("personality", persona)) == EPERM


@pytest.mark.parametrize(("machine", "architecture"), PAIRS)
def test_newer_calls_are_unknown(machine: str, architecture: str) -> None:
    program = seccomp.compile_filter(machine, capabilities.DEFAULT)
    for number in (467, 1000, 0x40000000, 0x40000000 + 59, 0xFFFFFFFF):  # the third and fourth are x32's
        assert errno_of(verdict(program, seccomp.AUDIT_ARCH[architecture], number)) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_killed(machine: str) -> None:
    program = seccomp.compile_filter(machine, capabilities.DEFAULT)
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[machine]
    assert verdict(program, seccomp.AUDIT_ARCH[other], 0) == seccomp.KILL_PROCESS
    assert verdict(program, 0, 0) == seccomp.KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
def test_capabilities_open_their_calls(machine: str) -> None:
    number = syscalls.numbers(machine)
    default = set(capabilities.DEFAULT)
    opened = {
        "SYS_ADMIN": ("mount", "unshare", "setns", "clone3", "bpf"),
        "SYS_PTRACE": ("kcmp", "process_madvise"),
        "DAC_READ_SEARCH": ("open_by_handle_at",),
        "SYS_TIME": ("clock_settime",),
        "BPF": ("bpf",),
    }
    for capability, names in opened.items():
        program = seccomp.compile_filter(machine, default | {capability})
        for name in names:
            assert verdict(program, seccomp.AUDIT_ARCH[machine], number[name]) == seccomp.ALLOW
    program = seccomp.compile_filter(machine, default | {"SYS_ADMIN"})
    assert verdict(program, seccomp.AUDIT_ARCH[machine], number["clone"], NEW_USER) == seccomp.ALLOW
    program = seccomp.compile_filter(machine, default - {"SYS_CHROOT"})
    assert errno_of(verdict(program, seccomp.AUDIT_ARCH[machine], number["chroot"])) == EPERM


@pytest.mark.parametrize(("machine", "architecture"), PAIRS)
@given(data=st.data())
def test_the_search_tree_agrees_with_the_list(machine: str, architecture: str, data: st.DataObject) -> None:
    """A call without a condition is allowed exactly if the profile names it and no missing capability
    guards it.
    """
    number = data.draw(st.integers(0, 466))
    names = {n: name for name, n in syscalls.numbers(architecture).items()}
    guarded = {name for group in seccomp._NEEDS.values() for name in group.split()} - {"chroot"}
    program = seccomp.compile_filter(machine, capabilities.DEFAULT)
    allowed = verdict(program, seccomp.AUDIT_ARCH[architecture], number) == seccomp.ALLOW
    assert allowed == (number in names and names[number] not in guarded)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_kernel_takes_programs_of_this_size(machine: str) -> None:
    assert len(seccomp.compile_filter(machine, capabilities.DEFAULT)) // 8 <= 4096  # BPF_MAXINSNS


def test_dockers_default_mask() -> None:
    assert capabilities.mask(capabilities.DEFAULT) == 0xA80425FB
