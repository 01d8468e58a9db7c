"""Which entries of a shared cache are believed: those that a key that is named here has signed, and that are
neither altered nor too old. Everything else is a miss that says why. Pure: the time is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.entries import Entry
from cache.envelope import PAYLOAD_TYPE, Envelope
from cache.errors import FormatError

if TYPE_CHECKING:
    from cache.entries import Kind
    from cache.signing import PublicKey

_SKEW = 300
"""How far in the future an entry may have been made: clocks differ."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What is asked of an entry. `keys` None: no signature. `max_age` is in seconds."""

    keys: tuple[PublicKey, ...] | None = None
    max_age: int | None = None

    @property
    def signers(self) -> tuple[str, ...]:
        """The ids of those whose entries are worth asking for; () if anybody's are."""
        return tuple(key.id for key in self.keys or ())


@dataclass(frozen=True, slots=True)
class Believed:
    """An entry that can be relied on. `signer` is the id of the key, "" where none was asked for; `sealed`
    is the envelope as it came."""

    entry: Entry
    signer: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Doubted:
    """An entry that counts for nothing: a reason such as `it is not signed`, and the key that it claims to
    be of, "" if that cannot be read. `code` is one word: unsigned, foreign, altered, expired, malformed."""

    code: str
    reason: str
    key: str = ""


def judge(sealed: bytes, trust: Trust, now: int) -> Believed | Doubted:
    """Return whether an entry can be relied on at the time `now` (seconds since 1970)."""
    try:
        envelope = Envelope.from_json(sealed)
    except FormatError as error:
        return Doubted("malformed", error.message)
    claimed = _claimed(envelope)
    signer = ""
    if trust.keys is not None:
        if not envelope.signatures:
            return Doubted("unsigned", "it is not signed", claimed)
        key = envelope.signer(trust.keys)
        if key is None:
            return _distrusted(envelope, trust, claimed)
        signer = key.id
    if envelope.payload_type != PAYLOAD_TYPE:
        return Doubted("malformed", f"it is of type {envelope.payload_type[:100]!r}", claimed)
    try:
        entry = Entry.from_json(envelope.payload)
    except FormatError as error:
        return Doubted("malformed", error.message, claimed)
    late = _expired(entry, trust, now)
    return Doubted("expired", late, entry.key) if late else Believed(entry, signer, sealed)


def believed(sealed: bytes, key: str, kind: Kind, trust: Trust, now: int) -> Believed | Doubted:
    """As `judge`, for an entry that was asked for by its key: one that speaks of another is none."""
    found = judge(sealed, trust, now)
    if isinstance(found, Believed) and (found.entry.key, found.entry.kind) != (key, kind):
        return Doubted("altered", "it speaks of something else", key)
    return found


def _distrusted(envelope: Envelope, trust: Trust, claimed: str) -> Doubted:
    """Say whose an entry is that no key of ours has signed: its own word for it is all there is."""
    named = [keyid for keyid, _ in envelope.signatures]
    known = set(trust.signers)
    if any(keyid in known for keyid in named):
        return Doubted("altered", "its signature is not that of what it says", claimed)
    shown = ", ".join(keyid[:12] for keyid in named if keyid.isalnum()) or "an unknown key"
    return Doubted("foreign", f"it is signed by {shown}, which is not trusted here", claimed)


def _expired(entry: Entry, trust: Trust, now: int) -> str:
    if entry.expires is not None and entry.expires <= now:
        return "it has expired"
    if entry.created > now + _SKEW:
        return "it was made in the future"
    if trust.max_age is not None and now - entry.created > trust.max_age:
        return f"it is older than {trust.max_age} seconds"
    return ""


def _claimed(envelope: Envelope) -> str:
    try:
        return Entry.from_json(envelope.payload).key
    except FormatError:
        return ""
