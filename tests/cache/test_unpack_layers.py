"""A layer on the layers below it: what our upperdirs show in a real overlay is what umoci makes of the same
tars.
"""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest

from cache.changeset import measure, unpack, write_tar
from cache.compare import changes
from tests.changeset_fixtures.overlay import change, look, umoci
from tests.changeset_fixtures.tars import Raw, folder, hard, link, pax, tar
from tests.changeset_fixtures.trees import Tree, snapshot

MERGED_USR = (
    folder(b"usr"),
    pax((b"SCHILY.xattr.user.note", b"kept")),
    Raw(b"usr/lib", b"5", mode=b"0002750", uid=b"0000012"),
    Raw(b"usr/lib/old", data=b"old"),
    link(b"lib", b"usr/lib"),
    link(b"absolute", b"/usr/lib"),
    link(b"chain", b"./usr/../lib/."),
    link(b"usr/up", b"../../../usr"),
    folder(b"etc"),
    Raw(b"etc/secret", mode=b"0000640", gid=b"0000052", data=b"root"),
    folder(b"etc/deep"),
    folder(b"etc/deep/er"),
    Raw(b"etc/deep/er/file"),
)

LAYERS = {
    "a file in a directory that no entry names": (Raw(b"etc/deep/er/new"),),
    "a file through a symlink": (Raw(b"lib/new"),),
    "a file through an absolute symlink": (Raw(b"absolute/new"),),
    "a file through a chain of symlinks": (Raw(b"chain/new"), Raw(b"usr/up/lib/newer")),
    "a file over one that is reached through a symlink": (Raw(b"lib/old", data=b"new"),),
    "a directory over a symlink": (folder(b"lib"), Raw(b"lib/new")),
    "a symlink over a directory": (link(b"etc", b"usr"), Raw(b"etc/new")),
    "a file over a directory": (Raw(b"etc"),),
    "a directory over a file": (folder(b"etc/secret"), Raw(b"etc/secret/in")),
    "a hard link to a file below": (hard(b"etc/again", b"etc/secret"), hard(b"more", b"etc/again")),
    "a hard link through a symlink": (hard(b"lib/again", b"chain/old"),),
    "a hard link to a symlink below": (hard(b"libs", b"lib"),),
    "a whiteout": (Raw(b"etc/.wh.secret"), Raw(b"etc/deep/.wh.er")),
    "a whiteout through a symlink": (Raw(b"lib/.wh.old"),),
    "a whiteout of a symlink": (Raw(b".wh.lib"),),
    "a whiteout where nothing is": (Raw(b"etc/.wh.nothing"), Raw(b"none/such/.wh.thing")),
    "a directory made again": (Raw(b".wh.etc"), folder(b"etc"), Raw(b"etc/new")),
    "an implicit directory made again": (Raw(b"etc/.wh.deep"), Raw(b"etc/deep/er/new")),
    "an opaque directory": (folder(b"etc"), Raw(b"etc/.wh..wh..opq"), Raw(b"etc/new")),
    "an opaque directory that no entry names": (Raw(b"etc/.wh..wh..opq"),),
    "an opaque directory through a symlink": (Raw(b"lib/.wh..wh..opq"), Raw(b"usr/lib/new")),
    "opaque, and deeper directories": (Raw(b"etc/.wh..wh..opq"), Raw(b"etc/deep/er/new")),
    "an opaque root": (Raw(b".wh..wh..opq"), Raw(b"new"), folder(b"usr"), Raw(b"usr/new")),
}


@pytest.mark.peer("umoci")
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_means_what_umoci_takes_it_to_mean(name: str, tmp_path: Path) -> None:
    base, top = tar(*MERGED_USR), tar(*LAYERS[name])
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir()
    upper.mkdir()
    unpack([base], str(lower))
    unpack([top], str(upper), lowerdirs=(str(lower),))
    ours = look([str(upper), str(lower)], str(tmp_path))
    theirs = umoci([base, top], str(tmp_path))
    assert comparable(snapshot(ours)) == comparable(snapshot(theirs))


def comparable(tree: Tree) -> Tree:
    """Without what the two may do differently: when a directory that the layer does not name was changed
    last.
    """
    return {
        path: replace(node, mtime=0, opaque=False) if node.kind == "dir" else node
        for path, node in tree.items()
    }


