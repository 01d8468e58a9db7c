"""What every backend of a shared cache must do. A backend's own tests make a `Contract` of it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pytest

from cache.oci.digest import Digest
from cache.remote import UNSIGNED, RemoteCache, RemoteError
from tests.cache.sealing import blob_of, key_of, sealed, step

ANYBODY = ("",)
ONE, TWO = "1" * 64, "2" * 64


class Contract:
    """`remote` is a fixture of the subclass: makes another client of one and the same, empty, cache."""

    def test_an_empty_cache_has_nothing(self, remote: Callable[[], RemoteCache]) -> None:
        cache = remote()
        assert cache.line(key_of("line")) == []
        assert cache.entry(key_of("step"), ANYBODY) == []
        assert cache.entry(key_of("step"), (ONE,)) == []
        assert not cache.has_blob(Digest.of(b"layer"))
        assert list(cache.stored()) == []
        assert cache.remove(key_of("step")) == 0
        with pytest.raises(RemoteError):
            list(cache.blob(blob_of(b"layer")))

    def test_an_entry_is_added_and_never_replaced(self, remote: Callable[[], RemoteCache]) -> None:
        cache, key = remote(), key_of("step")
        first, second = sealed(step()), sealed(step(layer=b"other"))
        blob = blob_of(b"layer")
        cache.put_blob(blob, lambda: io.BytesIO(b"layer"))
        assert cache.add(key, UNSIGNED, first, blob)
        assert not remote().add(key, UNSIGNED, second, blob)
        assert remote().entry(key, (UNSIGNED,)) == [first]

    def test_an_entry_is_replaced_where_its_signer_says_so(self, remote: Callable[[], RemoteCache]) -> None:
        """One that has expired would stay for ever else."""
        cache, key = remote(), key_of("step")
        first, second = sealed(step(layer=None)), sealed(step(layer=None, created=7))
        assert cache.add(key, ONE, first, None)
        assert cache.add(key, TWO, first, None)
        assert cache.add(key, ONE, second, None, replace=True)
        assert remote().entry(key, (ONE,)) == [second]
        assert remote().entry(key, (TWO,)) == [first]
        assert cache.add(key_of("other"), ONE, first, None, replace=True)

    def test_each_signer_has_an_entry_of_its_own(self, remote: Callable[[], RemoteCache]) -> None:
        """Who may write cannot keep others from having their word believed."""
        cache, key = remote(), key_of("step")
        first, second = sealed(step(layer=None)), sealed(step(layer=None, created=7))
        assert cache.add(key, ONE, first, None)
        assert cache.add(key, TWO, second, None)
        assert cache.entry(key, (TWO,)) == [second]
        assert cache.entry(key, (ONE, TWO)) == [first, second]
        assert sorted(cache.entry(key, ANYBODY)) == sorted([first, second])

    def test_a_blob_comes_back(self, remote: Callable[[], RemoteCache]) -> None:
        cache, data = remote(), bytes(range(256)) * 9000
        blob = blob_of(data)
        assert cache.put_blob(blob, lambda: io.BytesIO(data))
        assert not remote().put_blob(blob, lambda: pytest.fail("it is there"))
        assert cache.has_blob(blob.digest)
        assert b"".join(remote().blob(blob)) == data

    def test_a_blob_that_is_another_one_is_not_published(self, remote: Callable[[], RemoteCache]) -> None:
        cache, blob = remote(), blob_of(b"layer")
        for wrong in (b"lay", b"LAYER", b"layer and more"):
            with pytest.raises(RemoteError):
                cache.put_blob(blob, lambda wrong=wrong: io.BytesIO(wrong))  # type: ignore[misc]
            assert not cache.has_blob(blob.digest)

    def test_lines_grow(self, remote: Callable[[], RemoteCache]) -> None:
        line = key_of("line")
        entries = [sealed(step(str(number), None)) for number in range(100)]
        for number in range(0, 100, 2):
            remote().extend(line, entries[number : number + 2])
        assert set(remote().line(line)) == set(entries)
        assert len(remote().line(line)) == 100
        assert remote().line(key_of("other line")) == []

    def test_two_who_write_at_once_lose_nothing(self, remote: Callable[[], RemoteCache]) -> None:
        line = key_of("line")

        def write(name: str) -> None:
            cache = remote()
            for number in range(20):
                entry = step(f"{name} {number}", None)
                cache.add(entry.key, UNSIGNED, sealed(entry), None)
                cache.extend(line, [sealed(entry)])

        threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(list(remote().stored())) == 60
        wanted = {sealed(step(f"{name} {number}", None)) for name in "abc" for number in range(20)}
        assert set(remote().line(line)) == wanted

    def test_remove(self, remote: Callable[[], RemoteCache]) -> None:
        cache, line = remote(), key_of("line")
        entries = [step(name, None) for name in ("one", "two")]
        for entry in entries:
            cache.add(entry.key, UNSIGNED, sealed(entry), None)
        cache.extend(line, map(sealed, entries))
        assert cache.remove(key_of("one")) == 1
        assert [each.key for each in remote().stored()] == [key_of("two")]
        assert remote().line(line) == [sealed(entries[1])]

    def test_claims(self, remote: Callable[[], RemoteCache]) -> None:
        cache = remote()
        if not cache.claims:
            pytest.fail("a backend without claims says so in its own tests")
        claim = cache.claim(key_of("step"), 60)
        assert claim is not None
        assert remote().claim(key_of("step"), 60) is None
        assert remote().claim(key_of("other"), 60) is not None
        claim.renew()
        claim.release()
        claim.release()
        assert remote().claim(key_of("step"), 60) is not None

    def test_the_claim_of_the_dead_expires(self, remote: Callable[[], RemoteCache]) -> None:
        dead = remote().claim(key_of("step"), 0)
        assert dead is not None
        found = [claim for _ in range(4) if (claim := remote().claim(key_of("step"), 60)) is not None]
        assert len(found) == 1
        with pytest.raises(RemoteError):
            dead.renew()
        dead.release()
        assert remote().claim(key_of("step"), 60) is None, "it is not the dead one's to let go"
        found[0].renew()
