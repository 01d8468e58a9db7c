"""Each case is built by pybuild and by a peer: config and root filesystem are the same, except for what
the case knows.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.differential import archive, base, builders, case
from tests.differential.compare import CONFIG, Difference, differences

CASES = case.load()


@dataclass(frozen=True)
class Outcome:
    """What both made of a case."""

    ours: builders.Built
    theirs: builders.Built


@dataclass(frozen=True)
class Bench:
    """The builds of the cases that were asked for, two at a time."""

    peer: str
    started: int
    outcomes: dict[str, Future[Outcome]]


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = os.fspath(tmp_path_factory.mktemp("differential"))
    started = int(time.time()) - 2  # the kernel's clock for files is a tick behind
    for name in ("pybuild", "peer", "cases"):
        os.mkdir(f"{directory}/{name}")
    peer: builders.Builder = builders.PEERS[request.config.getoption("--peer", "buildah")](
        f"{directory}/peer"
    )
    pool = ThreadPoolExecutor(2)
    try:
        ours = builders.Pybuild(f"{directory}/pybuild")
        for name in base.CONFIGS:
            base.write(f"{directory}/{name}.tar", name)
            for builder in (ours, peer):
                builder.load(f"{directory}/{name}.tar")

        def build(one: case.Case) -> Outcome:
            scene = f"{directory}/cases/{one.name}"
            one.prepare(scene)
            return Outcome(ours.build(one, scene), peer.build(one, scene))

        chosen = [item.callspec.params["one"] for item in request.session.items if _is_ours(item)]  # type: ignore[attr-defined]
        yield Bench(peer.name, started, {one.name: pool.submit(build, one) for one in chosen})
    finally:
        pool.shutdown(cancel_futures=True)
        peer.close()
        shutil.rmtree(directory)


def _is_ours(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") == "test_same_image_as_the_peer"


@pytest.mark.peer("buildah", "runc", "busybox")
@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_same_image_as_the_peer(bench: Bench, one: case.Case) -> None:
    """What differs is what the case knows to differ, no more and no less."""
    outcome = bench.outcomes[one.name].result()
    said = f"\npybuild:\n{outcome.ours.output[-2000:]}\n{bench.peer}:\n{outcome.theirs.output[-2000:]}"
    if one.refused:
        assert outcome.ours.archive is None, "pybuild has built what it should refuse"
        assert one.refused in outcome.ours.output, said
    found = _differences(outcome, bench.started)
    known = one.known(bench.peer)
    allowed = (*known, *case.EVERYWHERE[bench.peer])
    unknown = [each for each in found if not any(one.matches(each) for one in allowed)]
    if unknown:
        pytest.fail("\n".join(["differs:", *map(str, unknown), said]), pytrace=False)
    gone = [each for each in known if not any(each.matches(difference) for difference in found)]
    if gone:
        pytest.fail("\n".join(["is known to differ, and does not:", *map(str, gone)]), pytrace=False)
    if not one.refused:
        assert outcome.ours.archive is not None, said


def _differences(outcome: Outcome, started: int) -> list[Difference]:
    ours, theirs = outcome.ours.archive, outcome.theirs.archive
    if ours is None or theirs is None:
        words = ["refused" if each is None else "built" for each in (ours, theirs)]
        return [Difference("outcome", "value", *words)] if words[0] != words[1] else []
    return differences(archive.read(ours), archive.read(theirs), started)


def test_there_are_cases_for_all_instructions() -> None:
    """Each instruction that a Dockerfile may have stands in some case, with each flag of those that copy."""
    seen = set()
    for one in CASES:
        with open(f"{one.directory}/Dockerfile", encoding="utf-8") as file:
            for words in (line.split() for line in file if line.strip()):
                seen.add(words[0].upper())
                flags = itertools.takewhile(lambda word: word.startswith("--"), words[1:])
                seen |= {f"{words[0].upper()} {flag.partition('=')[0]}" for flag in flags}
    wanted = "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL "
    wanted += "STOPSIGNAL USER VOLUME WORKDIR"
    copying = ("--chown", "--chmod", "--link", "--parents", "--exclude")
    flags = {f"{keyword} {flag}" for keyword in ("COPY", "ADD") for flag in copying}
    assert seen >= {*wanted.split(), *flags, "COPY --from", "ADD --unpack"}


def test_a_difference_is_seen(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is compared is compared: each aspect of an inode, which names it has, and the config."""
    directory = os.fspath(tmp_path_factory.mktemp("seen"))
    for name in base.CONFIGS:
        base.write(f"{directory}/{name}", name)
    one, other = archive.read(f"{directory}/base"), archive.read(f"{directory}/base")
    assert differences(one, other, 2_000_000_000) == []
    changes: dict[str, Any] = {
        "kind": "fifo",
        "mode": "0600",
        "owner": "1:0",
        "mtime": 1,
        "content": "x",
        "target": "x",
    }
    changes |= {"device": "1:1", "xattrs": {"user.x": "1"}}
    for aspect, value in changes.items():
        other.tree["/etc/passwd"] = replace(one.tree["/etc/passwd"], **{aspect: value})
        (found,) = differences(one, other, 2_000_000_000)
        assert (found.where, found.aspect) == ("/etc/passwd", aspect)
    other.tree["/etc/passwd"] = replace(one.tree["/etc/passwd"])
    other.tree["/srv/hard"] = replace(one.tree["/srv/hard"])
    assert {(each.where, each.aspect) for each in differences(one, other, 0)} == {
        ("/srv/file", "links"),
        ("/srv/hard", "links"),
    }
    del other.tree["/srv/hard"]
    assert Difference("/srv/hard", "presence", "a file", "nothing") in differences(one, other, 0)
    rich = archive.read(f"{directory}/rich")
    seen = {each.where for each in differences(one, rich, 0)}
    assert seen == {*CONFIG} - {"OnBuild"}


def test_layers_are_put_on_top_of_each_other() -> None:
    """Whiteouts and opaque directories remove what stands below, and nothing of their own layer."""
    tree: archive.Tree = {}
    for layer in (
        ["d/", "d/a", "d/b", "o/", "o/old", "f"],
        ["d/.wh.a", "o/", "o/new", "o/.wh..wh..opq", "f/", "f/in"],
        ["f"],
    ):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name in layer:
                info = tarfile.TarInfo(name.rstrip("/"))
                info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                tar.addfile(info)
        out.seek(0)
        with tarfile.open(fileobj=out) as tar:
            archive.apply(tar, tree)
    assert sorted(tree) == ["/d", "/d/b", "/f", "/o", "/o/new"]
    assert tree["/f"].kind == "file"
