"""Standard input, which can be read but once: looked at first, then read as a recipe, or as the archive
of a context.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from io import BufferedReader

_head = b""
_whole: bytes | None = None


def peek(size: int) -> bytes:
    """Return the first `size` bytes, fewer if there are no more. They are still there for who reads."""
    global _head
    while len(_head) < size:
        piece = cast("BufferedReader", sys.stdin.buffer).read1(size - len(_head))
        if not piece:
            break
        _head += piece
    return _head[:size]


def whole(most: int) -> bytes:
    """Return all of it, `most` bytes at most; a second time too."""
    global _whole
    if _whole is None:
        _whole = read(most)
    return _whole


def read(size: int, /) -> bytes:
    """Read on: `size` bytes, fewer only at the end."""
    global _head
    head, _head = _head[:size], _head[size:]
    return head + sys.stdin.buffer.read(size - len(head)) if len(head) < size else head
