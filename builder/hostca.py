"""--host-ca: the certificates that this host trusts, for the time of a step, as behind a proxy that inspects
TLS.

Like the predefined proxy arguments it enters neither key nor history nor image. The bundle is mounted at a
place of its own: over the image's bundle it would be in the way of `apt-get install ca-certificates`, which
renames onto that.
"""

from __future__ import annotations

import os
from dataclasses import replace

from builder.errors import HostError
from builder.executor import ExecRequest, Mount

PLACE = "/run/pybuild/ca-certificates.crt"

VARIABLES = (
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
)
"""What OpenSSL, pip, requests, curl, git, Node.js, cargo and the AWS tools look at."""

_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def with_host_ca(request: ExecRequest) -> ExecRequest:
    """Return `request` with the host's bundle mounted, and the variables set that it does not set itself."""
    mount = Mount("bind", PLACE, source=host_bundle(), read_only=True)
    given = {name for name, _ in request.env}
    added = tuple((name, PLACE) for name in VARIABLES if name not in given)
    return replace(request, mounts=(*request.mounts, mount), env=(*request.env, *added))


def host_bundle() -> str:
    """Return the path of the host's CA bundle. Raises HostError."""
    for path in (os.environ.get("SSL_CERT_FILE", ""), *_BUNDLES):
        if path and os.path.isfile(path):
            return os.path.realpath(path)
    raise HostError(
        "--host-ca: this host has no bundle of CA certificates",
        code="host/ca",
        hint="apt-get install ca-certificates, or set SSL_CERT_FILE",
    )
