"""When no HTTP answer came: one exception, and urllib3's many reasons in a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

FailureKind = Literal["name", "connect", "gone", "tls", "timeout", "cut", "other"]


class TransportFailure(Exception):
    """No complete HTTP answer came. Never seen by users: `session` and `client` turn it into a RegistryError.

    `kind` says where it broke: name (it does not resolve), connect (nobody listens, no route), gone (nobody
    listens where somebody answered before), tls (the handshake), timeout, cut (the connection ended in the
    middle), other.
    """

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason

    @property
    def transient(self) -> bool:
        """Whether the same request may well succeed a moment later."""
        return self.kind in ("timeout", "cut", "gone")


_KINDS: tuple[tuple[str, FailureKind], ...] = (
    ("NameResolutionError", "name"),
    ("ConnectTimeoutError", "connect"),
    ("NewConnectionError", "connect"),
    ("ProxyError", "connect"),
    ("SSLError", "tls"),
    ("SSLCertVerificationError", "tls"),
    ("ReadTimeoutError", "timeout"),
    ("TimeoutError", "timeout"),
    ("IncompleteRead", "cut"),
    ("InvalidChunkLength", "cut"),
    ("ProtocolError", "cut"),
    ("ConnectionResetError", "cut"),
    ("BrokenPipeError", "cut"),
)


def failure_of(error: Exception) -> TransportFailure:
    """Say in a few words what urllib3 says in many."""
    if isinstance(error, TransportFailure):
        return error
    names = [cls.__name__ for cls in type(error).__mro__]
    kind: FailureKind = next((kind for name, kind in _KINDS if name in names), "other")
    return TransportFailure(kind, _REASONS[kind](error))


def _inner(error: BaseException) -> str:
    """The message of the error at the root: without urllib3's object addresses and pool names."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        deeper = (
            error.__cause__
            or error.__context__
            or next((item for item in error.args if isinstance(item, BaseException)), None)
        )
        if deeper is None:
            break
        error = deeper
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _tls_reason(error: BaseException) -> str:
    text = _inner(error)
    if "WRONG_VERSION_NUMBER" in str(error).upper() or "wrong version number" in str(error):
        return "it does not speak TLS"
    _, found, rest = text.partition("certificate verify failed: ")
    return f"its certificate is not trusted: {rest.partition(' (_ssl')[0]}" if found else f"TLS: {text}"


_REASONS: dict[FailureKind, Callable[[BaseException], str]] = {
    "name": lambda error: f"its name does not resolve: {_inner(error)}",
    "connect": lambda error: f"no connection: {_inner(error)}",
    "gone": lambda error: f"no connection: {_inner(error)}",
    "tls": _tls_reason,
    "timeout": lambda error: "it does not answer in time",
    "cut": lambda error: "the connection broke off",
    "other": _inner,
}
