"""Base images from elsewhere: one module for each transport, found by the scheme of what FROM names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import BaseError

if TYPE_CHECKING:
    from builder.bases.base import BaseTransport, Surroundings

SCHEMES = ("docker-image", "docker-archive", "mmdebstrap", "oci-archive", "oci-layout")
"""`docker-image` is BuildKit's word for what a bare name means: an image of a registry."""

LOCAL_SCHEMES = ("docker-archive", "oci-archive", "oci-layout")
"""Those whose location is a path of this host."""


def split_scheme(reference: str) -> tuple[str, str]:
    """Part what FROM names into the scheme and the location. A bare name is that of a `docker-image`."""
    scheme, mark, location = reference.partition("://")
    return (scheme.lower(), location) if mark else ("docker-image", reference)


def open_transport(scheme: str, around: Surroundings) -> BaseTransport:
    """Return the transport of a scheme. Only its own module is imported. Raises BaseError."""
    if scheme == "docker-image":
        from builder.bases.registry import RegistryTransport

        return RegistryTransport(around)
    if scheme == "oci-layout":
        from builder.bases.oci_layout import OciLayoutTransport

        return OciLayoutTransport(around)
    if scheme == "oci-archive":
        from builder.bases.oci_archive import OciArchiveTransport

        return OciArchiveTransport(around)
    if scheme == "docker-archive":
        from builder.bases.docker_archive import DockerArchiveTransport

        return DockerArchiveTransport(around)
    if scheme == "mmdebstrap":
        from builder.bases.mmdebstrap import MmdebstrapTransport

        return MmdebstrapTransport(around)
    raise BaseError(
        f"unknown kind of base: {scheme[:50]}://",
        code="base/transport",
        hint=f"{', '.join(f'{each}://' for each in SCHEMES)} are known, and a bare name means a registry",
    )
