"""The host's own tree as a root: for mmdebstrap, which must mount and make devices in one directory and
nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.executor import CommandError, ExecRequest, Mount
from tests.sandbox_fixtures.scene import Outcome, Scene, mount_table, tree

PATH = (("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),)


def sh(scene: Scene, script: str, *mounts: Mount) -> Outcome:
    return scene.carry_out(ExecRequest(("sh", "-c", script), root="host", env=PATH, mounts=mounts))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def test_the_hosts_programs_run(scene: Scene) -> None:
    outcome = sh(scene, "cat /etc/debian_version /proc/1/comm")
    assert outcome.stdout == Path("/etc/debian_version").read_text() + "pybuild-init\n"


def test_nothing_of_the_host_can_be_written_but_what_is_given(scene: Scene, target: Path) -> None:
    places = ["/etc/x", "/usr/x", "/var/tmp/x", "/root/x"]
    script = (
        "".join(f"touch {place}; " for place in places) + f"touch {target}/made /tmp/private /dev/shm/private"
    )
    outcome = sh(scene, script, Mount("bind", str(target), source=str(target)))
    assert outcome.stderr.count("Read-only file system") == len(places)
    assert outcome.status == 0
    assert tree(str(target)) == ["made"]
    assert not any(os.path.lexists(place) for place in (*places, "/tmp/private", "/dev/shm/private"))


def test_it_can_mount_chroot_and_make_devices_in_what_is_given(
    scene: Scene, busybox_root: str, target: Path
) -> None:
    before = mount_table()
    script = (
        f"cd {target} && mkdir dev proc m && mknod dev/null c 1 3 && echo > dev/null "
        f"&& mount -t proc none proc && mount --bind {busybox_root} m "
        "&& mount -t tmpfs none m/home && chown 5:6 dev/null "
        "&& chroot m /bin/busybox sh -c 'echo inside > /home/x; cat /home/x'"
    )
    bind = Mount("bind", str(target), source=str(target))
    base = Mount("bind", busybox_root, source=busybox_root, read_only=True)
    outcome = sh(scene, script, bind, base)
    assert (outcome.stdout, outcome.stderr) == ("inside\n", "")
    assert os.lstat(target / "dev" / "null").st_rdev == os.makedev(1, 3)
    assert mount_table() == before
    assert not os.path.exists(f"{busybox_root}/home/x")


def test_devices_of_the_host_are_usable_but_cannot_be_changed(scene: Scene) -> None:
    before = os.stat("/dev/null").st_ctime_ns
    outcome = sh(scene, "echo > /dev/null; head -c2 /dev/zero | wc -c; chmod 600 /dev/null")
    assert outcome.stdout.strip() == "2"
    assert "Read-only" in outcome.stderr
    assert os.stat("/dev/null").st_ctime_ns == before


def test_a_read_only_mount_and_a_tmpfs(scene: Scene, target: Path) -> None:
    (target / "file").write_text("x")
    mounts = (Mount("bind", "/mnt", source=str(target), read_only=True), Mount("tmpfs", "/srv"))
    outcome = sh(scene, "cat /mnt/file; touch /srv/y && ls /srv; touch /mnt/z", *mounts)
    assert outcome.stdout == "xy\n"
    assert "Read-only" in outcome.stderr


def test_a_mount_point_that_is_missing_is_an_error(scene: Scene, target: Path) -> None:
    with pytest.raises(CommandError, match="/no/such"):
        sh(scene, "true", Mount("bind", "/no/such", source=str(target)))


def test_it_has_every_capability_and_no_filter(scene: Scene) -> None:
    outcome = sh(scene, "grep -E '^(CapEff|Seccomp):' /proc/self/status; grep ^CapPrm /proc/1/status")
    effective, seccomp, init = (line.split()[1] for line in outcome.lines)
    assert effective == init
    assert seccomp == "0"


def test_the_hosts_processes_are_out_of_sight(scene: Scene) -> None:
    assert sh(scene, f"kill -0 {os.getpid()} 2>/dev/null || echo none").stdout == "none\n"
