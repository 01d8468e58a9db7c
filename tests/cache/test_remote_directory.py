"""The shared cache in a directory."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cache.remote import UNSIGNED, RemoteCache, RemoteError
from cache.remotes.directory import DirectoryCache
from tests.cache.remote_contract import Contract
from tests.cache.sealing import blob_of, key_of, sealed, step

DAY = 24 * 3600


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Callable[[], RemoteCache]]:
    opened: list[DirectoryCache] = []

    def another() -> RemoteCache:
        opened.append(DirectoryCache(str(tmp_path / "cache")))
        return opened[-1]

    yield another
    for cache in opened:
        cache.close()


class TestDirectory(Contract):
    pass


def put(cache: RemoteCache, name: str, layer: bytes) -> None:
    entry = step(name, layer)
    assert entry.layer is not None
    cache.put_blob(entry.layer, lambda: io.BytesIO(layer))
    cache.add(entry.key, UNSIGNED, sealed(entry), entry.layer)


def age(top: Path, days: int) -> None:
    """Make everything that is there as old as that."""
    then = time.time() - days * DAY
    for directory, _, names in os.walk(top):
        for name in names:
            os.utime(os.path.join(directory, name), (then, then))


def test_anyone_can_check_it(remote: Callable[[], RemoteCache], tmp_path: Path) -> None:
    put(remote(), "step", b"layer")
    blob = blob_of(b"layer").digest
    assert (tmp_path / "cache/blobs/sha256" / blob.hex[:2] / blob.hex).read_bytes() == b"layer"
    key = key_of("step")
    assert (tmp_path / f"cache/entries/{key[:2]}/{key}/unsigned").read_bytes() == sealed(step())


def test_nothing_unfinished_is_left(remote: Callable[[], RemoteCache], tmp_path: Path) -> None:
    cache = remote()
    with pytest.raises(RemoteError):
        cache.put_blob(blob_of(b"layer"), lambda: io.BytesIO(b"other"))
    put(cache, "step", b"layer")
    cache.extend(key_of("line"), [sealed(step())])
    cache.claim(key_of("step"), 0)
    assert cache.claim(key_of("step"), 60) is not None
    left = [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".")]
    assert left == []


def test_what_a_killed_writer_left_goes_after_a_day(
    remote: Callable[[], RemoteCache], tmp_path: Path
) -> None:
    cache = remote()
    put(cache, "step", b"layer")
    directory = tmp_path / f"cache/entries/{key_of('step')[:2]}/{key_of('step')}"
    for name, days in ((".new-old", 2), (".new-young", 0)):
        (directory / name).write_bytes(b"half")
        then = time.time() - days * DAY
        os.utime(directory / name, (then, then))
    assert cache.entry(key_of("step"), ("",)) == [sealed(step())]
    assert sorted(os.listdir(directory)) == [".new-young", "unsigned"]


def test_a_line_is_kept_in_few_files(remote: Callable[[], RemoteCache], tmp_path: Path) -> None:
    cache, line = remote(), key_of("line")
    for number in range(200):
        cache.extend(line, [sealed(step(str(number), None))])
    assert len(os.listdir(tmp_path / f"cache/lines/{line[:2]}/{line}")) <= 33
    assert len(cache.line(line)) == 200


def test_collect_takes_what_is_old_and_the_blobs_that_nothing_names(
    remote: Callable[[], RemoteCache], tmp_path: Path
) -> None:
    cache = remote()
    put(cache, "old", b"old layer")
    put(cache, "both", b"shared layer")
    cache.put_blob(blob_of(b"orphan"), lambda: io.BytesIO(b"orphan"))
    age(tmp_path, 40)
    put(cache, "new", b"shared layer")
    cache.put_blob(blob_of(b"on its way"), lambda: io.BytesIO(b"on its way"))
    limit = int(time.time()) - 30 * DAY
    would = cache.collect(older=limit, unused=None, dry_run=True)
    assert len(list(cache.stored())) == 3
    done = cache.collect(older=limit, unused=None, dry_run=False)
    assert done == would
    assert (done.entries, done.blobs) == (2, 2)
    assert [each.key for each in cache.stored()] == [key_of("new")]
    there = {name: cache.has_blob(blob_of(name).digest) for name in (b"shared layer", b"on its way")}
    assert all(there.values()), there
    assert not cache.has_blob(blob_of(b"old layer").digest)
    assert not cache.has_blob(blob_of(b"orphan").digest)


def test_what_builds_have_met_lately_is_used(remote: Callable[[], RemoteCache], tmp_path: Path) -> None:
    cache = remote()
    for name in ("met", "forgotten"):
        put(cache, name, name.encode())
        cache.extend(key_of("line of " + name), [sealed(step(name, name.encode()))])
    age(tmp_path, 40)
    assert cache.line(key_of("line of met"))
    cache.collect(older=None, unused=int(time.time()) - 30 * DAY, dry_run=False)
    assert [each.key for each in cache.stored()] == [key_of("met")]
    assert cache.line(key_of("line of forgotten")) == []


@pytest.mark.parametrize("where", ["blobs", "entries", "lines", "claims", "clock"])
def test_a_link_leads_nowhere(remote: Callable[[], RemoteCache], tmp_path: Path, where: str) -> None:
    """Somebody who may write to the cache cannot have others write elsewhere."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "cache" / where)
    cache = remote()
    for attempt in (
        lambda: put(cache, "step", b"layer"),
        lambda: cache.extend(key_of("line"), [sealed(step())]),
        lambda: cache.claim(key_of("step"), 0),
        lambda: cache.claim(key_of("step"), 0),
    ):
        try:
            attempt()
        except RemoteError:
            continue
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_file_that_is_a_link_or_a_pipe_is_not_there(
    remote: Callable[[], RemoteCache], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    key = key_of("step")
    directory = tmp_path / f"cache/entries/{key[:2]}/{key}"
    directory.mkdir(parents=True)
    os.symlink(tmp_path / "secret", directory / "unsigned")
    os.mkfifo(directory / ("1" * 64))
    assert remote().entry(key, ("",)) == []


def test_a_directory_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = DirectoryCache(str(tmp_path / "file"))
    with pytest.raises(RemoteError):
        cache.line(key_of("line"))
    with pytest.raises(RemoteError):
        put(cache, "step", b"layer")


def test_a_stopped_transfer_ends(remote: Callable[[], RemoteCache]) -> None:
    cache, data = remote(), b"x" * (3 << 20)
    cache.put_blob(blob_of(data), lambda: io.BytesIO(data))
    chunks = cache.blob(blob_of(data))
    next(chunks)
    cache.stop()
    with pytest.raises(RemoteError):
        list(chunks)
