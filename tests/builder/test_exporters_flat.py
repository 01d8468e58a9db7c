"""type=tar and type=dir: the root filesystem is what overlayfs shows of the layers, whatever they hold."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.events import Event, Notice, TransferFinished, TransferStarted
from builder.exporters import export
from builder.exporters.base import OutputError, Source
from builder.exporters.output_spec import OutputSpec
from cache.store import Store
from tests.changeset_fixtures.trees import Node, Tree, build, directory, snapshot, trees
from tests.exporter_fixtures.images import add_image, everything, overlay_snapshot, without_links


@pytest.fixture
def place(tmp_path: os.PathLike[str]) -> str:
    return os.fspath(tmp_path)


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place + "/store") as opened:
        yield opened


def write(store: Store, source: Source, text: str) -> list[Event]:
    events: list[Event] = []
    export([source], OutputSpec.parse(text), store, events.append)
    return events


def unpacked(tar: str, target: str) -> Tree:
    """What GNU tar makes of an archive."""
    os.mkdir(target)
    command = [
        "tar",
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--warning=no-timestamp",
        "-xpf",
        tar,
        "-C",
        target,
    ]
    subprocess.run(command, check=True)
    return snapshot(target)


def test_directory_and_tar_are_what_overlayfs_shows(store: Store, place: str) -> None:
    source = add_image(store, everything())
    wanted = overlay_snapshot(store, source)
    write(store, source, place + "/tree")
    write(store, source, f"type=tar,dest={place}/tree.tar")
    found = snapshot(place + "/tree")
    assert without_links(found) == without_links(wanted)
    assert unpacked(place + "/tree.tar", place + "/again") == found
    assert (found[b"same-b"].same, found[b"data-link"].same) == (b"same-a", None)
    assert b"opt/gone" not in found and b"opt/app/old" not in found and b"opt/app/new" not in found


@given(layers=st.lists(trees(), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_stack_of_layers_is_what_overlayfs_shows(
    layers: list[Tree], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = os.fspath(tmp_path_factory.mktemp("stack"))
    with Store.open(place + "/store") as store:
        source = add_image(store, layers)
        wanted = without_links(overlay_snapshot(store, source))
        write(store, source, place + "/tree")
        found = snapshot(place + "/tree")
        assert without_links(found) == wanted
        write(store, source, f"type=tar,dest={place}/tree.tar")
        assert unpacked(place + "/tree.tar", place + "/again") == found
        write(store, source, place + "/tree")
        assert snapshot(place + "/tree") == found
    subprocess.run(["rm", "-rf", place], check=True)


@pytest.mark.parametrize("options", ["", ",compression=gzip", ",compression=zstd,compression-level=9"])
def test_the_tar_is_the_same_each_time_and_names_nobody(store: Store, place: str, options: str) -> None:
    source = add_image(store, everything())
    for name in ("one", "two"):
        write(store, source, f"type=tar,dest={place}/{name}{options}")
    with open(place + "/one", "rb") as one, open(place + "/two", "rb") as two:
        assert one.read() == two.read()
    unpack = {"": "cat", ",c": {"g": "gzip -dc", "z": "zstd -dc"}.get(options[13:14], "")}[options[:2]]
    plain = subprocess.run([*str(unpack).split(), place + "/one"], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = archive.getmembers()
    names = [member.name + ("/" if member.isdir() else "") for member in members]
    assert names == sorted(names, key=os.fsencode)
    assert {(member.uname, member.gname) for member in members} == {("", "")}


def test_an_image_without_layers_is_empty(store: Store, place: str) -> None:
    source = add_image(store, [])
    write(store, source, place + "/tree")
    write(store, source, f"type=tar,dest={place}/tree.tar")
    assert os.listdir(place + "/tree") == []
    assert os.path.getsize(place + "/tree.tar") == 1024


def test_a_hard_link_does_not_reach_into_another_layer(store: Store, place: str) -> None:
    # The store may keep two layers' equal files as one inode; that is nothing of the image's.
    file = Node("file", data=b"equal")
    source = add_image(store, [{b"a": file}, {b"b": file}])
    paths = [store.layers.diff_path(layer) for layer in source.layers]
    os.unlink(paths[1] + "/b")
    os.link(paths[0] + "/a", paths[1] + "/b")
    write(store, source, place + "/tree")
    assert all(node.same is None for node in snapshot(place + "/tree").values())


def test_what_is_there_stays_unless_the_image_has_it(store: Store, place: str) -> None:
    layer = {
        b"dir": directory(mode=0o751),
        b"dir/file": Node("file", data=b"new"),
        b"file": Node("file", data=b"new"),
        b"was-dir": Node("file", data=b"new"),
        b"was-link": directory(),
        b"was-link/x": Node("file", data=b"new"),
        b"link": Node("symlink", data=b"file"),
        b"hard-a": Node("file", data=b"hard"),
        b"hard-b": Node("file", data=b"hard", same=b"hard-a"),
    }
    source = add_image(store, [layer])
    os.mkdir(place + "/elsewhere")
    os.mkdir(place + "/tree")
    before = {
        b"stays": Node("file", data=b"old"),
        b"dir": directory(),
        b"dir/stays": Node("file", data=b"old"),
        b"dir/file": Node("symlink", data=os.fsencode(place) + b"/elsewhere/dir-file"),
        b"file": Node("symlink", data=os.fsencode(place) + b"/elsewhere/file"),
        b"was-dir": directory(),
        b"was-dir/x": Node("file", data=b"old"),
        b"was-link": Node("symlink", data=os.fsencode(place) + b"/elsewhere"),
        b"link": directory(),
        b"link/y": Node("file"),
        b"hard-a": Node("file", data=b"old"),
        b"hard-b": Node("file", data=b"old", same=b"hard-a"),
    }
    build(before, place + "/tree")
    write(store, source, place + "/tree")
    found = snapshot(place + "/tree")
    wanted = {**layer, b"stays": before[b"stays"], b"dir/stays": before[b"dir/stays"]}
    wanted[b"link"] = replace(wanted[b"link"], mode=0)
    assert found == wanted
    assert os.listdir(place + "/elsewhere") == []


def test_symlinks_of_the_image_are_not_followed_either(store: Store, place: str) -> None:
    # A lower layer's symlink out of the tree, which an upper layer has as a directory.
    os.mkdir(place + "/elsewhere")
    target = os.fsencode(place) + b"/elsewhere"
    source = add_image(
        store, [{b"l": Node("symlink", data=target)}, {b"l": directory(), b"l/x": Node("file", data=b"x")}]
    )
    write(store, source, place + "/tree")
    assert snapshot(place + "/tree")[b"l/x"].data == b"x"
    assert os.listdir(place + "/elsewhere") == []


def test_a_new_directory_appears_whole_or_not_at_all(store: Store, place: str) -> None:
    source = add_image(store, everything())
    os.unlink(store.layers.diff_path(source.layers[2]) + "/same-a")  # fails at the very last entries
    os.unlink(store.layers.diff_path(source.layers[2]) + "/same-b")
    os.mkdir(place + "/into")
    broken = store.layers.diff_path(source.layers[0]) + "/tmp"
    os.rmdir(broken)
    os.symlink("/etc", broken)
    os.mkdir(place + "/empty")
    limited(source, store, place + "/into/tree")
    limited(source, store, place + "/empty")
    assert os.listdir(place + "/into") == []
    assert os.listdir(place + "/empty") == []


def limited(source: Source, store: Store, dest: str) -> None:
    """Export in a process that may not write files of more than 100 kB: data of 1 MB fails."""
    pid = os.fork()
    if pid == 0:
        import resource
        import signal

        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            write(store, source, dest)
        except OutputError as error:
            code = 0 if "too large" in error.message else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_without_root_files_belong_to_the_caller_and_devices_are_left_out() -> None:
    layer = {
        b"dir": directory(uid=5),
        b"dir/setuid": Node("file", 0o4755, 5, 6),
        b"null": Node("char", device=(1, 3)),
    }
    place = tempfile.mkdtemp()
    try:
        with Store.open(place + "/store") as store:
            source = add_image(store, [layer])
            setuid = store.layers.diff_path(source.layers[0]) + "/dir/setuid"
            store.sync()
        subprocess.run(["chown", "-R", "1234:1234", place], check=True)
        os.chmod(setuid, 0o4755)  # chown has taken the bit away
        with open(place + "/store/format", "w") as file:  # as if that user had made it
            file.write("pybuild store 1\nuserxattr\n")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(1234, 1234, 1234)
                os.setresuid(1234, 1234, 1234)
                with Store.open(place + "/store") as store:
                    events = write(store, Source.load(store, source.image_id), place + "/tree")
                codes = [event.code for event in events if isinstance(event, Notice)]
                status = 0 if codes == ["output/device"] else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        found = snapshot(place + "/tree")
        assert {(node.uid, node.gid) for node in found.values()} == {(1234, 1234)}
        assert sorted(found) == [b"dir", b"dir/setuid"] and found[b"dir/setuid"].mode == 0o4755
    finally:
        shutil.rmtree(place)


def test_progress_counts_the_bytes(store: Store, place: str) -> None:
    source = add_image(store, everything())
    events = write(store, source, f"type=tar,dest={place}/tree.tar")
    started = [event for event in events if isinstance(event, TransferStarted)]
    finished = [event for event in events if isinstance(event, TransferFinished)]
    assert len(started) == len(finished) == 1
    assert finished[0].done == os.path.getsize(place + "/tree.tar")
