"""Hard links, renamed directories, opaque ones and attributes: the same layers whatever makes the root
filesystem.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Pybuild
from tests.rootless_fixtures import scene
from tests.rootless_fixtures.snapshots import OTHERS, overlays_in, same

LINKS = f"""\
{scene.BASE}
RUN mkdir -p /d/e /o/in /x; echo 1 > /d/f; echo 2 > /d/g; echo 3 > /d/e/h
RUN echo k > /o/k; >/x/a
RUN ln /x/a /o/in/a; ln /d/f /d/new; ln /d/e/h /x/linked
RUN mv /d/e /d/renamed; mv /d/renamed /o/r; mkdir /d/e
RUN mv /o /o2; mkdir /o; touch /o/other; mkdir /o/in
RUN mkdir /o2/in1; ln /d/g /o2/in1/g; mv /o2/in1 /o2/in2
RUN rm -rf /x; mkdir /x; touch /x/q; ln /x/q /x/r; ln /x/r /d/s; rm /x/q
RUN mkdir /x/y; mv /x/y /d/y; mv /d/y /x/z; touch /x/z/t; mkdir -p /x/z/u/v; mv /x/z/u /u
RUN cp /bin/busybox /bin/b; setcap cap_net_raw+ep /bin/b
RUN mv /bin/b /d/b; ln /d/b /d/b2
ADD owned.tar /d/owned/
RUN cd /d/owned; ln attributes again; touch -d @9 large-ids; rm -r deep; mkdir deep; ln large-ids deep/s
RUN chmod 700 /d/owned/deep; rm -r /u/v; mkdir /u/v; mkdir /u/w; mv /u/w /u/v/w; mv /u/v/w /w
RUN ln -s /nowhere /l; ln /l /l2; mkfifo /p; ln /p /p2; rm /l /p
"""

NAMES = f"""\
{scene.BASE}
RUN mkdir /d /e; echo 1 > /d/f; ln /d/f /d/g; ln /d/f /e/h
RUN ln /d/f /d/new; ln /e/h /e/linked
RUN rm /d/f; ln /d/g /d/f; cp /d/g /d/tmp; mv /d/tmp /d/new
RUN chmod 600 /d/g; echo more >> /e/h; mv /e/linked /d/linked
RUN mkfifo /p; ln /p /p2; ln -s x /l; ln /l /l2
RUN ln /l2 /l3; rm /l; ln /p2 /p3; rm /p; chmod 600 /p3
RUN mkdir /r; touch /r/f; touch /q
RUN rm -r /r; mkdir /r; ln /d/g /r/g; mv /r /r2; touch /new; mv /new /q; rm /q
"""
"""What an overlay and a copy do to one of several names of a file below; and what is replaced and then
removed is gone (fuse-overlayfs 1.10 brings it back).
"""


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> Pybuild:
    """Root's builds by the kernel's overlay."""
    return overlays_in(tmp_path_factory.mktemp("overlay"))


@pytest.mark.parametrize("driver", OTHERS)
def test_links_and_renames_come_out_alike(tmp_path: Path, overlays: Pybuild, driver: str) -> None:
    same(overlays, Pybuild(str(tmp_path / "store"), overlays.cwd), LINKS, driver)


def test_so_does_what_is_done_to_one_of_several_names(tmp_path: Path, overlays: Pybuild) -> None:
    same(overlays, Pybuild(str(tmp_path / "store"), overlays.cwd), NAMES, "copy")


def test_a_directory_that_was_moved_has_no_mark_that_hides_nothing(overlays: Pybuild) -> None:
    """The kernel gives it one; a step that is run again is the same by that."""
    text = f"{scene.BASE}RUN mkdir -p /x/y /z; mkdir /new; touch /new/f\n"
    moved = "RUN : {}; mkdir /made; mv /made /z/here; rm -r /x/y; mkdir /x/y\n"
    overlays.build(text + moved.format(1), "-t", "moved", SOURCE_DATE_EPOCH=scene.EPOCH)
    overlays("save", "moved", "-o", "moved.tar")
    diff = overlays.json("layers", "moved", "--json")[-1]["DiffID"].removeprefix("sha256:")
    upper = f"{overlays.root}/overlay2/{diff}/diff"
    assert os.listxattr(f"{upper}/z/here") == []
    assert os.getxattr(f"{upper}/x/y", "trusted.overlay.opaque") == b"y"
    again = overlays.try_("build", "-", stdin=text + moved.format(2), SOURCE_DATE_EPOCH=scene.EPOCH)
    assert again.code == 0 and "SAME" in again.err.upper(), again.err


def steps(seed: int) -> str:
    """Return RUN lines of random operations, of which those that cannot be done do nothing.

    No name of a file that has several is copied to another one of them, and no directory of a lower layer is
    renamed, which overlayfs refuses with EXDEV: what `mv` does then keeps links that a copy has not
    (docs/rootless.md).
    """
    choose = random.Random(seed)
    names = [f"/t/{a}/{b}" for a in ("a", "b", "c") for b in ("x", "y", "z")] + ["/t/a", "/t/b", "/t/c"]
    operations = (
        "ln {0} {1}", "test -d {0} || test -e {1} || mv -T {0} {1}", "rm -r {0}", "mkdir -p {0}",
        "ln -s {0} {1}", "mkfifo {0}", "test -d {0} || {{ echo {2} > {0}.new && mv -T {0}.new {0}; }}",
        "test -p {0} || echo {2} >> {0}",
        "test -d {0} && chmod 7{2}5 {0}", "chmod 6{2}4 {0}", "rm -r {0}; mkdir {0}; touch {0}/n",
        "mkdir -p {0}.d && touch {0}.d/f && {{ test -e {1} || mv -T {0}.d {1}; }}; rm -rf {0}.d",
    )  # fmt: skip
    lines = ["RUN mkdir -p /t/a /t/b /t/c; echo 1 > /t/a/x; ln /t/a/x /t/b/x; echo 2 > /t/c/z"]
    for _ in range(10):
        made = [
            choose.choice(operations).format(*choose.choices(names, k=2), choose.randrange(8))
            for _ in range(8)
        ]
        lines.append(f"RUN {{ {'; '.join(made)}; }} 2>/dev/null; true")
    return "\n".join(lines)


def test_so_does_whatever_else_a_step_does(tmp_path: Path, overlays: Pybuild) -> None:
    same(overlays, Pybuild(str(tmp_path / "store"), overlays.cwd), f"{scene.BASE}{steps(7)}\n", "copy")
