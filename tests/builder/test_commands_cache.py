"""`pybuild cache`: keys, what is in a shared cache, what is wrong with it, and what it was good for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_fixtures.pybuild import Done, Pybuild
from tests.registry_fixtures.registry import Registry

RECIPE = """FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo {0} > /made"]
TEST ["/bin/busybox", "test", "-e", "/made"]
"""

Machine = Callable[[str], Pybuild]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with a recipe, and the keys of a team and of a stranger."""
    found = tmp_path / "work"
    found.mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, found / "busybox")
    (found / "app.rec").write_text(RECIPE.format("one"))
    for name in ("team", "stranger"):
        Pybuild(str(tmp_path / "none"), str(found))("cache", "keygen", name)
    return found


@pytest.fixture
def machine(tmp_path: Path, work: Path) -> Machine:
    return lambda name: Pybuild(str(tmp_path / "stores" / name), str(work))


def build(pybuild: Pybuild, *options: str, code: int = 0) -> Done:
    done = pybuild.try_("app.rec", "--progress", "plain", *options, SOURCE_DATE_EPOCH="1")
    assert done.code == code, done.err
    return done


TO = "type=dir,dest=../cache,key=./team.key"
FROM = "type=dir,path=../cache,trust=./team.pub"


def listed(pybuild: Pybuild, *words: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(pybuild("cache", "ls", "--json", *words))
    return found


def test_keygen_makes_a_pair_that_openssl_reads_and_replaces_none(work: Path, machine: Machine) -> None:
    assert os.stat(work / "team.key").st_mode & 0o777 == 0o600
    derived = subprocess.run(
        ["openssl", "pkey", "-in", work / "team.key", "-pubout"], capture_output=True, check=True
    )
    assert derived.stdout == (work / "team.pub").read_bytes()
    before = (work / "team.key").read_bytes()
    again = machine("a").try_("cache", "keygen", "team")
    assert again.code == 2
    assert "is there already" in again.err
    assert (work / "team.key").read_bytes() == before


@pytest.mark.peer("busybox")
def test_a_key_that_is_locked_opens_with_the_password_alone(work: Path, machine: Machine) -> None:
    a = machine("a")
    assert "locked" in a("cache", "keygen", "locked", PYBUILD_CACHE_KEY_PASSWORD="open")
    assert b"ENCRYPTED" in (work / "locked.key").read_bytes()
    to = "type=dir,dest=../cache,key=./locked.key"
    assert "password" in build(a, "--cache-to", to, code=2).err
    done = a.try_("app.rec", "--cache-to", to, PYBUILD_CACHE_KEY_PASSWORD="open")
    assert done.code == 0, done.err


@pytest.mark.peer("busybox")
def test_ls_says_what_is_there_and_whom_it_believes(machine: Machine) -> None:
    a = machine("a")
    build(a, "--cache-to", TO)
    found = listed(a, FROM)
    assert sorted(str(each["line"]).rpartition("#")[2] for each in found) == [
        "stage-0:COPY:0",
        "stage-0:RUN:0",
        "stage-0:TEST:0",
    ]
    assert all(each["believed"] for each in found)
    doubted = listed(a, "type=dir,path=../cache,trust=./stranger.pub")
    assert not any(each["believed"] for each in doubted)
    assert all("which is not trusted here" in str(each["doubt"]) for each in doubted)
    text = a("cache", "ls", "type=dir,path=../cache")
    assert text.splitlines()[0].split()[:3] == ["KEY", "STEP", "LAYER"]
    assert len(text.splitlines()) == 4
    assert len(a("cache", "ls", "-q", "type=dir,path=../cache").splitlines()) == 3


@pytest.mark.peer("busybox")
def test_caches_of_the_configuration_are_meant_where_none_is_named(work: Path, machine: Machine) -> None:
    a = machine("a")
    (work / "pybuild.toml").write_text(
        f'[cache]\nfrom = ["{FROM},name=team"]\nto = ["{TO}"]\n[cache.trust]\nteam = "team.pub"\n'
    )
    build(a)
    assert len(listed(a)) == len(listed(a, "team")) == 3
    assert "it has team" in a.try_("cache", "ls", "other").err


def test_no_cache_at_all_is_said(machine: Machine) -> None:
    done = machine("a").try_("cache", "ls")
    assert done.code == 2
    assert "no shared cache is named" in done.err


@pytest.mark.peer("busybox")
def test_verify_finds_each_kind_of_damage(tmp_path: Path, machine: Machine) -> None:
    a, cache = machine("a"), tmp_path / "cache"
    build(a, "--cache-to", TO)
    assert a("cache", "verify", FROM).startswith("3 entries are good, 0 are not; read 2 layers")
    assert a("cache", "verify", "-q", FROM) == ""

    blobs = sorted(cache.glob("blobs/sha256/*/*"), key=lambda path: path.stat().st_size)
    data = blobs[0].read_bytes()
    blobs[0].chmod(0o644)
    blobs[0].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    blobs[1].unlink()
    done = a.try_("cache", "verify", FROM)
    assert done.code == 1
    assert "is not there" in done.out
    assert "cannot be unpacked" in done.out or "is another one" in done.out
    assert "1 entries are good, 2 are not" in done.out
    assert a.try_("cache", "verify", "--no-layers", FROM).code == 0

    for entry in cache.glob("entries/*/*/*"):
        entry.chmod(0o644)
        text = json.loads(entry.read_bytes())
        text["payload"] = "e30" + text["payload"][3:]
        entry.write_text(json.dumps(text))
    done = a.try_("cache", "verify", "--json", FROM)
    assert done.code == 1
    assert {bad["problem"] for bad in json.loads(done.out)["bad"]} == {
        "its signature is not that of what it says"
    }


@pytest.mark.peer("busybox", "docker-registry")
def test_what_is_signed_anew_is_believed_by_who_believes_the_new_key(
    tmp_path: Path, machine: Machine
) -> None:
    """How what a pull request's build made comes into a release's, once somebody stands for it."""
    a, b = machine("a"), machine("b")
    with Registry(os.fspath(tmp_path / "registry")) as registry:
        _sign_anew(a, b, machine("c"), f"type=registry,ref={registry.address}/cache")


def _sign_anew(a: Pybuild, b: Pybuild, c: Pybuild, place: str) -> None:
    build(a, "--cache-to", f"{place},key=./stranger.key")
    assert build(b, "--cache-from", f"{place},trust=./team.pub").err.count("CACHED") == 0

    refused = a("cache", "sign", f"{place},trust=./team.pub", "--key", "team.key")
    assert refused == "signed 0; 0 were signed already, 3 are not believed, or damaged\n"
    done = a("cache", "sign", f"{place},trust=./stranger.pub", "--key", "team.key")
    assert done == "signed 3; 0 were signed already, 0 are not believed, or damaged\n"
    again = a("cache", "sign", f"{place},trust=./stranger.pub", "--key", "team.key")
    assert again.startswith("signed 0; 3 were signed already")
    assert build(c, "--cache-from", f"{place},trust=./team.pub").err.count("CACHED") == 3


@pytest.mark.peer("busybox")
def test_why_tells_what_is_known_of_a_key_here_and_elsewhere(work: Path, machine: Machine) -> None:
    a, b = machine("a"), machine("b")
    build(a, "--cache-to", TO)
    key = next(str(each["key"]) for each in listed(a, FROM) if ":RUN:" in str(each["line"]))
    here = a("cache", "why", key[:10], FROM)
    assert key in here
    assert "this store knows it; layer: in the store" in here
    assert "a hit, signed by" in here
    assert "echo one > /made" in here
    other = b("cache", "why", key, "type=dir,path=../cache,trust=./stranger.pub")
    assert "this store does not know it" in other
    assert "a miss: it is signed by" in other
    value = json.loads(a("cache", "why", "--json", key, FROM))
    assert value["caches"][0]["believed"] is True
    assert b.try_("cache", "why", "abcdef0", FROM).code == 2


@pytest.mark.peer("busybox")
def test_rm_and_gc_take_away_what_they_say(tmp_path: Path, machine: Machine) -> None:
    a = machine("a")
    build(a, "--cache-to", TO)
    key = next(str(each["key"]) for each in listed(a, FROM) if ":COPY:" in str(each["line"]))
    assert a("cache", "rm", "--dry-run", key[:12], FROM) == f"{key}  1\n"
    assert len(listed(a, FROM)) == 3
    assert a("cache", "rm", key[:12], FROM) == f"{key}  1\n"
    assert len(listed(a, FROM)) == 2
    assert a.try_("cache", "rm", key, FROM).code == 2
    old = [*(tmp_path / "cache").glob("entries/*/*/*"), *(tmp_path / "cache").glob("blobs/*/*/*")]
    for path in old[:1]:
        os.utime(path, (1, 1))
    for path in (tmp_path / "cache").glob("blobs/*/*/*"):
        os.utime(path, (1, 1))
    would = a("cache", "gc", "--older-than", "1d", "--dry-run", FROM)
    assert "would remove 1 entries and" in would
    assert len(listed(a, FROM)) == 2
    done = json.loads(a("cache", "gc", "--older-than", "1d", "--json", FROM))
    assert done["caches"]["cache"]["entries"] == 1
    assert len(listed(a, FROM)) == 1


@pytest.mark.peer("busybox")
def test_stats_tell_hits_by_cache_and_misses_by_reason(work: Path, machine: Machine) -> None:
    a, b = machine("a"), machine("b")
    assert "no build has been counted" in b("cache", "stats")
    build(a, "--cache-to", TO)
    first = json.loads(a("cache", "stats", "--format", "json"))
    assert (first["hits"], first["misses"], first["entries_shared"]) == (0, 3, 3)
    assert first["misses_by_reason"] == {"first build of this line": 3}
    assert first["bytes_shared"] > 1000

    (work / "app.rec").write_text(RECIPE.format("two"))
    build(b, "--cache-from", FROM)
    second = json.loads(b("cache", "stats", "--format", "json"))
    assert second["hits_by_cache"].keys() == {"cache"}
    assert second["hits"] == 1
    assert second["misses_by_reason"] == {
        "the command changed": 1,
        "the state below it changed": 1,
    }
    assert second["bytes_fetched"] > 1000
    assert second["bytes_saved"] > 1000

    text = b("cache")
    assert "1  the shared cache cache" in text
    assert "1  the command changed" in text
    markdown = b("cache", "stats", "--format", "markdown")
    assert markdown.startswith("### pybuild: app.rec")
    assert "| the command changed | 1 |" in markdown
    build(b, "--cache-from", "type=dir,path=../cache,trust=./stranger.pub", "--build-arg", "a=b")
    both = json.loads(b("cache", "stats", "--last", "2", "--format", "json"))
    assert both["builds"] == 2
    assert len(both["each"]) == 2
    assert json.loads(b("cache", "stats", "--since", "1h", "--format", "json"))["builds"] == 2


@pytest.mark.peer("busybox")
def test_a_build_that_fails_is_counted_too(work: Path, machine: Machine) -> None:
    a = machine("a")
    (work / "app.rec").write_text(RECIPE.format("one").replace("/made", "/else", 1))
    build(a, code=1)
    value = json.loads(a("cache", "stats", "--format", "json"))
    assert value["each"][0]["failed"] is True
    assert value["misses"] == 2
    assert "which failed" in a("cache")


def test_options_go_with_their_actions(machine: Machine) -> None:
    a = machine("a")
    for words in (("ls", "--dry-run"), ("gc", "--format", "json"), ("stats", "--no-layers")):
        done = a.try_("cache", *words)
        assert done.code == 2
        assert "goes with" in done.err
