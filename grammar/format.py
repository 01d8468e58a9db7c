"""A recipe in its usual form: `pybuild fmt`, and what editors call on save.

Lines are rewritten, not made anew from the tree: comments, heredocs, and whatever a reader laid out stay.
Keywords go to upper case; one blank stands between words; continued lines are indented by four, and more
where they were indented more than the others; blanks at line ends, empty lines in an instruction, and all but
one of several empty lines go. Nothing that is quoted is touched.
"""

from __future__ import annotations

from grammar.expand import SPACES
from grammar.layout import Layout
from grammar.lines import Reader
from grammar.meaning import meaning, reads_posix
from grammar.recover import Reading, is_fragment, read
from grammar.source import BOM, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from grammar.ast import Recipe


def format_source(source: Source) -> str:
    """Return the text of `source` in its usual form, which formatting leaves as it is.

    Raises RecipeError for a recipe that cannot be read. What it means stays the same: a text that this cannot
    be said of after all is returned as it was.
    """
    reading = _read(source)
    text = _Formatter(reading).run()
    recipe = reading.recipe
    if recipe is None:
        return text
    again = read(Source(source.name, text), fragment=reading.fragment)
    if again.errors or again.recipe is None or meaning(again.recipe) != meaning(recipe):
        return source.text
    return text


def _read(source: Source) -> Reading:
    """Read a recipe, or a fragment. Raises RecipeError for the first mistake."""
    reading = read(source, fragment=is_fragment(source))
    if reading.errors:
        raise reading.errors[0]
    return reading


class _Formatter:
    def __init__(self, reading: Reading) -> None:
        assert reading.recipe is not None, "there were no errors"
        self.recipe: Recipe = reading.recipe
        self.reading = reading
        self.raw = reading.source.text.removeprefix(BOM).split("\n")
        self.end = "\r" if self.raw[0].endswith("\r") else ""
        """What stands before each LF that we write."""
        self.out: list[str] = []

    def run(self) -> str:
        posix = reads_posix(self.recipe)
        done = 0
        for line in self.reading.lines:
            self.between(done, line.first - 1)
            layout = Layout(line, self.recipe.directives.escape, self.raw, posix=posix)
            for text in layout.lines():
                self.write(text)
            self.out += self.raw[line.bodies - 1 : line.last]
            done = line.last
        self.between(done, len(self.raw))
        while self.out and not self.out[-1].strip(SPACES):
            self.out.pop()
        return "".join([line + "\n" for line in self.out])

    def write(self, text: str) -> None:
        self.out.append(text + self.end)

    def between(self, start: int, end: int) -> None:
        """Write the comments and empty lines from line number `start` on (from 0) up to `end`."""
        for raw in self.raw[start:end]:
            text = raw.strip(SPACES)
            if text.startswith("#"):
                self.write(text)
            elif not text and self.wants_empty_line(start):
                self.write("")

    def wants_empty_line(self, start: int) -> bool:
        """One empty line stays of several; none at the top, unless it keeps a comment there from being a
        directive."""
        if self.out:
            return bool(self.out[-1].strip(SPACES))
        following = next((line for line in self.raw[start:] if line.strip(SPACES)), "")
        reader = Reader(Source("", following))
        return bool(following) and _directive(reader)


def _directive(reader: Reader) -> bool:
    """Whether the first line would be a directive."""
    from grammar.errors import RecipeError

    try:
        reader.directives()
    except RecipeError:
        return True
    return reader.next > 0
