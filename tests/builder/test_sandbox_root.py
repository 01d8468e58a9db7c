"""What a step finds at / and what it leaves behind. Needs root and busybox."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from builder.errors import HostError
from builder.executor import CommandError, Mount
from builder.overlay import Overlay, detached
from tests.sandbox_fixtures.scene import Scene, mount_table, tree

pytestmark = pytest.mark.peer("busybox")

WHITEOUT = (0o20000, 0)


def layer(tmp_path: Path, name: str, *directories: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    for directory in directories:
        (path / directory).mkdir(parents=True)
    return path


# What the command writes, and nothing else


def test_the_upper_holds_what_was_written(scene: Scene) -> None:
    outcome = scene.sh("echo x > /new; rm /etc/group; mkdir /d")
    assert outcome.written == ["d", "etc", "etc/group!", "new"]


def test_nothing_written_is_nothing_left(scene: Scene) -> None:
    """The base has neither /proc nor /dev nor /etc/hosts: no mount point of theirs is in the layer."""
    assert scene.run("true").written == []


@pytest.mark.parametrize("name", ["hosts", "resolv.conf", "hostname"])
def test_files_of_the_network_can_be_written_and_are_no_part_of_the_layer(scene: Scene, name: str) -> None:
    outcome = scene.sh(f"echo 10.0.0.1 example >> /etc/{name} && cat /etc/{name}")
    assert outcome.stdout.endswith("10.0.0.1 example\n")
    assert outcome.written == []


def test_files_of_the_network_hide_the_images_and_leave_them_alone(scene: Scene, tmp_path: Path) -> None:
    image = layer(tmp_path, "image", "etc")
    (image / "etc" / "hosts").write_text("the image's own")
    outcome = scene.run(
        "cat", "/etc/hosts", "/etc/hostname", lower=(str(image), scene.base), hostname="build-1"
    )
    assert outcome.lines[0] == "127.0.0.1\tlocalhost build-1"
    assert outcome.lines[-1] == "build-1"
    assert (image / "etc" / "hosts").read_text() == "the image's own"
    assert outcome.written == []


def test_extra_hosts(scene: Scene) -> None:
    assert "192.0.2.1\tdb" in scene.run("cat", "/etc/hosts", extra_hosts=(("db", "192.0.2.1"),)).lines


def test_the_resolver_is_the_hosts(scene: Scene) -> None:
    assert scene.run("cat", "/etc/resolv.conf").stdout == Path("/etc/resolv.conf").read_text()


def test_an_empty_image_works(scene: Scene, tmp_path: Path) -> None:
    """FROM scratch: no lower at all, and the command in a mount."""
    outcome = scene.run(
        "/run/busybox", "touch", "/x", lower=(), mounts=(Mount("bind", "/run", f"{scene.base}/bin"),)
    )
    assert outcome.status == 0
    assert outcome.written == ["x"]


def test_a_root_without_upper_is_read_only(scene: Scene) -> None:
    outcome = scene.sh("touch /x; cat /etc/hostname", upper=None, work=None)
    assert outcome.stdout == "pybuild\n"
    assert "Read-only" in outcome.stderr


def test_each_step_sees_the_layers_below(scene: Scene) -> None:
    first = scene.sh("echo 1 > /file; rm -r /home")
    second = scene.sh("cat /file; ls -d /home", lower=(first.upper, scene.base))
    assert second.stdout == "1\n"
    assert second.status == 1


# Mount points


@pytest.mark.parametrize(
    "target", ["/var/cache/apt", "/etc/deep/er", "/home/app/.cache", "/srv", "relative/place", "/a/../b/./c"]
)
def test_a_mount_leaves_no_trace(scene: Scene, target: str, tmp_path: Path) -> None:
    source = layer(tmp_path, "source")
    (source / "there").write_text("yes")
    path = os.path.normpath(os.path.join("/home", target))
    mounts = (Mount("bind", target, source=str(source)),)
    outcome = scene.sh(f"cat {path}/there; touch {path}/new", mounts=mounts, workdir="/home")
    assert outcome.stdout == "yes"
    assert outcome.written == []
    assert tree(str(source)) == ["new", "there"]


def test_a_mount_point_that_a_layer_has_deleted_leaves_no_trace(scene: Scene, tmp_path: Path) -> None:
    """The image's layers hide the lowest directory, where mount points come from."""
    image = layer(tmp_path, "image", "etc", "home/app")
    for name in ("proc", "dev", "sys", "etc/hosts"):
        os.mknod(image / name, 0o20000, 0)
    os.setxattr(image / "home", "trusted.overlay.opaque", b"y")
    os.chmod(image / "home", 0o711)
    os.chown(image / "home", 12, 34)
    os.setxattr(image / "home", "user.note", b"kept")
    os.utime(image / "home", (1000, 2000))
    mounts = (Mount("tmpfs", "/home/app/.cache/pip"),)
    script = "stat -c '%a %u %g %Y' /home; ls /proc/1 /dev/null /home/app/.cache > /dev/null; "
    script += "touch /home/app/.cache/x"
    outcome = scene.sh(script, lower=(str(image), scene.base), mounts=mounts)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.lines[0] == "711 12 34 2000"
    assert outcome.written == ["home", "home/app", "home/app/.cache", "home/app/.cache/x"]
    upper = Path(outcome.upper, "home")
    assert (upper.stat().st_uid, stat.S_IMODE(upper.stat().st_mode)) == (12, 0o711)
    assert os.getxattr(upper, "user.note") == b"kept"


