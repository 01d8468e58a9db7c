"""`pybuild tags`, from a real docker-registry, and page by page."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures import images
from tests.registry_fixtures.faulty import Fault, FaultyProxy
from tests.registry_fixtures.registry import Registry

pytestmark = pytest.mark.peer("docker-registry", "skopeo", "umoci")

TAGS = ["1.10", "1.2", "1.9", "latest"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = os.fspath(tmp_path_factory.mktemp("tags"))
    with Registry(os.path.join(directory, "registry")) as running:
        layout = images.make_layout(os.path.join(directory, "layout"), [{"a": b"b"}])
        for tag in TAGS:
            images.push(layout, running, f"team/app:{tag}")
        yield running


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    return Pybuild(str(tmp_path / "store"), str(tmp_path))


def _page(tags: object, link: str = "", path: str = "tags/list") -> Fault:
    headers = {"Link": link} if link else {}
    return Fault("status", path, status=200, headers=headers, body=json.dumps({"tags": tags}).encode())


def test_tags_are_listed_as_wished(pybuild: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/team/app"
    assert sorted(pybuild("tags", name).splitlines()) == TAGS
    assert pybuild("tags", "--sort", "name", f"docker://{name}").splitlines() == TAGS
    natural = ["1.2", "1.9", "1.10", "latest"]
    assert pybuild("tags", "--sort=natural", name).splitlines() == natural
    assert pybuild("tags", "--sort=natural", "-r", "--limit", "2", name).splitlines() == ["latest", "1.10"]


def test_json_is_that_of_skopeo(pybuild: Pybuild, registry: Registry) -> None:
    name = f"{registry.address}/team/app"
    theirs = json.loads(images.skopeo("list-tags", "--tls-verify=false", f"docker://{name}"))
    assert json.loads(pybuild("tags", "--json", name)) == theirs


def test_what_is_not_there_and_what_is_no_repository(pybuild: Pybuild, registry: Registry) -> None:
    done = pybuild.try_("tags", f"{registry.address}/none")
    assert done.code == 3 and "registry/not-found" in done.err
    for wrong in (f"{registry.address}/team/app:1", f"{registry.address}/team/app@sha256:{'0' * 64}"):
        assert pybuild.try_("tags", wrong).code == 2
    assert pybuild.try_("tags", "--limit", "0", "x").code == 2


def test_pages_are_followed_to_the_last(pybuild: Pybuild, registry: Registry) -> None:
    pages = [
        _page(["a", "b"], '</v2/team/app/tags/list?last=b&n=2>; rel="next"'),
        _page(["c"], "<list?last=c>; rel=next", "last=b"),
        _page(None, path="last=c"),
    ]
    with FaultyProxy(registry.port, *pages) as proxy:
        assert pybuild("tags", f"{proxy.address}/team/app").splitlines() == ["a", "b", "c"]
        assert [seen.path for seen in proxy.seen] == [
            "/v2/team/app/tags/list?n=1000",
            "/v2/team/app/tags/list?last=b&n=2",
            "/v2/team/app/tags/list?last=c",
        ]


def test_a_limit_asks_for_no_more_than_it_needs(pybuild: Pybuild, registry: Registry) -> None:
    link = '</v2/team/app/tags/list?last=b>; rel="next"'
    with FaultyProxy(registry.port, _page(["a", "b"], link)) as proxy:
        assert pybuild("tags", "--limit=2", f"{proxy.address}/team/app").splitlines() == ["a", "b"]
        assert [seen.path for seen in proxy.seen] == ["/v2/team/app/tags/list?n=2"]


def test_a_registry_that_refuses_the_size_of_pages_is_asked_without(
    pybuild: Pybuild, registry: Registry
) -> None:
    with FaultyProxy(registry.port, Fault("status", "n=1000", status=400)) as proxy:
        assert sorted(pybuild("tags", f"{proxy.address}/team/app").splitlines()) == TAGS


@pytest.mark.parametrize(
    "link",
    [
        '<http://evil.example/v2/team/app/tags/list?last=b>; rel="next"',
        '</elsewhere?last=b>; rel="next"',
        '</v2/../secret?last=b>; rel="next"',
        '</v2/team/app/tags/list?n=1000>; rel="next"',
    ],
)
def test_a_link_elsewhere_or_in_a_circle_is_refused(pybuild: Pybuild, registry: Registry, link: str) -> None:
    with FaultyProxy(registry.port, _page(["a"], link)) as proxy:
        done = pybuild.try_("tags", f"{proxy.address}/team/app")
        assert done.code == 3 and "image/format" in done.err
        assert len(proxy.seen) == 1


@pytest.mark.parametrize("tags", [["\x1b[2J"], ["a", 1], {"a": 1}, ["x" * 200]])
def test_what_is_no_tag_is_an_error(pybuild: Pybuild, registry: Registry, tags: object) -> None:
    with FaultyProxy(registry.port, _page(tags)) as proxy:
        done = pybuild.try_("tags", f"{proxy.address}/team/app")
        assert done.code == 3 and "\x1b" not in done.err
