"""A suite's signed Release file: fetched, verified with gpgv, read.

Source: Debian's wiki, DebianRepository/Format.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.bases.debian import Source, parse_stanza
from builder.errors import BaseError, HostError

if TYPE_CHECKING:
    from builder.bases.keyring import Keyring
    from cache.registry.transport import Transport

_LIMIT = 16 * 1024 * 1024
_TRIES = 3
_WEAK_HASHES = frozenset(("1", "2", "3"))
"""MD5, SHA-1 and RIPE-MD, by their numbers in RFC 4880, section 9.4: apt refuses them, too."""
_REASONS = {
    "NO_PUBKEY": "the keyring lacks the key",
    "EXPKEYSIG": "expired: the key",
    "REVKEYSIG": "revoked: the key",
    "EXPSIG": "expired: the signature of the key",
}


@dataclass(frozen=True, slots=True)
class Release:
    """A verified InRelease file. `digest` (sha256, hex) is of the whole file, `date` in s since 1970."""

    source: Source
    digest: str
    date: int
    architectures: tuple[str, ...]


def fetch_releases(
    sources: Sequence[Source], keyring: Keyring, transport: Transport, environ: Mapping[str, str]
) -> tuple[Release, ...]:
    """Return the Release files of `sources`; an optional one that its mirror lacks is left out.

    Raises BaseError (base/mirror, base/signature, base/unreachable), HostError if gpgv or the keyring is
    missing.
    """
    found: list[Release] = []
    for source in sources:
        data = _fetch(source, transport)
        if data is not None:
            found.append(_read(source, data, keyring, environ))
    return tuple(found)


def _fetch(source: Source, transport: Transport) -> bytes | None:
    """Return the InRelease file, None if the source is optional and the mirror does not have it."""
    from cache.registry.failures import TransportFailure

    url = f"{source.uri}/dists/{source.suite}/InRelease"
    for left in reversed(range(_TRIES)):
        try:
            return _get(source, url, transport)
        except TransportFailure as failure:
            if not failure.transient or not left:
                raise BaseError(
                    f"the mirror {source.uri} cannot be reached: {failure.reason}",
                    code="base/unreachable",
                    hint="check the network, or give another one: FROM --mirror=URL mmdebstrap://…",
                ) from None
    raise AssertionError("the last try returns or raises")


def _get(source: Source, url: str, transport: Transport, redirects: int = 5) -> bytes | None:
    from urllib.parse import urljoin

    from cache.registry.transport import Request, read_bounded

    with transport.send(Request("GET", url)) as response:
        location = response.header("Location")
        if response.status in (301, 302, 303, 307, 308) and location and redirects:
            target = urljoin(url, location)
            if target.startswith(("https://", "http://")):
                return _get(source, target, transport, redirects - 1)
        if response.status == 404 and source.optional:
            return None
        if response.status != 200:
            hint = "check the name of the suite" if response.status == 404 else None
            raise BaseError(f"{url}: status {response.status}", code="base/mirror", hint=hint)
        data = read_bounded(response, _LIMIT)
    if len(data) > _LIMIT:
        raise BaseError(f"{url} has more than {_LIMIT} bytes: refused", code="base/mirror")
    return data


def _read(source: Source, data: bytes, keyring: Keyring, environ: Mapping[str, str]) -> Release:
    import hashlib
    from email.utils import parsedate_to_datetime

    name = f"{source.uri}/dists/{source.suite}/InRelease"
    fields = parse_stanza(signed_content(data, name, keyring, environ).decode("utf-8", "replace"))
    try:
        date = int(parsedate_to_datetime(fields["date"]).timestamp())
    except (KeyError, ValueError, TypeError):
        raise BaseError(f"{name} has no date", code="base/mirror") from None
    if source.suite not in (fields.get("suite"), fields.get("codename")):
        raise BaseError(
            # a mirror that answers with another suite's file, whose signature is as good
            f"{name} is that of another suite: {fields.get('codename', '?')}",
            code="base/signature",
        )
    digest = hashlib.sha256(data).hexdigest()
    return Release(source, digest, date, tuple(fields.get("architectures", "").split()))


def signed_content(data: bytes, name: str, keyring: Keyring, environ: Mapping[str, str]) -> bytes:
    """Return what is signed in the clear-signed `data`, which errors call `name`.

    Raises BaseError, HostError.

    As apt has it: one good signature is enough (suites are signed with the keys of several releases, not all
    of which an older keyring knows), and a bad one is too much. gpgv's own exit code asks for all of them.
    """
    import subprocess

    _check_frame(data, name)
    keyring_fd, status_fd = _memory(keyring.binary), _memory(b"")
    try:
        done = subprocess.run(
            [
                "gpgv",
                "--keyring",
                f"/proc/self/fd/{keyring_fd}",
                "--status-fd",
                str(status_fd),
                "--output",
                "-",
                "-",
            ],
            input=data,
            capture_output=True,
            pass_fds=(keyring_fd, status_fd),
            env={"PATH": environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
            timeout=60,
        )
        status = os.pread(status_fd, 1 << 20, 0).decode("utf-8", "replace")
    except FileNotFoundError:
        raise HostError("gpgv is missing", code="host/gpgv", hint="apt-get install gpgv") from None
    finally:
        os.close(keyring_fd)
        os.close(status_fd)
    problem = _problem(status)
    if problem is not None:
        raise BaseError(
            f"the signature of {name} is not good: {problem}",
            code="base/signature",
            hint=f"the keys are those in {keyring.path}; give others with FROM --keyring=FILE",
        )
    return done.stdout


def _check_frame(data: bytes, name: str) -> None:
    """One signed message, nothing around it: else gpgv may verify one thing and we read another
    (CVE-2013-1051).
    """
    lines = data.split(b"\n")
    marks = [line.rstrip() for line in lines if line.startswith(b"-----")]
    whole = [
        b"-----BEGIN PGP SIGNED MESSAGE-----",
        b"-----BEGIN PGP SIGNATURE-----",
        b"-----END PGP SIGNATURE-----",
    ]
    framed = lines[0].rstrip() == whole[0] and marks == whole and data.rstrip().endswith(whole[-1])
    if not framed:
        raise BaseError(f"{name} is not a signed file", code="base/signature")


def _problem(status: str) -> str | None:
    """What is wrong, by gpgv's machine-readable status (gnupg, doc/DETAILS); None if a signature is good."""
    good, fresh = False, False
    reasons: list[str] = []
    for line in status.splitlines():
        word, *rest = line.removeprefix("[GNUPG:] ").split() or [""]
        if word == "BADSIG":
            return "the file was altered after it was signed"
        if word in ("NEWSIG", "GOODSIG"):
            fresh = word == "GOODSIG"
        elif word == "VALIDSIG" and fresh and len(rest) > 7:  # said of what an expired key has signed, too
            weak = rest[7] in _WEAK_HASHES
            reasons += ["it is made with a weak hash"] if weak else []
            good = good or not weak
        elif word in _REASONS and rest:
            reasons.append(f"{_REASONS[word]} {rest[0]}")
    return None if good else "; ".join(dict.fromkeys(reasons)) or "there is none"


def _memory(data: bytes) -> int:
    fd = os.memfd_create("keyring", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
