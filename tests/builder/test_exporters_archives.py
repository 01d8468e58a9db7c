"""type=oci, oci-layout and docker: every tool of the field reads them, each digest is right, the bytes never
differ."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

from builder.errors import UsageError
from builder.events import Event, OutputWritten, TransferFinished, TransferProgress, TransferStarted
from builder.exporters import export, export_all
from builder.exporters.base import OutputError, Source
from builder.exporters.output_spec import OutputSpec
from cache.blobs import LayerBlob
from cache.changeset import unpack
from cache.errors import StoreCorrupt, StoreError
from cache.oci.digest import DiffID
from cache.store import Store
from tests.changeset_fixtures.trees import Node, directory, snapshot
from tests.exporter_fixtures.images import EMPTY, add_image, everything
from tests.exporter_fixtures.podman import Podman

TYPES = ("oci", "oci-layout", "docker")
COMPRESSIONS = ("gzip", "zstd", "none")


@pytest.fixture
def place(tmp_path: os.PathLike[str]) -> str:
    return os.fspath(tmp_path)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place + "/store") as opened:
        yield opened


@pytest.fixture
def image(store: Store) -> Source:
    return add_image(store, everything(), ["app:1.2"])


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    machine = Podman(os.fspath(tmp_path_factory.mktemp("podman")) + "/podman")
    yield machine
    machine.close()


def write(store: Store, source: Source, text: str) -> list[Event]:
    events: list[Event] = []
    export([source], OutputSpec.parse(text), store, events.append)
    return events


def unfinished(root: str) -> list[str]:
    """Blobs that are staged in a store."""
    return [name for name in os.listdir(root + "/tmp") if name.startswith("file")]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def contents(path: str) -> dict[str, bytes]:
    """The files of a directory, or in an archive, by name."""
    if os.path.isdir(path):
        found = {}
        for above, _, names in os.walk(path):
            for name in names:
                full = os.path.join(above, name)
                with open(full, "rb") as file:
                    found[full[len(path) + 1 :]] = file.read()
        return found
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}  # type: ignore[union-attr]


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    data = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert len(data) == descriptor["size"]
    return data


def unzip(data: bytes, media_type: str) -> bytes:
    if media_type.endswith("+gzip"):
        return gzip.decompress(data)
    if media_type.endswith("+zstd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def check_layout(path: str, source: Source) -> None:
    """Every blob has the digest of its name, and the image in it is `source`."""
    files = contents(path)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    entry = json.loads(files["index.json"])["manifests"][-1]
    assert entry["platform"] == {"architecture": "amd64", "os": "linux"}
    manifest = json.loads(blob(files, entry))
    assert manifest["config"]["digest"] == source.image_id
    assert blob(files, manifest["config"]) == source.config
    tars = [unzip(blob(files, layer), layer["mediaType"]) for layer in manifest["layers"]]
    wanted = [layer.diff_id for layer in source.layers]
    assert [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars] == wanted


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["oci", "oci-layout"])
def test_every_digest_is_right(store: Store, image: Source, place: str, kind: str, compression: str) -> None:
    write(store, image, f"type={kind},dest={place}/out,compression={compression}")
    check_layout(place + "/out", image)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_the_same_image_is_the_same_bytes_from_any_store(
    store: Store, image: Source, place: str, kind: str, compression: str
) -> None:
    text = f"type={kind}" if kind == "docker" else f"type={kind},compression={compression}"
    write(store, image, f"{text},dest={place}/one")
    write(store, image, f"{text},dest={place}/two")
    with Store.open(place + "/other") as other:
        write(other, add_image(other, everything(), ["app:1.2"]), f"{text},dest={place}/three")
    if kind == "oci-layout":
        assert contents(place + "/one") == contents(place + "/two") == contents(place + "/three")
    else:
        files = [open(f"{place}/{name}", "rb").read() for name in ("one", "two", "three")]  # noqa: SIM115
        assert files[0] == files[1] == files[2]


@pytest.mark.peer("skopeo")
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_skopeo_reads_each_of_them(store: Store, image: Source, place: str, compression: str) -> None:
    write(store, image, f"type=oci,dest={place}/oci.tar,compression={compression}")
    write(store, image, f"type=oci-layout,dest={place}/oci,compression={compression}")
    write(store, image, f"type=docker,dest={place}/docker.tar")
    for name in ("oci-archive:{}/oci.tar", "oci:{}/oci:1.2", "docker-archive:{}/docker.tar:app:1.2"):
        found = json.loads(run("skopeo", "inspect", "--config", name.format(place)))
        assert found["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
        assert found["config"]["Cmd"] == ["/bin/sh", "-c", "cat /greeting"]
        raw = run("skopeo", "inspect", "--config", "--raw", name.format(place))
        assert raw.encode() == image.config
        run("skopeo", "copy", "-q", name.format(place), f"dir:{place}/copy")  # reads, and verifies, all of it


@pytest.mark.peer("oci-image-tool")
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_oci_image_tool_finds_them_valid(store: Store, image: Source, place: str, compression: str) -> None:
    write(store, image, f"type=oci-layout,dest={place}/oci,compression={compression}")
    write(store, image, f"type=oci,dest={place}/oci.tar,compression={compression}")
    os.mkdir(
        place + "/unpacked"
    )  # it finds nothing in any tar, skopeo's neither ("unable to walk: end of walk")
    run("tar", "-xf", place + "/oci.tar", "-C", place + "/unpacked")
    for layout in ("oci", "unpacked"):
        run("oci-image-tool", "validate", "--type", "image", "--ref", "name=1.2", f"{place}/{layout}")
    manifest = json.loads(contents(place + "/oci")["index.json"])["manifests"][0]["digest"]
    layout = place + "/oci/blobs/sha256/"
    run("oci-image-tool", "validate", "--type", "manifest", layout + manifest[7:])
    run("oci-image-tool", "validate", "--type", "config", layout + image.image_id.hex)


@pytest.mark.peer("umoci")
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_umoci_unpacks_what_type_dir_writes(
    store: Store, image: Source, place: str, compression: str
) -> None:
    write(store, image, f"type=oci-layout,dest={place}/oci,compression={compression}")
    write(store, image, place + "/tree")
    assert run("umoci", "ls", "--layout", place + "/oci").split() == ["1.2"]
    run("umoci", "unpack", "--image", place + "/oci:1.2", place + "/bundle")
    assert snapshot(place + "/bundle/rootfs") == snapshot(place + "/tree")


@pytest.mark.peer("podman")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_podman_loads_and_runs_them(
    store: Store, image: Source, place: str, podman: Podman, kind: str, compression: str
) -> None:
    if kind == "docker" and compression != "none":
        with pytest.raises(UsageError):
            OutputSpec.parse(f"type=docker,dest=x,compression={compression}")
        return
    write(store, image, f"type={kind},dest={place}/out,compression={compression}")
    if kind == "oci-layout":
        name = podman("pull", "-q", f"oci:{place}/out:1.2").strip()
    else:
        loaded = podman("load", "-i", place + "/out")
        assert "docker.io/library/app:1.2" in loaded
        name = "docker.io/library/app:1.2"
    try:
        assert podman.run(name) == "hello from the top\n"
        assert podman.run(name, "cat", "/opt/app/newest", "/data-link") == "newesta copy of its own by now"
        assert podman("image", "inspect", "--format", "{{.Id}}", name).strip() == image.image_id.hex
        write(store, image, place + "/tree")
        with podman.mounted(name) as mounted:
            assert snapshot(mounted, marks=False) == snapshot(place + "/tree")
    finally:
        podman("rmi", "--force", name)


@pytest.mark.peer("skopeo")
def test_a_docker_archive_has_what_old_loaders_want(store: Store, place: str) -> None:
    source = add_image(store, everything(), ["app:1.2", "registry.example.com/team/app:2"])
    write(store, source, f"type=docker,dest={place}/out")
    files = contents(place + "/out")
    chains = [layer.chain_id.hex for layer in source.layers]
    manifest = json.loads(files["manifest.json"])
    assert manifest == [
        {
            "Config": f"{source.image_id.hex}.json",
            "RepoTags": ["docker.io/library/app:1.2", "registry.example.com/team/app:2"],
            "Layers": [f"{chain}/layer.tar" for chain in chains],
        }
    ]
    assert json.loads(files["repositories"]) == {
        "docker.io/library/app": {"1.2": chains[-1]},
        "registry.example.com/team/app": {"2": chains[-1]},
    }
    for chain, parent in zip(chains, [None, *chains[:-1]], strict=True):
        document = json.loads(files[f"{chain}/json"])
        assert (document["id"], document.get("parent")) == (chain, parent)
        assert files[f"{chain}/VERSION"] == b"1.0"
    tars = [files[f"{chain}/layer.tar"] for chain in chains]
    assert [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars] == [
        layer.diff_id for layer in source.layers
    ]


@pytest.mark.peer("podman")
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_a_layer_that_is_there_twice_is_written_once(
    store: Store, place: str, podman: Podman, kind: str
) -> None:
    layers = [
        *everything(),
        {b"x": Node("file", data=b"1")},
        {b"x": Node("file", data=b"2")},
        {b"x": Node("file", data=b"1")},
        {},
        {},
    ]
    source = add_image(store, layers, ["twice:1"])
    write(store, source, f"type={kind},dest={place}/out")
    with tarfile.open(place + "/out") as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    podman("load", "-i", place + "/out")
    assert podman.run("docker.io/library/twice:1", "cat", "/x") == "1"
    podman("rmi", "--force", "docker.io/library/twice:1")


@pytest.mark.peer("skopeo")
@pytest.mark.parametrize("kind", TYPES)
def test_an_image_without_layers_or_names_goes_out_too(store: Store, place: str, kind: str) -> None:
    source = add_image(store, [])
    write(store, source, f"type={kind},dest={place}/out")
    name = {"oci": "oci-archive:{}/out", "oci-layout": "oci:{}/out", "docker": "docker-archive:{}/out"}[kind]
    assert json.loads(run("skopeo", "inspect", "--config", name.format(place)))["architecture"] == "amd64"


def test_several_images_share_a_layout(store: Store, image: Source, place: str) -> None:
    other = add_image(store, [*everything(), {b"more": Node("file")}], ["app:2", "tool:1.2"])
    layout = place + "/oci"
    write(store, image, f"type=oci-layout,dest={layout}")
    before = contents(layout)
    events = write(store, other, f"type=oci-layout,dest={layout}")
    after = contents(layout)
    assert before.keys() < after.keys()
    written = [event.size for event in events if isinstance(event, OutputWritten)]
    assert written == [
        sum(len(after[name]) for name in after.keys() - before.keys()) + len(after["index.json"]) + 30
    ]
    entries = json.loads(after["index.json"])["manifests"]
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries]
    assert names == ["1.2", "2", "docker.io/library/tool:1.2"]
    run("skopeo", "inspect", f"oci:{layout}:2")
    run("skopeo", "inspect", f"oci:{layout}:docker.io/library/tool:1.2")
    check_layout(layout, other)


def test_a_name_in_a_layout_moves_to_the_newer_image(store: Store, image: Source, place: str) -> None:
    newer = add_image(store, [*everything(), {b"more": Node("file")}], ["app:1.2"])
    layout = place + "/oci"
    write(store, image, f"type=oci-layout,dest={layout}")
    write(store, newer, f"type=oci-layout,dest={layout}")
    write(store, newer, f"type=oci-layout,dest={layout}")
    entries = json.loads(contents(layout)["index.json"])["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in entries] == [
        "docker.io/library/app:1.2"
    ]
    check_layout(layout, newer)


def test_a_damaged_blob_in_a_layout_is_mended(store: Store, image: Source, place: str) -> None:
    layout = place + "/oci"
    write(store, image, f"type=oci-layout,dest={layout}")
    name = next(name for name in contents(layout) if name.startswith("blobs/"))
    with open(f"{layout}/{name}", "r+b") as file:
        file.write(b"WRONG")
    write(store, image, f"type=oci-layout,dest={layout}")
    check_layout(layout, image)


def test_the_docker_references_of_buildkit_are_written(store: Store, place: str) -> None:
    source = add_image(store, everything(), ["app", "localhost:5000/team/app:3"])
    write(store, source, f"type=oci,dest={place}/out")
    entries = json.loads(contents(place + "/out")["index.json"])["manifests"]
    assert [entry["annotations"] for entry in entries] == [
        {
            "org.opencontainers.image.ref.name": "latest",
            "io.containerd.image.name": "docker.io/library/app:latest",
        },
        {"org.opencontainers.image.ref.name": "3", "io.containerd.image.name": "localhost:5000/team/app:3"},
    ]


def test_a_layer_is_compressed_once(store: Store, image: Source, place: str) -> None:
    first = write(store, image, f"type=oci,dest={place}/one")
    assert sum(isinstance(event, TransferFinished) for event in first) == 1  # two are too small to be told of
    blobs = {each.digest: os.stat(store.blobs.path_of(each.digest)).st_ino for each in store.blobs.all()}
    for kind in ("oci", "oci-layout"):
        again = write(store, image, f"type={kind},dest={place}/two")
        assert not [event for event in again if isinstance(event, TransferStarted)]
        run("rm", "-r", place + "/two")
    assert blobs == {
        each.digest: os.stat(store.blobs.path_of(each.digest)).st_ino for each in store.blobs.all()
    }


def test_what_is_not_compressed_leaves_no_copy_in_the_store(store: Store, image: Source, place: str) -> None:
    write(store, image, f"type=oci,dest={place}/one,compression=none")
    write(store, image, f"type=docker,dest={place}/two")
    assert list(store.blobs.all()) == []


@pytest.mark.parametrize("harm", ["remove", "damage", "cut"])
def test_a_lost_blob_is_made_again(store: Store, image: Source, place: str, harm: str) -> None:
    write(store, image, f"type=oci,dest={place}/one")
    for each in store.blobs.all():
        path = store.blobs.path_of(each.digest)
        if harm == "remove":
            os.unlink(path)
        else:
            with open(path, "r+b") as file:
                file.write(b"WRONG")
                if harm == "cut":
                    file.truncate(7)
    with Store.open(store.root) as later:
        write(later, Source.load(later, image.image_id, image.names), f"type=oci,dest={place}/two")
    with open(place + "/one", "rb") as one, open(place + "/two", "rb") as two:
        assert one.read() == two.read()


@pytest.mark.parametrize("kind", TYPES)
def test_a_layer_that_was_changed_on_the_disk_does_not_go_out(
    store: Store, image: Source, place: str, kind: str
) -> None:
    with open(store.layers.diff_path(image.layers[1]) + "/opt/app/new", "w") as file:
        file.write("not what was built")
    with pytest.raises(StoreCorrupt, match="changed on the disk"):
        write(store, image, f"type={kind},dest={place}/out")
    assert os.listdir(place) == ["store"]
    assert unfinished(store.root) == []


def test_somebody_elses_layer_goes_out_as_it_came(store: Store, place: str) -> None:
    """Its tar is in another order, with names of users: from the files, we would write another one."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("zebra", "ant"):
            info = tarfile.TarInfo(name)
            info.size, info.uname = 6, "somebody"
            archive.addfile(info, io.BytesIO(b"animal"))
    foreign = tar.getvalue()
    diff_id = DiffID("sha256:" + hashlib.sha256(foreign).hexdigest())
    packed = gzip.compress(foreign, 9)
    with store.stage() as staging:
        changeset = unpack(io.BytesIO(foreign), staging.upper)
        layer = store.layers.publish(None, staging, changeset, foreign=True)
    digest = store.blobs.put(packed)
    store.blobs.note_pulled(diff_id, LayerBlob("gzip", digest, len(packed)))
    from dataclasses import replace

    config = replace(EMPTY, diff_ids=(diff_id,)).to_json()
    source = Source(store.images.put(config), config, (), (layer,))
    for compression in COMPRESSIONS:
        write(store, source, f"type=oci,dest={place}/{compression},compression={compression}")
        check_layout(f"{place}/{compression}", source)
    assert f"blobs/sha256/{digest.hex}" in contents(place + "/gzip")
    write(store, source, f"type=docker,dest={place}/docker")
    assert contents(place + "/docker")[f"{layer.chain_id.hex}/layer.tar"] == foreign
    store.blobs.remove(digest)
    with pytest.raises(StoreError, match="came from elsewhere") as caught:
        write(store, source, f"type=docker,dest={place}/none")
    assert caught.value.hint and "--pull" in caught.value.hint


