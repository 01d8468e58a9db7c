"""What a server asks for: WWW-Authenticate headers (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_TOKEN})(?:\s+|$|(?=\s*,))")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?=,|$)")
_PARAMETER = re.compile(
    rf'\s*,?\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}(?=\s*(?:,|$))|[^\s,"]+))'
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate. `scheme` and the parameters' names are in lower case."""

    scheme: str
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.parameters if key == name), None)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return every challenge in `headers`. What makes no sense ends its header; it never raises."""
    return tuple(challenge for header in headers for challenge in _parse(header[:16384]))


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(header, position):
        scheme, position = match[1].lower(), match.end()
        if blob := _TOKEN68.match(header, position):  # what Negotiate sends: of no use to us
            position = blob.end()
        parameters: list[tuple[str, str]] = []
        while pair := _PARAMETER.match(header, position):
            value = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
            parameters.append((pair[1].lower(), value))
            position = pair.end()
        found.append(Challenge(scheme, tuple(parameters)))
    return found