SCRIPT = """
rm etc/secret
rm -r etc/deep
mkdir -p etc/deep/fresh
echo changed > usr/lib/old
ln usr/lib/old usr/lib/older
mv usr/up usr/down
mkdir new new/sub
mkfifo new/pipe
rm lib
chmod 700 etc
touch -d @5.5 new/sub
"""


def base(tmp_path: Path) -> str:
    lower = tmp_path / "lower"
    lower.mkdir()
    unpack([tar(*MERGED_USR)], str(lower))
    return str(lower)


@pytest.mark.peer("umoci")
def test_what_a_step_leaves_is_what_others_see_in_its_layer(tmp_path: Path) -> None:
    """A real overlay's upperdir, through our tar: unpacked again by us, and by umoci."""
    lower = base(tmp_path)
    upper = change([lower], SCRIPT, str(tmp_path))
    measured = measure(upper, clamp=None)
    out = io.BytesIO()
    assert write_tar(upper, out) == measured
    seen = snapshot(look([upper, lower], str(tmp_path)))
    copy = tmp_path / "copy"
    copy.mkdir()
    assert unpack([out.getvalue()], str(copy), lowerdirs=(lower,)) == measured
    assert snapshot(look([str(copy), lower], str(tmp_path))) == seen
    theirs = umoci([tar(*MERGED_USR), out.getvalue()], str(tmp_path))
    assert comparable(snapshot(theirs)) == comparable(seen)


def test_whiteouts_that_share_an_inode_are_no_hard_links(tmp_path: Path) -> None:
    upper = change([base(tmp_path)], "rm etc/secret etc/deep/er/file usr/lib/old", str(tmp_path))
    assert os.lstat(f"{upper}/etc/secret").st_nlink > 1
    tree = snapshot(upper)
    assert [path for path, node in tree.items() if node.kind == "whiteout"] == [
        b"etc/deep/er/file",
        b"etc/secret",
        b"usr/lib/old",
    ]
    out = io.BytesIO()
    write_tar(upper, out)
    copy = tmp_path / "copy"
    copy.mkdir()
    unpack([out.getvalue()], str(copy))
    assert snapshot(str(copy)) == tree


def test_changes_are_told_without_a_mount(tmp_path: Path) -> None:
    lower = base(tmp_path)
    upper = change([lower], SCRIPT, str(tmp_path))
    assert sorted(changes(upper, (lower,)), key=lambda change: change[1]) == [
        ("C", "/etc"),
        ("D", "/etc/deep/er"),
        ("A", "/etc/deep/fresh"),
        ("D", "/etc/secret"),
        ("D", "/lib"),
        ("A", "/new"),
        ("A", "/new/pipe"),
        ("A", "/new/sub"),
        ("A", "/usr/down"),
        ("C", "/usr/lib/old"),
        ("A", "/usr/lib/older"),
        ("D", "/usr/up"),
    ]


def test_what_was_written_back_as_it_was_is_no_change(tmp_path: Path) -> None:
    lower = base(tmp_path)
    script = "chmod 600 etc/secret; chmod 640 etc/secret; touch usr/x; rm usr/x"
    upper = change([lower], script, str(tmp_path))
    assert snapshot(upper).keys() == {b"etc", b"etc/secret", b"usr"}
    assert list(changes(upper, (lower,))) == []
    upper = change(
        [lower], "touch etc/secret; printf toor > usr/lib/old; touch -r etc usr/lib/old", str(tmp_path)
    )
    assert [kind + path for kind, path in changes(upper, (lower,))] == ["C/etc/secret", "C/usr/lib/old"]


def test_changes_look_through_all_layers_below(tmp_path: Path) -> None:
    lowest = base(tmp_path)
    middle = change([lowest], "rm -r etc; mkdir etc; echo x > etc/group", str(tmp_path))
    top = change([middle, lowest], "rm etc/group; echo y > etc/secret; rm -r usr/lib", str(tmp_path))
    assert list(changes(top, (middle, lowest))) == [
        ("D", "/etc/group"),
        ("A", "/etc/secret"),
        ("D", "/usr/lib"),
    ]
