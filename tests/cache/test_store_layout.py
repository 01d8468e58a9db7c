"""The store as a user finds it, with ls, cat, printf and sha256sum: docs/store.md says what is where."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cache.errors import StoreError
from cache.store import Store
from tests.cache.scenes import add_chain, add_image, start


def shell(command: str, root: Path) -> str:
    """Return what a shell prints, run in the store."""
    done = subprocess.run(["bash", "-euc", command], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with an image of three layers."""
    with Store.open(str(tmp_path / "store")) as store:
        add_image(store, add_chain(store, b"one", b"two", b"three"), "app:1")
    return tmp_path / "store"


def test_a_chain_id_can_be_worked_out_with_printf_and_sha256sum(root: Path) -> None:
    with Store.open(str(root)) as store:
        image = store.images.resolve("app:1")
    diffs = shell(
        f"tr , '\\n' < imagedb/content/sha256/{image.hex if image else ''} | grep -o 'sha256:[0-9a-f]*'", root
    ).split()
    second = shell(f"printf '{diffs[0]} {diffs[1]}' | sha256sum | cut -d' ' -f1", root)
    third = shell(f"printf 'sha256:{second} {diffs[2]}' | sha256sum | cut -d' ' -f1", root)
    assert shell(f"cat layerdb/sha256/{third}/parent", root) == f"sha256:{second}"
    assert shell(f"cat layerdb/sha256/{second}/parent", root) == diffs[0]
    assert shell(f"cat layerdb/sha256/{third}/diff", root) == diffs[2]
    assert shell(f"cat layerdb/sha256/{third}/cache-id", root) == diffs[2].removeprefix("sha256:")
    assert shell(f"ls layerdb/sha256/{diffs[0].removeprefix('sha256:')}", root).split() == [
        "cache-id",
        "diff",
        "size",
    ]


def test_lower_leads_to_the_changesets_below_the_topmost_first(root: Path) -> None:
    with Store.open(str(root)) as store:
        chains = {len(store.layers.chain(layer.chain_id)): layer for layer in store.layers.all()}
    lower = shell(f"cat layerdb/sha256/{chains[3].chain_id.hex}/lower", root)
    first, second = lower.split(":")
    assert shell(f"cat overlay2/{first}/file", root) == "two"
    assert shell(f"cat overlay2/{second}/file", root) == "one"
    assert shell(f"readlink overlay2/{first}", root) == f"../{chains[2].cache_id}/diff"
    assert shell(f"cat overlay2/{chains[2].cache_id}/link", root) == first.removeprefix("l/")
    assert len(first) == 28


def test_the_kernel_takes_lower_as_it_stands(root: Path, tmp_path: Path) -> None:
    """As Docker does it: in overlay2/, with the short names, so that many layers fit in mount(2)'s one
    page."""
    with Store.open(str(root)) as store:
        chains = {len(store.layers.chain(layer.chain_id)): layer for layer in store.layers.all()}
    top = chains[3]
    merged = tmp_path / "merged"
    merged.mkdir()
    seen = shell(
        f"cd overlay2; l=l/$(cat {top.cache_id}/link):$(cat ../layerdb/sha256/{top.chain_id.hex}/lower);"
        f"unshare -m sh -c 'mount -t overlay -o lowerdir='$l' none {merged} && cat {merged}/file'",
        root,
    )
    assert seen == "three"


def test_an_image_config_is_named_by_its_sha256(root: Path) -> None:
    names = shell("cd imagedb/content/sha256; sha256sum *", root).split()
    assert names[0] == names[1]


def test_the_size_is_that_of_the_layer_tar_whose_digest_is_the_diff_id(root: Path) -> None:
    """Our tar is deterministic, but not magic: GNU tar, told all of it, writes the same bytes for a plain
    file."""
    for entry in (root / "layerdb" / "sha256").iterdir():
        cache_id = (entry / "cache-id").read_text()
        ids = "--owner=:0 --group=:0 --numeric-owner"
        tar = f"tar --format=ustar {ids} -b 1 -c -C overlay2/{cache_id}/diff file"
        assert shell(f"{tar} | wc -c", root) == (entry / "size").read_text()
        assert shell(f"{tar} | sha256sum | cut -d' ' -f1", root) == cache_id


def test_after_the_sync_every_changeset_says_so(root: Path) -> None:
    assert shell("cat overlay2/*/committed", root) == "synced" * 3


def test_what_is_not_synced_bears_the_boot_id(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "store")) as store:
        add_chain(store, b"one")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert shell("cat overlay2/*/committed", tmp_path / "store") == boot


def test_nothing_else_lies_in_a_store(root: Path) -> None:
    known = "blobs format imagedb layerdb overlay2 pybuild.db reserve tmp"
    assert shell("ls", root).split() == known.split()
    assert shell("ls -A tmp", root) == ""
    assert shell("cat format", root) == "pybuild store 1"
    assert shell("find . -size 0 -type f", root) == ""


def test_a_store_is_not_for_other_users_of_the_host(root: Path) -> None:
    """Layers hold setuid programs of other systems."""
    assert shell("stat -c %a .", root) == "700"


def test_a_directory_of_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Madam")
    with pytest.raises(StoreError, match=r"no store, and not empty: it holds 'dear\.txt'"):
        Store.open(str(tmp_path / "letters"))
    assert os.listdir(tmp_path / "letters") == ["dear.txt"]


def test_a_store_of_another_format_is_left_alone(root: Path) -> None:
    (root / "format").write_text("pybuild store 7\n")
    with pytest.raises(StoreError, match="another format: 'pybuild store 7'"):
        Store.open(str(root))


def test_a_store_that_was_half_made_is_completed(tmp_path: Path) -> None:
    """Killed between the directories and `format`, which is written last."""
    root = tmp_path / "store"
    for path in ("overlay2/l", "tmp"):
        (root / path).mkdir(parents=True)
    with Store.open(str(root)) as store:
        add_chain(store, b"one")
    assert shell("ls", root).split()[:2] == ["blobs", "format"]


def test_a_missing_tmp_is_made_again(root: Path) -> None:
    (root / "tmp").rmdir()
    with Store.open(str(root)) as store:
        add_chain(store, b"four")


@pytest.mark.parametrize("path", ["/proc/nothing", "/dev/null/store"])
def test_a_root_that_cannot_be_is_one_clear_error(path: str) -> None:
    with pytest.raises(StoreError, match=f"opening the store {path}"):
        Store.open(path)


def test_a_root_that_may_not_be_entered_is_denied_with_a_hint(root: Path) -> None:
    """As an unprivileged user who has no --root of their own."""
    script = (
        "import os, sys\n"
        "from cache.store import Store\n"
        "from cache.errors import StoreError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: Store.open(sys.argv[1])\n"
        "except StoreError as e: print(e.code, '|', e.hint)\n"
    )
    out, _ = start(script, str(root)).communicate()
    assert out.strip() == "store/denied | run as root, or name a store of your own with --root"
