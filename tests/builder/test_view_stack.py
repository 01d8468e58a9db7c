"""Layers laid upon each other: what the image shows, and what is wasted, as the tars have it."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from builder.view.heaviest import heaviest
from builder.view.scan import Item
from builder.view.stack import Stack, efficiency, totals, waste
from tests.command_fixtures.pybuild import ARGV, Pybuild
from tests.view_fixtures.reference import Member, saved_layers, work_out

RECIPE = """\
FROM box
RUN mkdir -p /d/deep /e /keep && head -c 1000 /dev/zero > /d/one && head -c 200 /dev/zero > /d/deep/two
RUN cd /keep && head -c 5000 /dev/zero > file && ln file again && ln file /e/third && touch /e/x
RUN rm /keep/file /e/third && chmod 600 /d/one && chmod 700 /e
RUN rm -rf /d && mkdir /d && head -c 30 /dev/zero > /d/one && ln -s one /d/link && mkfifo /d/fifo
RUN rm -rf /e && echo file > /e && rm /keep/again && mv /d/one /d/moved
RUN rm -rf /d && mkdir -p /d/deep && touch /d/deep/two && touch /empty
"""


def test_a_real_image_comes_to_what_its_tars_say(pybuild: Pybuild) -> None:
    pybuild.build(RECIPE, "-t", "app")
    archive = subprocess.run(
        [*ARGV, "save", "app"], env=pybuild.environment(), capture_output=True, check=True, cwd=pybuild.cwd
    ).stdout
    layers = saved_layers(archive)
    expected = work_out(layers)
    assert expected.wasted > 6000 and any(".wh..wh..opq" in each.name for layer in layers for each in layer)

    found = pybuild.json("layers", "--tree", "--json", "app")
    assert found["Bytes"] == expected.total
    assert found["Wasted"] == expected.wasted
    assert found["Efficiency"] == round(1 - expected.wasted / expected.total, 4)
    assert [layer["Hidden"] for layer in found["Layers"]] == expected.hid
    assert [layer["Added"] for layer in found["Layers"]] == list(map(len, expected.added))
    assert [layer["Changed"] for layer in found["Layers"]] == list(map(len, expected.changed))
    assert sum(each["Bytes"] for each in found["WastedPaths"]) == expected.wasted
    for layer, members in zip(found["Layers"], layers, strict=True):
        assert layer["Bytes"] == sum(member.size for member in members)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
LOOKS = st.sampled_from([(0o755, 0, 0), (0o700, 0, 0), (0o755, 1, 1)])


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    """A layer's tar, as pybuild writes it: sorted, directories before their contents, each name once."""
    files = draw(st.dictionaries(PATHS, st.integers(0, 50), max_size=5))
    gone = draw(st.sets(PATHS, max_size=2))
    made = draw(st.sets(PATHS, max_size=2))
    # What is a directory is no file.
    directories = {path[:at] for path in (*files, *gone) for at in range(len(path)) if path[at] == "/"}
    directories |= {path[:at] for path in made for at in range(len(path) + 1) if path[at:][:1] in ("/", "")}
    files = {path: size for path, size in files.items() if path not in directories}
    found = [Member(path, directory=True, look=draw(LOOKS)) for path in sorted(directories)]
    for path in [path for path in directories if any(path.startswith(file + "/") for file in files)]:
        found = [each for each in found if each.name != path]
    names = {each.name for each in found}
    first: str | None = None
    for path, size in sorted(files.items()):
        above = path.rpartition("/")[0]
        if above and above not in names:
            continue
        if first is not None and draw(st.booleans()):
            found.append(Member(path, link=first))
        else:
            found.append(Member(path, size=size))
            first = path
    there = {each.name for each in found}
    for path in sorted(gone - there):
        above, _, name = path.rpartition("/")
        if not above or above in names:
            found.append(Member(f"{above}/.wh.{name}".strip("/")))
    for path in sorted(names):
        if draw(st.integers(0, 4)) == 0:
            found.append(Member(path + "/.wh..wh..opq"))
    return found


