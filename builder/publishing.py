"""`-p`, as docker and podman spell it: [[ADDRESS:]HOST:]CONTAINER[/tcp|/udp]."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

Port = tuple[str, str, int, int]
"""tcp or udp, the host's address or "" for all, its port, the container's."""


def parse_port(text: str) -> Port:
    """Return what `text` publishes; a port of the host that is not said is one that is free now. Raises
    UsageError.
    """
    rest, _, protocol = text.partition("/")
    before, _, container = rest.rpartition(":")
    address, _, host = before.rpartition(":")
    if before and not address and not host.isdecimal() and host:
        address, host = host, ""
    address = address.removeprefix("[").removesuffix("]")
    protocol = protocol or "tcp"
    inside = _number(text, container)
    if protocol not in ("tcp", "udp") or (address and not _is_address(address)):
        raise _wrong(text)
    return protocol, address, _number(text, host) if host else _free(protocol, address), inside


def shown(ports: Iterable[Port]) -> tuple[str, ...]:
    """Return ports as `ps` shows them."""
    return tuple(
        f"{f'[{address}]' if ':' in address else address or '0.0.0.0'}:{host}->{inside}/{protocol}"
        for protocol, address, host, inside in ports
    )


def _number(text: str, word: str) -> int:
    if not (word.isascii() and word.isdecimal() and 0 < int(word) < 1 << 16):
        raise _wrong(text)
    return int(word)


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _free(protocol: str, address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(family, kind) as one:
            one.bind((address, 0))
            return int(one.getsockname()[1])
    except OSError as error:
        raise UsageError(f"--publish: {address}: {error.strerror}", code="usage/port") from None


def _wrong(text: str) -> UsageError:
    return UsageError(
        f"--publish {text!r}: write HOST:CONTAINER, such as 8080:80, 127.0.0.1:8080:80 or 5353:53/udp",
        code="usage/port",
    )
