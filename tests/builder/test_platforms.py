"""--platform with several platforms: one build, an index of images, and what every command makes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from builder.errors import UsageError
from builder.events import StageStarted, StepStarted
from cache.oci.platform import Platform
from tests.build_fixtures.project import Outcome, Project
from tests.command_fixtures.pybuild import Pybuild

pytestmark = pytest.mark.peer("qemu-aarch64-static", "mmdebstrap", "skopeo")

BOTH = ("--platform", "linux/amd64,linux/arm64")
HOST = Platform.host().architecture

RECIPE = """
FROM --platform=$BUILDPLATFORM scratch AS tools
ARG BUILDARCH
COPY --chmod=755 busybox-$BUILDARCH /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox uname -m > /made"]

FROM --platform=$BUILDPLATFORM tools AS cross
ARG TARGETARCH
RUN ["/bin/busybox", "sh", "-c", "echo $TARGETARCH > /crossed"]

FROM scratch
ARG TARGETPLATFORM TARGETARCH BUILDPLATFORM
COPY --chmod=755 busybox-$TARGETARCH /bin/busybox
COPY --from=tools /made /made
COPY --from=cross /crossed /crossed
RUN ["/bin/busybox", "sh", "-c", "echo $TARGETPLATFORM $BUILDPLATFORM $(/bin/busybox uname -m) > /info"]
CMD ["/bin/busybox", "cat", "/info", "/made", "/crossed"]
"""
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}


def lines(architecture: str) -> list[str]:
    """What the image of RECIPE for an architecture prints."""
    info = f"linux/{architecture} linux/{HOST} {MACHINE[architecture]}"
    return [info, MACHINE[HOST], architecture]


@pytest.fixture
def two(project: Project, busybox_arm64: bytes) -> Project:
    """A project with a busybox for each of two architectures."""
    assert HOST in MACHINE
    native = shutil.which("busybox")
    assert native is not None, "busybox-static is missing"
    project.write("busybox-arm64", busybox_arm64)
    with open(native, "rb") as file:
        project.write(f"busybox-{HOST}", file.read())
    return project


@pytest.fixture
def pybuild(two: Project) -> Pybuild:
    """pybuild on the store and in the context of the project."""
    two.recipe(RECIPE)
    return Pybuild(two.store_root, two.context)


def stages(outcome: Outcome) -> list[str]:
    return [event.stage for event in outcome.events if isinstance(event, StageStarted)]


def test_each_platform_has_its_arguments_and_what_is_the_same_is_made_once(two: Project) -> None:
    found = two.build(RECIPE, *BOTH, "-t", "multi")
    other = "arm64" if HOST == "amd64" else "amd64"
    expected = [f"linux/{HOST} tools", f"linux/{HOST} cross", f"linux/{HOST}->{other} cross"]
    expected += ["linux/amd64 stage-2", "linux/arm64 stage-2"]
    assert sorted(stages(found)) == sorted(expected)
    runs = [event for event in found.events if isinstance(event, StepStarted) and "made" in event.text]
    assert len([event for event in runs if event.text.startswith("RUN")]) == 1
    assert [config.architecture for config in found.built.configs] == ["amd64", "arm64"]
    again = two.build(RECIPE, *BOTH, "-t", "multi")
    assert (again.built.ran, again.built.image_id) == (0, found.built.image_id)


def test_an_image_is_the_one_that_a_build_for_its_platform_alone_makes(two: Project) -> None:
    both = two.build(RECIPE, *BOTH)
    single = [two.build(RECIPE, "--platform", f"linux/{name}").built for name in ("amd64", "arm64")]
    assert [each.image_id for each in single] == list(both.built.images)
    assert all(each.ran == 0 for each in single)


def test_a_platform_that_is_given_twice_is_built_once(two: Project) -> None:
    options = ("--platform", "linux/arm64", "--platform", "arm64,linux/arm64/v8")
    found = two.build(RECIPE, *options)
    assert found.built.images == (found.built.image_id,)
    assert stages(found)[-1] == "stage-2"


def test_commands_take_the_image_for_this_machine_or_the_one_that_is_asked_for(pybuild: Pybuild) -> None:
    index = pybuild("build", "app.rec", *BOTH, "-t", "multi").strip()
    assert pybuild("run", "--rm", "multi").splitlines() == lines(HOST)
    for name in ("amd64", "arm64"):
        platform = ("--platform", f"linux/{name}")
        assert pybuild("run", "--rm", *platform, "multi").splitlines() == lines(name)
        (image,) = pybuild.json("inspect", *platform, index)
        assert (image["Architecture"], image["Index"]) == (name, index)
        assert image["Platforms"][f"linux/{name}"] == image["Id"]
    refused = pybuild.try_("run", "--rm", "--platform", "linux/s390x", "multi")
    assert "image/platform" in refused.err
    (listed,) = pybuild.json("images", "--json")
    assert (listed["Id"], listed["RepoTags"]) == (index, ["multi:latest"])
    assert listed["Platforms"] == ["linux/amd64", "linux/arm64"]
    pybuild("tag", "multi", "other")
    assert pybuild("run", "--rm", "--platform", "linux/arm64", "other").splitlines() == lines("arm64")


def test_the_id_and_metadata_files_tell_of_the_index(pybuild: Pybuild, tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("iid", "metadata", "out.tar")]
    options = ("--iidfile", files[0], "--metadata-file", files[1], "-o", f"type=oci,dest={files[2]}")
    index = pybuild("build", "app.rec", *BOTH, *options).strip()
    metadata = json.loads(Path(files[1]).read_text())
    assert Path(files[0]).read_text() == metadata["image.id"] == index
    assert list(metadata["image.platforms"]) == ["linux/amd64", "linux/arm64"]
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci-archive:{files[2]}"], check=True, capture_output=True
    ).stdout
    from cache.oci.digest import Digest

    assert metadata["containerimage.digest"] == Digest.of(raw)
    assert "containerimage.config.digest" not in metadata


@pytest.mark.parametrize("kind", ["oci", "oci-layout"])
def test_oci_outputs_have_an_index_of_all_platforms(pybuild: Pybuild, tmp_path: Path, kind: str) -> None:
    dest = str(tmp_path / "out")
    notes = ("--annotation", "index:a=b", "--annotation", "manifest[linux/arm64]:c=d")
    pybuild("build", "app.rec", *BOTH, "-t", "multi:1", "-o", f"type={kind},dest={dest}", *notes)
    source = f"oci-archive:{dest}:1" if kind == "oci" else f"oci:{dest}:1"
    raw = ("skopeo", "inspect", "--raw", source)
    index = json.loads(subprocess.run(raw, check=True, capture_output=True).stdout)
    platforms = [each["platform"] for each in index["manifests"]]
    assert platforms == [{"architecture": name, "os": "linux"} for name in ("amd64", "arm64")]
    assert index["annotations"] == {"a": "b"}
    for name in ("amd64", "arm64"):
        command = ("skopeo", "--override-arch", name, "inspect", "--config", source)
        config = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert config["architecture"] == name
    every = ("skopeo", "copy", "--all", source, f"dir:{tmp_path}/copied")
    subprocess.run(every, check=True, capture_output=True)


def test_rootfs_outputs_have_a_directory_for_each_platform(pybuild: Pybuild, tmp_path: Path) -> None:
    dest = str(tmp_path / "out")
    pybuild("build", "app.rec", *BOTH, "-o", f"type=dir,dest={dest}", "-o", f"type=tar,dest={dest}.tar")
    assert sorted(os.listdir(dest)) == ["linux_amd64", "linux_arm64"]
    with tarfile.open(dest + ".tar") as archive:
        for name in ("amd64", "arm64"):
            info = Path(dest, f"linux_{name}", "info").read_text()
            assert info == lines(name)[0] + "\n"
            member = archive.extractfile(f"linux_{name}/info")
            assert member is not None and member.read().decode() == info


def test_a_docker_archive_is_refused_before_anything_is_built(pybuild: Pybuild, tmp_path: Path) -> None:
    dest = f"type=docker,dest={tmp_path}/out.tar"
    refused = pybuild.try_("build", "app.rec", *BOTH, "-o", dest)
    assert (refused.code, "type=oci" in refused.err) == (2, True)
    assert pybuild.json("images", "--all", "--json") == []


def test_save_writes_all_platforms_or_one(pybuild: Pybuild, tmp_path: Path) -> None:
    pybuild("build", "app.rec", *BOTH, "-t", "multi")
    out = str(tmp_path / "saved.tar")
    assert "--platform" in pybuild.try_("save", "multi", "-o", out).err
    pybuild("save", "--format", "oci", "multi", "-o", out)
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci-archive:{out}"], check=True, capture_output=True
    ).stdout
    assert len(json.loads(raw)["manifests"]) == 2
    pybuild("save", "--platform", "linux/arm64", "multi", "-o", out)
    command = ("skopeo", "inspect", "--config", f"docker-archive:{out}")
    assert (
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["architecture"] == "arm64"
    )


def test_a_recipe_on_an_index_gets_the_image_for_each_platform(pybuild: Pybuild, two: Project) -> None:
    """Of the store, and of a layout."""
    layout = os.path.join(two.directory, "layout")
    pybuild("build", "app.rec", *BOTH, "-t", "multi", "-o", f"type=oci-layout,dest={layout}")
    for base in ("multi", f"oci-layout://{layout}"):
        run = 'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox uname -m"]'
        found = two.build(f"FROM {base}\n{run}\n", *BOTH, "--no-cache")
        assert sorted(found.output.split()) == ["aarch64", "x86_64"]


def test_what_an_index_needs_stays_until_its_name_goes(pybuild: Pybuild) -> None:
    index = pybuild("build", "app.rec", *BOTH, "-t", "multi").strip()
    pybuild("prune")
    for name in ("amd64", "arm64"):
        assert pybuild("run", "--rm", "--platform", name, "multi").splitlines() == lines(name)
    (image,) = pybuild.json("inspect", "multi")
    refused = pybuild.try_("rmi", image["Id"])
    assert "image/in-use" in refused.err
    gone = pybuild("rmi", "multi").splitlines()
    assert gone[0] == "Untagged: multi:latest"
    assert len(gone) == 4 and gone[1] == f"Deleted: {index}"
    assert pybuild.json("images", "--all", "--json") == []


def test_an_image_that_has_a_name_of_its_own_outlives_the_index(pybuild: Pybuild) -> None:
    pybuild("build", "app.rec", *BOTH, "-t", "multi")
    pybuild("build", "app.rec", "--platform", "linux/arm64", "-t", "arm")
    pybuild("rmi", "multi")
    assert [each["RepoTags"] for each in pybuild.json("images", "--all", "--json")] == [["arm:latest"]]
    pybuild("build", "app.rec", *BOTH, "-t", "multi")
    pybuild("rmi", "--all")
    assert pybuild.json("images", "--all", "--json") == []


def test_a_damaged_index_is_told(pybuild: Pybuild, two: Project) -> None:
    index = pybuild("build", "app.rec", *BOTH, "-t", "multi").strip()
    path = f"{two.store_root}/imagedb/index/sha256/{index.partition(':')[2]}"
    with open(path, "ab") as file:
        file.write(b" ")
    refused = pybuild.try_("inspect", "multi")
    assert (refused.code, "does not have that digest" in refused.err) == (4, True)
    pybuild("build", "app.rec", *BOTH, "-t", "multi")
    assert pybuild("run", "--rm", "multi").splitlines() == lines(HOST)


def test_verify_builds_each_platform_twice(pybuild: Pybuild) -> None:
    assert pybuild("verify", "app.rec", *BOTH).startswith("the same image both times")


@pytest.mark.parametrize("command", ["plan", "lock"])
def test_what_takes_one_platform_says_so(two: Project, pybuild: Pybuild, command: str) -> None:
    refused = pybuild.try_(command, "app.rec", *BOTH)
    assert (refused.code, "usage/platform" in refused.err) == (2, True)


def test_a_platform_that_is_none_is_refused(two: Project) -> None:
    with pytest.raises(UsageError) as refused:
        two.build(RECIPE, "--platform", "linux/amd64,toaster")
    assert refused.value.code == "usage/platform"
