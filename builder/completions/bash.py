"""The completion script for bash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from builder.completion import STAGES, Command, Option

_SCRIPT = r"""# bash completion for pybuild, written by `pybuild completion bash`.
# To use it: source <(pybuild completion bash)
# or, for good: pybuild completion bash >/etc/bash_completion.d/pybuild

_pybuild_stages() {
    # The stages of the recipe that the line names, else of the one that would be taken.
    local word recipe=
    for word in "$@" ./Dockerfile ./*.rec; do
        [[ -f $word ]] && recipe=$word && break
    done
    [[ -n $recipe ]] && sed -nE @STAGES@ "$recipe"
}

_pybuild_files() {
    # $1: recipe, file or directory; $2: what is typed so far.
    local path name
    compopt -o filenames 2>/dev/null
    while IFS= read -r path; do
        name=${path##*/}
        if [[ $1 == file || -d $path ]]; then
            COMPREPLY+=("$path")
        elif [[ $1 == recipe ]]; then
            case $name in
                *.rec|*.[Dd]ockerfile|[Dd]ockerfile*|Containerfile*) COMPREPLY+=("$path") ;;
            esac
        fi
    done < <(compgen -f -- "$2")
}

_pybuild_words() {
    # Not compgen -W, which would expand what strangers wrote.
    local word
    while IFS= read -r word; do
        [[ -n $word && $word == "$1"* ]] && COMPREPLY+=("$word")
    done
}

_pybuild() {
    # Words are split anew at blanks only: bash splits at : and = too, and image names hold colons.
    local line=${COMP_LINE:0:COMP_POINT} cur command option= kind=other choices= options= valued=
    local -i first=2 count=0 i
    local -a words
    local word
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=('')
    cur=${words[${#words[@]}-1]}
    COMPREPLY=()

    command=${words[1]}
    case $command in
@COMMAND_CASE@) ;;
        *) command=build first=1 ;;
    esac
    if ((${#words[@]} == 2)); then
        if [[ $cur == -* ]]; then
            options='@TOP_OPTIONS@'
        else
            COMPREPLY=($(compgen -W '@COMMANDS@' -- "$cur"))
        fi
        command=build first=1
    fi

    case $command in
@TABLES@
    esac

    for ((i = first; i < ${#words[@]} - 1; i++)); do
        word=${words[i]}
        if [[ -n $option ]]; then
            option=
        elif [[ $word == -* ]]; then
            [[ " $valued " == *" $word "* ]] && option=$word
        else
            ((count++))
        fi
    done

    if [[ -z $option && $cur == --*=* ]]; then
        option=${cur%%=*} cur=${cur#*=}
    elif [[ -z $option && $cur == -* ]]; then
        COMPREPLY+=($(compgen -W "$options" -- "$cur"))
        return
    fi
    if [[ -n $option ]]; then
        case $command:$option in
@VALUES@
        esac
    else
        case $command:$count in
@ARGUMENTS@
        esac
    fi

    case $kind in
        choice) COMPREPLY+=($(compgen -W "$choices" -- "$cur")) ;;
        image) _pybuild_words "$cur" < <(pybuild images --names 2>/dev/null) ;;
        container) _pybuild_words "$cur" < <(pybuild containers -q 2>/dev/null) ;;
        registry) _pybuild_words "$cur" < <(pybuild login --list 2>/dev/null) ;;
        cache-mount)
            if [[ ${words[2]} == import ]]; then
                _pybuild_files file "$cur"
            else
                _pybuild_words "$cur" < <(pybuild cache-mounts -q 2>/dev/null)
            fi ;;
        stage) _pybuild_words "$cur" < <(_pybuild_stages "${words[@]:1}") ;;
        recipe|file|directory) _pybuild_files "$kind" "$cur" ;;
        *) ((${#COMPREPLY[@]})) || compopt -o default 2>/dev/null ;;
    esac

    # bash replaces only what follows the last colon or equals sign.
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local done=${cur%"${cur##*:}"}
        COMPREPLY=("${COMPREPLY[@]#"$done"}")
    fi
} && complete -F _pybuild pybuild
"""


def write(commands: Sequence[Command], top: Sequence[Option]) -> str:
    """Return the script."""
    names = " ".join(command.name for command in commands)
    return (
        _SCRIPT.replace("@STAGES@", STAGES)
        .replace("@COMMAND_CASE@", "        " + "|".join(command.name for command in commands))
        .replace("@COMMANDS@", names)
        .replace("@TOP_OPTIONS@", " ".join(_spellings(top)))
        .replace("@TABLES@", "\n".join(map(_table, commands)))
        .replace("@VALUES@", "\n".join(line for command in commands for line in _values(command)))
        .replace("@ARGUMENTS@", "\n".join(line for command in commands for line in _arguments(command)))
    )


def _spellings(options: Iterable[Option]) -> list[str]:
    return [name for option in options for name in option.names]


def _table(command: Command) -> str:
    options = " ".join(_spellings(command.options))
    valued = " ".join(_spellings(option for option in command.options if option.value is not None))
    return f"        {command.name})\n            options+=' {options}'\n            valued='{valued}' ;;"


def _values(command: Command) -> list[str]:
    lines = []
    for option in command.options:
        if option.value in (None, "other"):
            continue
        pattern = "|".join(f"{command.name}:{name}" for name in option.names)
        lines.append(f"            {pattern}) {_kind(option.value or '', option.choices)} ;;")
    return lines


def _arguments(command: Command) -> list[str]:
    lines = []
    last = len(command.arguments) - 1
    for index, (kind, choices) in enumerate(command.arguments):
        if kind != "other":
            pattern = f"{command.name}:*" if index == last and command.repeats else f"{command.name}:{index}"
            lines.append(f"            {pattern}) {_kind(kind, choices)} ;;")
    return lines


def _kind(kind: str, choices: tuple[str, ...]) -> str:
    return f"kind=choice choices='{' '.join(choices)}'" if kind == "choice" else f"kind={kind}"
