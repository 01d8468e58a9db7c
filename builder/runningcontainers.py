"""From what a user types to a container, for commands that have to do with those that run.

They need no store opened: without root, they enter the user namespace of the container and not one of their
own.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from cache.containers import Container, ContainerStore


def open_containers(args: argparse.Namespace) -> ContainerStore:
    """Return the containers of the store that the arguments name, to be looked at."""
    from builder.config import load
    from builder.session import store_root
    from cache.containers import ContainerStore

    return ContainerStore(store_root(args.root, load(args.config).root))


def find_container(store: ContainerStore, text: str) -> Container:
    """Return the container that `text` means. Raises UsageError if there is none."""
    found = store.find(text)
    if found is None:
        raise UsageError(
            f"there is no container {text!r}",
            code="container/unknown",
            hint="`pybuild ps -a` lists them",
        )
    return found
