"""pybuild lock, --locked and --no-lock, on a real registry that moves tags and goes away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
import tomli

from cache.oci.spec import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST
from tests.command_fixtures.pybuild import Pybuild
from tests.registry_fixtures import images
from tests.registry_fixtures.registry import Registry

pytestmark = pytest.mark.peer("docker-registry", "skopeo", "umoci")


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A layout with the images `one` and `two`, and `arm` for another platform."""
    directory = os.fspath(tmp_path_factory.mktemp("layouts") / "layout")
    for tag, architecture in (("one", "amd64"), ("two", "amd64"), ("arm", "arm64")):
        files = {"version": tag.encode(), "bin/tool": b"#!/bin/sh\n"}
        images.make_layout(directory, [files], tag=tag, architecture=architecture)
    return directory


@pytest.fixture
def registry(tmp_path: os.PathLike[str]) -> Iterator[Registry]:
    with Registry(os.path.join(tmp_path, "registry")) as running:
        yield running


class Moving:
    """A recipe on the tag `team/app:1` of a registry, which can be moved."""

    def __init__(self, pybuild: Pybuild, registry: Registry, layouts: str) -> None:
        self.pybuild = pybuild
        self.registry = registry
        self._layouts = layouts
        self.name = f"{registry.address}/team/app:1"
        self.move("one")
        pybuild.write("app.rec", f"FROM {self.name}\nLABEL a=b\n")

    def move(self, tag: str) -> None:
        images.push(self._layouts, self.registry, "team/app:1", tag=tag)

    def digest(self, tag: str) -> str:
        return images.manifest_digest(self._layouts, tag)

    def layer(self, *options: str, root: str | None = None) -> str:
        """Build; return the DiffID of the base's layer."""
        more = ["--root", root] if root else []
        image_id = self.pybuild("build", "app.rec", *options, *more).strip()
        layers: list[str] = self.pybuild.json("inspect", image_id, *more)[0]["RootFS"]["Layers"]
        return layers[0]

    def lock(self) -> dict[str, object]:
        with open(f"{self.pybuild.cwd}/app.rec.lock", "rb") as file:
            return tomli.load(file)


@pytest.fixture
def moving(pybuild: Pybuild, registry: Registry, layouts: str) -> Moving:
    return Moving(pybuild, registry, layouts)


def test_a_lock_file_has_the_digest_that_the_tag_names_and_nothing_is_pulled_for_it(moving: Moving) -> None:
    told = moving.pybuild("lock", "app.rec")
    assert told.splitlines() == ["wrote app.rec.lock", f"  + {moving.name} {moving.digest('one')}"]
    assert moving.lock() == {"version": 1, "base": [{"name": moving.name, "digest": moving.digest("one")}]}
    assert moving.pybuild("images", "--names") == "box:latest\n"
    assert "/blobs/" in moving.registry.read_log()
    assert moving.registry.read_log().count("GET /v2/team/app/blobs/") <= 2  # the config alone (logged twice)
    assert moving.pybuild("lock", "app.rec") == "app.rec.lock is as it was\n"


def test_a_build_takes_what_is_locked_though_the_tag_has_moved(moving: Moving, tmp_path: object) -> None:
    moving.pybuild("lock", "app.rec")
    first = moving.layer("--no-lock")
    moving.move("two")
    other = moving.layer("--no-lock", root=f"{tmp_path}/other")
    assert first != other
    assert moving.layer(root=f"{tmp_path}/fresh") == moving.layer(root=f"{tmp_path}/new") == first
    assert moving.layer("--locked", root=f"{tmp_path}/strict") == first
    assert moving.layer() == moving.layer("--locked") == first


def test_what_is_locked_and_in_the_store_needs_no_network(moving: Moving) -> None:
    moving.pybuild("lock", "app.rec")
    first = moving.layer("--locked")
    moving.registry.stop()
    assert moving.layer("--locked") == first
    # Nor does a recipe that is another one on the same base, so that nothing answers for it but the lock
    # file.
    moving.pybuild.write("app.rec", f"FROM {moving.name}\nLABEL a=c\n")
    assert moving.layer("--locked") == first
    assert "1/1" not in moving.pybuild("plan", "app.rec", "--locked")
    assert moving.pybuild("lock", "app.rec") == "app.rec.lock is as it was\n"
    done = moving.pybuild.try_("lock", "app.rec", "--check")
    assert (done.code, "[registry/unreachable]" in done.err) == (3, True)


