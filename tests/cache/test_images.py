"""imagedb/ and the names of images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.errors import FormatError, StoreCorrupt, StoreError
from cache.oci.digest import Digest
from cache.store import Store
from tests.cache.scenes import add_chain, add_image, start

MISSING = Digest("sha256:" + "0" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store")) as store:
        yield store


def test_an_image_comes_back_byte_for_byte(store: Store) -> None:
    config = b'{ "odd":  "spacing" }\n'
    image = store.images.put(config)
    assert image == Digest.of(config)
    assert store.images.get(image) == config
    assert store.images.put(config) == image
    assert store.images.all() == (image,)


def test_an_image_that_is_not_there_is_an_error_of_its_own(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.images.get(MISSING)
    assert caught.value.code == "store/missing"
    with pytest.raises(StoreError):
        store.images.tag("app", MISSING)
    assert store.images.names() == {}


@pytest.mark.parametrize("left", [b"", b'{"architecture"', b'{"architecture":"arm64"}'])
def test_a_config_that_a_power_cut_damaged_is_never_given_out_and_is_written_again(
    store: Store, left: bytes
) -> None:
    config = b'{"architecture":"amd64"}'
    image = store.images.put(config)
    Path(store.images.path(image)).write_bytes(left)
    with pytest.raises(StoreCorrupt, match="does not have that digest"):
        store.images.get(image)
    assert store.images.put(config) == image
    assert store.images.get(image) == config


@pytest.mark.parametrize(
    "text", ["app:1.2", "docker.io/library/app:1.2", "library/app:1.2", "index.docker.io/library/app:1.2"]
)
def test_a_name_is_found_in_each_of_its_forms(store: Store, text: str) -> None:
    image = add_image(store, add_chain(store, b"one"), "app:1.2")
    assert store.images.resolve(text) == image
    assert store.images.names() == {"docker.io/library/app:1.2": image}
    assert store.images.untag(text)
    assert store.images.resolve("app:1.2") is None
    assert not store.images.untag(text)
    assert store.images.all() == (image,)


def test_a_name_without_a_tag_is_the_latest(store: Store) -> None:
    image = add_image(store, add_chain(store, b"one"), "app")
    assert store.images.resolve("app:latest") == image
    assert store.images.resolve("app:1") is None


def test_a_name_of_a_transport_is_kept_as_it_is(store: Store) -> None:
    image = add_image(store, add_chain(store, b"one"), "mmdebstrap://bookworm?variant=minbase")
    assert store.images.resolve("mmdebstrap://bookworm?variant=minbase") == image


@pytest.mark.parametrize("name", ["", "App", "a b", "app:tag!", "../app", "-app", "a" * 300])
def test_what_is_no_name_is_refused(store: Store, name: str) -> None:
    image = store.images.put(b"{}")
    with pytest.raises(FormatError):
        store.images.tag(name, image)
    assert store.images.resolve(name) is None


def test_a_name_moves_to_the_image_that_it_is_given_to(store: Store) -> None:
    one = add_image(store, add_chain(store, b"one"), "app", "app:1")
    two = add_image(store, add_chain(store, b"two"), "app")
    assert store.images.resolve("app") == two and store.images.resolve("app:1") == one
    assert store.images.names_of(one) == ("docker.io/library/app:1",)


def test_an_id_is_found_by_its_beginning_if_that_is_long_enough_and_only_one_has_it(store: Store) -> None:
    ids = [store.images.put(b"%d" % number) for number in range(70)]
    image = ids[0]
    assert store.images.resolve(image) == image
    assert store.images.resolve(image.hex) == image
    assert store.images.resolve(image.hex[:12]) == image
    assert store.images.resolve("sha256:" + image.hex[:12]) == image
    assert store.images.resolve(image.hex[:3]) is None
    assert store.images.resolve(MISSING) is None
    assert store.images.resolve("../../format") is None


def test_an_id_that_several_begin_with_is_ambiguous(store: Store) -> None:
    for end in "ab":
        (Path(store.root) / "imagedb/content/sha256" / ("12345" + end * 59)).touch()
    with pytest.raises(StoreError, match="2 images have ids that begin with 1234") as caught:
        store.images.resolve("1234")
    assert caught.value.code == "store/ambiguous"
    assert store.images.resolve("12345a") is not None


def test_a_name_goes_before_an_id_that_begins_so(store: Store) -> None:
    other = store.images.put(b"other")
    image = store.images.put(b"named")
    store.images.tag(other.hex[:8], image)
    assert store.images.resolve(other.hex[:8]) == image


def test_a_removed_image_takes_its_names_along_and_leaves_its_layers(store: Store) -> None:
    layers = add_chain(store, b"one")
    image = add_image(store, layers, "app", "app:1")
    assert store.images.remove(image)
    assert store.images.all() == () and store.images.names() == {}
    assert not store.images.remove(image)
    assert store.layers.get(layers[0].chain_id) is not None


def test_a_name_is_there_for_other_processes_at_once(store: Store) -> None:
    image = add_image(store, add_chain(store, b"one"), "app")
    script = "import sys; from cache.store import Store; print(Store.open(sys.argv[1]).images.resolve('app'))"
    out, _ = start(script, store.root).communicate()
    assert out.strip() == image


def test_strange_files_in_imagedb_are_no_images(store: Store) -> None:
    directory = Path(store.root) / "imagedb/content/sha256"
    (directory / "README").touch()
    (directory / ("g" * 64)).touch()
    assert store.images.all() == ()


def test_using_an_image_shows_in_the_time_of_its_config(store: Store) -> None:
    image = store.images.put(b"{}")
    os.utime(store.images.path(image), (1000, 1000))
    store.images.touch(image)
    assert os.stat(store.images.path(image)).st_mtime > 1000
    store.images.touch(MISSING)
