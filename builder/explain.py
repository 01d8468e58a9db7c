"""Why a step missed: the first part of its key that differs from the nearest earlier build of the same
recipe line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import zip_longest
from posixpath import commonprefix

from builder.keys import Part, StepKey

Files = tuple[tuple[str, str], ...]

_SHOWN = 3
_LONG = 60


def why(
    keyword: str,
    key: StepKey,
    earlier: Sequence[tuple[Part, ...]],
    files_of: Callable[[str], Files | None],
) -> str:
    """Return in words what differs from the one of `earlier` that shares the most parts with `key`.

    `files_of` returns the files that a source's digest stands for, None where they are not known any more.
    """
    if not earlier:
        return "first build of this line"
    now = dict(key.parts)
    nearest = max(earlier, key=lambda parts: sum(now.get(label) == value for label, value in parts))
    then = dict(nearest)
    for label in [*now, *(label for label in then if label not in now)]:
        if now.get(label) != then.get(label):
            return _difference(keyword, label, then.get(label), now.get(label), files_of)
    return "an earlier result is no longer in the store"


def _difference(
    keyword: str, label: str, then: str | None, now: str | None, files_of: Callable[[str], Files | None]
) -> str:
    if label == "state below":
        return "the state below it changed: an earlier step gave another result, or the base is another one"
    kind, _, name = label.partition(" ")
    if kind == "source":
        return _source_difference(keyword, name, then, now, files_of)
    if kind == "mounted":
        return _mount_difference(name, then, now, files_of)
    if kind == "mount":
        return _options_difference(name, then, now)
    if label in ("command", "script", "suite", "config"):
        return f"the {label} changed{_told(label, then, now)}"
    what = f"variable {name}" if kind == "variable" else label
    if then is None:
        return f"{what} is new: {_short(now)}"
    if now is None:
        return f"{what} is gone (was {_short(then)})"
    return f"{what} changed: {_change(then, now)}"


def _source_difference(
    keyword: str, name: str, then: str | None, now: str | None, files_of: Callable[[str], Files | None]
) -> str:
    if then is None or now is None:
        return f"{keyword} {name} is {'new' if then is None else 'gone'}"
    old, new = files_of(then), files_of(now)
    if old is None or new is None:
        return f"{keyword} {name} changed"
    return f"{keyword} {name} changed: {changed_files(old, new)}"


def _options_difference(name: str, then: str | None, now: str | None) -> str:
    if then is None or now is None:
        return f"the mount {name} is {'new' if then is None else 'gone'}"
    old, new = json.loads(then), json.loads(now)
    gone = [word for word in old if word not in new]
    added = [word for word in new if word not in old]
    words = [*(f"with {word}" for word in added), *(f"without {word}" for word in gone)]
    if gone and added:
        words = [f"{' '.join(gone)} -> {' '.join(added)}"]
    return f"the mount {name} changed: {', '.join(words)}"


def _mount_difference(
    name: str, then: str | None, now: str | None, files_of: Callable[[str], Files | None]
) -> str:
    # Behind the digest stand mode and owner of a directory (builder.sources).
    old, new = (files_of((value or "").partition(" ")[0]) for value in (then, now))
    what = f"what is mounted on {name} changed"
    if old is None or new is None or old == new:
        return what
    return f"{what}: {changed_files(old, new)}"


def changed_files(old: Files, new: Files) -> str:
    """Name the first few files that differ between two selections."""
    before, after = dict(old), dict(new)
    words: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        shown = path or "."
        if path not in before:
            words.append(f"{shown} (new)")
        elif path not in after:
            words.append(f"{shown} (gone)")
        elif before[path].split(" ")[1:] == after[path].split(" ")[1:]:
            words.append(f"{shown} (mode)")
        else:
            words.append(shown)
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _told(label: str, then: str | None, now: str | None) -> str:
    """Return what is worth telling of the change of a part that is too long to be shown."""
    if then is None or now is None or label == "suite":
        return ""
    if label == "script":
        return f": {_change(then, now)}"
    old, new = json.loads(then), json.loads(now)
    if label == "config":
        members = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        return f": {', '.join(members)}"
    before, after = (words[-1] if words else "" for words in (old, new))
    if old[:-1] != new[:-1]:
        before, after = " ".join(old), " ".join(new)
    return f": {_change(before, after)}"


def _change(then: str, now: str) -> str:
    """Show two texts from about where they begin to differ: of several lines the first one that does."""
    pairs = zip_longest(then.split("\n"), now.split("\n"), fillvalue="")
    before, after = next((a, b) for a, b in pairs if a != b)
    same = len(commonprefix([before, after]))
    if same > _LONG // 2 and max(len(before), len(after)) > _LONG - 2:
        before, after = ("…" + text[same - _LONG // 4 :] for text in (before, after))
    return f"{_short(before)} -> {_short(after)}"


def _short(value: str | None) -> str:
    text = json.dumps(value or "", ensure_ascii=False)
    return text if len(text) <= _LONG else text[: _LONG - 2] + '…"'
