"""Calls of package managers: what is asked of them, with which options, for which packages."""

from __future__ import annotations

from grammar.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from grammar.rules.rule import Script
    from grammar.shell_commands import ShellCommand
    from grammar.source import Span

_WRAPPERS = frozenset(("sudo", "env", "exec", "command", "nohup", "eatmydata"))


class Call(Node):
    """One call: `apt-get -y install --no-install-recommends curl`."""

    program: str
    verb: str
    options: tuple[str, ...]
    packages: tuple[str, ...]
    span: Span
    at: int
    """The command's number in its script."""

    def has(self, *names: str) -> bool:
        """Whether one of the options is given: long ones also with `=…`, single letters also among others."""
        for option in self.options:
            for name in names:
                if option == name or option.startswith(name + "="):
                    return True
                letter = name[1:] if len(name) == 2 and name[0] == "-" else ""
                if letter and option[:1] == "-" and option[1:2] != "-" and letter in option[1:]:
                    return True
        return False


def calls(script: Script, programs: Collection[str], valued: Collection[str] = ()) -> Iterator[Call]:
    """Yield the calls of `programs` in a script. The options in `valued` take the next word as their
    value.
    """
    for at, command in enumerate(script.commands):
        words = _words(command)
        program = words[0].rpartition("/")[2] if words else ""
        if program in ("python", "python3") and words[1:3] == ["-m", "pip"]:
            program, words = "pip", words[2:]
        if program not in programs:
            continue
        options: list[str] = []
        plain: list[str] = []
        rest = iter(words[1:])
        for word in rest:
            if not word.startswith("-"):
                plain.append(word)
                continue
            options.append(f"{word} {next(rest, '')}" if word in valued else word)
        yield Call(
            program, plain[0] if plain else "", tuple(options), tuple(plain[1:]), script.span(command), at
        )


def _words(command: ShellCommand) -> list[str]:
    """Return a command's words without what only runs it: sudo, env and their like, with their options."""
    words = [word.text for word in command.words]
    while words and words[0].rpartition("/")[2] in _WRAPPERS:
        del words[0]
        while words and (words[0].startswith("-") or "=" in words[0]):
            del words[0]
    return words


def named(packages: tuple[str, ...]) -> list[str]:
    """Return those of the packages that are names: no paths, URLs, variables."""
    return [each for each in packages if not (set("$/*{`") & set(each)) and not each.startswith(".")]
