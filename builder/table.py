"""Tables, sizes and times as the commands print them: plain text that `awk` and a person can read."""

from __future__ import annotations

import time
from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` below `head`, columns two blanks apart, the last one as long as it likes."""
    from builder.progress.printable import printable

    table = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head) - 1)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())


def human_size(count: int) -> str:
    """Return bytes in decimal units, as Docker shows them: 1.2MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f}{unit}" if unit == "B" else f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}TB"


def parse_size(text: str) -> int:
    """Return the bytes that `10GB`, `512M`, `1.5GiB` or a plain number mean. Raises ValueError."""
    units = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
    lower = text.strip().lower()
    binary = lower.endswith("ib")
    stem = lower.removesuffix("ib") if binary else lower.removesuffix("b") if len(lower) > 1 else lower
    unit = stem[-1:] if stem[-1:].isalpha() else ""
    number = float(stem[: len(stem) - len(unit)])
    if unit not in units or number < 0:
        raise ValueError(text)
    return int(number * (1024 ** "bkmgt".index(unit or "b") if binary else units[unit]))


def parse_age(text: str) -> float:
    """Return the seconds that `90s`, `15m`, `24h`, `7d` or `2w` mean. Raises ValueError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    unit = text[-1:].lower()
    if unit not in units:
        raise ValueError(text)
    seconds = float(text[:-1]) * units[unit]
    if seconds < 0:
        raise ValueError(text)
    return seconds


def ago(seconds: float) -> str:
    """Return how long ago a time (seconds since 1970, 0 if unknown) was, in its largest unit."""
    if not seconds:
        return "-"
    passed = max(0, time.time() - seconds)
    for size, unit in (
        (31536000, "year"),
        (2592000, "month"),
        (604800, "week"),
        (86400, "day"),
        (3600, "hour"),
    ):
        if passed >= 2 * size:
            return f"{int(passed // size)} {unit}s ago"
    if passed >= 120:
        return f"{int(passed // 60)} minutes ago"
    return f"{int(passed)} seconds ago"
