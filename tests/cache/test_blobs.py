"""blobs/: an OCI layout in which nothing has a name before it is whole, and nothing is used before it is
verified."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator

import pytest

from cache.blobs import Blobs, BlobWriter, LayerBlob
from cache.compression import GZIP, ZSTD, Compression
from cache.errors import DigestMismatch, StoreFull
from cache.oci.digest import DiffID, Digest
from cache.store import Store

LAYER = DiffID("sha256:" + "1" * 64)


@pytest.fixture
def store(tmp_path: os.PathLike[str]) -> Iterator[Store]:
    with Store.open(os.fspath(tmp_path) + "/store") as opened:
        yield opened


@pytest.fixture
def blobs(store: Store) -> Blobs:
    return store.blobs


def leftovers(store: Store) -> list[str]:
    return [name for name in os.listdir(store.root + "/tmp") if name.startswith("file")]


def test_a_blob_is_found_by_the_digest_of_its_bytes(blobs: Blobs) -> None:
    digest = blobs.put(b"manifest")
    assert digest == Digest.of(b"manifest")
    assert blobs.read(digest) == b"manifest"
    path = blobs.get(digest)
    assert path == f"{blobs.path}/blobs/sha256/{hashlib.sha256(b'manifest').hexdigest()}"
    assert blobs.get(Digest.of(b"another")) is None
    assert blobs.read(Digest.of(b"another")) is None


def test_a_writer_hashes_what_passes(store: Store, blobs: Blobs) -> None:
    with blobs.writer() as writer:
        for piece in (b"lay", b"", b"er"):
            writer.write(piece)
        assert blobs.get(Digest.of(b"layer")) is None
        assert writer.commit(Digest.of(b"layer"), size=5) == Digest.of(b"layer")
    assert blobs.read(Digest.of(b"layer")) == b"layer"
    assert not leftovers(store)


@pytest.mark.parametrize("promise", [(Digest.of(b"x"), None), (None, 4), (Digest.of(b"layer"), 6)])
def test_what_is_not_what_was_promised_is_not_published(
    store: Store, blobs: Blobs, promise: tuple[Digest | None, int | None]
) -> None:
    with pytest.raises(DigestMismatch), blobs.writer() as writer:
        writer.write(b"layer")
        writer.commit(promise[0], size=promise[1])
    assert blobs.get(Digest.of(b"layer")) is None
    assert not leftovers(store)


def test_what_is_not_committed_is_dropped(store: Store, blobs: Blobs) -> None:
    with blobs.writer() as writer:
        writer.write(b"half a lay")
    with pytest.raises(RuntimeError), blobs.writer() as writer:
        writer.write(b"half a lay")
        raise RuntimeError
    assert not leftovers(store)
    assert list(blobs.all()) == []


def test_a_writer_that_was_killed_leaves_what_the_next_start_sweeps(store: Store) -> None:
    pid = os.fork()
    if pid == 0:
        store.blobs.writer().write(b"half a lay")
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(leftovers(store)) == 1
    with Store.open(store.root) as opened:
        assert not leftovers(opened)


def test_a_writer_at_work_is_not_swept(store: Store, blobs: Blobs) -> None:
    with blobs.writer() as writer:
        writer.write(b"lay")
        with Store.open(store.root):
            writer.write(b"er")
            writer.commit(Digest.of(b"layer"))
    assert blobs.read(Digest.of(b"layer")) == b"layer"


def test_putting_again_changes_nothing(blobs: Blobs) -> None:
    assert blobs.put(b"same") == blobs.put(b"same")
    assert len(list(blobs.all())) == 1


def test_putting_again_mends_a_damaged_blob(blobs: Blobs) -> None:
    digest = blobs.put(b"right")
    damage(blobs, digest)
    blobs.put(b"right")
    assert blobs.read(digest) == b"right"


def damage(blobs: Blobs, digest: Digest) -> None:
    path = blobs.get(digest)
    assert path is not None
    with open(path, "r+b") as file:
        file.write(b"W")


def test_a_damaged_blob_is_dropped_not_used(store: Store) -> None:
    digest = store.blobs.put(b"right")
    damage(store.blobs, digest)
    with Store.open(store.root) as later:
        assert later.blobs.open(digest) is None
        assert later.blobs.get(digest) is None


def test_a_symlink_is_no_blob(store: Store, blobs: Blobs, tmp_path: os.PathLike[str]) -> None:
    digest = blobs.put(b"right")
    blobs.remove(digest)
    target = os.fspath(tmp_path) + "/elsewhere"
    with open(target, "wb") as file:
        file.write(b"right")
    os.symlink(target, blobs.path_of(digest))
    with Store.open(store.root) as later, pytest.raises(Exception, match="symbolic links"):
        later.blobs.open(digest)


def test_an_open_blob_outlives_its_removal(blobs: Blobs) -> None:
    digest = blobs.put(b"layer")
    with blobs.open(digest) or pytest.fail() as file:
        assert blobs.remove(digest)
        assert not blobs.remove(digest)
        assert file.read() == b"layer"


def test_use_shows_in_the_listing(blobs: Blobs) -> None:
    digest = blobs.put(b"layer")
    os.utime(blobs.path_of(digest), (1000, 1000))
    assert [(blob.digest, blob.size, blob.used) for blob in blobs.all()] == [(digest, 5, 1000)]
    assert blobs.read(digest) == b"layer"
    assert [blob.used > 1000 for blob in blobs.all()] == [True]


def test_sha512_has_a_directory_of_its_own(blobs: Blobs) -> None:
    wanted = Digest("sha512:" + hashlib.sha512(b"layer").hexdigest())
    with blobs.writer("sha512") as writer:
        writer.write(b"layer")
        assert writer.commit(wanted) == wanted
    assert blobs.read(wanted) == b"layer"
    assert [blob.digest for blob in blobs.all()] == [wanted]


def test_the_directory_is_an_oci_layout(blobs: Blobs) -> None:
    digest = blobs.put(b"{}")
    with open(blobs.path + "/oci-layout", "rb") as file:
        assert json.load(file) == {"imageLayoutVersion": "1.0.0"}
    listed = subprocess.run(["umoci", "ls", "--layout", blobs.path], capture_output=True, check=True)
    assert listed.stdout == b""
    assert os.path.isfile(f"{blobs.path}/blobs/sha256/{digest.hex}")


def test_writers_side_by_side_do_not_meet(store: Store, blobs: Blobs) -> None:
    def write(number: int) -> None:
        for turn in range(20):
            with blobs.writer() as writer:
                writer.write(b"%d %d" % (number, turn))
                writer.write(b"%d" % number * 1000)
                writer.commit()
            blobs.put(b"shared %d" % turn)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(blobs.all())) == 4 * 20 + 20
    assert not leftovers(store)


def test_a_layer_is_known_by_how_it_is_compressed(blobs: Blobs) -> None:
    blob = LayerBlob("gzip", blobs.put(b"packed"), 6)
    assert blobs.layer(LAYER, GZIP) is None
    blobs.note_layer(LAYER, GZIP, blob)
    assert blobs.layer(LAYER, GZIP) == blob
    assert blobs.layer(LAYER, ZSTD) is None
    assert blobs.layer(LAYER, Compression("gzip", 6)) is None
    assert blobs.layer(DiffID("sha256:" + "2" * 64), GZIP) is None


def test_a_layer_whose_blob_was_pruned_is_not_known(blobs: Blobs) -> None:
    blob = LayerBlob("gzip", blobs.put(b"packed"), 6)
    blobs.note_layer(LAYER, GZIP, blob)
    blobs.note_pulled(LAYER, blob)
    blobs.remove(blob.digest)
    assert blobs.layer(LAYER, GZIP) is None
    assert blobs.pulled(LAYER) is None


def test_a_layer_whose_blob_was_cut_off_is_not_known(blobs: Blobs) -> None:
    blob = LayerBlob("gzip", blobs.put(b"packed"), 6)
    blobs.note_layer(LAYER, GZIP, blob)
    os.truncate(blobs.path_of(blob.digest), 3)
    assert blobs.layer(LAYER, GZIP) is None


def test_the_blob_that_a_layer_came_as_is_taken_at_any_level_of_its_kind(blobs: Blobs) -> None:
    pulled = LayerBlob("gzip", blobs.put(b"from a registry"), 15)
    own = LayerBlob("gzip", blobs.put(b"our own"), 7)
    blobs.note_pulled(LAYER, pulled)
    blobs.note_layer(LAYER, GZIP, own)
    assert blobs.pulled(LAYER) == pulled
    assert blobs.layer(LAYER, GZIP) == pulled
    assert blobs.layer(LAYER, Compression("gzip", 9)) == pulled
    assert blobs.layer(LAYER, ZSTD) is None


def test_a_full_disk_says_so_and_leaves_nothing(store: Store) -> None:
    os.makedirs(store.root + "/blobs", exist_ok=True)
    small = os.path.dirname(store.root) + "/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        with Store.open(small + "/store") as tiny:
            with pytest.raises(StoreFull), tiny.blobs.writer() as writer:
                fill(writer)
            assert not leftovers(tiny)
            assert list(tiny.blobs.all()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def fill(writer: BlobWriter) -> None:
    for _ in range(64):
        writer.write(bytes(1 << 17))
    writer.commit()
