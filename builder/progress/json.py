"""One JSON object a line (JSON Lines), for programs.

Docs/events.md documents every name; names only ever get more.
"""

from __future__ import annotations

import codecs
import json
import time
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from builder.events import StepFinished, StepOutput, TransferFinished, TransferProgress
from builder.progress.base import StreamDisplay

if TYPE_CHECKING:
    from builder.events import Event
    from builder.progress.sink import Sink

PROGRESS_INTERVAL = 0.1
"""Seconds between two transfer_progress objects of the same transfer."""


class JsonDisplay(StreamDisplay):
    """Writes each event as it is, with its name and the time.

    Output is text here, as JSON knows no bytes: UTF-8, with U+FFFD for what is none; a character that two
    events share stands in the second one.
    """

    def __init__(
        self, sink: Sink, *, clock: Callable[[], float], wall: Callable[[], float] = time.time
    ) -> None:
        super().__init__(sink)
        self._clock = clock
        self._wall = wall
        self._decoders: dict[tuple[int, str], codecs.IncrementalDecoder] = {}
        self._told: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        """Write `event`, unless it tells of a transfer that was told of a moment ago."""
        match event:
            case StepOutput():
                text = self._decoder(event.step, event.stream).decode(event.data)
                if text:
                    self._output(event.step, event.stream, text)
                return
            case StepFinished():
                self._finish_output(event.step)
            case TransferProgress():
                now = self._clock()
                if now - self._told.get(event.transfer, now - PROGRESS_INTERVAL) < PROGRESS_INTERVAL:
                    return
                self._told[event.transfer] = now
            case TransferFinished():
                self._told.pop(event.transfer, None)
            case _:
                pass
        name, attributes = _shape(type(event))
        values = {attribute: getattr(event, attribute) for attribute in attributes}
        if "seconds" in values:
            values["seconds"] = round(values["seconds"], 6)
        self._write(name, values)

    def close(self) -> None:
        """Write the bytes of a character that was never completed."""
        for step, _ in list(self._decoders):
            self._finish_output(step)

    def _decoder(self, step: int, stream: str) -> codecs.IncrementalDecoder:
        decoder = self._decoders.get((step, stream))
        if decoder is None:
            decoder = self._decoders[step, stream] = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder

    def _finish_output(self, step: int) -> None:
        for stream in ("stdout", "stderr"):
            decoder = self._decoders.pop((step, stream), None)
            if decoder is not None and (text := decoder.decode(b"", final=True)):
                self._output(step, stream, text)

    def _output(self, step: int, stream: str, text: str) -> None:
        self._write("step_output", {"step": step, "stream": stream, "text": text})

    def _write(self, name: str, values: dict[str, Any]) -> None:
        record = {"event": name, "time": round(self._wall(), 3), **values}
        # ASCII only, so that no reader's locale matters.
        self.sink.write(json.dumps(record, separators=(",", ":")) + "\n")


_SHAPES: dict[type, tuple[str, tuple[str, ...]]] = {}


def _shape(kind: type[Event]) -> tuple[str, tuple[str, ...]]:
    shape = _SHAPES.get(kind)
    if shape is None:
        shape = _SHAPES[kind] = (event_name(kind), tuple(attribute.name for attribute in fields(kind)))
    return shape


def event_name(kind: type[Event]) -> str:
    """StepFinished -> step_finished."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")
