"""Reading recipes: from a file to its AST, which is remembered by content so that an unchanged recipe is
not parsed again. So are the fragments that it includes, each by itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any

from builder.errors import PlanError, UsageError
from builder.privatefiles import is_private, is_private_link
from builder.version import VERSION
from grammar.errors import RecipeError
from grammar.includes import Files, link
from grammar.source import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache.memo import Memo
    from grammar.ast import Fragment, Instruction, Recipe
    from grammar.source import Span

MAX_BYTES = 64 << 20
"""Of a recipe: what the most characters that it may have (grammar.lines) can take."""


class RecipeLoader:
    """Reads recipes, and keeps their sources for the excerpts of errors."""

    def __init__(self, memo: Memo | None, confined: str = "") -> None:
        """`confined`: a directory that no recipe may be out of, where recipes are a stranger's. What is in it
        is called by its path from there.
        """
        self._memo = memo
        self._confined = confined
        self.sources: dict[str, Source] = {}
        self._home = ""
        self.parsed = False
        """True once a recipe was parsed, as none like it was before."""
        self.fragments: dict[str, Fragment] = {}
        """What was included, by its path."""

    def load(self, path: str) -> Recipe:
        """Return the recipe in the file `path`, with what it includes. Raises UsageError, RecipeError."""
        data = read_recipe(self._allowed(path))
        self._home = self._home or os.path.dirname(os.path.abspath(path))
        name = self.name_of(path)
        return self.link(self._remembered("recipe", name, data) or self._parse("recipe", name, data))

    def name_of(self, path: str) -> str:
        """Return what a recipe is called in spans and errors."""
        return os.path.relpath(path, self._confined) if self._confined and path != "-" else path

    def _allowed(self, path: str) -> str:
        """Return where `path` is read. Raises UsageError if that is out of the context that it came with."""
        if not self._confined:
            return path
        from builder.contexts import is_inside

        real = os.path.join(self._confined, path)
        if not is_inside(real, self._confined):
            raise UsageError(
                f"{self.name_of(real)} is out of the context",
                code="recipe/outside",
                hint="what comes from elsewhere may name what came with it, and nothing of this host",
            )
        return real

    def link(self, recipe: Recipe) -> Recipe:
        """Return a recipe with what it includes. Raises UsageError, PlanError, RecipeError."""
        return link(recipe, Files(fragment_path, os.path.realpath, self._fragment))

    def _fragment(self, path: str) -> Fragment:
        """Return the fragment in the file `path`."""
        found = self.fragments.get(path)
        if found is None:
            data = read_fragment(self._allowed(path))
            found = self._remembered("fragment", path, data) or self._parse("fragment", path, data)
            self.fragments[path] = found
        return found

    def _remembered(self, kind: str, path: str, data: bytes) -> Any:
        if self._memo is None:
            return None
        from grammar.encode import StaleEncoding, load

        known = self._memo.get(kind, _memo_key(path, data))
        if known is None:
            return None
        self.sources[path] = Source(path, data.decode("utf-8", "replace"))
        try:
            return load(known)
        except StaleEncoding:
            return None

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

    def _parse(self, kind: str, path: str, data: bytes) -> Any:
        from grammar.parser import decode, parse, parse_fragment

        source = decode(path, data)
        self.sources[path] = source
        self.parsed = True
        try:
            found = parse(source) if kind == "recipe" else parse_fragment(source)
        except RecipeError:
            if is_private(path, self._home):
                raise private(path) from None
            raise
        if self._memo is not None:
            from grammar.encode import dump

            self._memo.put(kind, _memo_key(path, data), dump(found))
        return found


def fragment_path(includer: str, path: str) -> str:
    """Return where INCLUDE `path` of the file `includer` leads: from that file's directory on."""
    return os.path.normpath(os.path.join(os.path.dirname(includer), path))


def read_fragment(path: str) -> bytes:
    """Return the bytes of a file that is included. Raises PlanError for one that is not there, with the near
    miss beside it, and as `read_recipe`."""
    if os.path.lexists(path):
        return read_recipe(path)
    from grammar.suggest import did_you_mean

    try:
        beside = os.listdir(os.path.dirname(path) or ".")
    except OSError:
        beside = []
    hint = did_you_mean(os.path.basename(path), sorted(beside))
    raise PlanError(
        f"INCLUDE: there is no {path}",
        code="include/missing",
        hint=hint or "the path is relative to the directory of the file that includes it",
    )


def private(path: str) -> UsageError:
    """Return the error that `path` is no recipe, or is not to be read, without a word of its text."""
    return UsageError(
        f"{path} is no recipe of this project: it is elsewhere, and not everybody may read it",
        code="recipe/private",
        hint="what it says is not shown; if it is meant to be a recipe, copy it, or let others read it",
    )


def refuse_cycle(real: str, above: Sequence[str], span: Span | None) -> None:
    """Raise PlanError (recipe/cycle) if the recipe `real` is among those that stand on it."""
    if real not in above:
        return
    shown = " -> ".join(os.path.basename(path) for path in [*above[above.index(real) :], real])
    raise PlanError(f"recipes stand on each other in a circle: {shown}", code="recipe/cycle", span=span)


def _memo_key(path: str, data: bytes) -> str:
    from blake3 import blake3

    # The name is in the spans, and another version may parse otherwise.
    return blake3(f"{VERSION}\0{path}\0".encode("utf-8", "surrogateescape") + data).hexdigest()


def read_recipe(path: str) -> bytes:
    """Return the bytes of the recipe file. Raises UsageError where there is none, or something else than
    a file.
    """
    if path == "-":
        from builder import standardinput

        return standardinput.whole(MAX_BYTES)
    try:
        # O_NONBLOCK: opening a fifo must not wait for somebody who writes to it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="recipe/unreadable") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UsageError(f"{path} is {kind}, and so no recipe", code="recipe/unreadable")
        if is_private_link(path, status.st_mode):
            raise private(path)
        if status.st_size > MAX_BYTES:
            raise UsageError(f"{path} is too large for a recipe", code="recipe/too-large")
        with open(fd, "rb", closefd=False) as file:
            return file.read(MAX_BYTES)
    finally:
        os.close(fd)
