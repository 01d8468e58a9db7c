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
from tests.registry_fixtures.faulty import FaultyProxy
from tests.registry_fixtures.registry import Registry

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
    assert "5 steps run, 1 cached" in doubting.err


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
    assert required.code == 3
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


@pytest.mark.peer("docker-registry")
def test_three_stores_share_a_cache_in_a_registry(
    machine: Callable[[str], Pybuild], work: Path, tmp_path: Path
) -> None:
    """The first builds; the others run no step, and ask for no blob: neither of the base nor of a step. The
    stage on the base takes few questions to the cache."""
    with Registry(os.fspath(tmp_path / "registry")) as registry:
        (work / "base.rec").write_text("FROM scratch\nCOPY busybox /bin/busybox\n")
        machine("maker")("build", "base.rec", "-t", f"{registry.address}/base:1", "--push")
        steps = "".join(f'RUN ["/bin/busybox", "sh", "-c", "echo {n} > /{n}"]\n' for n in range(50))
        (work / "app.rec").write_text(f"FROM {registry.address}/base:1\n{steps}")
        cache = f"type=registry,ref={registry.address}/team/cache"
        one = build(machine("a"), "--cache-to", f"{cache},key=./team.key")
        for name in ("b", "c"):
            with FaultyProxy(registry.port) as proxy:
                seen = f"type=registry,ref={proxy.address}/team/cache,trust=./team.pub,name=team"
                before = registry.read_log().count("GET /v2/base/blobs/")
                done = build(machine(name), "--cache-from", seen)
                assert done.out == one.out
                assert done.err.count("from team") == 50
                assert overlays(machine(name)) == 0
                assert not [path for path in proxy.paths("/blobs/") if "/uploads/" not in path]
                assert len(proxy.seen) <= 3, [f"{each.method} {each.path}" for each in proxy.seen]
                # The base's config alone.
                assert registry.read_log().count("GET /v2/base/blobs/") - before <= 2


def test_two_machines_that_need_a_step_at_once_run_it_once(
    machine: Callable[[str], Pybuild], work: Path
) -> None:
    (work / "app.rec").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\n"
        'RUN ["/bin/busybox", "sh", "-c", "sleep 3; cat /proc/sys/kernel/random/uuid > /once"]\n'
    )
    both = [
        machine(name).start(
            "build", "app.rec", "--cache-to", f"{TO},mode=read-write", "--progress", "plain",
            env={"SOURCE_DATE_EPOCH": "1"},
        )
        for name in ("a", "b")
    ]  # fmt: skip
    told = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert sum("another machine is running it" in err for _, err in told) == 1


def test_an_entry_that_was_tampered_with_is_put_right_by_its_signer(
    machine: Callable[[str], Pybuild], work: Path
) -> None:
    """And hides nothing meanwhile: what is not believed is a miss."""
    build(machine("a"), "--cache-to", TO)
    cache = work.parent / "cache"
    for path in [*cache.glob("entries/*/*/*"), *cache.glob("lines/*/*/*")]:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().replace(b'"payload":"eyJ', b'"payload":"eyI'))
    assert "from cache" not in build(machine("b"), "--cache-from", FROM).err
    build(machine("c"), "--cache-to", TO)
    assert build(machine("d"), "--cache-from", FROM).err.count("from cache") == 6


def test_an_entry_that_has_expired_is_told_anew(machine: Callable[[str], Pybuild]) -> None:
    build(machine("a"), "--cache-to", TO + ",ttl=1s")
    time.sleep(2.1)
    late = build(machine("b"), "--cache-from", FROM)
    assert "from cache" not in late.err
    assert "it has expired" in late.err
    build(machine("c"), "--cache-to", TO)
    assert build(machine("d"), "--cache-from", FROM).err.count("from cache") == 6
