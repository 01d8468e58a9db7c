"""oci-layout://, oci-archive:// and docker-archive://: what skopeo and umoci write, and what none should."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping

import pytest

from builder.bases import open_transport, split_scheme
from builder.bases.archive import Archive
from builder.bases.base import BaseImage, BaseRequest, Surroundings
from builder.errors import BaseError
from builder.events import Event, Notice, TransferFinished
from cache.errors import CacheError, DigestMismatch, FormatError
from cache.oci.digest import ChainID
from cache.oci.platform import Platform
from cache.store import Store
from tests.registry_fixtures import images

pytestmark = pytest.mark.peer("skopeo", "umoci")

AMD64 = Platform("linux", "amd64")
LAYERS = [{"bin/tool": b"#!/bin/sh\n"}, {"data": os.urandom(300_000)}, {"etc/conf": b"x=1\n"}]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with the same image in each form: layout, image.oci.tar, image.docker.tar."""
    directory = os.fspath(tmp_path_factory.mktemp("sources"))
    layout = images.make_layout(os.path.join(directory, "layout"), LAYERS)
    images.skopeo("copy", f"oci:{layout}:latest", f"oci-archive:{directory}/image.oci.tar:latest")
    images.skopeo("copy", f"oci:{layout}:latest", f"docker-archive:{directory}/image.docker.tar:team/app:1")
    return directory


@pytest.fixture
def store(tmp_path: os.PathLike[str]) -> Iterator[Store]:
    with Store.open(os.path.join(tmp_path, "store")) as opened:
        yield opened


class Resolver:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.events: list[Event] = []

    def __call__(
        self, reference: str, *, platform: Platform = AMD64, pull: bool = False, directory: str = "/"
    ) -> BaseImage:
        scheme, location = split_scheme(reference)
        around = Surroundings(self.store, self.events.append, _no_executor)
        return open_transport(scheme, around).resolve(
            BaseRequest(location, platform, pull=pull, directory=directory)
        )


def _no_executor() -> None:  # type: ignore[misc]
    raise AssertionError("a local image needs no executor")


@pytest.fixture
def resolve(store: Store) -> Resolver:
    return Resolver(store)


def check(store: Store, base: BaseImage) -> None:
    assert base.chain_id is not None
    layers = store.layers.chain(base.chain_id)
    assert [layer.diff_id for layer in layers] == list(base.config.diff_ids)
    for layer in layers:
        store.layers.verify(ChainID(layer.chain_id))
    tree: dict[str, bytes] = {}
    for directory in reversed(store.layers.lowerdirs(base.chain_id)):
        for top, _, names in os.walk(directory):
            for name in names:
                with open(os.path.join(top, name), "rb") as file:
                    tree[os.path.relpath(os.path.join(top, name), directory)] = file.read()
    assert tree == {path: data for files in LAYERS for path, data in files.items()}
    assert base.config.config.env[-1] == "GREETING=hello"
    assert images.unfinished(store) == []


@pytest.mark.parametrize(
    "reference",
    [
        "oci-layout://{}/layout",
        "oci-layout://{}/layout:latest",
        "oci-archive://{}/image.oci.tar",
        "oci-archive://{}/image.oci.tar:latest",
        "docker-archive://{}/image.docker.tar",
        "docker-archive://{}/image.docker.tar:team/app:1",
        "docker-archive://{}/image.docker.tar:docker.io/team/app:1",
    ],
)
def test_an_image_is_read(resolve: Resolver, store: Store, sources: str, reference: str) -> None:
    check(store, resolve(reference.format(sources)))
    assert sum(isinstance(event, TransferFinished) for event in resolve.events) == 3


def test_paths_are_relative_to_the_directory_of_the_request(
    resolve: Resolver, store: Store, sources: str
) -> None:
    check(store, resolve("oci-layout://layout", directory=sources))
    check(store, resolve("oci-layout://./layout:latest", directory=sources))


def test_a_digest_selects_a_manifest(resolve: Resolver, store: Store, sources: str) -> None:
    digest = images.manifest_digest(f"{sources}/layout")
    base = resolve(f"oci-layout://{sources}/layout@{digest}")
    check(store, base)
    assert base.digest == digest


def test_every_form_gives_the_same_layers_and_they_are_kept_once(
    resolve: Resolver, store: Store, sources: str
) -> None:
    first = resolve(f"oci-layout://{sources}/layout")
    resolve.events.clear()
    for name in ("oci-archive://{}/image.oci.tar", "docker-archive://{}/image.docker.tar"):
        assert resolve(name.format(sources)).chain_id == first.chain_id
    assert not resolve.events, "nothing had to be read but manifests and configs"


