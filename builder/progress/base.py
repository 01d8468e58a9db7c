"""What every display has in common: it can be closed, and opened with `with`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from builder.events import Event
    from builder.progress.sink import Sink


class StreamDisplay(ABC):
    """A display that writes to a sink."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    @abstractmethod
    def emit(self, event: Event) -> None:
        """Show `event`."""

    def close(self) -> None:  # noqa: B027 (most have nothing to put back)
        """Put back what the display changed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
