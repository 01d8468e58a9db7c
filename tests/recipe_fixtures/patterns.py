"""References for wildcards and ignore files, written from Go's sources and nothing of ours: filepath.Match as
it is in path/filepath/match.go, and moby's patternmatcher as it would be without regular expressions."""

from __future__ import annotations

import posixpath

# References, written from Go's sources and nothing of ours: filepath.Match as it is in
# path/filepath/match.go, and moby's patternmatcher as it would be without regular expressions.


class BadPattern(Exception):
    """ErrBadPattern."""


def go_match(pattern: str, name: str) -> bool:
    """filepath.Match. Like Go since 1.16, a bad pattern is bad though the name does not come that far."""
    while pattern:
        star = False
        while pattern.startswith("*"):
            pattern, star = pattern[1:], True
        chunk, pattern = go_chunk(pattern)
        if star and not chunk:
            return "/" not in name
        rest = go_match_chunk(chunk, name)
        if rest is not None and (not rest or pattern):
            name = rest
            continue
        matched = False
        if star:
            for i in range(len(name)):
                if name[i] == "/":
                    break
                rest = go_match_chunk(chunk, name[i + 1 :])
                if rest is not None and (pattern or not rest):
                    name, matched = rest, True
                    break
        if matched:
            continue
        while pattern:
            chunk, pattern = go_chunk(pattern.lstrip("*"))
            go_match_chunk(chunk, "")
        return False
    return not name


def go_chunk(pattern: str) -> tuple[str, str]:
    """scanChunk, behind the stars."""
    in_range, i = False, 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\":
            i += i + 1 < len(pattern)
        elif char == "[":
            in_range = True
        elif char == "]":
            in_range = False
        elif char == "*" and not in_range:
            break
        i += 1
    return pattern[:i], pattern[i:]


def go_match_chunk(chunk: str, name: str) -> str | None:
    """matchChunk: what is left of the name, None if it does not match."""
    failed = False
    while chunk:
        failed = failed or not name
        if chunk[0] == "[":
            char = ""
            if not failed:
                char, name = name[0], name[1:]
            chunk = chunk[1:]
            negated = chunk.startswith("^")
            chunk = chunk[negated:]
            match, ranges = False, 0
            while not (chunk.startswith("]") and ranges):
                low, chunk = go_escape(chunk)
                high = low
                if chunk.startswith("-"):
                    high, chunk = go_escape(chunk[1:])
                match = match or (char != "" and low <= char <= high)
                ranges += 1
            chunk = chunk[1:]
            failed = failed or match == negated
        elif chunk[0] == "?":
            if not failed:
                failed = name[0] == "/"
                name = name[1:]
            chunk = chunk[1:]
        else:
            if chunk[0] == "\\":
                chunk = chunk[1:]
                if not chunk:
                    raise BadPattern
            if not failed:
                failed = chunk[0] != name[0]
                name = name[1:]
            chunk = chunk[1:]
    return None if failed else name


def go_escape(chunk: str) -> tuple[str, str]:
    """getEsc."""
    if not chunk or chunk[0] in "-]":
        raise BadPattern
    if chunk[0] == "\\":
        chunk = chunk[1:]
        if not chunk:
            raise BadPattern
    if len(chunk) == 1:
        raise BadPattern
    return chunk[0], chunk[1:]


def moby_items(pattern: str) -> list[str]:
    """What moby's compile walks through: `**` with the slash behind it, `*`, `?`, classes, escaped
    characters.
    """
    out: list[str] = []
    i = 0
    while i < len(pattern):
        if pattern.startswith("**", i):
            i += 2
            i += pattern.startswith("/", i)
            out.append("**" if i < len(pattern) else "**$")
            continue
        end = i + 1
        if pattern[i] == "\\":
            end += 1
            if end > len(pattern):
                raise BadPattern
        elif pattern[i] == "[":
            end = i + 1 + pattern.startswith("^", i + 1)
            first = True
            while first or not pattern.startswith("]", end):
                first = False
                _, rest = go_escape(pattern[end:])
                if rest.startswith("-"):
                    _, rest = go_escape(rest[1:])
                end = len(pattern) - len(rest)
            end += 1
        out.append(pattern[i:end])
        i = end
    return out


def moby_match(items: tuple[str, ...], path: str, seen: dict[tuple[int, int], bool]) -> bool:
    """Whether the items match the whole path, by trying everything."""
    key = (len(items), len(path))
    if key not in seen:
        seen[key] = _moby_match(items, path, seen)
    return seen[key]


def _moby_match(items: tuple[str, ...], path: str, seen: dict[tuple[int, int], bool]) -> bool:
    if not items:
        return not path
    item, rest = items[0], items[1:]
    if item == "**$":
        return True
    if item == "**":
        ends = [0] + [i + 1 for i, char in enumerate(path) if char == "/"]
        return any(moby_match(rest, path[end:], seen) for end in ends)
    if item == "*":
        return moby_match(rest, path, seen) or (
            path[:1] not in ("", "/") and moby_match(items, path[1:], seen)
        )
    if not path:
        return False
    if item == "?":
        return path[0] != "/" and moby_match(rest, path[1:], seen)
    # A class may match a slash in moby's regular expressions, though in filepath.Match it does not.
    one = go_match_chunk(item.replace("/", "\\/"), path[0]) is not None if item != "\\/" else path[0] == "/"
    return one and moby_match(rest, path[1:], seen)


def moby_ignores(rules: list[str], path: str) -> bool:
    """MatchesUsingParentResults: a rule matches a path if it matches it or a directory above; the last rule
    decides.

    Each rule is trimmed, its `!` taken, cleaned as by filepath.Clean, and freed of one leading slash.
    """
    compiled: list[tuple[bool, str]] = []
    for rule in rules:
        wanted = rule.strip()
        negated = wanted.startswith("!")
        wanted = wanted[negated:].strip()
        if not wanted:
            if negated:
                raise BadPattern
            continue
        wanted = posixpath.normpath(wanted).replace("//", "/")
        compiled.append((negated, wanted[1:] if len(wanted) > 1 and wanted[0] == "/" else wanted))
    parts = path.split("/")
    prefixes = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    ignored = False
    for negated, wanted in compiled:
        items = tuple(moby_items(wanted))
        suffix = wanted[2:]
        for prefix in prefixes:
            if (
                wanted.startswith("**")
                and suffix
                and not set("*?\\[]/") & set(suffix[:1])
                and not set("*?\\[]") & set(suffix)
            ):
                matched = prefix.endswith(suffix)
            else:
                matched = moby_match(items, prefix, {})
            if matched:
                ignored = not negated
    return ignored
