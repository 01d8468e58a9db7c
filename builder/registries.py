"""What registries are reached by: the configuration of each, and the way over HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.config import Config
    from cache.registry.client import RegistryClient
    from cache.registry.endpoints import Registries
    from cache.registry.transport import UrllibTransport


def configured(config: Config) -> Registries:
    """Return what the configuration says of registries."""
    from cache.registry.endpoints import Registries, RegistrySettings

    settings = {
        name: RegistrySettings(registry.mirrors, registry.insecure, registry.ca)
        for name, registry in config.registries.items()
    }
    return Registries(settings)


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
        registry_transport(environ), registries=registries, credentials=StoredCredentials(logins)
    )
