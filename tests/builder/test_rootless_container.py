"""Builds within a container that has no privileges: with podman's defaults, and with less."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import ARGV, ROOT, Pybuild
from tests.exporter_fixtures.podman import Podman
from tests.rootless_fixtures import scene

pytestmark = pytest.mark.peer("podman", "runc")

NO_FILTER = "--security-opt=seccomp=unconfined"
NO_MASKS = "--security-opt=unmask=ALL"


class Container:
    """Runs pybuild in containers of this machine's own root, changed nowhere, with a volume at /vol."""

    def __init__(self, podman: Podman, directory: Path) -> None:
        self._podman = podman
        self.volume, self.context = directory / "volume", directory / "context"
        for path in (directory, self.volume, self.context):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        scene.write(str(self.context))
        (self.context / "app.rec").write_text(scene.APP)
        self._volumes = {str(self.volume): "/vol", str(self.context): "/context"}
        for path in (ROOT, sys.prefix, sys.base_prefix):
            for above in reversed(Path(path).parents):
                if not above.stat().st_mode & stat.S_IXOTH:
                    stand_in = directory / f"open{str(above).replace('/', '-')}"
                    (stand_in / Path(path).relative_to(above)).mkdir(parents=True, exist_ok=True)
                    self._volumes[str(stand_in)] = str(above)
                    break
        self._volumes |= {path: path for path in (ROOT, sys.prefix, sys.base_prefix)}

    def __call__(
        self, *options: str, command: tuple[str, ...] = ("build", "app.rec"), root: str = "/vol/store"
    ) -> subprocess.CompletedProcess[str]:
        volumes = [f"--volume={source}:{target}" for source, target in self._volumes.items()]
        more = os.environ.get("PYTHONPATH")
        variables = {
            "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, more))), "PYTHONDONTWRITEBYTECODE": "1",
            "PYBUILD_ROOT": root, "SOURCE_DATE_EPOCH": scene.EPOCH, "HOME": "/vol",
        }  # fmt: skip
        return subprocess.run(
            ["podman", "run", "--rm", "--network=host", "--workdir=/context", *volumes,
             *(f"--env={name}={value}" for name, value in variables.items()),
             *options, "--rootfs", "/:O", *ARGV, *command],
            env=self._podman.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    podman = Podman(str(tmp_path_factory.mktemp("podman") / "podman"))
    yield podman
    podman.close()


@pytest.fixture
def container(podman: Podman, tmp_path: Path) -> Container:
    return Container(podman, tmp_path)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Root's image of the scene."""
    directory = tmp_path_factory.mktemp("root")
    (directory / "work").mkdir()
    scene.write(str(directory / "work"))
    root = Pybuild(str(directory / "store"), str(directory / "work"))
    return root.build(scene.APP, SOURCE_DATE_EPOCH=scene.EPOCH)


@pytest.mark.parametrize("options", [(), (NO_FILTER,)], ids=["defaults", "no-filter"])
def test_root_of_a_container_builds_what_root_does(
    container: Container, image: str, options: tuple[str, ...]
) -> None:
    """Without CAP_SYS_ADMIN, with /proc and /sys masked."""
    done = container(*options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == image
    assert os.listdir(container.volume / "store/tmp") == []


@pytest.mark.parametrize("masks", [(), (NO_MASKS,)], ids=["masked", "unmasked"])
def test_a_user_without_any_capability_builds_what_root_does(
    container: Container, image: str, masks: tuple[str, ...]
) -> None:
    """As in a pod with runAsUser, allowPrivilegeEscalation: false and no capabilities."""
    options = ("--cap-drop=ALL", "--user=1000", "--security-opt=no-new-privileges", NO_FILTER)
    done = container(*options, *masks)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == image


def test_with_plain_copies_as_well(container: Container, image: str) -> None:
    command = ("build", "app.rec", "--snapshotter=copy")
    done = container("--cap-drop=ALL", "--user=1000", NO_FILTER, command=command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == image


def test_without_overlays_and_without_a_fuse_device_it_builds_by_copies(
    container: Container, image: str
) -> None:
    """No capability, no /dev/fuse, and a kernel that refuses a user's overlay: its option userxattr, here."""
    profile = container.volume / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["fsconfig"], '
        '"action": "SCMP_ACT_ERRNO", "errnoRet": 22, '
        '"args": [{"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]}]}'
    )
    options = ("--cap-drop=ALL", "--user=1000", "--security-opt=no-new-privileges")
    confined = (*options, f"--security-opt=seccomp={profile}")
    done = container(*confined)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == image
    assert os.listdir(container.volume / "store/tmp") == []
    told = container(*confined, command=("doctor",))
    assert told.returncode == 0, told.stdout
    assert " run as they are" in told.stdout, told.stdout  # found out without an overlay
    assert "plain copies" in told.stdout and "cannot have /dev/fuse" in told.stdout, told.stdout


def test_root_without_any_capability_is_told_what_it_lacks(container: Container) -> None:
    done = container("--cap-drop=ALL", NO_FILTER)
    assert done.returncode == 4
    assert "--cap-add SETFCAP" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_filter_is_told(container: Container, tmp_path: Path) -> None:
    """As docker's default profile is: it denies namespaces to who lacks CAP_SYS_ADMIN."""
    profile = tmp_path / "volume/profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": '
        '[{"names": ["unshare", "clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}'
    )
    done = container("--user=1000", f"--security-opt=seccomp={profile}")
    assert done.returncode == 4
    assert "a seccomp filter refuses one" in done.stderr
    assert "seccomp=unconfined" in done.stderr
    told = container("--user=1000", f"--security-opt=seccomp={profile}", command=("doctor",))
    assert told.returncode == 4
    assert "a seccomp filter refuses one" in told.stdout


def test_a_container_whose_store_is_no_volume_is_told(container: Container) -> None:
    done = container(root="/var/tmp/store")
    assert done.returncode == 4
    assert "in a container, on a volume" in done.stderr


@pytest.mark.parametrize("user", ["0", "1000"])
def test_a_step_that_is_shown_the_containers_processes_has_no_way_to_them(
    container: Container, user: str
) -> None:
    tries = (
        "for p in /proc/[0-9]*; do test -r $p/environ && cat $p/environ; ls $p/root/vol $p/cwd/app.rec; done"
    )
    text = f"{scene.BASE}RUN {tries}; cat /proc/self/status | grep -c ^Pid; test -d /proc/self/fd\n"
    (container.context / "app.rec").write_text(text)
    done = container(f"--user={user}", NO_FILTER, command=("build", "app.rec", "--progress=plain"))
    assert done.returncode == 0, done.stderr
    told = done.stderr.replace(tries, "")
    assert "PYBUILD_ROOT" not in told
    assert "/root/vol:\n" not in told
    assert not any(line.endswith("/cwd/app.rec") for line in told.splitlines() if "cannot" not in line)


def test_what_is_used_in_place_of_the_overlay_is_said_once(container: Container) -> None:
    """By a build that has not asked for it: here one whose profile knows only the older way to mount."""
    profile = container.volume / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": '
        '[{"names": ["fsopen"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}'
    )
    options = ("--cap-drop=ALL", "--user=1000", f"--security-opt=seccomp={profile}")
    told = container(*options).stderr
    assert told.count("root filesystems are made by copy, which is slower (overlay: ") == 1
    assert "fsopen: Operation not permitted); fuse-overlayfs: " in told
    asked = container(*options, command=("build", "app.rec", "--snapshotter=copy")).stderr
    assert "fsopen: Operation not permitted" in asked and "which is slower" not in asked
