"""Locks by name: exclusive and shared, between processes and threads, with nothing left behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cache.locks import LockHeld
from cache.scratch import Scratch
from cache.store import Store
from tests.cache.scenes import start, stop

HOLD = """
import sys
from cache.scratch import Scratch
with Scratch(sys.argv[1]).lock(sys.argv[2], shared=len(sys.argv) > 3):
    print("held", flush=True)
    sys.stdin.readline()
"""
COUNT = """
import sys
from cache.scratch import Scratch
scratch, counter = Scratch(sys.argv[1]), sys.argv[2]
for _ in range(int(sys.argv[3])):
    with scratch.lock("counter"):
        with open(counter) as file:
            number = int(file.read())
        with open(counter, "w") as file:
            file.write(str(number + 1))
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    (tmp_path / "tmp").mkdir()
    return Scratch(str(tmp_path / "tmp"))


def test_no_two_processes_hold_a_lock_at_once_though_its_file_comes_and_goes(
    scratch: Scratch, tmp_path: Path
) -> None:
    """Three processes and two threads add to one file: a lost update would show that two were in at once."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [start(COUNT, scratch.path, str(counter), "150") for _ in range(3)]

    def add() -> None:
        for _ in range(150):
            with scratch.lock("counter"):
                counter.write_text(str(int(counter.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert counter.read_text() == "750"
    assert os.listdir(scratch.path) == []


def test_a_lock_that_another_process_holds_is_refused_to_who_will_not_wait(scratch: Scratch) -> None:
    process = start(HOLD, scratch.path, "key")
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(LockHeld), scratch.lock("key", blocking=False):
            pass
        with pytest.raises(LockHeld), scratch.lock("key", shared=True, blocking=False):
            pass
        with scratch.lock("another key", blocking=False):
            pass
    finally:
        stop(process)
    with scratch.lock("key", blocking=False):
        pass


def test_who_has_to_wait_is_told_once_and_gets_the_lock_when_its_owner_is_killed(scratch: Scratch) -> None:
    process = start(HOLD, scratch.path, "key")
    told: list[str] = []

    def waiting() -> None:
        told.append("waiting")
        process.kill()

    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with scratch.lock("key", on_wait=waiting):
            assert told == ["waiting"]
    finally:
        stop(process)


def test_who_need_not_wait_is_not_told(scratch: Scratch) -> None:
    with scratch.lock("key", on_wait=lambda: pytest.fail("there was nothing to wait for")):
        pass


def test_a_shared_lock_is_shared_and_keeps_an_exclusive_one_out(scratch: Scratch) -> None:
    process = start(HOLD, scratch.path, "key", "shared")
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with scratch.lock("key", shared=True, blocking=False):
            pass
        with pytest.raises(LockHeld), scratch.lock("key", blocking=False):
            pass
        assert os.listdir(scratch.path) != []
    finally:
        stop(process)


def test_the_last_of_those_who_share_a_lock_takes_its_file_away(scratch: Scratch) -> None:
    first, second = scratch.lock("key", shared=True), scratch.lock("key", shared=True)
    with first, second:
        assert os.listdir(scratch.path) == ["lock-key"]
    assert os.listdir(scratch.path) == []


def test_a_child_that_was_forked_does_not_keep_a_lock_that_was_given_back(scratch: Scratch) -> None:
    """A process that lives on, such as the one that forks for steps, may have been made while we held it."""
    lock = scratch.lock("key")
    reading, writing = os.pipe()
    with lock:
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    try:
        with scratch.lock("key", blocking=False):
            pass
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    "name", ["sha256:" + "a" * 64, "../../etc/passwd", "a/b", "", "n" * 5000, "ü\udcff\n", ".", "%2F"]
)
def test_any_name_makes_a_file_in_tmp_and_nowhere_else(scratch: Scratch, name: str) -> None:
    with scratch.lock(name):
        (only,) = os.listdir(scratch.path)
        assert only.startswith("lock-")
        with pytest.raises(LockHeld), scratch.lock(name, blocking=False):
            pass


def test_different_names_are_different_locks(scratch: Scratch) -> None:
    names = ["a/b", "a%2Fb", "a_b", "a" * 300, "a" * 301, "%" + "a" * 64]
    locks = [scratch.lock(name, blocking=False) for name in names]
    for lock in locks:
        lock.acquire()
    for lock in locks:
        lock.release()


def test_a_lock_file_that_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    Store.open(root).close()
    process = start(HOLD, root + "/tmp", "key")
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    Store.open(root).close()
    assert os.listdir(root + "/tmp") == ["lock-key"]
    stop(process)
    Store.open(root).close()
    assert os.listdir(root + "/tmp") == []


def test_a_symlink_in_the_place_of_a_lock_is_not_followed(scratch: Scratch, tmp_path: Path) -> None:
    os.symlink(tmp_path / "elsewhere", scratch.path + "/lock-key")
    from cache.errors import StoreError

    with pytest.raises(StoreError), scratch.lock("key"):
        pass
    assert not (tmp_path / "elsewhere").exists()