def test_a_link_that_leads_nowhere_yet(scene: Scene, tmp_path: Path) -> None:
    """systemd-resolved's /etc/resolv.conf."""
    image = layer(tmp_path, "image", "etc")
    (image / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    outcome = scene.run("cat", "/etc/resolv.conf", lower=(str(image), scene.base))
    assert outcome.stdout == Path("/etc/resolv.conf").read_text()
    assert outcome.written == []


def test_a_link_does_not_lead_out_of_the_root(scene: Scene, tmp_path: Path) -> None:
    outside = layer(tmp_path, "outside")
    image = layer(tmp_path, "image", "etc")
    (image / "etc" / "hosts").symlink_to(f"../../../../../../..{outside}/hosts")
    (image / "cache").symlink_to(str(outside))
    mounts = (Mount("tmpfs", "/cache/x"), Mount("file", "/cache/y", data=b"secret"))
    outcome = scene.sh("touch /cache/x/file; cat /cache/y", lower=(str(image), scene.base), mounts=mounts)
    assert (outcome.status, outcome.stdout) == (0, "secret")
    assert tree(str(outside)) == []
    assert outcome.written == []


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_link_in_place_of_proc_sys_or_dev_is_refused(scene: Scene, tmp_path: Path, name: str) -> None:
    image = layer(tmp_path, "image")
    (image / name).symlink_to("etc")
    with pytest.raises(CommandError, match=f"/{name}") as caught:
        scene.run("true", lower=(str(image), scene.base))
    assert caught.value.code == "step/mount"


def test_links_that_lead_in_circles_are_refused(scene: Scene, tmp_path: Path) -> None:
    image = layer(tmp_path, "image", "etc")
    (image / "etc" / "hosts").symlink_to("hosts")
    with pytest.raises(CommandError, match="symbolic links"):
        scene.run("true", lower=(str(image), scene.base))


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        (Mount("tmpfs", "/bin/busybox"), "not a directory"),
        (Mount("tmpfs", "/bin/busybox/x"), "ot a directory"),
        (Mount("file", "/home", data=b""), "is a directory"),
        (Mount("file", "/etc", data=b""), "another mount needs"),
        (Mount("tmpfs", "/"), "root"),
        (Mount("tmpfs", "../.."), "root"),
    ],
)
def test_a_mount_that_cannot_be(scene: Scene, mount: Mount, reason: str) -> None:
    with pytest.raises(CommandError, match=reason) as caught:
        scene.run("true", mounts=(mount,))
    assert (caught.value.code, caught.value.status) == ("step/mount", 126)


def test_a_source_that_is_missing(scene: Scene) -> None:
    with pytest.raises(HostError, match="/no/such"):
        scene.run("true", mounts=(Mount("bind", "/x", source="/no/such"),))


# Kinds of mounts


def test_read_only_and_writable_binds(scene: Scene, tmp_path: Path) -> None:
    source = layer(tmp_path, "source")
    mounts = (Mount("bind", "/ro", str(source), read_only=True), Mount("bind", "/rw", str(source)))
    outcome = scene.sh("touch /ro/a; touch /rw/b", mounts=mounts)
    assert "Read-only" in outcome.stderr
    assert tree(str(source)) == ["b"]


