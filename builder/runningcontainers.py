"""From what a user types to a container, for commands that have to do with those that run.

They need no store opened: without root, they enter the user namespace of the container and not one of their
own.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def each(store: ContainerStore, texts: Sequence[str], act: Callable[[Container], None]) -> int:
    """Do something to each of the containers, print what they are called, and return the exit code: what is
    wrong with one of them keeps none of the others.
    """
    from builder.cli import ERRORS, show
    from builder.excerpts import exit_code

    code = 0
    for text in texts:
        try:
            act(find_container(store, text))
            print(text, flush=True)
        except ERRORS as error:
            show(error)
            code = exit_code(error)
    return code
