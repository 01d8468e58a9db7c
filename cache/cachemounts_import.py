"""Reading an archive of cache mounts (see cache/cachemounts_export.py) into the store.

Nothing of it is believed: all is unpacked under tmp/, held within there as a layer is
(cache/unpack_target.py), and nothing shows in the store before the archive's digest, which covers all of it,
is verified. Then each mount takes its place in one rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache import tar_format
from cache.cachemounts import Identity, describe, free_name, read_identity, read_sharing
from cache.cachemounts_export import DIGEST, MANIFEST, VERSION
from cache.cachemounts_merge import exchange, merge
from cache.disk import storing
from cache.errors import DigestMismatch, FormatError
from cache.merged import Merged
from cache.pending import Attributes
from cache.tar_reader import Member, Reader, Stream
from cache.unpack import about, add_entry, attributes_of
from cache.unpack_target import Target, dress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cache.cachemounts import CacheMounts
    from cache.changeset import Input
    from cache.scratch import Staging

_MAX_MANIFEST = 16 << 20
_MAX_MOUNTS = 10_000
_MAX_TEXT = 4096
_MAX_ID = (1 << 32) - 2  # the last one means "unchanged" to chown(2)
_PAUSE = 0.1
_DIGEST_BYTES = 65
_ENTRY = "archive entry"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Imported:
    """A mount that came from an archive: where it is now, how many entries came, and whether there was one
    before that it was merged with."""

    name: str
    identity: Identity
    entries: int
    merged: bool


def import_archive(
    mounts: CacheMounts,
    source: Input,
    *,
    replace: bool = False,
    on_wait: Callable[[str], None] | None = None,
) -> list[Imported]:
    """Read `source`, an uncompressed tar, and put its mounts into the store; return them.

    Where there is one of the same identity, what it has and the archive has not stays, and of what both have
    the archive's counts; with `replace`, nothing of it stays. One that is in use is waited for (`on_wait`
    gets its id). Raises FormatError, DigestMismatch, StoreError, StoreFull: unless it failed in the very end,
    nothing in the store has changed then.
    """
    stream = _Stream(source)
    reader = Reader(stream)
    members = iter(reader)
    identities = _manifest(members, reader)
    with contextlib.ExitStack() as stack:
        staged: list[tuple[Identity, Staging, int]] = []
        member = next(members, None)
        for number, identity in enumerate(identities):
            with storing(f"importing the cache mount {identity.id}"):
                staging = stack.enter_context(mounts.scratch.directory("cachemount"))
                os.mkdir(staging.path + "/data", 0o700)
            entries, member = _unpack(staging.path + "/data", number, member, members, reader)
            staged.append((identity, staging, entries))
        _verify(member, members, reader, stream)
        imported = []
        before: Counter[Identity] = Counter()
        for identity, staging, entries in staged:
            at = before[identity]
            before[identity] += 1
            imported.append(_publish(mounts, identity, staging, entries, at, replace, on_wait))
        return imported


class _Stream(Stream):
    """A stream that knows the digest of what was read until the header block that was read last."""

    __slots__ = ("_pending", "_read")

    def __init__(self, source: Input) -> None:
        super().__init__(source)
        self._read = hashlib.sha256()
        self._pending = b""

    def _fill(self) -> bool:
        chunk = self._next()
        self._chunk = memoryview(chunk)
        self._at = 0
        return bool(chunk)

    def block(self) -> bytes | None:
        self._count()
        start = self._at
        if start + tar_format.BLOCK <= len(self._chunk):
            self._at = start + tar_format.BLOCK
            self._pending = bytes(self._chunk[start : self._at])
            return self._pending
        if start == len(self._chunk) and not self._fill():
            return None
        self._pending = b"".join(super().pieces(tar_format.BLOCK))
        return self._pending

    def pieces(self, size: int) -> Iterator[memoryview]:
        self._count()
        for piece in super().pieces(size):
            self._read.update(piece)
            yield piece

    def pad(self, size: int) -> None:
        for _ in self.pieces(size):
            pass

    def digest_before(self) -> str:
        """Return the digest of all before the header block that was read last."""
        return self._read.hexdigest()

    def drain(self) -> None:
        """Read on to the end, so that what the compression says of the whole is looked at, too."""
        while self._fill():
            pass

    def _count(self) -> None:
        if self._pending:
            self._read.update(self._pending)
            self._pending = b""


def _manifest(members: Iterator[Member], reader: Reader) -> list[Identity]:
    hint = "`pybuild cache-mounts export` writes such"
    try:
        member = next(members, None)
    except FormatError as error:
        raise FormatError(f"this is no archive of cache mounts: {error.message}", hint=hint) from error
    if member is None or member.name != MANIFEST or member.kind != tar_format.REGULAR:
        raise FormatError("this is no archive of cache mounts", hint=hint)
    document = _json(_small(member, reader, _MAX_MANIFEST))
    version = document.get("version") if isinstance(document, dict) else None
    if not isinstance(document, dict) or version != VERSION:
        raise FormatError(
            f"an archive of cache mounts of version {version!r:.40}", hint="a newer pybuild may read it"
        )
    listed = document.get("mounts")
    if not isinstance(listed, list) or len(listed) > _MAX_MOUNTS:
        raise FormatError("the archive's manifest has no list of mounts, or too long a one")
    return [_identity(each) for each in listed]


def _identity(value: object) -> Identity:
    found = value if isinstance(value, dict) else {}
    mount_id, base, uid, gid, mode = (found.get(key) for key in ("id", "base", "uid", "gid", "mode"))
    if (
        isinstance(mount_id, str)
        and isinstance(base, str)
        and isinstance(mode, str)
        and type(uid) is int
        and type(gid) is int
        and 0 <= uid <= _MAX_ID
        and 0 <= gid <= _MAX_ID
        and re.fullmatch("[0-7]{1,5}", mode)
        and 0 < len(mount_id) <= _MAX_TEXT
        and len(base) <= _MAX_TEXT
        and "\0" not in mount_id + base
    ):
        with contextlib.suppress(UnicodeEncodeError):  # half of a surrogate pair is no name
            (mount_id + base).encode("utf-8", "surrogateescape")
            return Identity(mount_id, base, uid, gid, int(mode, 8) & 0o7777)
    raise FormatError("the archive's manifest has a malformed mount in it")


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise FormatError("the archive's manifest is no JSON") from None


def _small(member: Member, reader: Reader, limit: int) -> bytes:
    if member.size > limit or member.sparse is not None:
        raise FormatError(f"{os.fsdecode(member.name)} is too long")
    return b"".join(map(bytes, reader.data()))


def _unpack(
    data: str, number: int, member: Member | None, members: Iterator[Member], reader: Reader
) -> tuple[int, Member | None]:
    """Unpack the mount `number`, which begins with `member`; return its entries, and what comes after it."""
    prefix = b"%d/" % number
    if member is None or member.name != prefix or member.kind != tar_format.DIRECTORY:
        raise FormatError(f"the archive lacks the mount {number} that its manifest has")
    own = attributes_of(member)
    entries = 0
    with Merged(()) as nothing, Target(data, nothing) as place:
        last = prefix
        for member in members:
            name = member.name
            if not name.startswith(prefix):
                break
            try:
                if name <= last:
                    raise FormatError("it is out of order, or there twice")
                last = name
                _add(place, member, prefix, reader)
            except (FormatError, OSError) as error:
                raise about(error, name, _ENTRY) from error
            entries += 1
        else:
            member = None
        try:
            place.finish()
        except OSError as error:
            raise about(error, prefix, _ENTRY) from error
    _dress(data, own)
    return entries, member


def _add(place: Target, member: Member, prefix: bytes, reader: Reader) -> None:
    if b".." in member.name.split(b"/"):
        raise FormatError("its name leads out of the mount")
    member.name = member.name[len(prefix) :]
    if member.kind == tar_format.HARD_LINK:
        if not member.link.startswith(prefix):
            raise FormatError("it is a hard link to something out of the mount")
        member.link = member.link[len(prefix) :]
    add_entry(place, member, reader, layer=False)


def _dress(data: str, attributes: Attributes) -> None:
    fd = os.open(data, _OPEN)
    try:
        dress(fd, attributes)
    except OSError as error:
        raise about(error, b".", _ENTRY) from error
    finally:
        os.close(fd)


def _verify(member: Member | None, members: Iterator[Member], reader: Reader, stream: _Stream) -> None:
    """Make sure that the archive is whole, and what was written."""
    found = stream.digest_before()
    if member is None:
        raise FormatError("the archive is cut short: its digest is missing")
    if member.name != DIGEST or member.kind != tar_format.REGULAR:
        raise FormatError(f"{os.fsdecode(member.name[:200])!r} does not belong in an archive of cache mounts")
    if _small(member, reader, _DIGEST_BYTES) != found.encode() + b"\n":
        raise DigestMismatch("the archive is damaged: its digest is another one")
    if next(members, None) is not None:
        raise FormatError("the archive goes on after its digest")
    stream.drain()


def _publish(
    mounts: CacheMounts,
    identity: Identity,
    staging: Staging,
    entries: int,
    position: int,
    replace: bool,
    on_wait: Callable[[str], None] | None,
) -> Imported:
    told = False

    def wait() -> None:
        nonlocal told
        if not told and on_wait is not None:
            on_wait(identity.id)
        told = True

    with storing(f"importing the cache mount {identity.id}"):
        os.makedirs(mounts.path, 0o700, exist_ok=True)
        while True:
            with mounts.lock(identity.key, on_wait=wait):
                names = mounts.instances(identity.key)
                if position >= len(names):
                    name = free_name(identity.key, names)
                    describe(staging, identity, int(time.time()))
                    staging.move(f"{mounts.path}/{name}")
                    return Imported(name, identity, entries, False)
                name = names[position]
                fd = mounts.try_lock(name)
                if fd is not None:
                    try:
                        _into(f"{mounts.path}/{name}", identity, staging, replace)
                    finally:
                        os.close(fd)
                    return Imported(name, identity, entries, not replace)
            wait()
            time.sleep(_PAUSE)


def _into(path: str, identity: Identity, staging: Staging, replace: bool) -> None:
    """Let what is staged take the place of the instance at `path`, with what that has beside it."""
    described = read_identity(path)
    if not replace and os.path.isdir(path + "/data"):
        merge(path + "/data", staging.path + "/data")
    created = described[1] if described is not None and not replace else int(time.time())
    describe(staging, identity, created, read_sharing(path))
    exchange(staging.path, path)
    staging.discard()  # what was there; and the lock of what is there now, while we hold the key's
