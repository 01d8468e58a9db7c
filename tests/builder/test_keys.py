"""What goes into a step key, and what does not; and the digest of what COPY reads."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder import keys
from builder.keys import check_key, copy_key, exec_key, workdir_key
from builder.steps import ContextTree, CopyStep, ExecStep, WorkdirStep
from builder.steps import TestStep as CheckStep
from cache.oci.digest import ChainID
from cache.oci.spec import ContainerConfig
from grammar.source import Span
from tests.build_fixtures.copying import Copying

PARENT = ChainID("sha256:" + "12" * 32)
OTHER = ChainID("sha256:" + "34" * 32)
SPAN = Span("Dockerfile", 1, 1, 1, 2)
RUN = ExecStep(
    span=SPAN,
    text="RUN x",
    created_by="RUN x # pybuild",
    argv=("/bin/sh", "-c", "x"),
    env=(("A", "1"), ("B", "2")),
    user="app",
    workdir="/work",
    network="host",
)
COPY = CopyStep(SPAN, "COPY a b", "COPY a b # pybuild", ContextTree(), ("a",), (), "/b", False, "", "")
CHECK = CheckStep(SPAN, "TEST x", "", ContainerConfig(user="app"), argv=("x",))


def run(step: ExecStep = RUN, parent: ChainID | None = PARENT, platform: str = "linux/amd64") -> str:
    return exec_key(step, parent, platform).key


def test_a_version_is_part_of_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden: with the keys in tests/golden these say that no key changes by accident."""
    assert keys.VERSION == "1"
    assert run() == "ae8bcf0a1d0b4f31e4d53cd418552b38d531e75be6e5fd3db192f6b8e5a6646f"
    monkeypatch.setattr(keys, "VERSION", "2")
    assert run() != "ae8bcf0a1d0b4f31e4d53cd418552b38d531e75be6e5fd3db192f6b8e5a6646f"


@pytest.mark.parametrize(
    "changed",
    [
        {"argv": ("/bin/sh", "-c", "y")},
        {"argv": ("/bin/sh", "-cx")},
        {"env": (("A", "1"), ("B", "3"))},
        {"env": (("A", "1"),)},
        {"env": (("A", "1B"), ("", "2"))},
        {"user": ""},
        {"workdir": "/"},
        {"network": "none"},
        {"script": b""},
        {"script": b"#!/bin/sh\n"},
    ],
    ids=str,
)
def test_what_a_command_can_depend_on_is_in_its_key(changed: dict[str, object]) -> None:
    assert run(replace(RUN, **changed)) != run()  # type: ignore[arg-type]


def test_the_state_below_and_the_platform_are_in_its_key() -> None:
    assert len({run(), run(parent=OTHER), run(parent=None), run(platform="linux/arm64")}) == 4


def test_what_a_command_does_not_depend_on_is_not_in_its_key() -> None:
    elsewhere = Span("other", 7, 1, 7, 9)
    same = replace(RUN, span=elsewhere, text="z", created_by="z", proxies=(("http_proxy", "p"),))
    assert run(same) == run()
    assert run(replace(RUN, env=RUN.env[::-1])) == run()


def test_a_copy_s_key() -> None:
    trees = (("a", "digest"),)
    key = copy_key(COPY, PARENT, trees).key
    others = [
        copy_key(COPY, OTHER, trees),
        copy_key(COPY, PARENT, (("a", "other"),)),
        copy_key(COPY, PARENT, (("b", "digest"),)),
        copy_key(COPY, PARENT, (*trees, *trees)),
        copy_key(replace(COPY, dest="/c"), PARENT, trees),
        copy_key(replace(COPY, into_directory=True), PARENT, trees),
        copy_key(replace(COPY, chown="1"), PARENT, trees),
        copy_key(replace(COPY, chmod="1"), PARENT, trees),
        copy_key(replace(COPY, link=True), PARENT, trees),
        copy_key(replace(COPY, unpack=True), PARENT, trees),
    ]
    assert len({key, *(other.key for other in others)}) == 11


def test_a_workdir_s_and_a_test_s_key() -> None:
    work = WorkdirStep(SPAN, "WORKDIR a", "WORKDIR /a", "/a", "app")
    found = {
        workdir_key(work, PARENT).key,
        workdir_key(work, OTHER).key,
        workdir_key(replace(work, path="/b"), PARENT).key,
        workdir_key(replace(work, user=""), PARENT).key,
        check_key(CHECK, PARENT, "linux/amd64", "").key,
        check_key(CHECK, OTHER, "linux/amd64", "").key,
        check_key(CHECK, PARENT, "linux/arm64", "").key,
        check_key(CHECK, PARENT, "linux/amd64", "digest").key,
        check_key(replace(CHECK, argv=("y",)), PARENT, "linux/amd64", "").key,
        check_key(replace(CHECK, config=ContainerConfig(user="b")), PARENT, "linux/amd64", "").key,
    }
    assert len(found) == 10


# What COPY reads


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    found = Copying(str(tmp_path))
    for name in ("d/a", "d/sub/b", "e/c"):
        found.write(name, name)
    return found


def digest(copying: Copying, *sources: str, owners: bool = False) -> str:
    return copying.fingerprint(*sources, owners=owners).digest


def test_times_and_the_top_directory_s_mode_are_not_in_the_digest(copying: Copying) -> None:
    before = digest(copying, "d")
    os.utime(f"{copying.context}/d/a", (5, 5))
    os.utime(f"{copying.context}/d/sub", (5, 5))
    os.chmod(f"{copying.context}/d", 0o711)
    assert digest(copying, "d") == before


def test_every_change_of_a_file_is_in_the_digest(copying: Copying) -> None:
    path = f"{copying.context}/d/a"
    seen = [digest(copying, "d")]

    def changed() -> None:
        seen.append(digest(copying, "d"))
        assert len(set(seen)) == len(seen)

    copying.write("d/a", "d/b")
    changed()
    os.chmod(path, 0o600)
    changed()
    os.chmod(f"{copying.context}/d/sub", 0o700)
    changed()
    os.setxattr(path, "user.x", b"1")
    changed()
    os.rename(path, f"{copying.context}/d/z")
    changed()
    os.symlink("z", path)
    changed()
    os.unlink(path)
    os.symlink("y", path)
    changed()
    os.unlink(path)
    os.link(f"{copying.context}/d/z", path)
    changed()
    os.unlink(path)
    os.mkdir(path)
    changed()
    os.rmdir(path)
    os.mkfifo(path)
    changed()


def test_owners_count_only_where_they_are_copied(copying: Copying) -> None:
    before = digest(copying, "d"), digest(copying, "d", owners=True)
    os.chown(f"{copying.context}/d/a", 5, 5)
    assert digest(copying, "d") == before[0]
    assert digest(copying, "d", owners=True) != before[1]


def test_the_name_that_is_copied_is_in_the_digest_and_not_where_it_leads(copying: Copying) -> None:
    os.symlink("d/a", f"{copying.context}/l1")
    first = digest(copying, "l*")
    os.rename(f"{copying.context}/l1", f"{copying.context}/l2")
    assert digest(copying, "l*") != first


def test_a_file_that_only_another_source_has_does_not_count(copying: Copying) -> None:
    before = digest(copying, "d")
    copying.write("e/c", "changed")
    assert digest(copying, "d") == before
