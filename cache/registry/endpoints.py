"""Which servers to ask for a registry's content, in order: its mirrors, then the registry itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cache.errors import RegistryError
from cache.oci.reference import DEFAULT_REGISTRY
from cache.registry.proxies import host_of, is_loopback
from cache.registry.transport import VERIFIED, Tls

DOCKER_HUB = "registry-1.docker.io"
"""Where docker.io's API is."""


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What the configuration says of one registry (`[registries."NAME"]`).

    `mirrors`: hosts or URLs, asked first, in order. `insecure`: plain HTTP and any certificate are taken.
    `ca`: a file of certificate authorities (PEM), trusted for this registry in place of the system's.
    """

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks the distribution-spec.

    `registry` is the name under which its credentials are kept; `host` is `name[:port]`; `prefix` stands
    before repository names there; `schemes` are tried in order until one answers.
    """

    registry: str
    host: str
    prefix: str = ""
    schemes: tuple[str, ...] = ("https",)
    tls: Tls = VERIFIED
    is_mirror: bool = False

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host


@dataclass(frozen=True, slots=True)
class Registries:
    """The configuration of all registries, by name."""

    settings: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))

    def endpoints(self, registry: str) -> tuple[Endpoint, ...]:
        """Where to pull what `registry` holds. Raises RegistryError if a mirror is misspelt."""
        settings = self.settings.get(registry, RegistrySettings())
        return (*(self._mirror(mirror, registry) for mirror in settings.mirrors), self.origin(registry))

    def origin(self, registry: str) -> Endpoint:
        """The registry itself: the only place to push to."""
        settings = self.settings.get(registry, RegistrySettings())
        host = DOCKER_HUB if registry == DEFAULT_REGISTRY else registry
        return _endpoint(registry, host, "", None, settings, is_mirror=False)

    def _mirror(self, mirror: str, registry: str) -> Endpoint:
        scheme, separator, rest = mirror.rpartition("://")
        host, _, prefix = rest.partition("/")
        if (
            not host
            or any(mark in rest for mark in "@?# ")
            or (separator and scheme not in ("http", "https"))
        ):
            raise RegistryError(
                f"{mirror[:200]!r} is not a mirror of {registry}",
                code="registry/mirror",
                hint="write host, host:port or a URL, such as https://mirror.example.com",
            )
        settings = self.settings.get(host, RegistrySettings())
        return _endpoint(host, host, prefix.strip("/"), scheme or None, settings, is_mirror=True)


def _endpoint(
    registry: str, host: str, prefix: str, scheme: str | None, settings: RegistrySettings, *, is_mirror: bool
) -> Endpoint:
    """Like Docker, take the loopback for an insecure registry: nobody can listen in on it.

    Whoever names a certificate authority expects TLS, though. A scheme in the configuration is taken as it
    is; else https is tried first, then http if that is allowed.
    """
    insecure = settings.insecure or (settings.ca is None and is_loopback(host_of(host)))
    schemes = (scheme,) if scheme else ("https", "http") if insecure else ("https",)
    return Endpoint(
        registry, host, prefix, schemes, Tls(not insecure, settings.ca, system=settings.ca is None), is_mirror
    )
