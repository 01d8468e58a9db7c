"""Which requests go through a proxy, and which hosts are this machine's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that `environ` names for `url` (http_proxy, https_proxy, all_proxy, no_proxy), or None.

    Loopback is never asked of a proxy. HTTP_PROXY in capitals is not read, as by curl: a CGI program gets it
    from a request (httpoxy.org).
    """
    scheme, _, rest = url.partition("://")
    names = ("http_proxy",) if scheme == "http" else ("https_proxy", "HTTPS_PROXY")
    proxy = next((environ[name] for name in (*names, "all_proxy", "ALL_PROXY") if environ.get(name)), None)
    host = host_of(rest.partition("/")[0].rpartition("@")[2])
    if proxy is None or is_loopback(host):
        return None
    if _excepted(host, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _excepted(host: str, exceptions: str) -> bool:
    """Whether a no_proxy list names `host`: `*`, a name, or a domain with or without its leading dot."""
    for item in exceptions.lower().split(","):
        name = host_of(item.strip()).removeprefix("*").lstrip(".")
        if item.strip() == "*" or (name and (host == name or host.endswith(f".{name}"))):
            return True
    return False


def host_of(authority: str) -> str:
    """The host of `host[:port]`, in lower case, an IPv6 address without its brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower().rstrip(".")


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine's loopback: 127.0.0.0/8, ::1, localhost. Nothing is resolved."""
    parts = host.split(".")
    if len(parts) == 4 and all(part.isdecimal() and int(part) < 256 for part in parts):
        return parts[0] == "127"
    return host in ("localhost", "::1") or host.endswith(".localhost")