def test_a_base_that_has_moved_in_the_registry_is_an_error_where_it_is_asked(moving: Moving) -> None:
    moving.pybuild("lock", "app.rec")
    moving.layer()
    moving.move("two")
    done = moving.pybuild.try_("build", "app.rec", "--locked", "--pull")
    assert done.code == 2
    told = f"{moving.name} has moved: it is locked as {moving.digest('one')}, and is {moving.digest('two')}"
    assert f"error: {told} in its registry [lock/moved]" in done.err
    assert f"`pybuild lock --update={moving.name} app.rec`" in done.err
    assert "at app.rec:1:1" in done.err
    done = moving.pybuild.try_("build", "app.rec", "--pull")
    assert (done.code, f"warning: {told}" in done.err) == (0, True)


def test_a_base_that_has_moved_in_the_store_is_an_error(moving: Moving) -> None:
    moving.pybuild("lock", "app.rec")
    locked = moving.layer("--locked")
    moving.move("two")
    moved = moving.layer("--no-lock", "--pull")
    assert moved != locked
    for command in ("build", "plan"):
        done = moving.pybuild.try_(command, "app.rec", "--locked")
        assert done.code == 2
        told = f"locked as {moving.digest('one')}, and is {moving.digest('two')} in this store [lock/moved]"
        assert told in done.err
    assert moving.layer() == locked
    assert moving.pybuild("lock", "--update", "app.rec").splitlines() == [
        "wrote app.rec.lock",
        f"  ~ {moving.name} {moving.digest('one')} -> {moving.digest('two')}",
    ]
    assert moving.layer("--locked") == moved


def test_a_store_that_is_behind_its_lock_file_fetches(moving: Moving) -> None:
    old = moving.layer()
    moving.move("two")
    moving.pybuild("lock", "app.rec")
    new = moving.layer("--locked")
    assert new != old
    moving.registry.stop()
    assert moving.layer("--locked") == new
    # What stands under the tag is what it was.
    assert moving.layer("--no-lock") == old


def test_a_receipt_notices_lock_files_and_names_that_move(moving: Moving) -> None:
    first = moving.layer()
    assert moving.layer() == first
    moving.move("two")
    moving.pybuild("lock", "app.rec")
    second = moving.layer()
    assert second != first
    assert moving.layer() == second
    assert moving.layer("--locked") == moving.layer("--locked") == second
    moving.pybuild("tag", "box", moving.name)
    assert moving.pybuild.try_("build", "app.rec", "--locked").code == 2
    os.unlink(f"{moving.pybuild.cwd}/app.rec.lock")
    assert moving.pybuild.try_("build", "app.rec", "--locked").code == 2
    assert moving.layer() not in (first, second)


def test_what_is_missing_is_an_error_with_locked_and_told_without(moving: Moving) -> None:
    done = moving.pybuild.try_("build", "app.rec", "--locked")
    assert (done.code, "error: --locked: there is no app.rec.lock [lock/missing]" in done.err) == (2, True)
    assert "lock" not in moving.pybuild.try_("build", "app.rec").err
    moving.pybuild("lock", "app.rec")
    moving.pybuild.write("app.rec", f"FROM {moving.name}\nCOPY --from=box /bin/sh /sh\n")
    done = moving.pybuild.try_("build", "app.rec", "--locked")
    assert (done.code, "error: box:latest is not in app.rec.lock [lock/missing]" in done.err) == (2, True)
    assert "hint: `pybuild lock app.rec` adds it" in done.err
    assert "box:latest is not in app.rec.lock" in moving.pybuild.try_("build", "app.rec").err
    done = moving.pybuild.try_("lock", "app.rec", "--check")
    assert (done.code, done.out) == (1, "app.rec.lock: missing: box:latest\n")
    assert "+ box:latest linux/" in moving.pybuild("lock", "app.rec")
    moving.pybuild("build", "app.rec", "--locked")


def test_check_names_what_has_moved_and_writes_nothing(moving: Moving) -> None:
    moving.pybuild("lock", "app.rec")
    assert moving.pybuild("lock", "app.rec", "--check") == "app.rec.lock is up to date\n"
    before = os.stat(f"{moving.pybuild.cwd}/app.rec.lock")
    moving.move("two")
    done = moving.pybuild.try_("lock", "app.rec", "--check")
    told = f"moved: {moving.name}: {moving.digest('one')} -> {moving.digest('two')}"
    assert (done.code, done.out) == (1, f"app.rec.lock: {told}\n")
    assert os.stat(f"{moving.pybuild.cwd}/app.rec.lock") == before


def test_a_lost_manifest_is_an_error_that_names_what_the_tag_is_now(moving: Moving) -> None:
    moving.pybuild("lock", "app.rec")
    path = f"{moving.pybuild.cwd}/app.rec.lock"
    with open(path) as file:
        text = file.read()
    gone = "sha256:" + "0" * 64
    with open(path, "w") as file:
        file.write(text.replace(moving.digest("one"), gone))
    for options in ((), ("--locked",)):
        done = moving.pybuild.try_("build", "app.rec", *options)
        assert done.code == 2
        assert f"locked as {gone}, and is {moving.digest('one')} in its registry" in done.err


