"""The keys that a suite must be signed with."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from builder.bases.wish import KEYRING
from builder.errors import HostError

_ARMOR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


@dataclass(frozen=True, slots=True)
class Keyring:
    """A keyring at `path`, as it was read: `data` as in the file, `binary` without ASCII armor."""

    path: str
    data: bytes = field(repr=False)
    binary: bytes = field(repr=False)

    @property
    def is_default(self) -> bool:
        return self.path == KEYRING

    @property
    def file_name(self) -> str:
        """A name for a copy: apt tells the two forms by their suffix, and takes no blanks or brackets."""
        stem = re.sub(r"[^A-Za-z0-9._+-]", "-", os.path.splitext(os.path.basename(self.path))[0])
        return stem + (".gpg" if self.data == self.binary else ".asc")

    @property
    def digest(self) -> str:
        import hashlib

        return hashlib.sha256(self.data).hexdigest()


def load_keyring(path: str) -> Keyring:
    """Read the keyring at `path`, binary or armored. Raises HostError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        hint = "apt-get install debian-archive-keyring" if path == KEYRING else None
        raise HostError(
            f"the keyring {path} cannot be read: {error.strerror}", code="host/keyring", hint=hint
        ) from None
    return Keyring(path, data, _dearmored(data))


def _dearmored(data: bytes) -> bytes:
    """gpgv reads binary keyrings only (RFC 4880, section 6.2)."""
    if not data.lstrip().startswith(_ARMOR):
        return data
    import base64
    import binascii

    keys = b""
    for block in data.split(_ARMOR)[1:]:
        body = block.partition(b"-----END")[0].replace(b"\r", b"").partition(b"\n\n")[2]
        lines = [line.strip() for line in body.split(b"\n") if not line.startswith(b"=")]
        try:
            keys += base64.b64decode(b"".join(lines), validate=True)
        except binascii.Error:
            return data  # gpgv says it better
    return keys
