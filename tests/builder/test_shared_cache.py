"""One shared cache and several stores: what one has run, no other runs; and nobody is believed who is not
named.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.signing import PrivateKey
from tests.command_fixtures.pybuild import Done, Pybuild

pytestmark = pytest.mark.peer("busybox")

RECIPE = """FROM scratch AS tools
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo made > /made; echo ran >> /ran"]
TEST ["/bin/busybox", "test", "-e", "/made"]
FROM scratch
COPY busybox /bin/busybox
COPY --from=tools /made /copied
RUN --mount=type=bind,from=tools,source=/ran,target=/seen ["/bin/busybox", "cp", "/seen", "/kept"]
ENV A=b
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with the recipe, busybox, and two pairs of keys."""
    found = tmp_path / "work"
    found.mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, found / "busybox")
    (found / "app.rec").write_text(RECIPE)
    for name in ("team", "stranger"):
        key = PrivateKey.generate()
        (found / f"{name}.key").write_bytes(key.to_pem())
        (found / f"{name}.pub").write_bytes(key.public.to_pem())
    return found


@pytest.fixture
def machine(tmp_path: Path, work: Path) -> Callable[[str], Pybuild]:
    return lambda name: Pybuild(str(tmp_path / "stores" / name), str(work))


def build(pybuild: Pybuild, *options: str, **env: str) -> Done:
    done = pybuild.try_(
        "build", "app.rec", "--progress", "plain", "--explain", *options, SOURCE_DATE_EPOCH="1", **env
    )
    assert done.code == 0, done.err
    return done


def overlays(pybuild: Pybuild) -> int:
    return len(os.listdir(os.path.join(pybuild.root, "overlay2"))) - 1


TO = "type=dir,dest=../cache,key=./team.key"
FROM = "type=dir,src=../cache,trust=./team.pub"


def test_what_one_machine_ran_another_takes(machine: Callable[[str], Pybuild]) -> None:
    first, second = machine("a"), machine("b")
    one = build(first, "--cache-to", TO)
    two = build(second, "--cache-from", FROM)
    assert two.out == one.out
    assert two.err.count("from cache") == 6, two.err
    assert overlays(second) == 0
    assert not list(Path(second.root, "blobs").rglob("sha256/*"))
    third = build(second, "--cache-from", FROM)
    assert third.out == one.out


def test_its_layers_come_when_they_are_read(machine: Callable[[str], Pybuild], work: Path) -> None:
    build(machine("a"), "--cache-to", TO)
    other = machine("b")
    build(other, "--cache-from", FROM, "-t", "app")
    assert overlays(other) == 0
    assert other("run", "app", "/bin/busybox", "cat", "/copied", "/kept") == "made\nran\n"
    assert overlays(other) == 3
    build(other, "--cache-from", FROM, "-o", "type=dir,dest=out")
    assert (work / "out/kept").read_text() == "ran\n"


def test_an_edited_step_runs_on_what_others_made(machine: Callable[[str], Pybuild], work: Path) -> None:
    build(machine("a"), "--cache-to", TO)
    (work / "app.rec").write_text(RECIPE.replace('"/seen", "/kept"', '"/seen", "/other"'))
    other = machine("b")
    done = build(other, "--cache-from", FROM)
    assert done.err.count("from cache") == 5
    assert "the command changed" in done.err
    assert overlays(other) == 4


@pytest.mark.parametrize(
    ("to", "from_", "reason"),
    [
        ("type=dir,dest=../cache", FROM, "it is not signed"),
        ("type=dir,dest=../cache,key=./stranger.key", FROM, "which is not trusted here"),
        (TO + ",ttl=1s", FROM, "expired"),
    ],
)
def test_an_entry_of_nobody_who_is_named_is_a_miss_that_says_so(
    machine: Callable[[str], Pybuild], to: str, from_: str, reason: str
) -> None:
    build(machine("a"), "--cache-to", to)
    if "ttl" in to:
        time.sleep(2.1)
    done = build(machine("b"), "--cache-from", from_)
    assert "from cache" not in done.err
    assert reason in done.err


def test_what_one_build_believed_another_does_not(machine: Callable[[str], Pybuild]) -> None:
    build(machine("a"), "--cache-to", "type=dir,dest=../cache,key=./stranger.key")
    shared = machine("b")
    believing = build(shared, "--cache-from", "type=dir,src=../cache,trust=./stranger.pub")
    assert believing.err.count("from cache") == 6
    doubting = build(shared, "--cache-from", FROM)
    assert "from cache" not in doubting.err
    assert "5 ran, 1 cached" in doubting.err


def test_without_a_word_on_trust_nothing_is_read(machine: Callable[[str], Pybuild]) -> None:
    done = machine("a").try_("build", "app.rec", "--cache-from", "type=dir,src=../cache")
    assert done.code == 2
    assert "cache/trust" in done.err


def test_a_cache_that_is_down_is_a_warning(machine: Callable[[str], Pybuild], work: Path) -> None:
    (work.parent / "cache").write_text("no directory")
    done = build(machine("a"), "--cache-to", TO, "--cache-from", FROM)
    assert done.err.count("is left out of this build") == 1
    required = machine("b").try_(
        "build", "app.rec", "--cache-to", TO, "--cache-from", FROM, "--cache-required"
    )
    assert required.code == 4
    assert "cache/remote" in required.err
    assert "Traceback" not in required.err


def test_a_layer_that_was_altered_is_made_again(machine: Callable[[str], Pybuild], work: Path) -> None:
    one = build(machine("a"), "--cache-to", TO)
    for blob in (work.parent / "cache/blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(bytes(blob.stat().st_size))
    two = build(machine("b"), "--cache-from", FROM, "-o", "type=dir,dest=out")
    assert two.out == one.out
    assert "layer/unavailable" in two.err or "is done again" in two.err
    assert (work / "out/kept").read_text() == "ran\n"
