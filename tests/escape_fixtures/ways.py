"""Who builds, and on what: every way in which root filesystems are made and steps are kept in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Literal

_RESULTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden/escapes.json")


@dataclass(frozen=True, slots=True)
class Way:
    """One way; `name` is a column of docs/security.md."""

    name: str
    who: Literal["root", "subordinate", "single"]
    snapshotter: Literal["overlay", "copy", "fuse-overlayfs"] = "overlay"


ROOT = Way("root", "root")
WAYS = (
    ROOT,
    Way("root, copy", "root", "copy"),
    Way("root, fuse", "root", "fuse-overlayfs"),
    Way("ids", "subordinate"),
    Way("ids, fuse", "subordinate", "fuse-overlayfs"),
    Way("one id", "single"),
    Way("one id, copy", "single", "copy"),
)

Results = dict[str, dict[str, str]]
"""Case -> way -> how its builds ended, one after the other: "built", or an error's code."""


def read_results() -> Results:
    """Return what the campaign has written down."""
    with open(_RESULTS, encoding="utf-8") as file:
        found: Results = json.load(file)
    return found


def write_results(results: Results) -> None:
    with open(_RESULTS, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1, sort_keys=True)
        file.write("\n")
