"""Steps for another architecture run, and leave no trace of how on the host."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from builder import emulation
from builder.elf import MACHINES, pattern, program
from builder.emulationcheck import architectures
from builder.errors import HostError, StepFailed
from builder.executor import ExecRequest
from builder.sandbox import Sandbox
from cache.oci.platform import Platform
from tests.build_fixtures import foreign
from tests.build_fixtures.project import Outcome, Project

pytestmark = pytest.mark.peer("qemu-aarch64-static", "mmdebstrap")

ARM64 = Platform("linux", "arm64")


@pytest.fixture
def arm(project: Project, busybox_arm64: bytes) -> Project:
    """A project whose root/ is one of arm64."""
    project.write("root/bin/busybox", busybox_arm64, 0o755)
    for applet in foreign.APPLETS:
        os.symlink("busybox", project.path(f"root/bin/{applet}"))
    return project


def build(project: Project, text: str, *options: str) -> Outcome:
    recipe = f"FROM scratch\nCOPY root/ /\nENV PATH=/bin\n{text}"
    return project.build(recipe, "--platform", "linux/arm64", *options)


def traces() -> tuple[str, list[str]]:
    """What a registration on the host would change."""
    place = "/proc/sys/fs/binfmt_misc"
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return file.read(), sorted(os.listdir(place)) if os.path.isdir(place) else []


def test_a_step_runs_the_programs_of_its_platform_and_the_host_is_as_it_was(arm: Project) -> None:
    before = traces()
    found = build(arm, "RUN uname -m\nTEST uname -m | grep -q aarch64\n")
    assert found.output.splitlines()[0] == "aarch64"
    assert traces() == before


def test_scripts_run_and_programs_get_the_name_that_they_were_called_by(arm: Project) -> None:
    arm.write("root/script", "#!/bin/sh\necho $0 $1\n", 0o755)
    found = build(arm, "RUN /script one\nRUN sh -c 'exec -a uname /bin/busybox -m'\n")
    assert found.output.splitlines() == ["/script one", "aarch64"]


def test_a_set_user_id_program_gets_its_owner(arm: Project) -> None:
    arm.write("root/tells-user", foreign.TELLS_USER, 0o755)
    build(arm, "RUN chmod u+s /tells-user\nUSER 7:7\nRUN /tells-user\n")
    with pytest.raises(StepFailed) as failed:
        build(arm, "USER 7:7\nRUN /tells-user\n")
    assert failed.value.status == 7


def test_capabilities_of_files_count_and_are_in_the_layer_as_without_emulation(arm: Project) -> None:
    arm.write("root/becomes-root", foreign.BECOMES_ROOT, 0o755)
    arm.write("root/gives", foreign.GIVES_CAPABILITY, 0o755)
    found = build(arm, "RUN /gives\nUSER 7:7\nRUN /becomes-root\n")
    from cache.store import Store

    with Store.open(arm.store_root) as store:
        files = [
            f"{path}/becomes-root"
            for path in (
                store.layers.diff_path(layer)
                for layer in store.layers.entries()
                if layer.diff_id in found.image.diff_ids
            )
        ]
        values = [os.getxattr(path, "security.capability") for path in files if _has_capability(path)]
    assert values == [foreign.CAPABILITY]


def _has_capability(path: str) -> bool:
    return os.path.exists(path) and "security.capability" in os.listxattr(path)


def test_devices_are_made_as_without_emulation(arm: Project) -> None:
    found = build(arm, "RUN mknod /null c 1 3 && mknod -m 600 /disk b 259 70000 && chown 3:4 /disk\n")
    files = arm.files(found)
    null, disk = files["null"], files["disk"]
    assert (null.st_rdev, null.st_mode & 0o777) == (os.makedev(1, 3), 0o644)
    assert (disk.st_rdev, disk.st_mode & 0o777, disk.st_uid, disk.st_gid) == (
        os.makedev(259, 70000),
        0o600,
        3,
        4,
    )


def test_devices_are_not_made_for_who_may_not(arm: Project) -> None:
    with pytest.raises(StepFailed):
        build(arm, "RUN mkdir -m 777 /d\nUSER 7:7\nRUN mknod /d/null c 1 3\n")


def test_a_step_without_network_has_the_rights_of_root_in_its_own(arm: Project) -> None:
    build(arm, "RUN --network=none ping -c 1 127.0.0.1\n")


def test_owners_and_modes_are_those_of_a_build_without_emulation(arm: Project) -> None:
    found = build(arm, "RUN echo x > /a && chown 12345:4294967294 /a && chmod 4711 /a\n")
    status = arm.files(found)["a"]
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (12345, 4294967294, 0o4711)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_programs_of_each_architecture_run(sandbox: Sandbox, tmp_path: os.PathLike[str], name: str) -> None:
    """Of each that Debian's QEMU has, on whichever of them this machine is."""
    path = os.path.join(tmp_path, "program")
    with open(path, "wb") as file:
        file.write(program(MACHINES[name]))
    os.chmod(path, 0o755)
    request = ExecRequest(argv=("/program",), lower=(str(tmp_path),), platform=Platform("linux", name))
    assert sandbox.run(request, lambda stream, data: None).status == 0


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_the_pattern_of_an_architecture_is_that_of_debians_handler(name: str) -> None:
    """The magic bytes agree where both count, for a program of it; and no other's program fits."""
    magic, mask = pattern(MACHINES[name])
    fits = [
        other
        for other, machine in MACHINES.items()
        if all((a ^ b) & k == 0 for a, b, k in zip(program(machine), magic, mask, strict=False))
    ]
    assert fits == [name]
    path = f"/usr/lib/binfmt.d/qemu-{MACHINES[name].qemu}.conf"
    if not os.path.exists(path):
        return  # the host's own
    with open(path, encoding="ascii") as file:
        fields = file.read().strip().split(":")
    theirs, count = (field.encode().decode("unicode_escape").encode("latin-1") for field in fields[4:6])
    # Debian tells the ABIs of MIPS apart by e_flags.
    assert theirs[: len(magic)] == magic or "mips" in name
    assert all(a & k == b & k for a, b, k in zip(program(MACHINES[name]), theirs, count, strict=False))


