"""Sealing: statements in DSSE envelopes, signed with ed25519 keys.

Source: DSSE v1.0 (secure-systems-lab/dsse, protocol.md and envelope.md); ed25519 is RFC 8032. An envelope is
JSON, the statement is in it as bytes, and what is signed is the pre-authentication encoding of its type and
these bytes: nothing is parsed before it is verified. The id of a key is the sha256 of its DER
(SubjectPublicKeyInfo), as sigstore has it. An envelope without signatures is possible: it says no more than
its statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import FormatError
from cache.oci.document import dumps, loads
from cache.remote import UNSIGNED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.signing import PrivateKey, PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload of type `payload_type`, and signatures: (key id, signature) each."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...] = ()
    payload_type: str = PAYLOAD_TYPE

    @classmethod
    def from_json(cls, data: bytes) -> Envelope:
        """Return the envelope in `data`; nothing is verified. Raises FormatError."""
        import base64
        import binascii

        document = loads(data, "envelope")
        try:
            payload = base64.b64decode(document.text("payload"), validate=True)
            signatures = tuple(
                (each.text("keyid"), base64.b64decode(each.required_text("sig"), validate=True))
                for each in document.documents("signatures")
            )
        except (binascii.Error, ValueError) as error:
            raise FormatError(f"envelope: {error}") from None
        return cls(payload, signatures, document.text("payloadType"))

    def to_json(self) -> bytes:
        """Return the envelope as JSON: the same envelope, the same bytes."""
        import base64

        signatures = [
            {"keyid": keyid, "sig": base64.b64encode(signature).decode()}
            for keyid, signature in self.signatures
        ]
        return dumps(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": signatures,
            }
        )

    def signed(self, key: PrivateKey) -> Envelope:
        """Return the envelope with the signature of `key`, in place of an earlier one of its."""
        others = tuple(each for each in self.signatures if each[0] != key.public.id)
        signature = key.sign(encoded(self.payload_type, self.payload))
        return Envelope(self.payload, (*others, (key.public.id, signature)), self.payload_type)

    def signer(self, keys: Iterable[PublicKey]) -> PublicKey | None:
        """Return the first of `keys` that has signed it, None if none has. The ids in it are hints that
        nothing rests on."""
        message = encoded(self.payload_type, self.payload)
        named = {keyid for keyid, _ in self.signatures}
        for key in sorted(keys, key=lambda each: each.id not in named):
            if any(key.verify(signature, message) for _, signature in self.signatures):
                return key
        return None


def signers_of(sealed: bytes) -> frozenset[str]:
    """Return whose a sealed entry is by its own word: key ids, `unsigned` alone without any; none if it
    cannot be read."""
    try:
        signatures = Envelope.from_json(sealed).signatures
    except FormatError:
        return frozenset()
    return frozenset(keyid for keyid, _ in signatures) or frozenset((UNSIGNED,))


def encoded(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