def test_a_bind_of_one_file(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    outcome = scene.run("cat", "/opt/x", mounts=(Mount("bind", "/opt/x", str(tmp_path / "file")),))
    assert outcome.stdout == "content"
    assert outcome.written == []


def test_a_subpath_stays_within_its_source(scene: Scene, tmp_path: Path) -> None:
    source = layer(tmp_path, "source", "etc", "in")
    (source / "etc" / "passwd").write_text("mine")
    (source / "out").symlink_to("/etc")
    mounts = (Mount("bind", "/x", str(source), subpath="in/../out"),)
    assert scene.run("cat", "/x/passwd", mounts=mounts).stdout == "mine"


def test_an_overlay_as_a_source(scene: Scene, tmp_path: Path) -> None:
    """What is written to a `rw` bind of a stage is thrown away: it goes to an upper of its own."""
    lower = layer(tmp_path, "lower", "src/in")
    upper, work = layer(tmp_path, "upper"), layer(tmp_path, "work")
    for subpath, made in (("", "made"), ("src", "src/made")):
        overlay = Overlay((str(lower),), str(upper), str(work))
        mounts = (Mount("bind", "/x", overlay, subpath=subpath),)
        outcome = scene.sh("ls /x; touch /x/made", mounts=mounts)
        assert outcome.written == []
        assert made in tree(str(upper))
        assert tree(str(lower)) == ["src", "src/in"]
        work = layer(tmp_path, "work" + made.replace("/", "-"))
    read_only = Mount("bind", "/x", Overlay((str(lower),)), subpath="src", read_only=True)
    assert scene.run("ls", "/x", mounts=(read_only,)).stdout == "in\n"


def test_a_detached_mount_as_a_source_stays_the_callers(scene: Scene, tmp_path: Path) -> None:
    first, second = layer(tmp_path, "first", "a"), layer(tmp_path, "second", "b")
    fd = detached(Overlay((str(first), str(second))))
    try:
        for _ in range(2):
            assert scene.run("ls", "/x", mounts=(Mount("bind", "/x", fd),)).stdout == "a\nb\n"
        assert sorted(os.listdir(f"/proc/self/fd/{fd}")) == ["a", "b"]
    finally:
        os.close(fd)


def test_a_directory_fd_as_a_source(scene: Scene, tmp_path: Path) -> None:
    fd = os.open(layer(tmp_path, "source", "a/b"), os.O_PATH)
    try:
        assert scene.run("ls", "/x", mounts=(Mount("bind", "/x", fd, subpath="a"),)).stdout == "b\n"
    finally:
        os.close(fd)


def test_tmpfs_has_size_owner_and_mode(scene: Scene) -> None:
    mounts = (Mount("tmpfs", "/t", size=1 << 20, mode=0o750, uid=5, gid=6), Mount("tmpfs", "/u"))
    outcome = scene.sh("stat -c '%a %u %g' /t /u; df -k /t | tail -1; touch /t/x", mounts=mounts)
    assert outcome.lines[:2] == ["750 5 6", "1777 0 0"]
    assert outcome.lines[2].split()[1] == "1024"
    assert outcome.written == []


def test_a_file_in_memory(scene: Scene) -> None:
    secret = Mount("file", "/run/secrets/token", data=b"hunter2", mode=0o400, uid=1000, read_only=True)
    outcome = scene.sh(
        "stat -c '%a %u' /run/secrets/token; cat /run/secrets/token", mounts=(secret,), user="app"
    )
    assert outcome.stdout == "400 1000\nhunter2"
    assert scene.sh("cat /run/secrets/token", mounts=(secret,), user="4242").stdout == ""
    assert outcome.written == []


def test_a_program_in_memory_below_dev(scene: Scene) -> None:
    script = Mount("file", "/dev/pipes/script", data=b"#!/bin/sh\necho ran", mode=0o755, read_only=True)
    outcome = scene.run("/dev/pipes/script", mounts=(script,))
    assert outcome.stdout == "ran\n"
    assert outcome.written == []


def test_mounts_within_mounts(scene: Scene, tmp_path: Path) -> None:
    source = layer(tmp_path, "source", "modules")
    mounts = (
        Mount("bind", "/src", str(source), read_only=True),
        Mount("tmpfs", "/src/modules"),
        Mount("tmpfs", "/t"),
        Mount("file", "/t/deep/file", data=b"x"),
    )
    outcome = scene.sh("touch /src/modules/x && cat /t/deep/file", mounts=mounts)
    assert (outcome.status, outcome.stdout) == (0, "x")
    assert tree(str(source)) == ["modules"]
    missing = (mounts[0], Mount("tmpfs", "/src/missing"))
    with pytest.raises(CommandError, match="Read-only"):
        scene.run("true", mounts=missing)


def test_a_mount_of_many_files_in_memory_fits(scene: Scene) -> None:
    mounts = tuple(Mount("file", f"/m/{number}", data=b"x" * (8 << 20)) for number in range(10))
    assert scene.sh("cat /m/* | wc -c", mounts=mounts).stdout.strip() == str(80 << 20)


# The kernel's file systems


def test_dev_has_what_dockers_has(scene: Scene) -> None:
    outcome = scene.sh("ls /dev; stat -c '%a %t:%T' /dev/null /dev/tty; readlink /dev/ptmx; readlink /dev/fd")
    names = [
        "fd",
        "full",
        "mqueue",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    ]
    assert outcome.lines == [*names, "666 1:3", "666 5:0", "pts/ptmx", "/proc/self/fd"]


def test_devices_work(scene: Scene) -> None:
    script = (
        "head -c3 /dev/zero | od -An -tx1; head -c9 /dev/urandom | wc -c; echo > /dev/null; echo > /dev/full"
    )
    outcome = scene.sh(script)
    assert outcome.stdout.split() == ["00", "00", "00", "9"]
    assert "No space" in outcome.stderr


def test_the_hosts_devices_are_not_reached_through_ours(scene: Scene) -> None:
    before = os.stat("/dev/null")
    assert scene.sh("chmod 600 /dev/null && chown 5 /dev/null").status == 0
    assert scene.run("true", stdin=None).status == 0
    after = os.stat("/dev/null")
    assert (after.st_mode, after.st_uid, after.st_ctime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_ctime_ns,
    )


def test_dev_shm(scene: Scene) -> None:
    outcome = scene.sh("df -k /dev/shm | tail -1; stat -c %a /dev/shm; touch /dev/shm/x", shm_size=1 << 20)
    assert outcome.lines[0].split()[1] == "1024"
    assert outcome.lines[1] == "1777"


def test_proc_shows_this_pid_namespace(scene: Scene) -> None:
    outcome = scene.sh("ls /proc | grep '^[0-9]*$' | sort -n; echo $$")
    assert outcome.lines[:2] == ["1", "2"]
    assert outcome.lines[-1] == "2"


def existing(*paths: str) -> list[str]:
    """Return those that this kernel has."""
    return [path for path in paths if os.path.exists(path)]


@pytest.mark.parametrize(
    "path", existing("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts")
)
def test_files_that_are_masked(scene: Scene, path: str) -> None:
    assert scene.run("cat", path).stdout == ""


@pytest.mark.parametrize("path", existing("/sys/firmware", "/proc/acpi", "/proc/scsi"))
def test_directories_that_are_masked(scene: Scene, path: str) -> None:
    assert scene.sh(f"ls -A {path}; touch {path}/x").stdout == ""


@pytest.mark.parametrize(
    "path",
    existing("/proc/sys/kernel/hostname", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_seqnum"),
)
def test_what_cannot_be_written(scene: Scene, path: str) -> None:
    assert "Read-only" in scene.sh(f"echo x > {path}").stderr


def test_a_disk_cannot_be_opened(scene: Scene, tmp_path: Path) -> None:
    """Neither through a node that the command makes, nor through one that a layer or a bind mount brings."""
    disk = os.stat("/").st_dev
    image, source = layer(tmp_path, "image"), layer(tmp_path, "source")
    for place in (image, source):
        os.mknod(place / "disk", 0o60600, disk)
    numbers = f"{os.major(disk)} {os.minor(disk)}"
    script = f"for d in / /dev /dev/shm /t /bind; do mknod $d/made b {numbers} && head -c1 $d/made; done; "
    script += "head -c1 /disk /bind/disk; exit 0"
    mounts = (Mount("tmpfs", "/t"), Mount("bind", "/bind", str(source)))
    outcome = scene.sh(script, lower=(str(image), scene.base), mounts=mounts)
    assert outcome.stderr.count("Permission denied") == 7


def test_the_host_sees_no_mount_while_a_step_runs(scene: Scene, tmp_path: Path) -> None:
    before = mount_table()
    seen: list[str] = []
    request = scene.request(
        "sh", "-c", "echo; sleep 0.05", mounts=(Mount("tmpfs", "/t"), Mount("bind", "/b", str(tmp_path)))
    )
    scene.executor.run(request, lambda *_: seen.append(mount_table()))
    assert seen == [before]
    assert mount_table() == before
