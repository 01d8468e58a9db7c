"""What recipes/pybuild.rec copies, as a clone would have it: with times of its own."""

from __future__ import annotations

import os
import shutil

from tests.command_fixtures.pybuild import ROOT


def write(directory: str) -> None:
    """Copy it to `directory`."""
    for name in ("builder", "cache", "grammar", "pybuild_testinfra", "recipes/pybuild"):
        shutil.copytree(
            os.path.join(ROOT, name),
            os.path.join(directory, name),
            ignore=shutil.ignore_patterns("__pycache__"),
            copy_function=shutil.copyfile,
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(os.path.join(ROOT, name), os.path.join(directory, name))