def test_the_blobs_of_a_layout_are_kept_as_they_came(resolve: Resolver, store: Store, sources: str) -> None:
    """Exporters need them: somebody else's tar cannot be made again from the files in it."""
    base = resolve(f"oci-layout://{sources}/layout")
    for diff_id in base.config.diff_ids:
        blob = store.blobs.pulled(diff_id)
        assert blob is not None
        data = store.blobs.read(blob.digest)
        assert data is not None
        assert f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}" == diff_id


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst", "bz2"])
def test_compressed_archives_are_read(
    resolve: Resolver, store: Store, sources: str, tmp_path: os.PathLike[str], suffix: str
) -> None:
    tools = {"gz": "gzip", "xz": "xz", "zst": "zstd", "bz2": "bzip2"}
    path = os.path.join(tmp_path, f"image.tar.{suffix}")
    with open(path, "wb") as file:
        subprocess.run([tools[suffix], "-c", f"{sources}/image.docker.tar"], stdout=file, check=True)
    check(store, resolve(f"docker-archive://{path}"))


def test_an_archive_is_read_once_as_long_as_it_is_the_same_file(
    resolve: Resolver, store: Store, sources: str, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copy(f"{sources}/image.oci.tar", tmp_path)
    first = resolve(f"oci-archive://{path}")
    opened: list[str] = []
    monkeypatch.setattr("builder.bases.archive._Scan.run", lambda self: opened.append("scanned"))
    second = resolve(f"oci-archive://{path}")
    assert (second.image_id, second.chain_id, second.digest) == (first.image_id, first.chain_id, first.digest)
    assert not opened
    os.utime(path)
    with pytest.raises(CacheError):
        resolve(f"oci-archive://{path}")
    assert opened


def test_several_images_need_a_tag(resolve: Resolver, store: Store, tmp_path: os.PathLike[str]) -> None:
    layout = images.make_layout(os.path.join(tmp_path, "two"), LAYERS[:1], tag="one")
    images.make_layout(layout, LAYERS[:2], tag="two")
    with pytest.raises(BaseError) as caught:
        resolve(f"oci-layout://{layout}")
    assert caught.value.code == "base/not-found"
    assert caught.value.hint == "the tags in it are: one, two"
    assert len(resolve(f"oci-layout://{layout}:two").config.diff_ids) == 2
    with pytest.raises(BaseError, match="no image is tagged 'three'"):
        resolve(f"oci-layout://{layout}:three")


def test_the_platform_of_an_index_is_chosen(
    resolve: Resolver, store: Store, tmp_path: os.PathLike[str]
) -> None:
    layout = images.make_layout(os.path.join(tmp_path, "multi"), LAYERS[:1], tag="amd64")
    images.make_layout(layout, LAYERS[:2], tag="arm64", architecture="arm64")
    with open(os.path.join(layout, "index.json")) as file:
        index = json.load(file)
    for item in index["manifests"]:
        architecture = item["annotations"].pop("org.opencontainers.image.ref.name")
        item["platform"] = {"os": "linux", "architecture": architecture}
    with open(os.path.join(layout, "index.json"), "w") as file:
        json.dump(index, file)
    for architecture in ("amd64", "arm64"):
        base = resolve(f"oci-layout://{layout}", platform=Platform("linux", architecture))
        assert base.config.architecture == architecture
    with pytest.raises(BaseError) as caught:
        resolve(f"oci-layout://{layout}", platform=Platform("linux", "s390x"))
    assert (caught.value.code, caught.value.hint) == ("base/platform", "it has linux/amd64, linux/arm64")
    assert not any(isinstance(event, Notice) for event in resolve.events)


def test_an_image_for_another_platform_is_taken_with_a_warning(resolve: Resolver, sources: str) -> None:
    resolve(f"docker-archive://{sources}/image.docker.tar", platform=Platform("linux", "s390x"))
    assert [event.code for event in resolve.events if isinstance(event, Notice)] == ["base/platform"]


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("oci-layout://{}/absent", None),
        ("oci-layout://{}/image.oci.tar", "oci-archive://"),
        ("oci-archive://{}/layout", "oci-layout://"),
        ("docker-archive://{}/image.docker.tar:other/name:1", "team/app:1"),
        ("docker-archive:///dev/null/x", None),
        ("oci-archive:///dev/zero", None),
    ],
)
def test_what_is_not_there_is_said(resolve: Resolver, sources: str, reference: str, hint: str | None) -> None:
    with pytest.raises(BaseError) as caught:
        resolve(reference.format(sources))
    assert caught.value.code == "base/not-found"
    assert hint is None or hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "reference",
    [
        "docker-archive://{}/image.oci.tar",
        "oci-archive://{}/image.docker.tar",
        "oci-archive://{}/layout/index.json",
        "oci-layout://{}/layout/blobs",
        "oci-archive:///etc/passwd",
    ],
)
def test_what_is_something_else_is_said(
    resolve: Resolver, store: Store, sources: str, reference: str
) -> None:
    with pytest.raises(FormatError):
        resolve(reference.format(sources))
    assert store.images.all() == () and images.unfinished(store) == []


