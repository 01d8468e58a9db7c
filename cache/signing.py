"""Ed25519 keys as files: PEM, PKCS#8 for the private one (RFC 5958), SubjectPublicKeyInfo for the public one
(RFC 8410), so that openssl and cosign read them. The cryptography package is imported at the first key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cache.errors import CacheError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LARGEST = 16 * 1024


class KeyFileError(CacheError):
    """A key cannot be read, or is none (exit code 2)."""

    code = "cache/key"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What entries are verified with. `id` is the sha256 of its DER, in hex."""

    id: str
    der: bytes

    @classmethod
    def from_pem(cls, data: bytes, what: str = "the key") -> PublicKey:
        """Return the key in `data`. Raises KeyFileError."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(
                f"{what} is no public key in PEM", hint="`pybuild cache keygen` makes a pair"
            ) from None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(f"{what} is no ed25519 key", hint="`pybuild cache keygen` makes a pair")
        return _public(key)

    def to_pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization

        return self._key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's of `message`."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key().verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def _key(self) -> Ed25519PublicKey:
        from cryptography.hazmat.primitives import serialization

        return cast("Ed25519PublicKey", serialization.load_der_public_key(self.der))


class PrivateKey:
    """What entries are signed with. Its secret part is shown nowhere."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _public(key.public_key())

    @classmethod
    def generate(cls) -> PrivateKey:
        """Return a new key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, data: bytes, password: bytes | None = None, what: str = "the key") -> PrivateKey:
        """Return the key in `data`, which `password` opens. Raises KeyFileError."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            key = serialization.load_pem_private_key(data, password)
        except TypeError:
            reason = "is locked with a password" if password is None else "is not locked with a password"
            raise KeyFileError(f"{what} {reason}", code="cache/key-password") from None
        except (ValueError, UnsupportedAlgorithm):
            reason = "is no private key in PEM, or the password is wrong"
            raise KeyFileError(f"{what} {reason}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"{what} is no ed25519 key", hint="`pybuild cache keygen` makes a pair")
        return cls(key)

    def to_pem(self, password: bytes | None = None) -> bytes:
        """Return the key as PEM, locked with `password` if there is one."""
        from cryptography.hazmat.primitives import serialization

        locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            locked = serialization.BestAvailableEncryption(password)
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`: 64 bytes, the same for the same message."""
        return self._key.sign(message)


def read_key_file(path: str) -> bytes:
    """Return what a key file holds. Raises KeyFileError."""
    try:
        # O_NONBLOCK: opening a fifo must not wait for somebody who writes to it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise KeyFileError(f"the key {path} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise KeyFileError(f"the key {path} has more than {_LARGEST} bytes")
    return data


def _public(key: Ed25519PublicKey) -> PublicKey:
    import hashlib

    from cryptography.hazmat.primitives import serialization

    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(hashlib.sha256(der).hexdigest(), der)
