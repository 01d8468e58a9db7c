"""type=dir: the image's root filesystem as files below a directory (Docker's `type=local`).

What the directory has already stays, unless the image has something of that name: that is replaced, and only
directories are merged, as Docker does. No symlink there is followed: one that stands where the image has a
directory is replaced by it. A directory that is not there yet appears when it is whole.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.exporters.base import Output, directory_of, lowerdirs, writing
from builder.exporters.merged import opened, walk
from builder.exporters.meter import Meters
from builder.exporters.tree_writer import TreeWriter
from cache.disk import storing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.events import Emit
    from builder.exporters.base import Group, Source
    from builder.exporters.output_spec import OutputSpec
    from cache.store import Store

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def export(group: Group, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    """Write the files, with owners if we are root, and with modes, times (whole seconds), hard links and
    xattrs; for several platforms, to a directory for each."""
    if len(group) == 1:
        return _export(group[0], spec, store, emit)
    size = 0
    for source in group:
        inner = replace(spec, dest=os.path.join(spec.dest, directory_of(source)))
        size += _export(source, inner, store, emit).size
    return Output(spec, size)


def _export(source: Source, spec: OutputSpec, store: Store, emit: Emit) -> Output:
    total = sum(layer.size for layer in source.layers)
    with (
        opened(lowerdirs(store, source)) as roots,
        _opened_root(spec.dest) as (root, empty),
        Meters(emit).transfer("files", "writing files", total, _Nowhere()) as meter,
        TreeWriter(root, spec.dest, meter, emit, empty=empty) as tree,
        storing("reading layers"),
    ):
        for entry in walk(roots):
            tree.add(entry)
    return Output(spec, meter.done)


class _Nowhere:
    def write(self, data: bytes, /) -> None:
        """Files are copied in the kernel: the meter only counts."""


@contextmanager
def _opened_root(dest: str) -> Iterator[tuple[int, bool]]:
    """Give a descriptor of the directory to write into, and whether it is empty. A failure undoes it."""
    path = os.path.realpath(dest)
    if os.path.lexists(path):
        with _existing(path, dest) as result:
            yield result
        return
    parent, name = os.path.split(path)
    with writing(dest):
        os.makedirs(parent, exist_ok=True)
        directory = os.open(parent, _DIRECTORY)
    staged = f".pybuild-{os.urandom(8).hex()}"
    try:
        with writing(dest):
            os.mkdir(staged, dir_fd=directory)
        try:
            root = os.open(staged, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            try:
                yield root, True
            finally:
                os.close(root)
            with writing(dest):
                os.rename(staged, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            _remove(staged, directory)
            raise
    finally:
        os.close(directory)


@contextmanager
def _existing(path: str, dest: str) -> Iterator[tuple[int, bool]]:
    with writing(dest):
        root = os.open(path, _DIRECTORY)
    try:
        empty = not os.listdir(root)
        try:
            yield root, empty
        except BaseException:
            if empty:
                for name in os.listdir(root):
                    _remove(name, root)
            raise
    finally:
        os.close(root)


def _remove(name: str, directory: int) -> None:
    """Remove a file, or a directory with all that is in it, following nothing."""
    try:
        os.unlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        import shutil

        shutil.rmtree(name, dir_fd=directory)
