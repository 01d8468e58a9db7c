"""Certificates for one registry, where docker and podman look for them (containers-certs.d(5))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files. `authorities` are trusted beside the system's; `client` is a certificate of ours and its
    key.
    """

    authorities: tuple[str, ...] = ()
    client: tuple[str, str] | None = None


def find(host: str, environ: Mapping[str, str]) -> Certificates:
    """Return the certificates of the first directory that is there for `host[:port]`; none if none is."""
    for directory in directories(environ):
        path = os.path.join(directory, host)
        try:
            names = sorted(os.listdir(path))
        except OSError:
            continue
        authorities = tuple(os.path.join(path, name) for name in names if name.endswith(".crt"))
        pairs = [
            (os.path.join(path, name), os.path.join(path, name.removesuffix(".cert") + ".key"))
            for name in names
            if name.endswith(".cert") and name.removesuffix(".cert") + ".key" in names
        ]
        return Certificates(authorities, pairs[0] if pairs else None)
    return Certificates()


def directories(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return where the directories of hosts may be, the user's first."""
    home = environ.get("HOME") or os.path.expanduser("~")
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return (
        os.path.join(config, "containers/certs.d"),
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
    )
