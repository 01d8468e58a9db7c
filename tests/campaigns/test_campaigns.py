"""The campaigns, in short: `make kills` and `make outages` run the long ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


def campaign(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, script), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_build_that_was_killed_is_made_good_by_the_next_one() -> None:
    assert "5 kills, " in campaign("kills.py", "5")


def test_so_is_one_whose_commands_have_control_groups() -> None:
    assert "4 kills, " in campaign("kills.py", "4", "--limited")


@pytest.mark.peer("newuidmap")
@pytest.mark.parametrize(
    ("ids", "snapshotter"),
    [("subordinate", "auto"), ("single", "copy"), ("subordinate", "fuse-overlayfs")],
)
def test_so_is_one_without_root(ids: str, snapshotter: str) -> None:
    assert "4 kills, " in campaign("kills.py", "4", "--ids", ids, "--snapshotter", snapshotter)


@pytest.mark.peer("busybox", "docker-registry", "skopeo")
def test_what_a_killed_registry_interrupts_is_whole_or_not_there_and_goes_on() -> None:
    assert "5 kills, 0 faults" in campaign("registry_kills.py", "1")


def test_a_build_leaves_the_host_as_it_was() -> None:
    assert campaign("host_unchanged.py").count(": unchanged") == 4


def test_what_is_left_on_the_host_is_seen() -> None:
    seen = campaign("host_unchanged.py", "--leaky")
    assert "file: /etc/leaked\n" in seen
    assert "file: /etc/hostname\n" in seen
    assert "process: " in seen
    assert " /mnt " in seen