def _damage(path: str, change: Callable[[bytes], bytes]) -> None:
    with open(path, "rb") as file:
        data = file.read()
    os.unlink(path)
    with open(path, "wb") as file:
        file.write(change(data))


def _shorten(data: bytes) -> bytes:
    return data[:-1]


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_every_damaged_blob_is_found(sources: str, tmp_path: os.PathLike[str]) -> None:
    """One bit in any file of a layout, or a byte less, and the image is refused."""
    manifest = json.loads(images.read_blob(f"{sources}/layout", images.manifest_digest(f"{sources}/layout")))
    used = [images.manifest_digest(f"{sources}/layout"), manifest["config"]["digest"]]
    used += [layer["digest"] for layer in manifest["layers"]]
    for number, (digest, change) in enumerate((each, how) for each in used for how in (_flip, _shorten)):
        layout = os.path.join(tmp_path, f"damaged-{number}")
        shutil.copytree(f"{sources}/layout", layout)
        _damage(os.path.join(layout, "blobs", *digest.split(":")), change)
        with Store.open(os.path.join(tmp_path, f"store-{number}")) as store:
            with pytest.raises(FormatError):
                Resolver(store)(f"oci-layout://{layout}")
            assert store.images.all() == ()
            assert images.unfinished(store) == []


def test_a_damaged_config_of_a_docker_archive_is_found(resolve: Resolver, tmp_path: os.PathLike[str]) -> None:
    name = f"{'0' * 64}.json"
    path = _archive(tmp_path, {"manifest.json": _manifest(name), name: b"{}"})
    with pytest.raises(DigestMismatch):
        resolve(f"docker-archive://{path}")


def _layer(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _manifest(config: str, *layers: str, **more: object) -> bytes:
    return json.dumps([{"Config": config, "RepoTags": ["x:1"], "Layers": list(layers), **more}]).encode()


def _config(*layers: bytes) -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()


def _archive(
    tmp_path: os.PathLike[str], files: Mapping[str, bytes], links: Mapping[str, str] = {}, **options: int
) -> str:
    path = os.path.join(tmp_path, "archive.tar")
    with tarfile.open(path, "w", **options) as tar:  # type: ignore[call-overload]
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_archives_of_old_dockers_are_read(
    resolve: Resolver, store: Store, tmp_path: os.PathLike[str], form: int
) -> None:
    """They have a directory for each layer, links between them, and names that need an extended header."""
    first, second = _layer(("a", b"1")), _layer(("b", b"2"))
    config = _config(first, second, first)
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    long = "d" * 120
    files = {
        f"./{long}/layer.tar": first,
        "two/layer.tar": second,
        name: config,
        "manifest.json": _manifest(name, f"{long}/layer.tar", "two/layer.tar", "three/layer.tar"),
    }
    path = _archive(tmp_path, files, {"three/layer.tar": f"../{long}/layer.tar"}, format=form)
    base = resolve(f"docker-archive://{path}")
    assert len(base.config.diff_ids) == 3
    assert base.chain_id is not None and store.layers.get(base.chain_id) is not None


def test_a_tar_as_we_would_write_it_is_not_kept_twice(
    resolve: Resolver, store: Store, tmp_path: os.PathLike[str]
) -> None:
    from cache.changeset import write_tar

    tree = os.path.join(tmp_path, "tree")
    os.makedirs(os.path.join(tree, "etc"))
    out = io.BytesIO()
    write_tar(tree, out)
    layer = out.getvalue()
    foreign = _layer(("x", b"1"))
    for data, kept in ((layer, False), (foreign, True)):
        config = _config(data)
        path = _archive(
            tmp_path, {"manifest.json": _manifest("c.json", "l.tar"), "c.json": config, "l.tar": data}
        )
        base = resolve(f"docker-archive://{path}")
        assert (store.blobs.pulled(base.config.diff_ids[0]) is not None) is kept


@pytest.mark.parametrize(
    "links",
    [
        {"l.tar": "/etc/passwd"},
        {"l.tar": "../../../../../../etc/passwd"},
        {"l.tar": "l.tar"},
        {"l.tar": "m.tar", "m.tar": "l.tar"},
    ],
)
def test_links_lead_nowhere_but_into_the_archive(
    resolve: Resolver, tmp_path: os.PathLike[str], links: dict[str, str]
) -> None:
    with open("/etc/passwd", "rb") as file:
        config = _config(file.read())
    path = _archive(tmp_path, {"manifest.json": _manifest("c.json", "l.tar"), "c.json": config}, links)
    with pytest.raises(FormatError, match="lacks the layer"):
        resolve(f"docker-archive://{path}")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"Config": 1}]',
        b'[{"Config": "c.json", "Layers": "x"}]',
        b'[{"Config": "../c.json", "Layers": []}]',
        b'[{"Config": "c.json", "Layers": ["l", "l"]}]',
        b'[], "images": [',
        b"\xff\xfe",
    ],
)
def test_a_malformed_manifest_is_one_clear_error(
    resolve: Resolver, store: Store, tmp_path: os.PathLike[str], manifest: bytes
) -> None:
    layer = _layer(("a", b"1"))
    path = _archive(tmp_path, {"manifest.json": manifest, "c.json": _config(layer), "l": layer})
    with pytest.raises((FormatError, BaseError)):
        resolve(f"docker-archive://{path}")
    assert store.images.all() == ()


