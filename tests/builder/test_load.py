"""`load`: what other tools and we ourselves write comes in whole, under its names, or not at all."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest

from builder.bases.base import Surroundings
from builder.errors import BaseError
from builder.events import Event, TransferFinished
from builder.executor import Executor
from builder.exporters import export
from builder.exporters.base import Source
from builder.exporters.output_spec import OutputSpec
from builder.load import Loaded, load
from cache.errors import CacheError, DigestMismatch, FormatError
from cache.oci.digest import DiffID, Digest
from cache.oci.platform import Platform
from cache.store import Store
from tests.changeset_fixtures.trees import Node
from tests.exporter_fixtures.images import add_image, everything
from tests.exporter_fixtures.podman import Podman

AMD64 = Platform("linux", "amd64")


@pytest.fixture
def place(tmp_path: os.PathLike[str]) -> str:
    return os.fspath(tmp_path)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place + "/store") as opened:
        yield opened


@pytest.fixture
def fresh(place: str) -> Iterator[Store]:
    """Another store, which knows nothing."""
    with Store.open(place + "/fresh") as opened:
        yield opened


@pytest.fixture
def image(store: Store) -> Source:
    return add_image(store, everything(), ["app:1.2"])


def write(store: Store, source: Source, text: str) -> None:
    export([source], OutputSpec.parse(text), store, lambda event: None)


def surroundings(store: Store, events: list[Event] | None = None) -> Surroundings:
    def executor() -> Executor:
        raise AssertionError("nothing runs")

    return Surroundings(store, (events if events is not None else []).append, executor)


def bring(store: Store, source: str, platform: Platform = AMD64) -> tuple[Loaded, ...]:
    return load(surroundings(store), source, platform)


def check(store: Store, source: Source) -> None:
    """The image is in `store` as it was, and each layer is right."""
    there = Source.load(store, source.image_id)
    assert there.config == source.config
    assert [layer.chain_id for layer in there.layers] == [layer.chain_id for layer in source.layers]
    for layer in there.layers:
        store.layers.verify(layer.chain_id)


@pytest.mark.parametrize(
    "output",
    ["type=docker", "type=oci", "type=oci,compression=zstd", "type=oci,compression=none", "type=oci-layout"],
)
def test_what_we_write_we_read(store: Store, fresh: Store, image: Source, place: str, output: str) -> None:
    write(store, image, f"{output},dest={place}/out,name=other:3")
    found = bring(fresh, place + "/out")
    assert [each.image_id for each in found] == [image.image_id]
    assert "docker.io/library/app:1.2" in found[0].names
    assert fresh.images.resolve("app:1.2") == image.image_id
    check(fresh, image)
    for again in ("docker", "oci"):
        write(store, image, f"type={again},dest={place}/{again}-one")
        write(
            fresh, Source.load(fresh, image.image_id, image.names), f"type={again},dest={place}/{again}-two"
        )
    with open(place + "/docker-one", "rb") as one, open(place + "/docker-two", "rb") as two:
        assert one.read() == two.read()


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd", "bzip2"])
def test_an_archive_may_be_compressed_as_a_whole(
    store: Store, fresh: Store, image: Source, place: str, packer: str
) -> None:
    write(store, image, f"type=docker,dest={place}/out")
    subprocess.run(f"{packer} -c < {place}/out > {place}/packed", shell=True, check=True)
    assert [each.image_id for each in bring(fresh, place + "/packed")] == [image.image_id]
    check(fresh, image)


@pytest.mark.peer("podman")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_podman_saves_is_read(store: Store, fresh: Store, image: Source, place: str, form: str) -> None:
    podman = Podman(place + "/podman")
    try:
        write(store, image, f"type=oci,dest={place}/out")
        podman("load", "-i", place + "/out")
        podman("save", "--format", form, "-o", place + "/saved", "docker.io/library/app:1.2")
    finally:
        podman.close()
    found = bring(fresh, place + "/saved")
    assert found == (Loaded(image.image_id, ("docker.io/library/app:1.2",)),)
    check(fresh, image)


@pytest.mark.peer("skopeo")
def test_what_skopeo_copies_is_read(store: Store, fresh: Store, image: Source, place: str) -> None:
    write(store, image, f"type=oci-layout,dest={place}/oci")
    for target in (
        "docker-archive:{}/d.tar:example.com/x:1",
        "oci-archive:{}/o.tar:example.com/x:1",
        "oci:{}/dir:tag",
    ):
        subprocess.run(["skopeo", "copy", "-q", f"oci:{place}/oci:1.2", target.format(place)], check=True)
    named = (Loaded(image.image_id, ("example.com/x:1",)),)
    assert bring(fresh, place + "/d.tar") == named
    assert bring(fresh, place + "/o.tar") == named
    assert bring(fresh, place + "/dir") == (Loaded(image.image_id, ()),)  # `tag` is no name
    check(fresh, image)


def test_several_images_in_one_archive(store: Store, fresh: Store, image: Source, place: str) -> None:
    other = add_image(store, [*everything(), {b"more": Node("file")}], ["other", "other:old"])
    for source in (image, other):
        write(store, source, f"type=oci-layout,dest={place}/oci")
    assert bring(fresh, place + "/oci") == (
        Loaded(image.image_id, ("docker.io/library/app:1.2",)),
        Loaded(other.image_id, ("docker.io/library/other:latest", "docker.io/library/other:old")),
    )
    check(fresh, other)


def test_loading_again_brings_back_a_blob_that_was_lost(fresh: Store, place: str) -> None:
    """Somebody else's layer cannot go out without it."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("zebra"))
        archive.addfile(tarfile.TarInfo("ant"))
    layer = tar.getvalue()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]},
    }
    manifest = [{"Config": "config.json", "RepoTags": ["zoo:1"], "Layers": ["layer.tar"]}]
    files = {"config.json": json.dumps(document).encode(), "manifest.json": json.dumps(manifest).encode()}
    make(place + "/in", {**files, "layer.tar": layer})
    image_id = bring(fresh, place + "/in")[0].image_id
    write(fresh, Source.load(fresh, image_id), f"type=docker,dest={place}/one")
    blob = fresh.blobs.pulled(DiffID(Digest.of(layer)))
    assert blob is not None and fresh.blobs.remove(blob.digest)
    with pytest.raises(CacheError, match="came from elsewhere"):
        write(fresh, Source.load(fresh, image_id), f"type=docker,dest={place}/two")
    assert bring(fresh, place + "/in")[0].image_id == image_id
    write(fresh, Source.load(fresh, image_id), f"type=docker,dest={place}/two")
    with open(place + "/one", "rb") as one, open(place + "/two", "rb") as two:
        assert one.read() == two.read()


