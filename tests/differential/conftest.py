"""Which builder the images are compared with."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make test ARGS="tests/differential --peer buildkit"` compares with the BuildKit in Debian's
    docker.io.
    """
    parser.addoption("--peer", choices=("buildah", "buildkit"), default="buildah")
