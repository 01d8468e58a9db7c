"""Durations and sizes as people read them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """0.3s, 12.3s, 1m04s, 2h05m."""
    if seconds < 59.95:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def part_of(done: int, total: int) -> str:
    """26.4/48.0 MB; where the units differ, both are named: 812 B/48.0 MB."""
    number, _, unit = size(done).partition(" ")
    whole = size(total)
    return f"{number}/{whole}" if whole.endswith(f" {unit}") else f"{number} {unit}/{whole}"


def size(count: float) -> str:
    """Bytes in decimal units, as Docker and the drives' makers count them: 812 B, 12.3 MB."""
    if count < 1000:
        return f"{int(count)} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"
