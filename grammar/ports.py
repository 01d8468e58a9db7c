"""EXPOSE: ports and ranges of them, as BuildKit reads them (dockerfile2llb/convert_expose.go)."""

from __future__ import annotations

from grammar.errors import RecipeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from grammar.source import Span

PROTOCOLS = ("tcp", "udp", "sctp")
MOST = len(PROTOCOLS) * 65_536
"""Ports of one EXPOSE: all that there are."""


def parse_ports(text: str, span: Span | None = None) -> tuple[str, ...]:
    """Return the `port/protocol` strings that an expanded word of EXPOSE stands for: `8000-8002/udp` for
    three.

    `[ip:]host:container` is read as Docker reads it: the host's part is checked and dropped. Raises
    RecipeError (recipe/port) for what is no port.
    """
    ports, protocol = _parsed(text, span)
    return tuple([f"{number}/{protocol}" for number in ports])


def parse_all_ports(words: Iterable[str], span: Span | None = None) -> list[str]:
    """Return the ports of a whole EXPOSE. Raises as `parse_ports`, and for more than there are."""
    out: list[str] = []
    for word in words:
        out += parse_ports(word, span)
        if len(out) > MOST:
            raise RecipeError(f"EXPOSE names more than {MOST} ports", span, code="recipe/port")
    return out


def check_ports(text: str, span: Span | None = None) -> None:
    """Raise RecipeError (recipe/port) where `parse_ports` does."""
    _parsed(text, span)


def _parsed(text: str, span: Span | None) -> tuple[range, str]:
    """Return the port numbers and the protocol of a word."""
    head, colon, container = text.rpartition(":")
    port, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        from grammar.suggest import did_you_mean

        hint = did_you_mean(protocol, PROTOCOLS) or "A port's protocol is tcp, udp or sctp."
        raise RecipeError(
            f"unknown protocol in EXPOSE {text}: {protocol}", span, hint=hint, code="recipe/port"
        )
    ports = _range(port)
    if ports is None:
        raise RecipeError(
            f"EXPOSE {text}: {port!r} is no port",
            span,
            hint="Write a number up to 65535 or a range, and perhaps a protocol: 8080, 53/udp, 8000-8010.",
            code="recipe/port",
        )
    if colon:
        _check_host(head, ports, text, span)
    return ports, protocol


def _range(text: str) -> range | None:
    """Return the ports of `8000` or `8000-8010`, or None if that is none."""
    first, dash, last = text.partition("-")
    if not dash:
        last = first
    for number in (first, last):
        if not (number.isascii() and number.isdecimal()) or len(number) > 9 or int(number) > 65535:
            return None
    ports = range(int(first), int(last) + 1)
    return ports if ports else None


def _check_host(head: str, ports: range, text: str, span: Span | None) -> None:
    """Check the `[ip:]host` before a container's port, as Docker does although it has no effect."""
    ip, _, host = head.rpartition(":")
    host_ports = _range(host) if host else ports
    if host_ports is None or (len(host_ports) != len(ports) and len(ports) != 1):
        raise RecipeError(f"EXPOSE {text}: the host's ports do not match", span, code="recipe/port")
    if ip:
        import ipaddress

        try:
            ipaddress.ip_address(ip.removeprefix("[").removesuffix("]"))
        except ValueError:
            raise RecipeError(f"EXPOSE {text}: {ip} is no address", span, code="recipe/port") from None
