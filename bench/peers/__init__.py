"""The builders that are compared."""

from __future__ import annotations

from bench.peers.buildkit import BuildKit
from bench.peers.containers import Buildah, Skopeo
from bench.peers.protocol import Builder, Peer
from bench.peers.pybuild import Pybuild

OURS = "pybuild"


def peers() -> list[Peer]:
    """Return them all, with ours first."""
    return [
        Pybuild(OURS),
        BuildKit(),
        Buildah("buildah", isolation="oci"),
        Buildah("buildah-chroot", isolation="chroot"),
        Skopeo(),
    ]


__all__ = ("DEFAULT", "OURS", "Builder", "Peer", "peers")

DEFAULT = (OURS, "BuildKit", "buildah", "skopeo")
"""buildah's other isolation is about as fast: it is measured where it is asked for."""