def test_without_an_emulator_it_is_said_what_to_install(
    arm: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hits, and what only copies, needs none."""
    build(arm, "RUN true\n")
    monkeypatch.setattr(emulation, "_PLACES", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with Sandbox() as bare:
        arm._executor = bare
        assert build(arm, "RUN true\n").built.ran == 0
        build(arm, "COPY app.rec /copied\n")
        with pytest.raises(HostError) as failed:
            build(arm, "RUN echo new\n")
    assert failed.value.code == "host/emulation"
    assert failed.value.span is not None
    assert "qemu-user-static" in (failed.value.hint or "")


def test_steps_for_another_system_are_refused(sandbox: Sandbox, tmp_path: os.PathLike[str]) -> None:
    request = ExecRequest(argv=("/x",), lower=(str(tmp_path),), platform=Platform("windows", "amd64"))
    with pytest.raises(HostError) as failed:
        sandbox.run(request, lambda stream, data: None)
    assert failed.value.code == "host/emulation"


_REGISTERED = """
import os, sys
from builder import binfmt, elf, linux, mounts
from builder.executor import ExecRequest
from builder.sandbox import Sandbox
from cache import idmap
from cache.oci.platform import Platform

ready, written = os.pipe()
done, told = os.pipe()
outer = os.getpid()
if os.fork() == 0:
    os.read(ready, 1)
    for kind in ("uid", "gid"):
        with open(f"/proc/{outer}/{kind}_map", "w") as file:
            file.write("0 0 65536")
    os.write(told, b"!")
    os._exit(0)
linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
os.write(written, b"!")
os.read(done, 1)
idmap.forget()
linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
fd = os.open("/usr/bin/qemu-aarch64-static", os.O_RDONLY)
if sys.argv[2] == "registered":
    binfmt._register("anything", *elf.pattern(elf.MACHINES["arm64"]), fd)
with Sandbox() as sandbox:
    command = ("/bin/sh", "-c", "uname -m; cat /proc/self/mountinfo")
    request = ExecRequest(argv=command, lower=(sys.argv[1],), platform=Platform("linux", "arm64"))
    print(sandbox.run(request, lambda stream, data: print(data.decode(), end="")).status)
"""


@pytest.mark.parametrize("registered", [True, False])
def test_a_handler_of_the_host_is_used_where_there_is_one(arm: Project, registered: bool) -> None:
    """The host is a user namespace here; its handler is one that is opened when it is registered."""
    before = traces()
    kind = "registered" if registered else "not"
    command = [sys.executable, "-c", _REGISTERED, arm.path("root"), kind]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(emulation.__file__))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("aarch64", "0"), done.stderr
    assert ("binfmt_misc" in done.stdout) != registered
    assert traces() == before


def test_two_architectures_are_told_apart(sandbox: Sandbox, tmp_path: os.PathLike[str]) -> None:
    """In the namespace of a step, the emulator of its platform is the only one."""
    path = os.path.join(tmp_path, "program")
    with open(path, "wb") as file:
        file.write(program(MACHINES["riscv64"]))
    os.chmod(path, 0o755)
    request = ExecRequest(argv=("/program",), lower=(str(tmp_path),), platform=ARM64)
    with pytest.raises(StepFailed) as failed:
        sandbox.run(request, lambda stream, data: None)
    assert failed.value.code == "step/not-executable"
    own = replace(request, platform=Platform("linux", "riscv64"))
    assert sandbox.run(own, lambda stream, data: None).status == 0


def test_doctor_tells_which_architectures_run_and_how() -> None:
    ways, problem, _ = architectures()
    assert "arm64" in ways["by QEMU" if Platform.host() != ARM64 else "as they are"]
    assert sorted(name for names in ways.values() for name in names) == sorted(MACHINES)
    assert problem == ""