def test_several_outputs_at_once(store: Store, image: Source, place: str) -> None:
    events: list[Event] = []
    outputs = [
        f"type=oci,dest={place}/oci.tar,name=other:1",
        f"type=oci-layout,dest={place}/oci",
        f"type=docker,dest={place}/docker.tar",
        f"type=tar,dest={place}/root.tar",
        place + "/root",
    ]
    done = export_all(store, image.image_id, ["app:1.2"], outputs, None, events.append)
    written = [event for event in events if isinstance(event, OutputWritten)]
    assert [event.kind for event in written] == ["oci", "oci-layout", "docker", "tar", "dir"]
    assert [output.manifest is not None for output in done] == [True, True, False, False, False]
    assert done[0].manifest == done[1].manifest
    for name in ("oci.tar", "docker.tar", "root.tar"):
        size = next(event.size for event in written if event.dest == f"{place}/{name}")
        assert size == os.path.getsize(f"{place}/{name}")
    entries = json.loads(contents(place + "/oci.tar")["index.json"])["manifests"]
    assert [each["annotations"]["io.containerd.image.name"] for each in entries] == [
        "docker.io/library/app:1.2",
        "docker.io/library/other:1",
    ]


def test_compression_reports_what_is_through(store: Store, place: str) -> None:
    source = add_image(store, [{b"big": Node("file", data=os.urandom(1 << 20) * 32)}])
    events = write(store, source, f"type=oci,dest={place}/out,compression=gzip,compression-level=6")
    started = [event for event in events if isinstance(event, TransferStarted)]
    assert [(event.total, event.label) for event in started] == [
        (source.layers[0].size, f"compressing {source.layers[0].diff_id.hex[:12]}")
    ]
    progress = [event.done for event in events if isinstance(event, TransferProgress)]
    assert progress == sorted(progress) and progress
    assert [event.done for event in events if isinstance(event, TransferFinished)] == [source.layers[0].size]


