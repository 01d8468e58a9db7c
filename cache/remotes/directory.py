"""A shared cache in a directory: on this machine, or on an NFS that many mount.

    blobs/sha256/AB/<hex>            compressed layers, by digest
    entries/AB/<key>/<signer>        sealed entries, one file each
    lines/AB/<line>/<sha256>         what builds of one line of descent have met: sealed entries, one a line
    claims/<key>                     who runs a step now; its mtime is the last sign of life

Anyone can check it with ls, cat and sha256sum. Every file is written under another name, and published by
link(2): whole, and never in place of another one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cache.entries import key_of
from cache.remote import ENTRY_LIMIT, LINE_LIMIT, Collected, RemoteError, Stored
from cache.remotes.lines import joined, layers_of, merged, split, without
from cache.remotes.sending import checked
from cache.remotes.shareddirectory import SharedDirectory, reaching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from cache.oci.digest import Digest
    from cache.oci.spec import Descriptor

_NAME = re.compile("[0-9a-f]{64}")
_SIGNER = re.compile("[0-9a-f]{64}|unsigned")
_CHUNK = 1 << 20
_MOST_BUNDLES = 32
"""A line of descent in more files than this is written anew, in one."""
_FRESH = 24 * 3600
"""A blob that is younger than this may be of an entry that is still to come."""
_DAY = 24 * 3600


class DirectoryCache:
    """The cache in the directory `path`, which is made when something is written."""

    def __init__(self, path: str, *, name: str = "") -> None:
        self.name = name or path
        self.claims = True
        self._files = SharedDirectory(path)
        self._stopped = threading.Event()

    def line(self, line: str) -> list[bytes]:
        """See RemoteCache."""
        with reaching(self.name):
            return merged(self._read_bundles(line))

    def extend(self, line: str, entries: Iterable[bytes]) -> None:
        """See RemoteCache."""
        added = list(entries)
        if not added:
            return
        with reaching(self.name):
            self._bundle(line, added)
            bundles = self._bundles(line)
            if len(bundles) > _MOST_BUNDLES:
                one = self._bundle(line, self.line(line))
                for name in bundles:
                    if name != one:
                        self._files.remove(name)

    def entry(self, key: str, signers: Iterable[str]) -> list[bytes]:
        """See RemoteCache."""
        directory = _entry_directory(key)
        with reaching(self.name):
            wanted = list(signers)
            names = self._files.names(directory) if "" in wanted else wanted
            read = (self._files.read(f"{directory}/{each}", ENTRY_LIMIT) for each in names if each)
            return [each for each in read if each is not None]

    def add(
        self, key: str, signer: str, entry: bytes, layer: Descriptor | None, *, replace: bool = False
    ) -> bool:
        """See RemoteCache."""
        name = f"{_entry_directory(key)}/{_checked(signer, _SIGNER)}"
        with reaching(self.name):
            if replace:
                self._files.remove(name)
            return self._files.add(name, lambda fd: _write_all(fd, entry))

    def has_blob(self, digest: Digest) -> bool:
        """See RemoteCache."""
        with reaching(self.name):
            return self._files.status(_blob_name(digest)) is not None

    def put_blob(self, blob: Descriptor, opener: Callable[[], BinaryIO]) -> bool:
        """See RemoteCache."""

        def write(fd: int) -> None:
            for chunk in checked(blob, opener):
                if self._stopped.is_set():
                    raise RemoteError(f"{self.name}: stopped")
                _write_all(fd, chunk)

        with reaching(self.name):
            return self._files.add(_blob_name(blob.digest), write)

    def blob(self, blob: Descriptor) -> Iterator[bytes]:
        """See RemoteCache."""
        with reaching(self.name):
            fd = self._files.open(_blob_name(blob.digest))
            if fd is None:
                raise RemoteError(f"{self.name}: it has no blob {blob.digest}")
            with open(fd, "rb", buffering=0) as file:
                left = blob.size
                while left and (data := file.read(min(left, _CHUNK))):
                    if self._stopped.is_set():
                        raise RemoteError(f"{self.name}: stopped")
                    left -= len(data)
                    yield data

    def claim(self, key: str, seconds: float) -> DirectoryClaim | None:
        """See RemoteCache."""
        name = f"claims/{_checked(key, _NAME)}"
        token = f"{os.uname().nodename} {os.getpid()} {secrets.token_hex(8)} {seconds:.0f}\n".encode()
        with reaching(self.name):
            for _ in range(3):
                if self._files.add(name, lambda fd: _write_all(fd, token)):
                    return DirectoryClaim(self, self._files, name, token)
                if not self._expire(name):
                    return None
        return None

    def stored(self) -> Iterator[Stored]:
        """See RemoteCache."""
        with reaching(self.name):
            used = self._used()
            for shelf in self._files.names("entries"):
                for key in filter(_NAME.fullmatch, self._files.names(f"entries/{shelf}")):
                    for signer in self._files.names(f"entries/{shelf}/{key}"):
                        found = self._files.status(f"entries/{shelf}/{key}/{signer}")
                        if found is not None:
                            last = max(used.get(key, 0), int(found.st_mtime))
                            yield Stored(key, signer, found.st_size, int(found.st_mtime), last)

    def remove(self, key: str) -> int:
        """See RemoteCache."""
        directory = _entry_directory(key)
        with reaching(self.name):
            names = self._files.names(directory)
            found = sum(self._files.remove(f"{directory}/{signer}") for signer in names)
            for bundle in self._all_bundles():
                self._without(bundle, {key})
            return found

    def collect(self, *, older: int | None, unused: int | None, dry_run: bool) -> Collected:
        """See RemoteCache."""
        gone: list[Stored] = []
        kept: set[str] = set()
        alive: set[str] = set()
        for each in list(self.stored()):
            late = older is not None and each.changed < older
            if late or (unused is not None and (each.used or 0) < unused):
                gone.append(each)
            else:
                alive.add(each.key)
                kept.update(self._layers(each))
        with reaching(self.name):
            blobs, more = self._unneeded(kept)
            if not dry_run:
                for each in gone:
                    if each.key in alive:  # another signer's word for the same step is younger
                        self._files.remove(f"{_entry_directory(each.key)}/{each.signer}")
                for key in {each.key for each in gone} - alive:
                    self.remove(key)
                for name in blobs:
                    self._files.remove(name)
        return Collected(len(gone), len(blobs), more + sum(each.size for each in gone))

    def stop(self) -> None:
        """See RemoteCache."""
        self._stopped.set()

    def close(self) -> None:
        """See RemoteCache."""
        self._files.close()

    def _bundles(self, line: str) -> list[str]:
        """The files of a line of descent, newest first."""
        directory = f"lines/{_checked(line, _NAME)[:2]}/{line}"
        names = [f"{directory}/{name}" for name in self._files.names(directory)]
        times = {name: found.st_mtime_ns for name in names if (found := self._files.status(name))}
        return sorted(times, key=lambda name: times[name], reverse=True)

    def _read_bundles(self, line: str) -> Iterator[bytes]:
        left = LINE_LIMIT
        for name in self._bundles(line):
            data = self._files.read(name, left)
            if data is not None:
                left -= len(data)
                self._note_use(name)
                yield data

    def _all_bundles(self) -> list[str]:
        lines = [line for shelf in self._files.names("lines") for line in self._files.names(f"lines/{shelf}")]
        return [name for line in lines if _NAME.fullmatch(line) for name in self._bundles(line)]

    def _bundle(self, line: str, entries: list[bytes]) -> str:
        data = joined(entries)
        name = f"lines/{line[:2]}/{_checked(line, _NAME)}/{hashlib.sha256(data).hexdigest()}"
        self._files.add(name, lambda fd: _write_all(fd, data))
        return name

    def _without(self, bundle: str, keys: set[str]) -> None:
        """Take what speaks of `keys` out of a bundle."""
        entries = split(self._files.read(bundle, LINE_LIMIT))
        left = without(entries, keys)
        if len(left) != len(entries):
            if left:
                self._bundle(bundle.split("/")[2], left)
            self._files.remove(bundle)

    def _note_use(self, bundle: str) -> None:
        """Once a day. Who may only read leaves no trace."""
        found = self._files.status(bundle)
        if found is not None and found.st_mtime - found.st_atime < _DAY:
            try:
                if self._files.clock_ns() - found.st_atime_ns > _DAY * 10**9:
                    self._files.touch(bundle, used=True)
            except OSError:
                return

    def _used(self) -> dict[str, int]:
        """When each key was last met by a build, by the bundles that it is in."""
        used: dict[str, int] = {}
        for bundle in self._all_bundles():
            found, data = self._files.status(bundle), self._files.read(bundle, LINE_LIMIT)
            if found is None or data is None:
                continue
            last = int(max(found.st_atime, found.st_mtime))
            for entry in split(data):
                key = key_of(entry)
                used[key] = max(used.get(key, 0), last)
        return used

    def _layers(self, stored: Stored) -> set[str]:
        """The hex names of the blobs that an entry speaks of; nothing of it is believed."""
        return layers_of(self._files.read(f"{_entry_directory(stored.key)}/{stored.signer}", ENTRY_LIMIT))

    def _unneeded(self, kept: set[str]) -> tuple[list[str], int]:
        """The blobs that nothing in `kept` names and that are old enough, and their bytes."""
        names, size = [], 0
        fresh = self._files.clock_ns() - _FRESH * 10**9
        for shelf in self._files.names("blobs/sha256"):
            for name in self._files.names(f"blobs/sha256/{shelf}"):
                path = f"blobs/sha256/{shelf}/{name}"
                found = self._files.status(path)
                if found is not None and name not in kept and found.st_mtime_ns < fresh:
                    names.append(path)
                    size += found.st_size
        return names, size

    def _expire(self, name: str) -> bool:
        """Take a claim away whose holder has given no sign of life for as long as it said. False if it is
        alive. Of several that find it dead, one takes it."""
        found, token = self._files.status(name), self._files.read(name, ENTRY_LIMIT)
        if found is None or token is None:
            return True
        allowed = token.split()[-1:]
        seconds = int(allowed[0]) if allowed and allowed[0].isdigit() else 0
        if self._files.clock_ns() - found.st_mtime_ns < seconds * 10**9:
            return False
        taken = f"claims/.new-{secrets.token_hex(8)}"
        if not self._files.rename(name, taken):
            return True
        other = self._files.read(taken, ENTRY_LIMIT)
        if other is not None and other != token:
            # Somebody else was quicker, and this is its new one: it gets it back.
            self._files.add(name, lambda fd: _write_all(fd, other))
        self._files.remove(taken)
        return other == token


class DirectoryClaim:
    """A claim in a directory: a file that says whose it is."""

    def __init__(self, cache: DirectoryCache, files: SharedDirectory, name: str, token: bytes) -> None:
        self._cache = cache
        self._files = files
        self._name = name
        self._token = token

    def renew(self) -> None:
        """See Claim."""
        with reaching(self._cache.name):
            if self._files.read(self._name, ENTRY_LIMIT) != self._token:
                raise RemoteError(f"{self._cache.name}: somebody else has taken the claim over")
            self._files.touch(self._name)

    def release(self) -> None:
        """See Claim."""
        try:
            if self._files.read(self._name, ENTRY_LIMIT) == self._token:
                self._files.remove(self._name)
        except OSError:
            return  # it expires


def _entry_directory(key: str) -> str:
    return f"entries/{_checked(key, _NAME)[:2]}/{key}"


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def _checked(name: str, allowed: re.Pattern[str]) -> str:
    assert allowed.fullmatch(name), name
    return name


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
