"""Pruning that nobody asks for each time: a build that has run something meets the policies of
pybuild.toml.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from builder.events import Notice

if TYPE_CHECKING:
    from builder.config import Config
    from builder.events import Emit
    from cache.prunepolicy import Policy
    from cache.store import Store

EVERY = 3600
"""Seconds between two looks at the whole store; that too little is free is seen at once."""

_MEMO = ("prune", "last")


def prune_after(store: Store, config: Config, emit: Emit) -> None:
    """Meet the policies of `config`, if builds are to see to them, and say what went. What goes wrong is a
    warning: the build is done.
    """
    if not config.prune.auto or not config.prune.policy:
        return
    from builder.prunepolicies import configured
    from builder.table import human_size
    from cache.errors import CacheError
    from cache.gc import prune

    try:
        policies = configured(config, store.root)
        if not _is_due(store, policies):
            return
        report = prune(store, policies)
        store.memo.put(*_MEMO, str(int(time.time())).encode())
    except (CacheError, OSError) as error:
        emit(Notice("warning", "store/prune", f"the store was not pruned: {error}"))
        return
    if report.freed:
        emit(Notice("info", "store/pruned", f"pruned {human_size(report.freed)} that nothing needs"))
    if report.missing:
        short = (
            f"{human_size(report.missing)} less are free than `min-free` says, and nothing is left to prune"
        )
        emit(Notice("warning", "store/prune", short))


def _is_due(store: Store, policies: tuple[Policy, ...]) -> bool:
    from cache.gc import missing

    last = store.memo.get(*_MEMO)
    passed = time.time() - int(last or 0)
    if not 0 <= passed < EVERY and any(each.min_free is None for each in policies):
        return True
    return missing(store, policies) > 0
