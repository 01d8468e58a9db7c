"""The file `format` of a store: what wrote it, and in which namespace of attributes overlayfs's marks are in
it.

Root of the machine has them in `trusted.*`, a user namespace in `user.*` (overlayfs.rst, "userxattr"): with
the other ones, directories that hide what is below them would not be seen as such. Where but one id is
mapped, owners are recorded beside the files (`cache.ownership`), which with more ids they are not.
"""

from __future__ import annotations

import os

from cache import idmap
from cache.errors import StoreError

FORMAT = "pybuild store 1\n"
_USER = FORMAT + "userxattr\n"
_SINGLE = FORMAT + "userxattr single-id\n"


def own_format() -> str:
    """Return what stands in the file of a store that this process makes."""
    if not idmap.confined():
        return FORMAT
    return _SINGLE if idmap.single() else _USER


def refusal(root: str, found: bytes) -> StoreError | None:
    """Return why this process cannot use the store at `root` whose file holds `found`, None if it can."""
    text = found.decode("utf-8", "replace")
    if text not in (FORMAT, _USER, _SINGLE):
        return StoreError(
            f"{root} is a store of another format: {text[:60].strip()!r}",
            hint="use the pybuild that made it, or another --root",
        )
    if (text == FORMAT) == idmap.confined():
        whose = "root's" if text == FORMAT else "a user's, who made it without root"
        hint = "run pybuild as root, or give another --root"
        if text != FORMAT:
            hint = "run pybuild as that user, without sudo, or give another --root"
        return StoreError(f"the store {root} is {whose}: its layers are marked in another way", hint=hint)
    # Who has not entered a user namespace (yet) has no say in how many ids there are.
    if text == FORMAT or os.geteuid() != 0 or (text == _SINGLE) == idmap.single():
        return None
    if text == _SINGLE:
        return StoreError(
            f"the store {root} was made with a single id: its files' owners are recorded, not given",
            hint="remove it, now that there are subordinate ids, or give another --root",
        )
    return StoreError(
        f"the store {root} was made with subordinate ids, and this process has but one id",
        hint="`pybuild doctor` says why there are no more; or give another --root",
    )
