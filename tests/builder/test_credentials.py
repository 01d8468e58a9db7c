"""Ids that a step's processes are told they have: the same as the kernel gives to a process that is root.

Each example is carried out by a child of this process, for real. Needs root.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from builder.credentials import Credentials, Processes

Step = tuple[str, list[int]]

CALLS: dict[str, Callable[..., None]] = {
    "setuid": os.setuid,
    "setgid": os.setgid,
    "setreuid": os.setreuid,
    "setregid": os.setregid,
    "setresuid": os.setresuid,
    "setresgid": os.setresgid,
}
KEEP = 0xFFFFFFFF


def of_the_kernel(steps: list[Step]) -> list[object]:
    """Make the calls in a child that is root; return which were refused, and who it is after each."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        told: list[object] = []
        try:
            os.setgroups([])
            for name, values in steps:
                refused = False
                try:
                    CALLS[name](*(-1 if value == KEEP else value for value in values))
                except PermissionError:
                    refused = True
                told.append([refused, list(os.getresuid()), list(os.getresgid())])
            os.write(write, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    result: list[object] = json.loads(text)
    return result


def of_ours(steps: list[Step]) -> list[object]:
    told: list[object] = []
    who = Credentials()
    for name, values in steps:
        refused = False
        try:
            who = who.changed(name, [*values, 0, 0][:3])
        except PermissionError:
            refused = True
        told.append([refused, list(who.uids), list(who.gids)])
    return told


def calls() -> st.SearchStrategy[list[Step]]:
    one = st.sampled_from([0, 1, 2, 1000])
    some = st.sampled_from([0, 1, 2, 1000, KEEP])
    step = st.one_of(
        st.tuples(st.sampled_from(["setuid", "setgid"]), st.lists(one, min_size=1, max_size=1)),
        st.tuples(st.sampled_from(["setreuid", "setregid"]), st.lists(some, min_size=2, max_size=2)),
        st.tuples(st.sampled_from(["setresuid", "setresgid"]), st.lists(some, min_size=3, max_size=3)),
    )
    return st.lists(step, min_size=1, max_size=6)


@given(calls())
@settings(max_examples=300, deadline=None)
def test_calls_that_set_ids_do_what_the_kernel_does(steps: list[Step]) -> None:
    assert of_ours(steps) == of_the_kernel(steps)


def test_groups_are_for_root_to_set() -> None:
    who = Credentials().with_groups((1, 2))
    assert who.groups == (1, 2)
    fallen = who.changed("setuid", [5, 0, 0])
    try:
        fallen.with_groups((3,))
    except PermissionError:
        return
    raise AssertionError("a user has set its groups")


def test_a_child_is_who_its_parent_is() -> None:
    """And a process that nobody has told of stays root; nothing is looked up before anybody changed."""
    processes = Processes(os.open("/proc", os.O_PATH))
    assert processes.of(os.getpid()) is None
    fallen = Credentials((7, 7, 7), (8, 8, 8), (8,))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        processes.set(os.getpid(), fallen)
        assert processes.of(child) == fallen
        assert processes.of(os.getppid()) is None
        processes.set(child, Credentials())
        assert processes.of(child) == Credentials()
        assert processes.of(os.getpid()) == fallen
    finally:
        os.close(write)
        os.waitpid(child, 0)