def test_only_what_is_named_is_asked_anew(moving: Moving, layouts: str) -> None:
    images.push(layouts, moving.registry, "team/tool:1", tag="one")
    tool = f"{moving.registry.address}/team/tool:1"
    moving.pybuild.write("app.rec", f"FROM {moving.name}\nCOPY --from={tool} /version /v\n")
    moving.pybuild("lock", "app.rec")
    images.push(layouts, moving.registry, "team/tool:1", tag="two")
    moving.move("two")
    told = moving.pybuild("lock", "app.rec", f"--update={moving.registry.address}/team/tool")
    assert [line.split()[1] for line in told.splitlines()[1:]] == [tool]
    assert "/team/app:1" in moving.pybuild.try_("lock", "app.rec", "--check").out


def test_every_stage_is_locked_and_names_that_went_stay_until_all_is_asked_anew(
    moving: Moving, layouts: str
) -> None:
    images.push(layouts, moving.registry, "team/tool:1", tag="one")
    other = f"{moving.registry.address}/team/tool:1"
    moving.pybuild.write("app.rec", f"FROM {other} AS unneeded\nFROM {moving.name}\n")
    moving.pybuild("lock", "app.rec", "--target", "1")
    assert [pin["name"] for pin in moving.lock()["base"]] == [moving.name]  # type: ignore[attr-defined]
    moving.pybuild("lock", "app.rec")
    assert [pin["name"] for pin in moving.lock()["base"]] == [moving.name, other]  # type: ignore[attr-defined]
    moving.pybuild.write("app.rec", f"FROM {moving.name}\n")
    moving.pybuild("lock", "app.rec")
    assert len(moving.lock()["base"]) == 2  # type: ignore[arg-type]
    assert moving.pybuild("lock", "app.rec", "--update").splitlines()[1:] == [f"  - {other}"]


def test_an_index_is_locked_for_every_platform(pybuild: Pybuild, registry: Registry, layouts: str) -> None:
    entries = []
    for tag, architecture in (("one", "amd64"), ("arm", "arm64")):
        images.push(layouts, registry, f"team/multi:{tag}", tag=tag)
        digest = images.manifest_digest(layouts, tag)
        entries.append(
            {
                "mediaType": MEDIA_TYPE_MANIFEST,
                "digest": digest,
                "size": len(images.read_blob(layouts, digest)),
                "platform": {"os": "linux", "architecture": architecture},
            }
        )
    index = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": entries}
    registry.put_manifest("team/multi", "1", index)
    pybuild.write("app.rec", f"FROM {registry.address}/team/multi:1\n")
    pybuild("lock", "app.rec")
    with open(f"{pybuild.cwd}/app.rec.lock", "rb") as file:
        (pin,) = tomli.load(file)["base"]
    manifest = images.skopeo(
        "inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/team/multi@{pin['digest']}"
    )
    assert json.loads(manifest)["manifests"] == entries
    found = {}
    for _ in range(2):  # the second time without a registry
        for architecture in ("amd64", "arm64"):
            options = ("--locked", "--platform", f"linux/{architecture}", "-t", architecture)
            pybuild("build", "app.rec", *options)
            found[architecture] = pybuild.json("inspect", architecture)[0]["Architecture"]
        assert found == {"amd64": "amd64", "arm64": "arm64"}
        registry.stop()


def test_each_recipe_has_a_lock_file_of_its_own(moving: Moving) -> None:
    moving.pybuild.write("sub/base.rec", f"FROM {moving.name}\n")
    moving.pybuild.write("top.rec", "FROM ./sub/base.rec\nCOPY --from=box /bin/sh /sh\n")
    told = moving.pybuild("lock", "top.rec")
    assert [line for line in told.splitlines() if line.startswith("wrote")] == [
        "wrote top.rec.lock",
        "wrote sub/base.rec.lock",
    ]
    moving.pybuild("build", "top.rec", "--locked")
    moving.move("two")
    assert moving.pybuild("lock", "top.rec", "--update") == "".join(
        f"{name}.lock is as it was\n" for name in ("top.rec", "sub/base.rec")
    )
    done = moving.pybuild.try_("lock", "top.rec", "--check")
    assert (done.code, "sub/base.rec.lock: moved:" in done.out) == (1, True)
    assert "wrote sub/base.rec.lock" in moving.pybuild("lock", "top.rec", f"--update={moving.name}")
    os.unlink(f"{moving.pybuild.cwd}/sub/base.rec.lock")
    done = moving.pybuild.try_("build", "top.rec", "--locked")
    assert (done.code, "there is no sub/base.rec.lock" in done.err) == (2, True)