def items(layer: list[Member]) -> list[Item]:
    """The same as they lie on the disk."""
    found = []
    opaque = {
        each.name.removesuffix("/.wh..wh..opq") for each in layer if each.name.endswith("/.wh..wh..opq")
    }
    inodes = {name: number for number, name in enumerate({m.link or m.name for m in layer}, 1)}
    sizes = {each.name: each.size for each in layer}
    linked = {each.link for each in layer if each.link}
    for each in layer:
        above, _, name = each.name.rpartition("/")
        if name == ".wh..wh..opq":
            continue
        if name.startswith(".wh."):
            found.append(Item(f"{above}/{name[4:]}".strip("/").encode(), "w"))
            continue
        mode, *owner = each.look
        item = Item(each.name.encode(), "d" if each.directory else "f", sizes[each.link or each.name], mode)
        item = item._replace(owner=(owner[0], owner[1]), opaque=each.name in opaque and each.directory)
        if each.link or each.name in linked:
            item = item._replace(inode=inodes[each.link or each.name])
        found.append(item)
    # A directory right before its contents, as the disk is walked.
    return sorted(found, key=lambda item: item.path + (b"/" if item.kind == "d" else b""))


@given(st.lists(members(), max_size=5))
def test_any_layers_come_to_what_their_tars_say(layers: list[list[Member]]) -> None:
    expected = work_out(layers)
    stack = Stack(map(items, layers))
    shown = {path.decode(): node.current for path, node in stack.walk() if node.current is not None}
    assert shown.keys() == expected.shown.keys()
    for path, inode in expected.shown.items():
        assert (shown[path].item.kind == "d") == (inode is None)
        if inode is not None:
            assert (shown[path].layer, shown[path].item.size) == (inode[0], expected.sizes[inode])
    assert stack.total == expected.total
    assert stack.wasted == expected.wasted == sum(each.bytes for each in waste(stack))
    found = totals(stack)
    assert [each.hid for each in found] == expected.hid
    assert [each.added for each in found] == list(map(len, expected.added))
    assert [each.changed for each in found] == list(map(len, expected.changed))
    deleted = [sum(each.files for each in stack.deletions if each.layer == n) for n in range(len(layers))]
    assert deleted == list(map(len, expected.gone))


@given(st.lists(members(), min_size=1, max_size=3))
def test_the_largest_paths_lie_apart_and_are_no_more_than_the_layer(layers: list[list[Member]]) -> None:
    stack = Stack(map(items, layers))
    for number, total in enumerate(totals(stack)):
        found = heaviest(stack, number, 100)
        assert sum(size for _, size in found) == total.bytes
        assert found == sorted(found, key=lambda each: -each[1]) or len({size for _, size in found}) < len(
            found
        )
        for path, _ in found:
            assert not any(other != path and other.startswith(path.rstrip(b"/") + b"/") for other, _ in found)


def file(path: str, size: int, **more: object) -> Item:
    return Item(path.encode(), "f", size)._replace(**more)  # type: ignore[arg-type]


def test_bytes_of_a_hard_link_are_wasted_when_the_last_of_its_names_goes() -> None:
    links = [file("a", 10, inode=7), file("b", 10, inode=7)]
    gone = [[Item(b"a", "w")], [Item(b"b", "w")]]
    stacks = [Stack([links, *gone[:count]]) for count in range(3)]
    assert [(stack.total, stack.wasted) for stack in stacks] == [(10, 0), (10, 0), (10, 10)]
    assert [each.hid for each in totals(stacks[2])] == [0, 0, 10]


def test_a_file_with_the_same_size_and_time_was_only_retouched() -> None:
    below = file("a", 10, mtime=5, mode=0o644)
    for above, retouched in ((replace_mode(below), True), (below._replace(mtime=6), False)):
        (_, node), *_ = Stack([[below], [above]]).walk()
        assert node.current is not None and node.current.retouched is retouched


def replace_mode(item: Item) -> Item:
    return item._replace(mode=0o600)


def test_directories_may_be_deep() -> None:
    depth = sys.getrecursionlimit() + 100
    path = "/".join("d" * depth)
    parts = [Item(path[: 2 * n + 1].encode(), "d", mode=0o755) for n in range(depth)]
    lower = [*parts, file(path + "/f", 3)]
    upper = [parts[0]._replace(opaque=True), *parts[1:]]
    stack = Stack([lower, upper])
    assert (stack.wasted, [each.path.decode() for each in stack.deletions]) == (3, [path + "/f"])
    assert heaviest(stack, 0, 1) == [((path + "/f").encode(), 3)]


def test_nothing_wasted_is_wholly_efficient() -> None:
    assert (efficiency(0, 0), efficiency(10, 0), efficiency(10, 5)) == (1, 1, 0.5)
    assert Stack([]).total == 0
