"""The completion script for fish (complete(1))."""

from __future__ import annotations

from collections.abc import Sequence

from builder.completion import STAGES, Command, Option

_SCRIPT = r"""# fish completion for pybuild, written by `pybuild completion fish`.
# To use it: pybuild completion fish | source
# or, for good: pybuild completion fish >~/.config/fish/completions/pybuild.fish

function __pybuild_words
    # The words before the cursor, without the program's name.
    set -l words (commandline -opc)
    printf '%s\n' $words[2..-1]
end

function __pybuild_first
    test (count (commandline -opc)) -eq 1
end

function __pybuild_using
    # Whether the command is one of those given; a first word that is no command is a recipe to build.
    set -l words (__pybuild_words)
    set -l command build
    if set -q words[1]; and contains -- $words[1] @COMMANDS@
        set command $words[1]
    end
    contains -- $command $argv
end

function __pybuild_images
    pybuild images --names 2>/dev/null
end

function __pybuild_containers
    pybuild containers -q 2>/dev/null
end

function __pybuild_registries
    pybuild login --list 2>/dev/null
end

function __pybuild_cache_mounts
    if contains -- import (__pybuild_words)
        __fish_complete_path (commandline -ct)
    else
        pybuild cache-mounts -q 2>/dev/null
    end
end

function __pybuild_recipes
    for path in (__fish_complete_path (commandline -ct))
        set -l name (string split -f1 \t -- $path)
        if string match -rq '(/|\.rec|\.[Dd]ockerfile|(^|/)([Dd]ockerfile|Containerfile)[^/]*)$' -- $name
            printf '%s\n' $path
        end
    end
end

function __pybuild_stages
    # The stages of the recipe that the line names, else of the one that would be taken.
    for word in (__pybuild_words) ./Dockerfile ./*.rec
        if test -f $word
            sed -nE @STAGES@ $word
            return
        end
    end
end

complete -c pybuild -f
@TOP_OPTIONS@
@BODY@
"""

_WORDS = {
    "recipe": "(__pybuild_recipes)",
    "image": "(__pybuild_images)",
    "container": "(__pybuild_containers)",
    "cache-mount": "(__pybuild_cache_mounts)",
    "registry": "(__pybuild_registries)",
    "stage": "(__pybuild_stages)",
    "directory": "(__fish_complete_directories (commandline -ct))",
    "file": "(__fish_complete_path (commandline -ct))",
    "other": "(__fish_complete_path (commandline -ct))",
}


def write(commands: Sequence[Command], top: Sequence[Option]) -> str:
    """Return the script."""
    names = " ".join(command.name for command in commands)
    body = "\n".join(line for command in commands for line in _lines(command))
    top_lines = "\n".join(_option("__pybuild_first", option) for option in top)
    return (
        _SCRIPT.replace("@STAGES@", STAGES)
        .replace("@COMMANDS@", names)
        .replace("@TOP_OPTIONS@", top_lines)
        .replace("@BODY@", body)
    )


def _lines(command: Command) -> list[str]:
    using = f"__pybuild_using {command.name}"
    lines = [f"complete -c pybuild -n __pybuild_first -a {command.name} -d {_quote(command.help)}"]
    lines += [_option(using, option) for option in command.options]
    # fish does not count arguments: each kind is offered at any place.
    offered = dict.fromkeys(command.arguments)
    lines += [
        f"complete -c pybuild -n {_quote(using)} -a {_quote(_values(*argument))}" for argument in offered
    ]
    return lines


def _option(condition: str, option: Option) -> str:
    words = [f"complete -c pybuild -n {_quote(condition)}"]
    for name in option.names:
        if name.startswith("--"):
            words.append(f"-l {name[2:]}")
        else:
            words.append(f"-s {name[1:]}" if len(name) == 2 else f"-o {name[1:]}")
    if option.value is not None:
        words.append(f"-x -a {_quote(_values(option.value, option.choices))}")
    words.append(f"-d {_quote(option.help)}")
    return " ".join(words)


def _values(kind: str, choices: tuple[str, ...]) -> str:
    return " ".join(choices) if kind == "choice" else _WORDS[kind]


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
