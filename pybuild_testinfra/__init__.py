"""A pytest plugin that teaches testinfra `--hosts=pybuild://IMAGE`. It imports nothing but testinfra, if that
is installed, and is nothing to a run without it.

    pybuild://IMAGE[?user=USER][&start=1][&network=none|private][&root=STORE]

The image may have slashes, a tag and a digest. pybuild itself runs in a process of its own.
"""

from __future__ import annotations

from typing import Any

SCHEME = "pybuild://"


def pytest_configure() -> None:
    """Register the backend; its module is imported when a test asks for such a host."""
    try:
        from testinfra import backend
    except ImportError:
        return
    if "pybuild" in backend.BACKENDS and hasattr(backend.parse_hostspec, "of_pybuild"):
        return
    backend.BACKENDS["pybuild"] = "pybuild_testinfra.backend.PybuildBackend"
    parse = backend.parse_hostspec

    def parse_hostspec(hostspec: str) -> tuple[str, dict[str, Any]]:
        """As testinfra's, which knows no slash and no question in a host's name."""
        if hostspec is not None and hostspec.startswith(SCHEME):
            return hostspec.removeprefix(SCHEME), {"connection": "pybuild"}
        host, words = parse(hostspec)
        return host, words

    parse_hostspec.of_pybuild = True  # type: ignore[attr-defined]
    backend.parse_hostspec = parse_hostspec


def pytest_unconfigure() -> None:
    """End the containers of this run."""
    import sys

    module = sys.modules.get("pybuild_testinfra.backend")
    if module is not None:
        module.close()