@pytest.mark.parametrize("kind", ["oci", "docker", "tar"])
def test_a_file_goes_to_standard_output(store: Store, image: Source, place: str, kind: str) -> None:
    write(store, image, f"type={kind},dest={place}/file")
    store.sync()
    read, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.dup2(send, 1)
            os.close(send)
            write(store, image, f"type={kind},dest=-")
            os._exit(0)
        finally:
            os._exit(1)
    os.close(send)
    with open(read, "rb") as pipe, open(place + "/file", "rb") as file:
        assert pipe.read() == file.read()
    assert os.waitpid(pid, 0)[1] == 0


def test_a_reader_that_goes_away_is_an_error_not_a_traceback(store: Store, image: Source) -> None:
    read, send = os.pipe()
    os.close(read)
    saved = os.dup(1)
    os.dup2(send, 1)
    os.close(send)
    try:
        with pytest.raises(OutputError) as caught:
            write(store, image, "type=docker,dest=-")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert caught.value.code == "output/pipe"


@pytest.mark.parametrize("kind", [*TYPES, "tar", "dir"])
def test_a_full_disk_leaves_nothing(store: Store, image: Source, place: str, kind: str) -> None:
    small = place + "/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        options = "" if kind in ("docker", "tar", "dir") else ",compression=none"
        with pytest.raises(OutputError) as caught:
            write(store, image, f"type={kind},dest={small}/out{options}")
        assert caught.value.code == "output/full"
        assert os.listdir(small) == []
        if kind in ("oci-layout", "dir"):
            os.mkdir(small + "/out")
            with pytest.raises(OutputError):
                write(store, image, f"type={kind},dest={small}/out{options}")
            assert os.listdir(small + "/out") == []
        else:
            with open(small + "/out", "w") as file:
                file.write("what was there")
            with pytest.raises(OutputError):
                write(store, image, f"type={kind},dest={small}/out{options}")
            with open(small + "/out") as file:
                assert file.read() == "what was there"
            assert os.listdir(small) == ["out"]
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_full_store_leaves_nothing(place: str) -> None:
    small = place + "/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small], check=True)
    try:
        with Store.open(small + "/store") as store:
            source = add_image(store, [{b"noise": Node("file", data=os.urandom(4 << 20))}])
            with pytest.raises(StoreError) as caught:
                write(store, source, f"type=oci,dest={place}/out")
            assert caught.value.code == "store/full"
            assert list(store.blobs.all()) == []
            assert unfinished(small + "/store") == []
            assert os.listdir(place) == ["small"]
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_killed_export_leaves_nothing_at_the_destination(store: Store, place: str) -> None:
    source = add_image(store, [{b"big": Node("file", data=os.urandom(1 << 20) * 64)}])
    store.sync()
    os.mkdir(place + "/into")
    pid = os.fork()
    if pid == 0:

        def die(event: Event) -> None:
            if isinstance(event, TransferProgress):
                os.kill(os.getpid(), 9)

        try:
            spec = OutputSpec.parse(f"type=oci,dest={place}/into/out,compression-level=9")
            export([source], spec, store, die)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
    assert os.listdir(place + "/into") == []
    with Store.open(store.root) as later:
        assert unfinished(later.root) == []


