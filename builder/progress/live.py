"""The part of the terminal that is redrawn, through rich.

Importing this module costs what importing rich costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from builder.progress.printable import cells

if TYPE_CHECKING:
    from builder.progress.lines import Line
    from builder.progress.sink import Sink

Frame = Callable[[int, int], "list[Line]"]
"""(columns, rows) -> the lines to show."""


class Screen:
    """Draws a block of lines at the bottom, and lets other lines pass above it. Not thread-safe."""

    def __init__(self, sink: Sink, colour: bool) -> None:
        self._console = Console(
            file=_Output(sink),  # type: ignore[arg-type]  # rich asks only for write, flush, isatty and fileno
            force_terminal=True,
            legacy_windows=False,
            no_color=not colour,
            color_system="standard" if colour else None,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )
        # Transient: when it stops, the block is gone and the cursor stands where it began.
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._widths: list[int] = []
        self._columns = self._console.width
        self._live.start()

    def draw(self, frame: Frame) -> None:
        """Redraw the block."""
        self._follow_resize()
        columns, rows = self._console.size
        lines = frame(columns, rows - 1)
        self._widths = [sum(cells(text) for text, _ in line) for line in lines]
        self._live.update(Group(*map(_text, lines)), refresh=True)

    def write(self, lines: Iterable[Line]) -> None:
        """Write lines that stay, above the block."""
        self._follow_resize()
        self._console.print(Group(*(_text(line, crop=False) for line in lines)), soft_wrap=True)

    def stop(self) -> None:
        """Remove the block and show the cursor again."""
        self._follow_resize()
        self._live.update("")
        self._live.stop()

    def _follow_resize(self) -> None:
        """Erase what a narrower terminal has made of the block.

        Terminals reflow: a line that no longer fits takes several rows, of which rich, that counts lines,
        would leave the upper ones standing.
        """
        columns = self._console.width
        if columns < self._columns:
            extra = sum(max(-(-width // columns) - 1, 0) for width in self._widths)
            up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * extra
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *up))
            self._widths = []
        self._columns = columns


class _Output:
    """A sink as the file that rich writes to."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.encoding = sink.encoding

    def write(self, text: str) -> int:
        self._sink.write(text)
        return len(text)

    def flush(self) -> None:
        """Sink.write has done it."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._sink.stream.fileno()


def _text(line: Line, crop: bool = True) -> Text:
    overflow = "crop" if crop else "ignore"
    return Text.assemble(*line, no_wrap=True, overflow=overflow)  # type: ignore[arg-type]
