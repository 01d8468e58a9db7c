"""Files that not everybody may read, which a recipe names or a link in a checkout leads to.

A recipe may name any file of the host; what is none of its own is read as a recipe, and what is wrong with it
is told. In a CI job, which builds what others wrote, that would put /etc/shadow's lines into the log.
"""

from __future__ import annotations

import os
import stat


def is_private(path: str, directory: str) -> bool:
    """Whether `path` leads out of `directory`, to a file that not everybody may read."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not mode & stat.S_IROTH and not _is_inside(path, directory)


def is_private_link(path: str, mode: int) -> bool:
    """Whether `path`, of a file with `mode`, is a link out of the directory that it is in, to a file that not
    everybody may read.
    """
    if mode & stat.S_IROTH or not os.path.islink(path):
        return False
    return not _is_inside(path, os.path.dirname(os.path.abspath(path)))


def _is_inside(path: str, directory: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(directory).rstrip("/") + "/")
