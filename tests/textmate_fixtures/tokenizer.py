"""A TextMate tokenizer on Oniguruma, the regular expressions that editors run these grammars with.

It does as vscode-textmate does (src/grammar/tokenizeString.ts), as far as our grammar needs it: begin, end
and while rules with back references, \\A and \\G, captures with names, injections with priority. Other
grammars that ours embeds are not here: their text gets the scopes of the rule that embeds it. Over all
recipes of the tests it gives the very pieces that vscode-textmate 9.3 gives.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any

import onigurumacffi

Rule = dict[str, Any]


@dataclass(frozen=True)
class Frame:
    """A rule under way: what ends it, and the scopes within it. `anchor` is where \\G stands."""

    rule: Rule
    end: str | None
    scopes: tuple[str, ...]
    content: tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """A part of a line, and its scopes from the outermost."""

    start: int
    text: str
    scopes: tuple[str, ...]

    def has(self, scope: str) -> bool:
        """Whether one of the scopes is `scope` or more special."""
        return any(each == scope or each.startswith(scope + ".") for each in self.scopes)


@dataclass
class Line:
    """A line under way."""

    text: str
    pieces: list[Piece] = field(default_factory=list)
    done: int = 0

    def add(self, end: int, scopes: tuple[str, ...]) -> None:
        end = min(end, len(self.text) - 1)
        if end > self.done:
            self.pieces.append(Piece(self.done, self.text[self.done : end], scopes))
            self.done = end


@functools.cache
def compiled(pattern: str) -> Any:
    return onigurumacffi.compile(pattern)


def search(pattern: str, text: str, position: int, *, first: bool, anchored: bool) -> Any:
    """Return the match of `pattern` from `position` on. \\A matches in the `first` line only, and \\G where
    the last rule began (`anchored`)."""
    if not first:
        pattern = pattern.replace("\\A", "\uffff")
    if not anchored:
        pattern = pattern.replace("\\G", "\uffff")
    return compiled(pattern).search(text, position)


class Tokenizer:
    """Reads texts with one grammar."""

    def __init__(self, path: str) -> None:
        with open(path, encoding="utf-8") as file:
            self.grammar: Rule = json.load(file)
        self.injections = [
            (selector.split(":", 1)[1].split(" - "), rule)
            for selector, rule in self.grammar["injections"].items()
        ]

    def lines(self, text: str) -> list[list[Piece]]:
        """Return the pieces of each line. Raises AssertionError where an editor would give up: a rule that
        does not get ahead."""
        scopes = (self.grammar["scopeName"],)
        stack = [Frame(self.grammar, None, scopes, scopes)]
        out: list[list[Piece]] = []
        for number, line in enumerate(text.split("\n")):
            out.append(self._line(line.removesuffix("\r") + "\n", stack, first=number == 0))
        return out

    def _line(self, text: str, stack: list[Frame], *, first: bool) -> list[Piece]:
        line = Line(text)
        position = 0
        anchor = -1
        for depth, frame in enumerate(list(stack)):
            if "while" not in frame.rule:
                continue
            match = search(frame.end or "", text, position, first=first, anchored=anchor == position)
            if match is None or match.start() != position:
                del stack[depth:]
                break
            line.add(match.end(), frame.content)
            position = anchor = match.end()
        entered = [-1] * len(stack)
        while True:
            found = self._next(stack, text, position, first=first, anchored=anchor == position)
            if found is None:
                line.add(len(text), stack[-1].content)
                return line.pieces
            rule, match = found
            start, end = match.span()
            line.add(start, stack[-1].content)
            if rule is None:
                popped = stack.pop()
                assert entered.pop() < end, f"a rule begins and ends on nothing: {text!r} {popped.rule}"
                self._captures(line, popped.rule, "endCaptures", match, popped.scopes)
            elif "match" in rule:
                self._captures(line, rule, "captures", match, named(stack[-1].content, rule.get("name")))
            else:
                stack.append(self._begun(line, rule, match, stack[-1].content))
                entered.append(position)
                anchor = end
                assert len(stack) < 100, f"a rule begins itself: {text!r} {rule}"
            assert rule is None or "begin" in rule or end > start, f"a match of nothing: {text!r} {rule}"
            position = max(position, end)

    def _begun(self, line: Line, rule: Rule, match: Any, outside: tuple[str, ...]) -> Frame:
        scopes = named(outside, rule.get("name"))
        self._captures(line, rule, "beginCaptures", match, scopes)
        end = rule.get("while") or rule["end"]
        end = re.sub(r"\\(\d+)", lambda m: re.escape(group(match, int(m[1]))), end)
        return Frame(rule, end, scopes, named(scopes, rule.get("contentName")))

    def _captures(self, line: Line, rule: Rule, key: str, match: Any, scopes: tuple[str, ...]) -> None:
        captures = rule.get(key) or {}
        whole = named(scopes, captures.get("0", {}).get("name"))
        for number in range(1, len(match._begs)):
            name = captures.get(str(number), {}).get("name")
            if name is None or not group(match, number):
                continue
            line.add(match.start(number), whole)
            line.add(match.end(number), named(whole, name))
        line.add(match.end(), whole)

    def _next(
        self, stack: list[Frame], text: str, position: int, *, first: bool, anchored: bool
    ) -> tuple[Rule | None, Any] | None:
        """Return the rule that matches next, None for the end of the current one; and its match."""
        frame = stack[-1]
        best: tuple[Rule | None, Any] | None = None
        if frame.end is not None and "while" not in frame.rule:
            match = search(frame.end, text, position, first=first, anchored=anchored)
            best = (None, match) if match else None
        best = self._best(best, frame.rule["patterns"], text, position, first=first, anchored=anchored)
        for (wanted, *unwanted), rule in self.injections:
            if selected(frame.content, wanted) and not any(
                selected(frame.content, each) for each in unwanted
            ):
                # A left injection goes before what matches at the same place.
                other = self._best(None, rule["patterns"], text, position, first=first, anchored=anchored)
                if other and (best is None or other[1].start() <= best[1].start()):
                    best = other
        return best

    def _best(
        self,
        best: tuple[Rule | None, Any] | None,
        patterns: list[Rule],
        text: str,
        position: int,
        *,
        first: bool,
        anchored: bool,
    ) -> tuple[Rule | None, Any] | None:
        for rule in self._flat(patterns):
            pattern = rule.get("match") or rule["begin"]
            match = search(pattern, text, position, first=first, anchored=anchored)
            if match is not None and (best is None or match.start() < best[1].start()):
                best = (rule, match)
        return best

    def _flat(self, patterns: list[Rule]) -> list[Rule]:
        out: list[Rule] = []
        for pattern in patterns:
            include = pattern.get("include", "")
            if include == "$self":
                out += self._flat(self.grammar["patterns"])
            elif include.startswith("#"):
                out += self._flat([self.grammar["repository"][include[1:]]])
            elif "match" in pattern or "begin" in pattern:
                out.append(pattern)
            elif not include:
                out += self._flat(pattern["patterns"])
        return out


def named(scopes: tuple[str, ...], name: str | None) -> tuple[str, ...]:
    return (*scopes, *name.split()) if name else scopes


def selected(scopes: tuple[str, ...], selector: str) -> bool:
    return any(scope == selector or scope.startswith(selector + ".") for scope in scopes)


def group(match: Any, number: int) -> str:
    return str(match.group(number)) if number < len(match._begs) and match._begs[number] >= 0 else ""
