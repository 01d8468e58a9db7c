"""Whose the files are that a step made as a user who does not exist here (cache/ownership.py)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.accounts import identity_of
from builder.overlay import Overlay, detached
from cache import ownership
from cache.merged import Merged
from cache.upperdir import READ_DIRECTORY

if TYPE_CHECKING:
    from cache.scratch import Staging


def adopt(user: str, lower: tuple[str, ...], staging: Staging) -> None:
    """Record that what is new in `staging` is `user`'s, as USER names it, who ran the step."""
    if not user or not lower:
        return
    below = detached(Overlay(lower))
    try:
        owner = identity_of(below, user)
    finally:
        os.close(below)
    if owner == (0, 0):
        return
    upper = os.open(staging.upper, READ_DIRECTORY)
    try:
        with Merged(lower) as merged:
            ownership.adopt(upper, merged, owner)
    finally:
        os.close(upper)
