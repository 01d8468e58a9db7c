"""The completion script for zsh (zshcompsys(1))."""

from __future__ import annotations

from collections.abc import Sequence

from builder.completion import STAGES, Command, Option

_SCRIPT = r"""#compdef pybuild
# zsh completion for pybuild, written by `pybuild completion zsh`.
# To use it: source <(pybuild completion zsh)
# or, for good, before compinit: pybuild completion zsh >"${fpath[1]}/_pybuild"

_pybuild_images() {
    local -a names
    names=(${(f)"$(pybuild images --names 2>/dev/null)"})
    _wanted images expl image compadd -a names
}

_pybuild_containers() {
    local -a ids
    ids=(${(f)"$(pybuild containers -q 2>/dev/null)"})
    _wanted containers expl container compadd -a ids
}

_pybuild_registries() {
    local -a names
    names=(${(f)"$(pybuild login --list 2>/dev/null)"})
    _wanted registries expl registry compadd -a names
}

_pybuild_cache_mounts() {
    local -a ids
    if [[ ${words[(r)import]} == import ]]; then
        _files
        return
    fi
    ids=(${(f)"$(pybuild cache-mounts -q 2>/dev/null)"})
    _wanted cache-mounts expl 'cache mount' compadd -a ids
}

_pybuild_recipes() {
    _files -g '(*.rec|*.[Dd]ockerfile|[Dd]ockerfile*|Containerfile*)(-.)'
}

_pybuild_stages() {
    # The stages of the recipe that the line names, else of the one that would be taken.
    local word
    local -a names
    for word in ${words[2,-1]} ./Dockerfile ./*.rec(N); do
        if [[ -f $word ]]; then
            names=(${(f)"$(sed -nE @STAGES@ $word)"})
            break
        fi
    done
    _wanted stages expl stage compadd -a names
}

_pybuild_commands() {
    local -a commands
    commands=(
@COMMANDS@
    )
    _describe -t commands command commands
}

@FUNCTIONS@

_pybuild() {
    local curcontext=$curcontext state state_descr line
    local -A opt_args
    _arguments -C \
@TOP_OPTIONS@
        '1: :->first' \
        '*:: :->rest'
    case $state in
        first)
            _alternative 'commands:command:_pybuild_commands' 'recipes:recipe:_pybuild_recipes'
            ;;
        rest)
            if (( ! $+functions[_pybuild_command_$words[1]] )); then
                # A recipe: the command is `build`.
                words=(build $words)
                (( CURRENT++ ))
            fi
            _pybuild_command_$words[1]
            ;;
    esac
}

if [[ $funcstack[1] == _pybuild ]]; then
    _pybuild "$@"
else
    compdef _pybuild pybuild
fi
"""

_ACTIONS = {
    "recipe": "_pybuild_recipes",
    "image": "_pybuild_images",
    "container": "_pybuild_containers",
    "cache-mount": "_pybuild_cache_mounts",
    "registry": "_pybuild_registries",
    "stage": "_pybuild_stages",
    "directory": "_files -/",
    "file": "_files",
    "other": "_default",
}


def write(commands: Sequence[Command], top: Sequence[Option]) -> str:
    """Return the script."""
    words = "\n".join(f"        {_quote(f'{c.name}:{c.help}')}" for c in commands)
    return (
        _SCRIPT.replace("@STAGES@", STAGES)
        .replace("@COMMANDS@", words)
        .replace("@FUNCTIONS@", "\n\n".join(map(_function, commands)))
        .replace("@TOP_OPTIONS@", "\n".join(f"        {_option(option)} \\" for option in top))
    )


def _function(command: Command) -> str:
    specs = [_option(option) for option in command.options]
    last = len(command.arguments) - 1
    for index, (kind, choices) in enumerate(command.arguments):
        star = "*" if index == last and command.repeats else ""
        specs.append(_quote(f"{star}: :{_action(kind, choices)}"))
    body = " \\\n        ".join(specs)
    return f"_pybuild_command_{command.name}() {{\n    _arguments -s -S \\\n        {body}\n}}"


def _option(option: Option) -> str:
    """`*` since many may be repeated, and zsh must not hide what the parser takes."""
    value = f": :{_action(option.value, option.choices)}" if option.value is not None else ""
    description = (
        option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
    )
    specs = [_quote(f"*{name}{_joined(name, option)}[{description}]{value}") for name in option.names]
    return " ".join(specs)


def _joined(name: str, option: Option) -> str:
    """Long options take their value after a blank or `=`; short ones joined or after a blank."""
    if option.value is None:
        return ""
    return "=" if name.startswith("--") else "+"


def _action(kind: str, choices: tuple[str, ...]) -> str:
    return f"({' '.join(choices)})" if kind == "choice" else _ACTIONS[kind]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
