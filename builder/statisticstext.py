"""Statistics of builds as text, JSON, and the Markdown of a CI job's summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.statistics import HERE, Hits, Statistics
from builder.table import ago, human_size

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOTHING = "no build has been counted in this store yet\n"
_REASONS = 10


def as_text(builds: Sequence[Statistics]) -> str:
    """Return what a person reads in a terminal."""
    if not builds:
        return _NOTHING
    from builder.progress.printable import printable

    total = _sum(builds)
    hits, steps = total.all_hits, _steps(total)
    lines = [f"{_title(builds)}: {steps} {_plural('step', steps)} in {duration(total.seconds)}"]
    saved = f"saved {duration(hits.seconds)} of work, and {_layers(hits)}"
    lines.append(f"  hits    {hits.steps:>6}  {_percent(total)}; {saved}")
    lines += [
        f"          {each.steps:>6}  {_tier(tier)}: {duration(each.seconds)}, {_layers(each)}"
        for tier, each in _ordered(total)
    ]
    lines.append(f"  misses  {total.ran:>6}  {duration(total.ran_seconds)} of work")
    lines += [f"          {count:>6}  {reason}" for reason, count in _most(total.misses)]
    if total.doubted:
        words = ", ".join(f"{count} {word}" for word, count in _most(total.doubted))
        lines.append(f"  not believed  {words}")
    if total.fetched or total.shared or total.sent:
        lines.append(
            f"  fetched {human_size(total.fetched)}; shared {total.shared} "
            f"{'entry' if total.shared == 1 else 'entries'}, {human_size(total.sent)}"
        )
    return "\n".join(printable(line) for line in lines) + "\n"


def as_markdown(builds: Sequence[Statistics]) -> str:
    """Return what a CI job's summary shows."""
    if not builds:
        return _NOTHING
    total = _sum(builds)
    hits, steps = total.all_hits, _steps(total)
    lines = [
        f"### pybuild: {_cell(_title(builds))}",
        "",
        f"{hits.steps} of {steps} steps were cached ({_percent(total)}); "
        f"saved {duration(hits.seconds)} of work, and {_layers(hits)}.",
        f"The build took {duration(total.seconds)}.",
        "",
        "| | steps | seconds | layers |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {_cell(_tier(tier))} | {each.steps} | {each.seconds:.1f} | {human_size(each.size)} |"
        for tier, each in _ordered(total)
    ]
    lines.append(f"| run | {total.ran} | {total.ran_seconds:.1f} | |")
    if total.misses:
        lines += ["", "| why steps were run | steps |", "|---|---:|"]
        lines += [f"| {_cell(reason)} | {count} |" for reason, count in _most(total.misses)]
    if total.doubted:
        lines += ["", "| not believed | entries |", "|---|---:|"]
        lines += [f"| {_cell(word)} | {count} |" for word, count in _most(total.doubted)]
    lines += [
        "",
        f"Fetched {human_size(total.fetched)}; shared {total.shared} "
        f"{'entry' if total.shared == 1 else 'entries'}, {human_size(total.sent)}.",
    ]
    return "\n".join(lines) + "\n"


def as_json(builds: Sequence[Statistics]) -> str:
    """Return everything, for programs: the sum, and each build."""
    import json

    total = _sum(builds)
    value = {"builds": len(builds), **_value(total), "each": [_value(each, own=True) for each in builds]}
    return json.dumps(value, indent=2) + "\n"


def duration(seconds: float) -> str:
    """Return seconds as a person says them: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _value(found: Statistics, *, own: bool = False) -> dict[str, object]:
    hits = found.all_hits
    value: dict[str, object] = (
        {"recipe": found.recipe, "started": int(found.started), "failed": found.failed} if own else {}
    )
    return value | {
        "seconds": round(found.seconds, 3),
        "steps": _steps(found),
        "hits": hits.steps,
        "hit_ratio": round(hits.steps / _steps(found), 4) if _steps(found) else None,
        "seconds_saved": round(hits.seconds, 3),
        "bytes_saved": hits.size,
        "hits_by_cache": {
            tier or "local": {"steps": each.steps, "seconds": round(each.seconds, 3), "bytes": each.size}
            for tier, each in _ordered(found)
        },
        "misses": found.ran,
        "seconds_run": round(found.ran_seconds, 3),
        "misses_by_reason": dict(_most(found.misses, None)),
        "not_believed": dict(_most(found.doubted, None)),
        "bytes_fetched": found.fetched,
        "entries_shared": found.shared,
        "bytes_shared": found.sent,
    }


def _sum(builds: Iterable[Statistics]) -> Statistics:
    total = Statistics()
    for each in builds:
        total.add(each)
    return total


def _title(builds: Sequence[Statistics]) -> str:
    if len(builds) > 1:
        return f"the last {len(builds)} builds"
    failed = ", which failed" if builds[0].failed else ""
    return f"{builds[0].recipe}, {ago(builds[0].started)}{failed}"


def _steps(found: Statistics) -> int:
    return found.ran + found.all_hits.steps


def _percent(found: Statistics) -> str:
    steps = _steps(found)
    return f"{100 * found.all_hits.steps // steps if steps else 0} %"


def _layers(hits: Hits) -> str:
    return f"{human_size(hits.size)} of layers"


def _tier(tier: str) -> str:
    return "this store" if tier == HERE else f"the shared cache {tier}"


def _ordered(found: Statistics) -> list[tuple[str, Hits]]:
    return sorted(found.hits.items())


def _most(counts: dict[str, int], limit: int | None = _REASONS) -> list[tuple[str, int]]:
    """Return the largest counts first; of many, the rest as one."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if limit is None or len(ordered) <= limit:
        return ordered
    rest = sum(count for _, count in ordered[limit - 1 :])
    return [*ordered[: limit - 1], ("other reasons", rest)]


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _cell(text: str) -> str:
    """Return text that Markdown takes for nothing but text, in one line."""
    from builder.progress.printable import printable

    plain = " ".join(printable(text).split())
    return "".join("\\" + char if char in "\\`*_{}[]<>#|~!&" else char for char in plain)
