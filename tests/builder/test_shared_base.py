"""Forty apps on one recipe: what is below them is stored, sent and built once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures.counting import CountingProxy
from tests.registry_fixtures.faulty import Fault, FaultyProxy
from tests.registry_fixtures.registry import Registry

pytestmark = pytest.mark.peer("busybox", "docker-registry")

_APPS = 40
_AT_ONCE = 4
_STEPS = (
    "COPY busybox /bin/busybox",
    "COPY classes /jdk/classes",
    'RUN ["/bin/busybox", "sh", "-c", "cat /proc/sys/kernel/random/uuid > /jdk/built"]',
)
_JDK = "\n".join(("FROM scratch", *_STEPS, "ENV JAVA_HOME=/jdk", ""))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The JDK's recipe, those of the apps, and what they copy."""
    found = tmp_path / "work"
    (found / "jdk").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, found / "jdk/busybox")
    (found / "jdk/classes").write_bytes(random.Random(1).randbytes(2_000_000))
    (found / "jdk/jdk.rec").write_text(_JDK)
    for number in range(_APPS):
        (found / f"app{number}").write_text(f"app {number}\n")
        (found / f"app{number}.rec").write_text(
            f'FROM ./jdk/jdk.rec\nCOPY app{number} /app\nCMD ["/bin/busybox", "cat", "/app"]\n'
        )
    return found


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[CountingProxy]:
    with Registry(os.fspath(tmp_path / "registry")) as registry, CountingProxy(registry.port) as found:
        yield found


def layers_of(proxy: CountingProxy, repository: str) -> list[str]:
    """Return the digests of the layers of an image in the registry, and see that it has them."""
    request = urllib.request.Request(
        f"http://{proxy.address}/v2/{repository}/manifests/1",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request) as answer:
        manifest = json.load(answer)
    found = [layer["digest"] for layer in manifest["layers"]]
    for digest in found:
        with urllib.request.urlopen(f"http://{proxy.address}/v2/{repository}/blobs/{digest}") as answer:
            assert f"sha256:{hashlib.sha256(answer.read()).hexdigest()}" == digest
    return found


def test_forty_apps_on_one_jdk(work: Path, tmp_path: Path, proxy: CountingProxy) -> None:
    """Two machines build and push twenty apps each, several at once. The JDK's steps run once, its layers go
    to the registry once and come to the other machine once, are stored once on each, and in every app's
    repository there is the same."""
    machines = [Pybuild(os.fspath(tmp_path / name), os.fspath(work)) for name in "ab"]
    cache = f"type=registry,ref={proxy.address}/cache,trust=any,mode=read-write"

    def build(number: int) -> str:
        app = f"app{number}"
        done = machines[number % 2].try_(
            "build", f"{app}.rec", "-t", f"{proxy.address}/{app}:1", "--push", "--cache-to", cache,
            "--progress", "plain", SOURCE_DATE_EPOCH="1",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert "warning" not in done.err.lower(), done.err
        return done.err

    told = [build(0), build(1)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        told += pool.map(build, range(2, _APPS))

    ran = [int(re.findall(r"(\d+) steps? run", text)[0]) for text in told]
    assert ran == [len(_STEPS) + 1] + [1] * (_APPS - 1)
    sent = Counter(digest for digest, _ in proxy.uploaded())
    fetched = Counter(digest for digest, _ in proxy.downloaded())
    shown = [layers_of(proxy, f"app{number}") for number in range(_APPS)]
    jdk = shown[0][: len(_STEPS)]
    assert all(layers[:-1] == jdk for layers in shown)
    assert len({layers[-1] for layers in shown}) == _APPS
    assert [sent[digest] for digest in jdk] == [1, 1, 1]
    assert [fetched[digest] for digest in jdk] == [1, 1, 1]
    built = set()
    for number, machine in enumerate(machines):
        stored = [name for name in os.listdir(f"{machine.root}/overlay2") if name != "l"]
        assert len(stored) == len(_STEPS) + _APPS // 2
        image = f"{proxy.address}/app{number}:1"
        assert machine("run", image) == f"app {number}\n"
        built.add(machine("run", image, "/bin/busybox", "cat", "/jdk/built"))
    assert len(built) == 1


def test_what_the_registry_lends_does_not_come_here(work: Path, tmp_path: Path, proxy: CountingProxy) -> None:
    """A machine that runs nothing pushes an image without a byte of its layers: by a build, and later."""
    cache = f"type=registry,ref={proxy.address}/cache,trust=any"
    one = Pybuild(os.fspath(tmp_path / "a"), os.fspath(work))
    first = one("build", "app0.rec", "--cache-to", cache, SOURCE_DATE_EPOCH="1")
    other = Pybuild(os.fspath(tmp_path / "b"), os.fspath(work))
    proxy.reopen()
    name = f"{proxy.address}/lent:1"
    assert (
        other("build", "app0.rec", "-t", name, "--push", "--cache-from", cache, SOURCE_DATE_EPOCH="1")
        == first
    )
    other("push", name, f"{proxy.address}/later:1")
    assert proxy.downloaded() == []
    assert [digest for digest, _ in proxy.uploaded()] == [first.strip()]
    assert os.listdir(f"{other.root}/overlay2") == ["l"]
    assert layers_of(proxy, "lent") == layers_of(proxy, "later")
    one("push", first.strip(), f"{proxy.address}/own:1")
    assert layers_of(proxy, "own") == layers_of(proxy, "lent"), "the same manifest wherever it is made"


def test_what_nobody_lends_any_more_is_made_again(work: Path, tmp_path: Path, proxy: CountingProxy) -> None:
    cache = f"type=registry,ref={proxy.address}/cache,trust=any"
    one = Pybuild(os.fspath(tmp_path / "a"), os.fspath(work))
    one("build", "app0.rec", "--cache-to", cache, SOURCE_DATE_EPOCH="1")
    for digest, _ in proxy.uploaded():
        path = f"/v2/cache/blobs/{digest}"
        request = urllib.request.Request(f"http://{proxy.address}{path}", method="DELETE")
        urllib.request.urlopen(request).close()
    other = Pybuild(os.fspath(tmp_path / "b"), os.fspath(work))
    done = other.try_(
        "build", "app0.rec", "-t", f"{proxy.address}/again:1", "--push", "--cache-from", cache,
        SOURCE_DATE_EPOCH="1",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "layer/unavailable" in done.err or "is done again" in done.err
    assert len(layers_of(proxy, "again")) == len(_STEPS) + 1


def test_what_is_not_mounted_after_all_is_fetched_and_sent(work: Path, tmp_path: Path) -> None:
    with Registry(os.fspath(tmp_path / "registry")) as registry, FaultyProxy(registry.port) as proxy:
        cache = f"type=registry,ref={proxy.address}/cache,trust=any"
        one = Pybuild(os.fspath(tmp_path / "a"), os.fspath(work))
        one("build", "app0.rec", "--cache-to", cache, SOURCE_DATE_EPOCH="1")
        proxy.faults.append(Fault("status", "mount=", times=99, status=403))
        other = Pybuild(os.fspath(tmp_path / "b"), os.fspath(work))
        name = f"{proxy.address}/sent:1"
        other("build", "app0.rec", "-t", name, "--push", "--cache-from", cache, SOURCE_DATE_EPOCH="1")
        assert proxy.faults[0].times == 99 - len(_STEPS) - 1
        with CountingProxy(registry.port) as counting:
            assert len(layers_of(counting, "sent")) == len(_STEPS) + 1
