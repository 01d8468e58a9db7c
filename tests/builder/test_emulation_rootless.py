"""Steps for another architecture without root, with subordinate ids or a single one: the image is root's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build_fixtures.foreign import APPLETS
from tests.command_fixtures.pybuild import Pybuild
from tests.rootless_fixtures.user import User

pytestmark = pytest.mark.peer("newuidmap", "qemu-aarch64-static", "mmdebstrap")

RECIPE = f"""
FROM --platform=linux/arm64 scratch
COPY --chmod=755 busybox /bin/busybox
ENV PATH=/bin
RUN ["/bin/busybox", "sh", "-c", "for n in {" ".join(APPLETS)}; do /bin/busybox ln -s busybox /bin/$n; done"]
RUN uname -m > /machine && mkdir /d && chown 12:13 /d && chmod 4750 /bin/busybox && chmod 755 /bin/busybox
USER 1000:1000
RUN test $(id -u) = 1000 && test $(uname -m) = aarch64
TEST grep -q aarch64 /machine
CMD ["uname", "-m"]
"""


@pytest.fixture(params=["subordinate", "single"])
def user(request: pytest.FixtureRequest, tmp_path: Path, busybox_arm64: bytes) -> Iterator[User]:
    made = User(str(tmp_path), subordinate=request.param == "subordinate")
    path = os.path.join(made.cwd, "busybox")
    Path(path).write_bytes(busybox_arm64)
    os.chmod(path, 0o644)
    yield made
    assert made.leftovers() == []


def test_the_image_is_roots_and_runs(user: User, tmp_path: Path) -> None:
    root = Pybuild(str(tmp_path / "roots-store"), user.cwd)
    options = ("--platform", "linux/arm64", "-t", "arm")
    environment = {"SOURCE_DATE_EPOCH": "1700000000"}
    assert user.build(RECIPE, *options, **environment) == root.build(RECIPE, *options, **environment)
    assert user("run", "--rm", "arm") == "aarch64\n"
    owner = json.loads(user("run", "--rm", "arm", "stat", "-c", "[%u, %g]", "/d"))
    assert owner == [12, 13] or not user.subordinate


def test_nothing_is_registered_on_the_host(user: User) -> None:
    place = "/proc/sys/fs/binfmt_misc"
    before = os.listdir(place) if os.path.isdir(place) else []
    user.build(RECIPE, "--platform", "linux/arm64")
    assert (os.listdir(place) if os.path.isdir(place) else []) == before
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        assert not [line for line in file if user.home in line]
