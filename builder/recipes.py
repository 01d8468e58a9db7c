"""Reading recipes: from a file to its AST, which is remembered by content so that an unchanged recipe is
not parsed again.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from functools import cache
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.version import VERSION
from grammar.source import Source

if TYPE_CHECKING:
    from cache.memo import Memo
    from grammar.ast import Instruction, Recipe

MAX_BYTES = 128 << 20


class RecipeLoader:
    """Reads recipes, and keeps their sources for the excerpts of errors."""

    def __init__(self, memo: Memo | None) -> None:
        self._memo = memo
        self.sources: dict[str, Source] = {}
        self.parsed = False
        """True once a recipe was parsed, as none like it was before."""

    def load(self, path: str) -> Recipe:
        """Return the recipe in the file `path`. Raises UsageError, RecipeError."""
        data = read_recipe(path)
        return self._remembered(path, data) or self._parse(path, data)

    def _remembered(self, path: str, data: bytes) -> Recipe | None:
        if self._memo is None:
            return None
        from grammar.encode import StaleEncoding, load

        known = self._memo.get("recipe", _memo_key(path, data))
        if known is None:
            return None
        self.sources[path] = Source(path, data.decode("utf-8", "replace"))
        try:
            recipe: Recipe = load(known)
        except StaleEncoding:
            return None
        return recipe

    def trigger(self, text: str) -> Instruction:
        """Return the instruction that an image's ONBUILD trigger is. Raises RecipeError."""
        from grammar.ast import Directives, Fragment
        from grammar.encode import StaleEncoding, dump, load

        key = _memo_key("ONBUILD", text.encode("utf-8", "surrogateescape"))
        known = self._memo.get("trigger", key) if self._memo is not None else None
        with contextlib.suppress(StaleEncoding):
            if known is not None:
                found: Fragment = load(known)
                return found.instructions[0]
        from grammar.parser import parse_trigger

        instruction = parse_trigger(Source("ONBUILD", text))
        if self._memo is not None:
            self._memo.put("trigger", key, dump(Fragment("ONBUILD", Directives(), (instruction,))))
        return instruction

    def _parse(self, path: str, data: bytes) -> Recipe:
        from grammar.parser import decode, parse

        source = decode(path, data)
        self.sources[path] = source
        self.parsed = True
        recipe = parse(source)
        if self._memo is not None:
            from grammar.encode import dump

            self._memo.put("recipe", _memo_key(path, data), dump(recipe))
        return recipe


def _memo_key(path: str, data: bytes) -> str:
    from blake3 import blake3

    # The name is in the spans, and another version may parse otherwise.
    return blake3(f"{VERSION}\0{path}\0".encode("utf-8", "surrogateescape") + data).hexdigest()


@cache
def _standard_input() -> bytes:
    """Return what stands on standard input; a second time too, though it can be read but once."""
    return sys.stdin.buffer.read(MAX_BYTES)


def read_recipe(path: str) -> bytes:
    """Return the bytes of the recipe file. Raises UsageError where there is none, or something else than
    a file.
    """
    if path == "-":
        return _standard_input()
    try:
        # O_NONBLOCK: opening a fifo must not wait for somebody who writes to it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="recipe/unreadable") from None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UsageError(f"{path} is {kind}, and so no recipe", code="recipe/unreadable")
        if status.st_size > MAX_BYTES:
            raise UsageError(f"{path} is too large for a recipe", code="recipe/too-large")
        return file.read(MAX_BYTES)
