"""What registries are reached by: the configuration of each, and the way over HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.config import Config
    from cache.oci.reference import Reference
    from cache.registry.certificates import Certificates
    from cache.registry.client import RegistryClient
    from cache.registry.endpoints import Registries
    from cache.registry.registriesconf import RegistriesConf, Rule
    from cache.registry.transport import UrllibTransport


def configured(config: Config, environ: Mapping[str, str] = os.environ) -> Registries:
    """Return what pybuild.toml says of registries, and where it says nothing, the files of containers' tools
    and docker: these are read when they are needed.
    """
    from cache.registry.endpoints import Registries, RegistrySettings

    settings = {
        name: RegistrySettings(registry.mirrors, registry.insecure, registry.ca)
        for name, registry in config.registries.items()
    }
    return Registries(settings, ContainersFiles(environ))


class ContainersFiles:
    """registries.conf and certs.d, as `environ` leads to them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._conf: RegistriesConf | None = None

    @property
    def conf(self) -> RegistriesConf:
        """What registries.conf says. Raises RegistryError."""
        if self._conf is None:
            from cache.registry.registriesconf import load

            self._conf = load(self._environ)
        return self._conf

    def rule(self, reference: Reference) -> Rule | None:
        """The rule for `reference`. Raises RegistryError."""
        return self.conf.rule(reference)

    def certificates(self, host: str) -> Certificates:
        """The certificates for `host[:port]`."""
        from cache.registry.certificates import find

        return find(host, self._environ)

    def credential_helpers(self) -> tuple[str, ...]:
        """The credential helpers that are named. Raises RegistryError."""
        return self.conf.helpers


def registry_transport(environ: Mapping[str, str] = os.environ) -> UrllibTransport:
    """Return the way to registries."""
    from builder.version import VERSION
    from cache.registry.transport import UrllibTransport

    return UrllibTransport(user_agent=f"pybuild/{VERSION}", environ=environ)


def registry_client(
    registries: Registries, authfile: str | None = None, environ: Mapping[str, str] = os.environ
) -> RegistryClient:
    """Return a client with the stored logins; those of `authfile` alone, if it is given."""
    from cache.registry.client import RegistryClient
    from cache.registry.credentials import StoredCredentials

    logins = {**environ, "REGISTRY_AUTH_FILE": authfile} if authfile else environ
    return RegistryClient(
        registry_transport(environ),
        registries=registries,
        credentials=StoredCredentials(logins, registries.credential_helpers),
    )


def cache_client(
    registries: Registries, timeout: float, environ: Mapping[str, str] = os.environ
) -> RegistryClient:
    """Return a client for a shared cache, which no build waits for longer than `timeout` seconds of silence,
    twice; a minute where it has just been given a blob.
    """
    from builder.version import VERSION
    from cache.registry.client import RegistryClient
    from cache.registry.credentials import StoredCredentials
    from cache.registry.retry import RetryPolicy
    from cache.registry.transport import UrllibTransport

    return RegistryClient(
        UrllibTransport(
            user_agent=f"pybuild/{VERSION}", connect=min(timeout, 10.0), read=timeout, environ=environ
        ),
        registries=registries,
        credentials=StoredCredentials(environ, registries.credential_helpers),
        policy=RetryPolicy(attempts=2, patience=timeout, finishing=max(60.0, timeout)),
    )