def test_an_interrupted_export_stops_its_threads_and_leaves_nothing(store: Store, place: str) -> None:
    noise = [{b"big": Node("file", data=os.urandom(1 << 20) * 24)} for _ in range(4)]
    source = add_image(store, noise)
    os.mkdir(place + "/into")

    def interrupt(event: Event) -> None:
        if isinstance(event, TransferProgress):
            raise KeyboardInterrupt

    before = threading.active_count()
    for kind in ("oci", "oci-layout"):
        text = f"type={kind},dest={place}/into/out,compression-level=9"
        with pytest.raises(KeyboardInterrupt):
            export([source], OutputSpec.parse(text), store, interrupt)
        assert threading.active_count() == before
        assert os.listdir(place + "/into") == []
        assert unfinished(store.root) == []


def test_exports_side_by_side_share_the_work_and_agree(store: Store, image: Source, place: str) -> None:
    store.sync()
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                with Store.open(store.root) as own:
                    write(
                        own, Source.load(own, image.image_id, image.names), f"type=oci,dest={place}/{number}"
                    )
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 3
    check_layout(place + "/0", image)
    files = [open(f"{place}/{number}", "rb").read() for number in range(3)]  # noqa: SIM115
    assert files[0] == files[1] == files[2]
    assert len(list(store.blobs.all())) == 3