def test_what_is_there_is_not_read_again(store: Store, fresh: Store, image: Source, place: str) -> None:
    write(store, image, f"type=oci,dest={place}/out")
    events: list[Event] = []
    load(surroundings(fresh, events), place + "/out", AMD64)
    assert len([event for event in events if isinstance(event, TransferFinished)]) == 3
    events.clear()
    load(surroundings(fresh, events), place + "/out", AMD64)
    assert not [event for event in events if isinstance(event, TransferFinished)]


def test_a_pipe_will_do(store: Store, image: Source, place: str) -> None:
    write(store, image, f"type=docker,dest={place}/out")
    command = [sys.executable, "-m", "builder.main", "load", "--root", place + "/fresh"]
    done = subprocess.run(
        ["sh", "-c", f'cat {place}/out | exec "$@"', "sh", *command], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "Loaded image: app:1.2\n"), done.stderr
    with Store.open(place + "/fresh") as fresh:
        check(fresh, image)
        assert not [name for name in os.listdir(fresh.root + "/tmp") if name.startswith("file")]


def test_the_name_moves_to_the_image_that_comes(store: Store, image: Source, place: str) -> None:
    newer = add_image(store, [*everything(), {b"more": Node("file")}], ["app:1.2"])
    write(store, newer, f"type=docker,dest={place}/out")
    store.sync()
    store.images.tag("app:1.2", image.image_id)
    bring(store, place + "/out")
    assert store.images.resolve("app:1.2") == newer.image_id


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_damage_is_found_before_anything_has_a_name(
    store: Store, fresh: Store, image: Source, place: str, kind: str
) -> None:
    write(store, image, f"type={kind},dest={place}/out")
    with tarfile.open(place + "/out") as archive:
        largest = max(archive.getmembers(), key=lambda member: member.size)
    with open(place + "/out", "r+b") as file:
        file.seek(largest.offset_data + largest.size // 2)
        file.write(b"DAMAGE")
    with pytest.raises(DigestMismatch):
        bring(fresh, place + "/out")
    assert fresh.images.names() == {} and fresh.images.all() == ()


@pytest.mark.parametrize("length", [0, 100, 700, 5000, -2000])
def test_what_was_cut_off_is_refused(
    store: Store, fresh: Store, image: Source, place: str, length: int
) -> None:
    write(store, image, f"type=oci,dest={place}/out")
    with open(place + "/out", "r+b") as file:
        file.truncate(length if length >= 0 else file.seek(0, os.SEEK_END) + length)
    with pytest.raises(CacheError):
        bring(fresh, place + "/out")
    assert fresh.images.names() == {} and fresh.images.all() == ()


def make(path: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(
    "files",
    [
        {"bin/sh": b"a root filesystem"},
        {"manifest.json": b"nonsense"},
        {"manifest.json": b'[{"Config":"x.json","RepoTags":["a:1"],"Layers":[]}]'},
        {"manifest.json": b'[{"Config":"../../etc/passwd","Layers":["/etc/passwd"]}]'},
        {"index.json": b"{}"},
        {"index.json": b'{"schemaVersion":2,"manifests":[]}'},
        {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps(
                {
                    "schemaVersion": 2,
                    "manifests": [
                        {
                            "mediaType": "application/vnd.oci.image.manifest.v1+json",
                            "digest": "sha256:" + "0" * 64,
                            "size": 2,
                        }
                    ],
                }
            ).encode(),
        },
    ],
)
def test_what_is_no_image_is_one_clear_error(fresh: Store, place: str, files: dict[str, bytes]) -> None:
    make(place + "/out", files)
    with pytest.raises(FormatError) as caught:
        bring(fresh, place + "/out")
    assert place in caught.value.message


def test_an_index_without_images_is_an_error_not_nothing(fresh: Store, place: str) -> None:
    make(
        place + "/out",
        {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": b'{"schemaVersion":2,"manifests":[]}',
        },
    )
    with pytest.raises(BaseError, match="no image for linux/amd64"):
        bring(fresh, place + "/out")


def test_the_platform_that_is_asked_for_is_taken(
    store: Store, fresh: Store, image: Source, place: str
) -> None:
    from dataclasses import replace

    from tests.exporter_fixtures.images import EMPTY

    arm = add_image(store, everything(), ["app:1.2"], replace(EMPTY, architecture="arm64"))
    for source in (image, arm):
        write(store, source, f"type=oci-layout,dest={place}/{source.image_id.hex}")
    entries = []
    os.mkdir(place + "/both")
    for source in (image, arm):
        subprocess.run(["cp", "-r", f"{place}/{source.image_id.hex}/.", place + "/both"], check=True)
        with open(f"{place}/{source.image_id.hex}/index.json") as file:
            entries += json.load(file)["manifests"]
    with open(place + "/both/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": entries}, file)
    assert [each.image_id for each in bring(fresh, place + "/both")] == [image.image_id]
    assert [each.image_id for each in bring(fresh, place + "/both", Platform("linux", "arm64"))] == [
        arm.image_id
    ]


def test_a_file_that_is_not_there_says_so(fresh: Store, place: str) -> None:
    with pytest.raises(BaseError, match="cannot be read: No such file"):
        bring(fresh, place + "/nowhere")


def test_compressed_layers_in_a_docker_archive_are_read(
    store: Store, fresh: Store, image: Source, place: str
) -> None:
    """BuildKit's `type=docker` has them."""
    write(store, image, f"type=docker,dest={place}/plain")
    files: dict[str, bytes] = {}
    with tarfile.open(place + "/plain") as archive:
        for member in archive:
            if member.isfile():
                data = archive.extractfile(member).read()  # type: ignore[union-attr]
                files[member.name] = gzip.compress(data) if member.name.endswith("layer.tar") else data
    make(place + "/out", files)
    assert [each.image_id for each in bring(fresh, place + "/out")] == [image.image_id]
    check(fresh, image)
