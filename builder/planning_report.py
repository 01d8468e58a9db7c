"""A forecast as text for people, as JSON, and as a graph in DOT."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.progress.printable import printable

if TYPE_CHECKING:
    from builder.planning import Forecast, StageForecast, StepForecast

_SHOWN = 80
_COLORS = {"cached": "palegreen", "runs": "orange", "depends": "lightyellow", "unknown": "lightgrey"}


def as_text(forecast: Forecast) -> str:
    """Return the forecast as people read it: a block for each stage, a line for each step that can be
    cached."""
    steps = [step for stage in forecast.stages for step in _real(stage)]
    counts = ", ".join(
        f"{number} {words}"
        for outcome, words in (
            ("cached", "cached"),
            ("runs", "to run"),
            ("depends", "that depend on those"),
            ("unknown", "of which nothing is known"),
        )
        if (number := sum(step.outcome == outcome for step in steps))
    )
    target = printable(f"{forecast.recipe}: {forecast.target}")
    out = [
        f"{target}: {_number(len(forecast.stages), 'stage')}, {_number(len(steps), 'step')}"
        + (f": {counts}" if counts else "")
    ]
    if forecast.no_store:
        out.append(f"note: {printable(forecast.no_store)}: what is cached is not known")
    out += [f"warning: {printable(message)} [{code}]" for code, message, _ in forecast.warnings]
    for stage in forecast.stages:
        out += ["", *_stage_lines(forecast, stage)]
    return "\n".join(out)


def _stage_lines(forecast: Forecast, stage: StageForecast) -> list[str]:
    other = f" ({stage.recipe})" if stage.recipe != forecast.recipe else ""
    state = "" if stage.known or forecast.no_store else ", which is not in the store"
    out = [printable(f"{stage.name}{other}: FROM {stage.base}{state}")]
    steps = _real(stage)
    width = len(str(len(steps)))
    for number, step in enumerate(steps, 1):
        text = printable(step.text)
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
        out.append(f"  {number:>{width}}/{len(steps)} {step.outcome:8} {shown}")
        if step.reason and not forecast.no_store:
            out.append(f"  {'':>{width}} {'':>{len(str(len(steps)))}} {'':8}   {printable(step.reason)}")
    return out


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _real(stage: StageForecast) -> list[StepForecast]:
    return [step for step in stage.steps if step.outcome != "config"]


def as_json(forecast: Forecast) -> str:
    """Return the forecast as a JSON object, which docs/tools.md describes."""
    value = {
        "version": 1,
        "recipe": forecast.recipe,
        "target": forecast.target,
        "store": not forecast.no_store,
        "note": forecast.no_store,
        "warnings": [{"code": code, "message": message} for code, message, _ in forecast.warnings],
        "stages": [_stage(stage) for stage in forecast.stages],
    }
    return json.dumps(value, indent=2)


def _stage(stage: StageForecast) -> dict[str, object]:
    return {
        "id": stage.id,
        "name": stage.name,
        "recipe": stage.recipe,
        "base": stage.base,
        "base_known": stage.known,
        "needs": list(stage.needs),
        "steps": [_step(step) for step in stage.steps],
    }


def _step(step: StepForecast) -> dict[str, object]:
    return {
        "text": step.text,
        "file": step.file,
        "line": step.line,
        "outcome": step.outcome,
        "reason": step.reason,
        "key": step.key or None,
        "seconds": round(step.seconds, 3),
        "size": step.size,
        "reads": step.reads or None,
    }


def as_dot(forecast: Forecast) -> str:
    """Return the stages and their steps as a graph for Graphviz: what stands on what, dashed where files are
    copied; green is cached, orange would run, yellow depends on what runs, grey is not known."""
    out = ["digraph plan {", "  rankdir=TB;", "  node [shape=box, style=filled, fillcolor=white];"]
    ends: dict[str, str] = {}
    for number, stage in enumerate(forecast.stages):
        ends[stage.id] = f"s{number}_{max(0, len(_real(stage)))}"
        out.append(f"  subgraph cluster_{number} {{")
        out.append(f"    label={_quoted(stage.name)};")
        out.append(f"    s{number}_0 [label={_quoted('FROM ' + stage.base)}, shape=ellipse];")
        for at, step in enumerate(_real(stage), 1):
            color = _COLORS[step.outcome]
            label, tip = _quoted(_short(step.text)), _quoted(step.reason or step.outcome)
            out.append(f"    s{number}_{at} [label={label}, fillcolor={color}, tooltip={tip}];")
            out.append(f"    s{number}_{at - 1} -> s{number}_{at};")
        out.append("  }")
        for need in stage.needs:
            dashed = "" if stage.base_id == need else " [style=dashed]"
            out.append(f"  {ends[need]} -> {_reader(stage, number, need)}{dashed};")
    return "\n".join([*out, "}"])


def _reader(stage: StageForecast, number: int, need: str) -> str:
    """Return the node of a stage that needs another one: its FROM, or the first step that copies from it."""
    if stage.base_id != need:
        for at, step in enumerate(_real(stage), 1):
            if need in step.reads_ids:
                return f"s{number}_{at}"
    return f"s{number}_0"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _quoted(text: str) -> str:
    return json.dumps(printable(text), ensure_ascii=False)