def test_an_image_of_this_host_is_locked_by_its_id(pybuild: Pybuild) -> None:
    box = pybuild.json("inspect", "box")[0]["Id"]
    pybuild.write("app.rec", "FROM box\nLABEL a=b\n")
    pybuild("lock", "app.rec")
    locked = pybuild("build", "app.rec", "--locked").strip()
    pybuild.build("FROM box\nLABEL other=box\n", "-t", "box")
    other = pybuild.json("inspect", "box")[0]["Id"]
    done = pybuild.try_("build", "app.rec", "--locked")
    assert done.code == 2
    assert f"box:latest has moved: it is locked as {box}, and is {other} in this store" in done.err
    assert pybuild("build", "app.rec").strip() == locked
    assert pybuild("build", "app.rec", "--no-lock").strip() != locked
    pybuild("lock", "app.rec", "--update=box")
    assert pybuild("build", "app.rec", "--locked").strip() != locked


def test_a_layout_is_compared_with_what_was_locked(pybuild: Pybuild, layouts: str) -> None:
    os.symlink(layouts, f"{pybuild.cwd}/layout")
    pybuild.write("app.rec", "FROM oci-layout://layout:one\n")
    assert f"+ oci-layout://layout:one linux/amd64 {images.manifest_digest(layouts, 'one')}" in pybuild(
        "lock", "app.rec"
    )
    pybuild("build", "app.rec", "--locked")
    path = f"{pybuild.cwd}/app.rec.lock"
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(
            text.replace(images.manifest_digest(layouts, "one"), images.manifest_digest(layouts, "two"))
        )
    done = pybuild.try_("build", "app.rec", "--locked")
    assert (done.code, f"is {images.manifest_digest(layouts, 'one')} here" in done.err) == (2, True)
    done = pybuild.try_("build", "app.rec")
    assert (done.code, "warning: oci-layout://layout:one has moved" in done.err) == (0, True)


def test_print_writes_nothing(moving: Moving) -> None:
    text = moving.pybuild("lock", "app.rec", "--print")
    assert tomli.loads(text)["base"][0]["digest"] == moving.digest("one")
    assert not os.path.exists(f"{moving.pybuild.cwd}/app.rec.lock")


def test_what_has_its_digest_in_its_name_needs_no_pin(moving: Moving) -> None:
    name = f"{moving.registry.address}/team/app@{moving.digest('one')}"
    moving.pybuild.write("app.rec", f"FROM {name}\n")
    moving.pybuild("build", "app.rec", "--locked")
    moving.pybuild("lock", "app.rec")
    assert moving.lock() == {"version": 1}


def test_the_configuration_can_ask_for_locked_builds(moving: Moving) -> None:
    moving.pybuild.write("pybuild.toml", "locked = true\n")
    done = moving.pybuild.try_("build", "app.rec")
    assert (done.code, "[lock/missing]" in done.err) == (2, True)
    moving.pybuild("build", "app.rec", "--no-lock")
    assert moving.pybuild.try_("build", "app.rec", "--locked", "--no-lock").code == 2


def test_a_recipe_on_standard_input_has_no_lock_file(pybuild: Pybuild) -> None:
    assert pybuild.try_("lock", "-f", "-", stdin="FROM box\n").code == 2
    pybuild("build", "-f", "-", stdin="FROM box\n")
    assert pybuild.try_("build", "-f", "-", "--locked", stdin="FROM box\n").code == 2


def test_what_a_trigger_copies_from_is_locked_and_verify_heeds_it(moving: Moving, layouts: str) -> None:
    images.push(layouts, moving.registry, "team/tool:1", tag="one")
    tool = f"{moving.registry.address}/team/tool:1"
    trigger = f"FROM {moving.name}\nONBUILD COPY --from={tool} /version /tool\n"
    moving.pybuild.build(trigger, "-o", "type=oci-layout,dest=layout")
    images.push(f"{moving.pybuild.cwd}/layout", moving.registry, "team/base:1")
    base = f"{moving.registry.address}/team/base:1"
    moving.pybuild.write("app.rec", f"FROM {base}\n")
    moving.pybuild("lock", "app.rec")
    assert [pin["name"] for pin in moving.lock()["base"]] == [base, tool]  # type: ignore[attr-defined]
    images.push(layouts, moving.registry, "team/tool:1", tag="two")
    image = moving.pybuild("build", "app.rec", "--locked", "-t", "app", "-o", "type=dir,dest=out").strip()
    assert image
    with open(f"{moving.pybuild.cwd}/out/tool") as file:
        assert file.read() == "one"
    assert "the same image both times" in moving.pybuild("verify", "app.rec", "--locked")
