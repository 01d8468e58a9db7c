"""Which servers to ask for a registry's content, in order: its mirrors, then the registry itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from cache.errors import RegistryError
from cache.oci.reference import DEFAULT_REGISTRY
from cache.registry.certificates import Certificates
from cache.registry.proxies import host_of, is_loopback
from cache.registry.transport import VERIFIED, Tls

if TYPE_CHECKING:
    from cache.oci.reference import Reference
    from cache.registry.registriesconf import Rule

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
    before repository names there, in place of `instead`; `schemes` are tried in order until one answers.
    """

    registry: str
    host: str
    prefix: str = ""
    schemes: tuple[str, ...] = ("https",)
    tls: Tls = VERIFIED
    is_mirror: bool = False
    instead: str = ""

    def repository(self, name: str) -> str:
        """What the repository `name` is called there."""
        return f"{self.prefix}/{name.removeprefix(self.instead).lstrip('/')}".strip("/")

    def __str__(self) -> str:
        return f"{self.host}/{self.prefix}" if self.prefix else self.host


class HostFiles(Protocol):
    """What this host's files say of registries, to other tools too."""

    def rule(self, reference: Reference) -> Rule | None:
        """The rule of registries.conf for `reference`. Raises RegistryError."""

    def certificates(self, host: str) -> Certificates:
        """The certificates for `host[:port]`."""

    def credential_helpers(self) -> tuple[str, ...]:
        """The credential helpers of registries.conf. Raises RegistryError."""


@dataclass(frozen=True, slots=True)
class Registries:
    """The configuration of all registries, by name; what it does not name is as `files` say, if any."""

    settings: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    files: HostFiles | None = None

    def endpoints(self, registry: str, reference: Reference | None = None) -> tuple[Endpoint, ...]:
        """Where to pull what `registry` holds, or `reference` in particular: mirrors, then the place itself.

        Raises RegistryError if a mirror is misspelt (registry/mirror), if the files of this host forbid it
        (registry/blocked), or if these cannot be read.
        """
        rule = self._rule(reference)
        if rule is None or reference is None or registry in self.settings:
            settings = self.settings.get(registry, RegistrySettings())
            mirrors = tuple(self._mirror(mirror, registry) for mirror in settings.mirrors)
            return (*mirrors, self.origin(registry, reference))
        by_digest = reference.digest is not None
        mirrors = tuple(
            self._remapped(rule, mirror.location, insecure=mirror.insecure, is_mirror=True)
            for mirror in rule.mirrors
            if mirror.serves(by_digest=by_digest)
        )
        if not rule.location or rule.location == rule.prefix:
            return (*mirrors, self.origin(registry, reference))
        return (*mirrors, self._remapped(rule, rule.location, insecure=rule.insecure, is_mirror=False))

    def origin(self, registry: str, reference: Reference | None = None) -> Endpoint:
        """The registry itself: the only place to push to. Raises RegistryError as `endpoints`."""
        settings = self.settings.get(registry)
        rule = self._rule(reference)
        if settings is None:
            settings = RegistrySettings(insecure=rule is not None and rule.insecure)
        host = DOCKER_HUB if registry == DEFAULT_REGISTRY else registry
        return self._endpoint(registry, host, "", None, settings, is_mirror=False)

    def credential_helpers(self) -> tuple[str, ...]:
        """The credential helpers that this host's files name, in order. Raises RegistryError."""
        return () if self.files is None else self.files.credential_helpers()

    def _rule(self, reference: Reference | None) -> Rule | None:
        rule = self.files.rule(reference) if self.files is not None and reference is not None else None
        if rule is not None and rule.blocked:
            raise RegistryError(
                f"{rule.prefix} is blocked by {rule.file}",
                code="registry/blocked",
                hint="who administers this host does not want images from there",
            )
        return rule

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
        return self._endpoint(host, host, prefix.strip("/"), scheme or None, settings, is_mirror=True)

    def _remapped(self, rule: Rule, location: str, *, insecure: bool, is_mirror: bool) -> Endpoint:
        """The place that registries.conf gives for what begins with the rule's prefix."""
        host, _, path = location.partition("/")
        settings = self.settings.get(host) or RegistrySettings(insecure=insecure)
        instead = "" if rule.prefix.startswith("*.") else rule.prefix.partition("/")[2]
        if any(mark in instead + path for mark in ":@"):
            raise RegistryError(
                f"{rule.file}: {rule.prefix} is a single image, for which another place is not supported",
                code="registry/config",
            )
        place = DOCKER_HUB if host == DEFAULT_REGISTRY else host
        endpoint = self._endpoint(host, place, path, None, settings, is_mirror=is_mirror)
        return replace(endpoint, instead=instead)

    def _endpoint(
        self,
        registry: str,
        host: str,
        prefix: str,
        scheme: str | None,
        settings: RegistrySettings,
        *,
        is_mirror: bool,
    ) -> Endpoint:
        """Like Docker, take the loopback for an insecure registry: nobody can listen in on it.

        Whoever names a certificate authority expects TLS, though. A scheme in the configuration is taken as
        it is; else https is tried first, then http if that is allowed.
        """
        found = self.files.certificates(host) if self.files is not None else Certificates()
        authorities = found.authorities if settings.ca is None else ()
        local = settings.ca is None and not authorities and is_loopback(host_of(host))
        insecure = settings.insecure or local
        schemes = (scheme,) if scheme else ("https", "http") if insecure else ("https",)
        tls = Tls(not insecure, settings.ca, settings.ca is None, authorities, found.client)
        return Endpoint(registry, host, prefix, schemes, tls, is_mirror)