def test_what_is_no_file_is_written_to_not_replaced(store: Store, image: Source, place: str) -> None:
    write(store, image, "type=docker,dest=/dev/null")
    assert os.major(os.stat("/dev/null").st_rdev) == 1
    os.mkdir(place + "/real")
    os.symlink("real/file", place + "/link")
    write(store, image, f"type=docker,dest={place}/link")
    assert os.path.islink(place + "/link") and os.path.isfile(place + "/real/file")


def test_files_are_made_as_the_umask_says(store: Store, image: Source, place: str) -> None:
    before = os.umask(0o027)
    try:
        write(store, image, f"type=docker,dest={place}/out")
        write(store, image, f"type=oci-layout,dest={place}/oci")
    finally:
        os.umask(before)
    assert os.stat(place + "/out").st_mode & 0o777 == 0o640
    assert os.stat(place + "/oci/index.json").st_mode & 0o777 == 0o640


def test_a_directory_that_is_no_layout_is_refused(store: Store, image: Source, place: str) -> None:
    os.mkdir(place + "/full")
    with open(place + "/full/file", "w"):
        pass
    with pytest.raises(UsageError, match="not empty"):
        write(store, image, f"type=oci-layout,dest={place}/full")
    assert os.listdir(place + "/full") == ["file"]
    os.mkdir(place + "/broken")
    for name in ("oci-layout", "index.json"):
        with open(f"{place}/broken/{name}", "w") as file:
            file.write("{")
    with pytest.raises(UsageError, match=r"index\.json"):
        write(store, image, f"type=oci-layout,dest={place}/broken")
    assert sorted(os.listdir(place + "/broken")) == ["index.json", "oci-layout"]


def test_a_layout_with_a_manifest_of_somebody_else_keeps_it(store: Store, image: Source, place: str) -> None:
    run("umoci", "init", "--layout", place + "/oci")
    run("umoci", "new", "--image", place + "/oci:theirs")
    write(store, image, f"type=oci-layout,dest={place}/oci")
    assert sorted(run("umoci", "ls", "--layout", place + "/oci").split()) == ["1.2", "theirs"]
    check_layout(place + "/oci", image)


def test_a_writer_in_the_layout_waits_for_the_other(store: Store, place: str) -> None:
    images = [
        add_image(store, [{b"n": Node("file", data=b"%d" % number)}, {b"d": directory()}], [f"n:{number}"])
        for number in range(4)
    ]
    store.sync()
    children = []
    for image in images:
        pid = os.fork()
        if pid == 0:
            try:
                with Store.open(store.root) as own:
                    write(
                        own,
                        Source.load(own, image.image_id, image.names),
                        f"type=oci-layout,dest={place}/oci",
                    )
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    entries = json.loads(contents(place + "/oci")["index.json"])["manifests"]
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries]
    assert sorted(names) == ["0", "1", "2", "3"]
