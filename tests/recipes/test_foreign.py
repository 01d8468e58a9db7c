"""The recipes of recipes/ build for arm64, their tests pass, their images run: through QEMU, on this host.

`make foreign` builds all of them; otherwise it is the one that all others stand on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cache.oci.platform import Platform
from tests.recipes.test_recipes import Recipes, ask, build_found, copied, free_port, mirrored

pytestmark = pytest.mark.peer("qemu-aarch64-static", "mmdebstrap")

OTHER = "amd64" if Platform.host().architecture == "arm64" else "arm64"
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}[OTHER]
PLATFORM = ("--platform", f"linux/{OTHER}")
CHOSEN = os.environ.get("FOREIGN", "debian").split()


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Recipes:
    return copied(tmp_path_factory)


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    """The host has no handler afterwards that it had not before."""
    before = _handlers()
    yield
    assert _handlers() == before


def _handlers() -> tuple[str, list[str]]:
    place = "/proc/sys/fs/binfmt_misc"
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = "".join(line for line in file if "binfmt" in line)
    return mounts, os.listdir(place) if os.path.isdir(place) else []


def chosen(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(name not in CHOSEN, reason="a part of `make foreign`")


@chosen("static")
def test_the_static_binary_answers(recipes: Recipes) -> None:
    recipes.build("static.rec", "hello", *PLATFORM)
    assert recipes.inspect("hello")["Architecture"] == OTHER
    with recipes.service("hello") as base:
        assert ask(base + "/") == (200, b"Hello from a file system that holds one file.\n")


@chosen("debian")
def test_debian_is_of_that_architecture_and_has_nothing_of_the_emulator(recipes: Recipes) -> None:
    recipes.build("debian.rec", "debian", *PLATFORM)
    script = "uname -m; dpkg --print-architecture; find / -xdev -name '*qemu*'"
    shown = recipes.run("run", "--rm", "debian", "sh", "-c", script)
    assert shown.stdout.split() == [MACHINE, OTHER], shown.stderr


@chosen("java")
def test_the_java_service_keeps_notes(recipes: Recipes) -> None:
    recipes.build("java.rec", "notes", *PLATFORM)
    with recipes.service("notes") as base:
        assert ask(f"{base}/hello?name=Ada") == (200, b'{"greeting":"Hello, Ada!"}')
        assert ask(f"{base}/notes", body=b"milk") == (201, b'{"id":1,"text":"milk"}')


@chosen("python")
def test_the_python_service_keeps_links(recipes: Recipes) -> None:
    recipes.build("python.rec", "links", *PLATFORM)
    with recipes.service("links") as base:
        assert ask(f"{base}/health")[0] == 200


@chosen("found")
def test_the_found_dockerfile_serves_its_pages(
    recipes: Recipes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with mirrored(recipes, tmp_path_factory, *PLATFORM) as mirror:
        build_found(recipes, mirror, *PLATFORM)
    with recipes.service("site", port=free_port()) as base:
        assert ask(f"{base}/health") == (200, b"up\n")