def test_a_layer_that_is_not_the_configs_is_refused(resolve: Resolver, tmp_path: os.PathLike[str]) -> None:
    config = _config(_layer(("a", b"1")))
    files = {"manifest.json": _manifest("c.json", "l"), "c.json": config, "l": _layer(("a", b"2"))}
    with pytest.raises(DigestMismatch):
        resolve(f"docker-archive://{_archive(tmp_path, files)}")


def test_every_cut_archive_is_an_error_and_none_a_hang(
    resolve: Resolver, sources: str, tmp_path: os.PathLike[str]
) -> None:
    layer = _layer(("a", b"1"))
    files = {"l": layer, "c.json": _config(layer), "manifest.json": _manifest("c.json", "l")}
    with open(_archive(tmp_path, files), "rb") as file:
        data = file.read()
    path = os.path.join(tmp_path, "cut.tar")
    end = 3 * 512 + sum(-(-len(each) // 512) * 512 for each in files.values())
    for length in range(0, end, 100):
        with open(path, "wb") as file:
            file.write(data[:length])
        with pytest.raises(CacheError):
            resolve(f"docker-archive://{path}")


@pytest.mark.parametrize("seed", range(200))
def test_no_archive_makes_the_reader_fail_otherwise(seed: int, tmp_path: os.PathLike[str]) -> None:
    """Bytes changed at random in headers: a FormatError, or an archive; nothing beyond the file is read."""
    import random

    chance = random.Random(seed)
    files = {"a" * 120: b"x" * 700, "b": b"y", "c": b""}
    form = chance.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
    if form == tarfile.USTAR_FORMAT:
        files = {"b": b"y" * 600, "c": b""}
    with open(_archive(tmp_path, files, {"l": "b"}, format=form), "rb") as file:
        data = bytearray(file.read())
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(0, min(len(data), 4096) // 512) * 512
        block = data[start : start + 512]
        block[chance.choice([0, 99, *range(124, 136), *range(148, 157), 257, 345])] = chance.randrange(256)
        if chance.random() < 0.7:
            total = sum(block) - sum(block[148:156]) + 8 * 0x20
            block[148:156] = b"%06o\0 " % total
        data[start : start + 512] = block
    path = os.path.join(tmp_path, "fuzzed.tar")
    with open(path, "wb") as out:
        out.write(data)
    with open(path, "rb", buffering=0) as raw:
        try:
            archive = Archive(raw)
        except FormatError:
            return
        for name in ("b", "l", "a" * 120, "c", "../b"):
            found = archive.open(name)
            if found is not None:
                assert len(found[0].read()) == found[1] <= len(data)
