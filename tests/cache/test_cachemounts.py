"""Cache mounts: who gets which instance, between processes as within one, and what a death leaves."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cache.cachemounts import CacheMounts, Identity, Request
from cache.cachemounts_usage import all_mounts, choose, is_in_use, prune, remove
from cache.errors import StoreError
from cache.gc import prune as prune_store
from cache.prunepolicy import ALL_KINDS, Policy
from cache.store import Store
from tests.cache.scenes import add_chain, start, stop

ALL = (Policy(kinds=ALL_KINDS),)

HOLD = """
import sys
from cache.store import Store
store = Store.open(sys.argv[1])
def wait(): print("waiting", flush=True)
with store.cache_mounts.acquire(sys.argv[2], sharing=sys.argv[3], on_wait=wait) as held:
    print(held.path, flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""
COUNT = """
import sys
from cache.store import Store
store = Store.open(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with store.cache_mounts.acquire("counter", sharing="locked") as held:
        try:
            number = int(open(held.path + "/number").read())
        except FileNotFoundError:
            number = 0
        open(held.path + "/number", "w").write(str(number + 1))
"""
FILL = """
import os, sys, time
from cache.store import Store
store = Store.open(sys.argv[1])
def fill(path):
    open(path + "/half", "w").write("half")
    print("filling", flush=True)
    sys.stdin.readline()
    open(path + "/whole", "w").write("whole")
with store.cache_mounts.acquire("filled", base="a", fill=fill) as held:
    print(held.path, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        yield store
        assert [name for name in os.listdir(store.root + "/tmp") if not name.startswith("trash")] == []


@pytest.fixture
def mounts(store: Store) -> CacheMounts:
    return store.cache_mounts


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def holding(store: Store, mount_id: str, sharing: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that holds a mount; gives it and the path that it got."""
    process = start(HOLD, store.root, mount_id, sharing)
    try:
        yield process, line(process)
    finally:
        stop(process)


def test_what_one_build_leaves_the_next_one_finds(mounts: CacheMounts) -> None:
    with mounts.acquire("/root/.cache") as held:
        assert os.path.isabs(held.path) and held.created and os.listdir(held.path) == []
        Path(held.path, "wheel").write_text("wheel")
    with mounts.acquire("/root/.cache") as again:
        assert again.path == held.path and not again.created
        assert Path(again.path, "wheel").read_text() == "wheel"


def test_a_new_directory_has_the_owner_and_mode_asked_for_whatever_the_umask(mounts: CacheMounts) -> None:
    old = os.umask(0o077)
    try:
        with (
            mounts.acquire("plain") as plain,
            mounts.acquire("own", uid=7, gid=8, mode=0o2775) as own,
        ):
            facts = [os.stat(held.path) for held in (plain, own)]
    finally:
        os.umask(old)
    assert [(f.st_uid, f.st_gid, stat.S_IMODE(f.st_mode)) for f in facts] == [
        (0, 0, 0o755),
        (7, 8, 0o2775),
    ]


def test_another_id_base_owner_or_mode_is_another_mount(mounts: CacheMounts) -> None:
    paths = set()
    for identity in (
        Identity("a"),
        Identity("b"),
        Identity("a", "sha256:1 /x"),
        Identity("a", "sha256:2 /x"),
        Identity("a", uid=1),
        Identity("a", gid=1),
        Identity("a", mode=0o700),
        Identity("a\0sha256:1 /x"),
    ):
        with mounts.acquire_all([Request(identity)]) as (held,):
            paths.add(held.path)
    assert len(paths) == 8


@pytest.mark.parametrize("mount_id", ["../../etc", "a/b//c", "x" * 5000, "new\nline", "\udcff", "é", "."])
def test_any_id_has_its_directory_in_the_store_and_can_be_read_in_it(
    mounts: CacheMounts, mount_id: str
) -> None:
    with mounts.acquire(mount_id) as held:
        directory = os.path.dirname(held.path)
    assert os.path.dirname(directory) == mounts.path
    with open(directory + "/id", "rb") as file:
        assert file.read() == mount_id.encode("utf-8", "surrogateescape") + b"\n"
    assert [mount.id for mount in all_mounts(mounts)] == [mount_id]


def test_the_directory_can_be_worked_out_in_a_shell_as_the_page_says(mounts: CacheMounts) -> None:
    with mounts.acquire("/root/.cache/pip") as held:
        key = held.instance.partition("-")[0]
    command = "printf '%s\\0%s\\0%s' /root/.cache/pip '' 0:0:755 | sha256sum | head -c 32"
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout == key


def test_shared_mounts_are_one_directory_in_all_processes(store: Store, mounts: CacheMounts) -> None:
    with (
        mounts.acquire("a") as held,
        holding(store, "a", "shared") as (_, path),
        holding(store, "a", "shared") as (_, third),
    ):
        assert path == third == held.path


def test_a_private_mount_in_use_makes_the_next_one_begin_another_and_a_free_one_is_taken_again(
    store: Store, mounts: CacheMounts
) -> None:
    with holding(store, "a", "private") as (_, first):
        with mounts.acquire("a", sharing="private") as second, mounts.acquire("a") as third:
            assert len({first, second.path, third.path}) == 3
        with mounts.acquire("a", sharing="private") as again:
            assert again.path == second.path
    with mounts.acquire("a", sharing="private") as again:
        assert again.path == first


def test_a_locked_mount_waits_for_the_other_user_and_says_so_once(store: Store, mounts: CacheMounts) -> None:
    with (
        mounts.acquire("a", sharing="locked") as held,
        holding(store, "a", "locked") as (process, said),
    ):
        assert said == "waiting" and process.poll() is None
        held.release()
        assert line(process) == held.path


@pytest.mark.parametrize("sharing", ["shared", "private"])
def test_a_locked_mount_waits_for_whoever_has_it_however_he_shares(
    store: Store, mounts: CacheMounts, sharing: str
) -> None:
    with holding(store, "a", sharing) as (process, path):
        waits = []

        def wait() -> None:
            waits.append(process.poll())
            process.kill()

        with mounts.acquire("a", sharing="locked", on_wait=wait) as held:
            assert held.path == path and waits == [None]


def test_a_locked_mount_is_not_shared_with_one_that_would_share(store: Store, mounts: CacheMounts) -> None:
    with holding(store, "a", "locked") as (_, path), mounts.acquire("a", sharing="shared") as held:
        assert held.path != path
        with mounts.acquire("a", sharing="shared") as another:
            assert another.path == held.path


def test_who_shares_joins_those_that_share_even_if_an_instance_before_theirs_is_free(
    mounts: CacheMounts,
) -> None:
    first = mounts.acquire("a", sharing="private")
    with mounts.acquire("a", sharing="shared") as second:
        first.release()
        with mounts.acquire("a", sharing="shared") as third:
            assert third.path == second.path != first.path


def test_no_two_processes_have_a_locked_mount_at_once(store: Store) -> None:
    processes = [start(COUNT, store.root, "40") for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    with store.cache_mounts.acquire("counter") as held:
        assert Path(held.path, "number").read_text() == "120"
    assert len(store.cache_mounts.names()) == 1


def test_threads_that_come_at_once_make_one_directory(mounts: CacheMounts) -> None:
    paths: list[str] = []
    gate = threading.Barrier(8)
    done = threading.Barrier(8)

    def use() -> None:
        gate.wait()
        with mounts.acquire("a") as held:
            paths.append(held.path)
            done.wait()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8 and len(set(paths)) == 1


@pytest.mark.parametrize("sharing", ["shared", "private", "locked"])
def test_a_killed_build_leaves_nothing_locked_and_what_it_wrote(
    store: Store, mounts: CacheMounts, sharing: str
) -> None:
    with holding(store, "a", sharing) as (process, path):
        Path(path, "half").write_text("x")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_in_use(mounts, os.path.basename(os.path.dirname(path)))
        with mounts.acquire("a", sharing="locked") as held:
            assert held.path == path and os.listdir(path) == ["half"]


def test_a_child_that_inherits_the_descriptor_keeps_it_in_use_when_its_parent_is_gone(
    mounts: CacheMounts,
) -> None:
    held = mounts.acquire("a", sharing="locked")
    child = subprocess.Popen(["sleep", "60"], pass_fds=[held.fileno()])
    try:
        os.close(held.fileno())  # as the kernel does for who is killed: without unlocking
        assert is_in_use(mounts, held.instance)
    finally:
        child.kill()
        child.wait()
    assert not is_in_use(mounts, held.instance)


def test_what_a_mount_begins_with_is_there_once_and_whole(mounts: CacheMounts) -> None:
    calls = []

    def fill(path: str) -> None:
        calls.append(path)
        Path(path, "seed").write_text("seed")

    for _ in range(2):
        with mounts.acquire("a", base="sha256:1", fill=fill) as held:
            assert os.listdir(held.path) == ["seed"]
    assert len(calls) == 1


def test_a_failed_fill_leaves_nothing(mounts: CacheMounts) -> None:
    def fill(path: str) -> None:
        Path(path, "half").write_text("half")
        raise FileNotFoundError(2, "No such file or directory", "/source")

    with pytest.raises(StoreError, match="/source"):
        mounts.acquire("a", base="sha256:1", fill=fill)
    assert mounts.names() == []


def test_one_that_is_being_filled_is_never_seen_by_others_who_wait_for_it(
    store: Store, mounts: CacheMounts
) -> None:
    process = start(FILL, store.root)
    try:
        assert line(process) == "filling"
        assert mounts.names() == [] and all_mounts(mounts) == []
        waited = []

        def wait() -> None:
            waited.append(True)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

        with mounts.acquire("filled", base="a", on_wait=wait) as held:
            assert waited == [True]
            assert sorted(os.listdir(held.path)) == ["half", "whole"]
            assert line(process) == held.path
    finally:
        stop(process)


def test_one_killed_while_it_fills_is_swept_and_the_next_user_fills_again(store: Store) -> None:
    process = start(FILL, store.root)
    assert line(process) == "filling"
    stop(process)
    assert any(name.startswith("cachemount-") for name in os.listdir(store.root + "/tmp"))
    with Store.open(store.root) as other:
        assert [n for n in os.listdir(store.root + "/tmp") if n.startswith("cachemount-")] == []
        with other.cache_mounts.acquire("filled", base="a") as held:
            assert held.created and os.listdir(held.path) == []


def test_a_step_gets_its_mounts_in_its_order_and_one_id_twice_is_one_directory(mounts: CacheMounts) -> None:
    wanted = [
        Request(Identity("b"), "locked"),
        Request(Identity("a"), "private"),
        Request(Identity("b"), "private"),
        Request(Identity("c")),
    ]
    with mounts.acquire_all(wanted) as held:
        ids = [Path(os.path.dirname(each.path), "id").read_text().strip() for each in held]
        assert ids == ["b", "a", "b", "c"]
        assert held[0].path == held[2].path
        assert all(is_in_use(mounts, each.instance) for each in held)
    assert not any(is_in_use(mounts, each.instance) for each in held)


def test_two_steps_that_lock_the_same_mounts_in_different_orders_both_end(mounts: CacheMounts) -> None:
    counts = []

    def work(*ids: str) -> None:
        for _ in range(20):
            with mounts.acquire_all([Request(Identity(each), "locked") for each in ids]):
                counts.append(ids)

    threads = [
        threading.Thread(target=work, args=ids, daemon=True) for ids in (("a", "b", "c"), ("c", "b", "a"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(counts) == 40


def test_a_failure_gives_back_what_a_step_had_already(mounts: CacheMounts) -> None:
    def fill(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    requests = [Request(Identity(each), "locked") for each in "abcdef"]
    requests.append(Request(Identity("g", "base"), "locked", fill))
    with pytest.raises(StoreError), mounts.acquire_all(requests):
        pass
    assert not any(mount.in_use for mount in all_mounts(mounts))


# What there is, and taking it away


def aged(mounts: CacheMounts, mount_id: str, seconds: int, size: int = 0, sharing: str = "shared") -> str:
    """Make a mount that was used `seconds` before 1,000,000; return its name."""
    with mounts.acquire(mount_id, sharing=sharing) as held:  # type: ignore[arg-type]
        if size:
            Path(held.path, "data").write_bytes(os.urandom(size))
        name = held.instance
    os.utime(f"{mounts.path}/{name}/used", (1_000_000 - seconds, 1_000_000 - seconds))
    return name


def test_a_listing_tells_size_files_sharing_and_use(store: Store, mounts: CacheMounts) -> None:
    with mounts.acquire("a", sharing="locked", uid=5, base="b") as held:
        Path(held.path, "x").write_bytes(bytes(100_000))
        os.mkdir(held.path + "/d")
        os.link(held.path + "/x", held.path + "/d/y")
        os.symlink("/etc", held.path + "/d/etc")
        (busy,) = all_mounts(mounts)
    (idle,) = all_mounts(mounts)
    assert (busy.in_use, idle.in_use) == (True, False)
    assert (idle.id, idle.base, idle.uid, idle.gid, idle.mode) == ("a", "b", 5, 0, 0o755)
    assert (idle.files, idle.sharing) == (3, "locked")
    du = subprocess.run(
        ["du", "-s", "-B1", f"{mounts.path}/{idle.name}/data"], capture_output=True, text=True
    )
    assert idle.size == int(du.stdout.split()[0])
    assert idle.used >= idle.created > 0
    assert idle.matches("a") and idle.matches(idle.name) and idle.matches(idle.short_name)
    assert not idle.matches("") and not idle.matches(idle.name[:5])


def test_a_symlink_in_a_mount_is_not_followed_by_a_listing(mounts: CacheMounts, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "big").write_bytes(os.urandom(1 << 20))
    with mounts.acquire("a") as held:
        os.symlink(tmp_path / "outside", held.path + "/link")
    (mount,) = all_mounts(mounts)
    assert mount.files == 1 and mount.size < 1 << 20


def test_a_look_at_a_mount_never_makes_its_next_user_begin_another(mounts: CacheMounts) -> None:
    stopped = threading.Event()

    def look() -> None:
        while not stopped.is_set():
            all_mounts(mounts)

    with mounts.acquire("a") as held:
        first = held.instance
    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(100):
            with mounts.acquire("a", sharing="private") as held:
                assert held.instance == first
    finally:
        stopped.set()
        watcher.join()
    assert mounts.names() == [first]


def test_one_whose_files_a_power_cut_emptied_is_still_used_listed_and_removed(mounts: CacheMounts) -> None:
    with mounts.acquire("a") as held:
        Path(held.path, "x").write_text("x")
    for name in ("id", "meta.json", "used"):
        Path(mounts.path, held.instance, name).write_text("")
    with mounts.acquire("a") as again:
        assert os.listdir(again.path) == ["x"]
    (mount,) = all_mounts(mounts)
    assert (mount.id, mount.name) == ("", held.instance)
    assert remove(mounts, mount.name) and mounts.names() == []


def test_one_in_use_is_not_removed_and_an_idle_one_is_wholly(store: Store, mounts: CacheMounts) -> None:
    with holding(store, "a", "shared") as (_, path):
        name = os.path.basename(os.path.dirname(path))
        assert not remove(mounts, name) and os.path.isdir(path)
    assert remove(mounts, name)
    assert not remove(mounts, name)
    assert os.listdir(mounts.path) == []


def test_the_longest_unused_go_first_as_far_as_age_size_and_pattern_say(mounts: CacheMounts) -> None:
    names = {
        each: aged(mounts, each, seconds, 100_000)
        for each, seconds in (("/apt/a", 10), ("/apt/b", 300), ("pip", 200), ("go", 20))
    }
    found = all_mounts(mounts)
    one = max(mount.size for mount in found)

    def chosen(**bounds: object) -> list[str]:
        return [mount.id for mount in choose(found, now=1_000_000.0, **bounds)]  # type: ignore[arg-type]

    assert chosen() == ["/apt/b", "pip", "go", "/apt/a"]
    assert chosen(older_than=100) == ["/apt/b", "pip"]
    assert chosen(keep_storage=one) == ["/apt/b", "pip", "go"]
    assert chosen(keep_storage=4 * one) == []
    assert chosen(older_than=15, keep_storage=2 * one) == ["/apt/b", "pip"]
    assert chosen(pattern="/apt/*") == ["/apt/b", "/apt/a"]
    assert chosen(pattern="/apt/*", older_than=100) == ["/apt/b"]
    with mounts.acquire("pip"):
        found = all_mounts(mounts)
        assert chosen() == ["/apt/b", "go", "/apt/a"]
    assert set(mounts.names()) == set(names.values())


def test_what_came_into_use_after_it_was_chosen_stays(store: Store, mounts: CacheMounts) -> None:
    for each in "ab":
        aged(mounts, each, 10)
    chosen = choose(all_mounts(mounts), now=1_000_000.0)
    with holding(store, "a", "locked"):
        assert [mount.id for mount in prune(store.root, mounts, chosen)] == ["b"]
    assert [mount.id for mount in all_mounts(mounts)] == ["a"]


def test_a_prune_of_the_store_leaves_cache_mounts_alone_unless_it_is_told(store: Store) -> None:
    add_chain(store, b"one")
    aged(store.cache_mounts, "a", 10, 100_000)
    store.close()
    with Store.open(store.root) as other:
        report = prune_store(other)
        assert {item.kind for item in report.items} == {"layer"} and report.kept == 0
        assert len(other.cache_mounts.names()) == 1
        dry = prune_store(other, ALL, dry_run=True)
        assert [(item.kind, item.title) for item in dry.items] == [("cache mount", "a")]
        assert len(other.cache_mounts.names()) == 1
        report = prune_store(other, ALL)
        assert report.items == dry.items and report.freed > 100_000
        assert other.cache_mounts.names() == []


def test_a_prune_of_the_store_takes_layers_and_cache_mounts_by_one_order_of_age(store: Store) -> None:
    aged(store.cache_mounts, "old", 500_000, 100_000)
    (layer,) = add_chain(store, b"one")
    with store.cache_mounts.acquire("new") as held:
        Path(held.path, "data").write_bytes(os.urandom(100_000))
    store.close()
    with Store.open(store.root) as other:
        (new,) = [mount for mount in all_mounts(other.cache_mounts) if mount.id == "new"]
        report = prune_store(other, [replace(ALL[0], keep_storage=new.size + layer.size)])
        assert [(item.kind, item.title) for item in report.items] == [("cache mount", "old")]
        assert report.kept == new.size + layer.size
        report = prune_store(other, [replace(ALL[0], older_than=86400)])
        assert report.items == ()


def test_a_prune_of_the_store_leaves_what_is_in_use(store: Store) -> None:
    aged(store.cache_mounts, "b", 10)
    with holding(store, "a", "locked") as (_, path):
        report = prune_store(store, ALL)
        assert [item.title for item in report.items] == ["b"]
        assert os.path.isdir(path)


def test_a_store_made_before_cache_mounts_has_none_and_gets_them(store: Store) -> None:
    assert not os.path.exists(store.root + "/cachemounts")
    assert all_mounts(store.cache_mounts) == [] and prune_store(store, ALL).items == ()
    with store.cache_mounts.acquire("a"):
        assert stat.S_IMODE(os.stat(store.root + "/cachemounts").st_mode) == 0o700
    with Store.open(store.root) as again:
        assert again.warnings == []


def test_a_root_whose_format_file_was_lost_is_still_taken_for_a_store(store: Store) -> None:
    with store.cache_mounts.acquire("a"):
        pass
    os.unlink(store.root + "/format")
    with Store.open(store.root) as again:
        assert len(again.cache_mounts.names()) == 1
