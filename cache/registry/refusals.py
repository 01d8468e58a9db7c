"""What servers say when they do not give what was asked for, as errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from cache.errors import CacheError, FormatError, RegistryError
from cache.registry.endpoints import Endpoint
from cache.registry.failures import TransportFailure
from cache.registry.transport import Response, read_bounded

_BODY_LIMIT = 64 * 1024
_CODES = {
    401: "registry/unauthorized",
    403: "registry/denied",
    404: "registry/not-found",
    429: "registry/throttled",
}
_WORDS = {
    400: "refuses the request",
    401: "wants a login",
    403: "denies access",
    404: "does not have it",
    416: "cannot resume",
    429: "has had too many requests",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A server that was asked in vain."""

    endpoint: Endpoint
    error: TransportFailure | CacheError

    @property
    def reason(self) -> str:
        if isinstance(self.error, TransportFailure):
            return self.error.reason
        return self.error.message


def refusal(endpoint: Endpoint, response: Response) -> RegistryError:
    """The error for an answer other than the one that was asked for. Reads (a part of) its body."""
    status = response.status
    try:
        said = _said(read_bounded(response, _BODY_LIMIT))
    except TransportFailure:
        said = ""
    words = _WORDS.get(status, "fails" if status >= 500 else "answers strangely")
    code = _CODES.get(status, "registry/unavailable" if status >= 500 else "registry/refused")
    message = f"{words} (status {status}{f': {said}' if said else ''})"
    return RegistryError(message, code=code, hint=_hint(code, endpoint))


def _said(body: bytes) -> str:
    """The registry's own words (distribution-spec, Error Codes), fit for a terminal."""
    try:
        first = json.loads(body)["errors"][0]
        text = f"{first.get('code', '')} {first.get('message', '')}"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:200]


def _hint(code: str, endpoint: Endpoint) -> str | None:
    if code in ("registry/unauthorized", "registry/denied"):
        return (
            f"check the name; if it is private: pybuild login {endpoint.registry} "
            "(what docker login and podman login store is read, too)"
        )
    if code == "registry/not-found":
        return "check the name and the tag"
    if code == "registry/throttled":
        return f"log in to {endpoint.registry}, use a mirror, or try again later"
    if code == "registry/unavailable":
        return "try again later"
    return None


def summary(name: str, attempts: Sequence[Attempt]) -> CacheError:
    """One error for everyone who was asked in vain: its code is that of the last one, the registry itself."""
    last = attempts[-1]
    hosts = "; ".join(f"{attempt.endpoint}: {attempt.reason}" for attempt in attempts)
    if isinstance(last.error, TransportFailure):
        hint = "is the registry running, and is the network up?"
        if last.error.kind == "tls":
            hint = (
                f'if that is as it should be, set ca = "FILE" or insecure = true '
                f'under [registries."{last.endpoint.registry}"] in pybuild.toml'
            )
        elif last.error.kind == "name":
            hint = "check the registry's name, and that the network is up"
        return RegistryError(f"{name} cannot be had: {hosts}", code="registry/unreachable", hint=hint)
    kind = type(last.error) if isinstance(last.error, FormatError) else RegistryError
    return kind(f"{name} cannot be had: {hosts}", code=last.error.code, hint=last.error.hint)
