"""`pybuild cache-mounts`: what RUN --mount=type=cache keeps, as a user sees it and moves it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cache.cachemounts import CacheMounts
from cache.store import Store
from tests.cache.scenes import start, stop
from tests.command_fixtures.pybuild import ARGV, BOX, Pybuild, write_box

HOLD = """
import sys
from cache.store import Store
store = Store.open(sys.argv[1])
with store.cache_mounts.acquire(sys.argv[2]) as held:
    print(held.path, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    """pybuild with an empty store; each command is a process."""
    (tmp_path / "context").mkdir()
    return Pybuild(str(tmp_path / "store"), str(tmp_path / "context"))


def put(pybuild: Pybuild, mount_id: str, size: int = 0, *, ago: int = 0, sharing: str = "shared") -> str:
    """Make a mount with a file of `size` bytes, used `ago` seconds ago; return the path of its files."""
    with Store.open(pybuild.root) as store:
        with store.cache_mounts.acquire(mount_id, sharing=sharing) as held:  # type: ignore[arg-type]
            Path(held.path, "data").write_bytes(os.urandom(size))
        used = os.path.dirname(held.path) + "/used"
        then = os.stat(used).st_mtime - ago
        os.utime(used, (then, then))
        return held.path


def ids(pybuild: Pybuild) -> list[str]:
    return pybuild("cache-mounts", "-q").splitlines()


def another(pybuild: Pybuild) -> Pybuild:
    return Pybuild(pybuild.root + "-2", pybuild.cwd)


def test_a_build_with_an_empty_store_begins_with_the_caches_of_another_one(pybuild: Pybuild) -> None:
    """What it is all for: RUN, export, import into a fresh store, RUN."""
    write_box(pybuild.cwd)
    recipe = BOX + "ARG N\nRUN --mount=type=cache,target=/var/cache/x echo $N >>/var/cache/x/log\n"
    pybuild.build(recipe, "--build-arg", "N=1")
    pybuild("cache-mounts", "export", "--quiet", "--output", "caches.tar.zst")
    fresh = another(pybuild)
    assert fresh("cache-mounts", "import", "caches.tar.zst") == "imported /var/cache/x: 1 entry\n"
    fresh.build(recipe, "--build-arg", "N=2")
    with Store.open(fresh.root) as store:
        assert Path(files(store.cache_mounts), "log").read_text() == "1\n2\n"


def test_the_table_says_what_there_is(pybuild: Pybuild) -> None:
    put(pybuild, "/root/.cache", 100_000, ago=3 * 86400)
    path = put(pybuild, "go", sharing="locked")
    head, cache, go = pybuild("cache-mounts").splitlines()
    assert head.split()[:4] == ["ID", "NAME", "SIZE", "FILES"]
    assert cache.split()[0] == "/root/.cache" and " 3 days ago " in cache and cache.endswith("no")
    assert go.split()[0] == "go" and "  locked  " in go
    (_, alone) = pybuild("cache-mounts", "ls", "go").splitlines()
    assert alone.split()[:4] == go.split()[:4]
    name = os.path.basename(os.path.dirname(path))
    assert name in pybuild("cache-mounts", "--no-trunc")
    assert pybuild("cache-mounts", "ls", "--format", "{{.ID}}:{{.Sharing}}:{{.Owner}}", "go") == (
        "go:locked:0:0\n"
    )
    (found,) = pybuild.json("cache-mounts", "ls", "--json", name)
    assert (found["id"], found["in_use"], found["files"]) == ("go", False, 1)
    assert ids(pybuild) == ["/root/.cache", "go"]


def test_no_id_can_tamper_with_the_terminal(pybuild: Pybuild) -> None:
    put(pybuild, "a\x1b[2J\nb")
    for argv in (["-q"], []):
        assert "\x1b" not in pybuild("cache-mounts", *argv)
    assert len(ids(pybuild)) == 1
    done = pybuild.try_("cache-mounts", "export", "-o", "x.tar")
    assert done.code == 0 and "\x1b" not in done.err


def test_rm_removes_all_instances_of_an_id_or_one_by_its_name(pybuild: Pybuild) -> None:
    with Store.open(pybuild.root) as store:
        mounts = store.cache_mounts
        with (
            mounts.acquire("a", sharing="private"),
            mounts.acquire("a", sharing="private"),
            mounts.acquire("a", base="x"),
            mounts.acquire("b", sharing="private") as first,
            mounts.acquire("b", sharing="private"),
        ):
            pass
    assert pybuild("cache-mounts", "rm", "a") == "a\na\na\n"
    short = first.instance[:12] + "-0"
    assert pybuild("cache-mounts", "rm", short) == "b\n"
    assert [each["name"] for each in pybuild.json("cache-mounts", "--json")] == [first.instance[:-1] + "1"]


def test_rm_of_what_is_not_there_or_in_use_is_an_error_and_the_others_go(pybuild: Pybuild) -> None:
    for each in ("one", "two"):
        put(pybuild, each)
    holder = start(HOLD, pybuild.root, "busy")
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        done = pybuild.try_("cache-mounts", "rm", "one", "tow", "two", "busy")
        assert (done.code, done.lines) == (4, ["one", "two"])
        assert "[cachemount/unknown]" in done.err and "Did you mean two?" in done.err
        assert "[cachemount/in-use]" in done.err
        assert ids(pybuild) == ["busy"]
        assert "yes" in pybuild("cache-mounts").splitlines()[1].split()
    finally:
        stop(holder)
    assert pybuild("cache-mounts", "rm", "--force", "gone", "busy") == "busy\n"


def test_prune_takes_what_age_size_and_filter_say(pybuild: Pybuild) -> None:
    for mount_id, age in (("/apt/a", 10), ("/apt/b", 400_000), ("pip", 500_000), ("go", 20)):
        put(pybuild, mount_id, 100_000, ago=age)
    assert "would free" in pybuild("cache-mounts", "prune", "--all", "--dry-run", "-q")
    assert len(ids(pybuild)) == 4
    dry = pybuild.json("cache-mounts", "prune", "--filter", "id=/apt/*", "--dry-run", "--json")
    assert [item["id"] for item in dry["items"]] == ["/apt/b", "/apt/a"]
    assert dry["dry_run"] and dry["freed"] > 200_000 < dry["kept"]
    assert "/apt/b" in pybuild("cache-mounts", "prune", "--older-than", "1d", "--filter=id=/apt/*")
    assert ids(pybuild) == ["/apt/a", "go", "pip"]
    pybuild("cache-mounts", "prune", "--keep-storage", "250kB")
    assert ids(pybuild) == ["/apt/a", "go"]
    assert pybuild("cache-mounts", "prune", "--all").splitlines()[-1].startswith("freed ")
    assert ids(pybuild) == []


def test_prune_leaves_what_is_in_use(pybuild: Pybuild) -> None:
    put(pybuild, "idle")
    holder = start(HOLD, pybuild.root, "busy")
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        pybuild("cache-mounts", "prune", "--all")
        pybuild("prune", "--cache-mounts")
        assert ids(pybuild) == ["busy"]
    finally:
        stop(holder)


def test_pybuild_prune_tells_of_cache_mounts_and_takes_them_when_told(pybuild: Pybuild) -> None:
    put(pybuild, "/root/.cache", 100_000)
    assert "are in cache mounts (--cache-mounts)" in pybuild("prune")
    found = pybuild.json("prune", "--json")
    assert found["items"] == [] and found["cache_mounts"] > 100_000
    assert ids(pybuild) == ["/root/.cache"]
    assert pybuild("prune", "--cache-mounts", "--older-than", "1d").startswith("freed 0B in 0 items; kept 1")
    assert "cache mount  /root/.cache" in pybuild("prune", "--cache-mounts")
    assert ids(pybuild) == []
    assert "cache mounts" not in pybuild("prune")


@pytest.mark.parametrize(
    ("options", "name", "magic"),
    [
        ([], "x", b"\x28\xb5\x2f\xfd"),
        ([], "x.tar.gz", b"\x1f\x8b"),
        ([], "x.tgz", b"\x1f\x8b"),
        ([], "x.tar.zst", b"\x28\xb5\x2f\xfd"),
        ([], "x.tar", b"pybuild-cache-mounts.json"),
        (["--compression", "gzip"], "x.tar", b"\x1f\x8b"),
        (["--compression", "none"], "x.zst", b"pybuild-cache-mounts.json"),
    ],
)
def test_an_archive_is_compressed_as_it_is_called_or_told(
    pybuild: Pybuild, options: list[str], name: str, magic: bytes
) -> None:
    put(pybuild, "a", 5000)
    pybuild("cache-mounts", "export", *options, "-o", name)
    assert Path(pybuild.cwd, name).read_bytes().startswith(magic)
    assert another(pybuild)("cache-mounts", "import", name) == "imported a: 1 entry\n"


def test_an_archive_goes_through_a_pipe(pybuild: Pybuild) -> None:
    put(pybuild, "a", 300_000)
    put(pybuild, "b", 10)
    out = pybuild.start("cache-mounts", "export", "a")
    into = another(pybuild)
    done = subprocess.run(
        (*ARGV, "cache-mounts", "import", "-"), stdin=out.stdout, env=into.environment(), capture_output=True
    )
    _, err = out.communicate()
    assert out.returncode == 0 and err.startswith("exported a: 1 entry, 300kB")
    assert (done.returncode, done.stdout) == (0, b"imported a: 1 entry\n")
    assert ids(into) == ["a"]


def test_import_merges_or_replaces(pybuild: Pybuild) -> None:
    put(pybuild, "a")
    pybuild("cache-mounts", "export", "-o", "a.tar")
    with Store.open(pybuild.root) as store:
        directory = files(store.cache_mounts)
    Path(directory, "own").write_text("own")
    assert pybuild("cache-mounts", "import", "a.tar") == "merged a: 1 entry\n"
    assert sorted(os.listdir(directory)) == ["data", "own"]
    assert pybuild("cache-mounts", "import", "--replace", "a.tar", "-q") == "a\n"
    assert sorted(os.listdir(directory)) == ["data"]


def files(mounts: CacheMounts) -> str:
    (name,) = mounts.names()
    return f"{mounts.path}/{name}/data"


def test_an_export_of_nothing_is_an_archive_that_can_be_imported(pybuild: Pybuild) -> None:
    assert "empty" in pybuild.try_("cache-mounts", "export", "-o", "x").err
    assert another(pybuild)("cache-mounts", "import", "x") == ""


def test_a_failed_export_leaves_the_old_archive(pybuild: Pybuild) -> None:
    path = put(pybuild, "a")
    Path(os.path.dirname(path), "meta.json").write_text("")
    Path(pybuild.cwd, "x").write_text("old")
    done = pybuild.try_("cache-mounts", "export", "-o", "x")
    assert done.code == 4 and "[cachemount/damaged]" in done.err
    assert Path(pybuild.cwd, "x").read_text() == "old" and os.listdir(pybuild.cwd) == ["x"]


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["frobnicate"], 2, "[usage/error]"),
        (["rm"], 2, "[usage/arguments]"),
        (["rm", "x"], 2, "[cachemount/unknown]"),
        (["ls", "x"], 2, "[cachemount/unknown]"),
        (["export", "x", "-o", "y"], 2, "[cachemount/unknown]"),
        (["prune"], 2, "[usage/arguments]"),
        (["prune", "x"], 2, "[usage/arguments]"),
        (["prune", "--older-than", "soon"], 2, "[usage/value]"),
        (["prune", "--keep-storage", "much"], 2, "[usage/value]"),
        (["prune", "--filter", "x"], 2, "[usage/value]"),
        (["prune", "--filter", "name=x"], 2, "[usage/value]"),
        (["ls", "--replace"], 2, "--replace goes with import, not with ls"),
        (["export", "--dry-run"], 2, "--dry-run goes with prune"),
        (["ls", "--format", "{{.Nothing}}", "there"], 2, "[usage/format]"),
        (["import", "a", "b"], 2, "[usage/arguments]"),
        (["import", "nowhere"], 3, "[cachemount/archive]"),
        (["import", "."], 3, "[cachemount/archive]"),
        (["import", "/etc/passwd"], 3, "this is no archive of cache mounts"),
        (["export", "-o", "no/where"], 4, "cannot write to no/where"),
        (["export", "-o", "/dev/full", "there"], 4, "[output/full]"),
    ],
)
def test_a_mistake_is_one_clear_message(pybuild: Pybuild, argv: list[str], code: int, said: str) -> None:
    put(pybuild, "there", 600_000)
    done = pybuild.try_("cache-mounts", *argv)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ") and said in done.err and "Traceback" not in done.err
    assert ids(pybuild) == ["there"]


def test_what_json_says_is_all_there_is(pybuild: Pybuild) -> None:
    with (
        Store.open(pybuild.root) as store,
        store.cache_mounts.acquire("é\udcff", base="sha256:1 /x", uid=1, gid=2, mode=0o700),
    ):
        pass
    done = pybuild("cache-mounts", "ls", "--json")
    (found,) = json.loads(done)
    assert (found["id"], found["base"], found["uid"], found["gid"], found["mode"]) == (
        "é\udcff",
        "sha256:1 /x",
        1,
        2,
        0o700,
    )
