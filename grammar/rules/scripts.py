"""What RUN's commands do, whatever they install."""

from __future__ import annotations

from grammar.rules.rule import rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.rules.rule import Finding, Script, Subject
    from grammar.shell_commands import ShellCommand

_HARMLESS = frozenset(
    ("set", "export", "echo", "printf", ":", "true", "false", "exit", "trap", "umask", "unset")
)
"""Commands that do not fail, or whose failure nobody minds."""
_INTERPRETERS = frozenset(("sh", "bash", "ash", "dash", "zsh", "python", "python3", "perl", "node", "ruby"))
_UID_DIGITS = 5


@rule("SudoUsed", "warning", "RUN needs no sudo: USER says who runs it")
def sudo_used(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for command in script.commands:
            if command.program == "sudo":
                yield script.span(command), "sudo in RUN", "Write USER root before it, and USER … after it."
                break


@rule("CdInsteadOfWorkdir", "warning", "A cd ends with its RUN: WORKDIR stays")
def cd_instead_of_workdir(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if script.shell and len(script.commands) == 1 and script.commands[0].program == "cd":
            command = script.commands[0]
            target = command.arguments[0] if command.arguments else "…"
            yield (
                script.span(command),
                "this cd has no effect: the next instruction begins in WORKDIR again",
                f"Write WORKDIR {target}.",
            )
        elif script.shell and script.commands[:1] and not script.document and len(script.commands) > 1:
            command = script.commands[0]
            if command.program == "cd" and not command.depth and command.arguments:
                yield (
                    script.span(command),
                    f"RUN begins with cd {command.arguments[0]}",
                    f"Write WORKDIR {command.arguments[0]} before it.",
                    "info",
                )


@rule("PipeWithoutPipefail", "warning", "Before a pipe, failures should not be lost")
def pipe_without_pipefail(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if not script.shell or script.option("", "pipefail"):
            continue
        for at, command in enumerate(script.commands):
            if not command.piped or command.condition:
                continue
            first = script.commands[at - 1].program
            if first not in _HARMLESS | {"yes"}:
                yield (
                    script.span(command),
                    f"if {first} fails, the RUN goes on: the last one's exit code counts",
                    'Write SHELL ["/bin/bash", "-o", "pipefail", "-c"] before it, or set -o pipefail in it.',
                )
                break


@rule("RemoteScriptUnverified", "info", "A downloaded script should be checked before it is run")
def remote_script_unverified(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for before, command in zip(script.commands, script.commands[1:], strict=False):
            if command.piped and before.program in ("curl", "wget") and command.program in _INTERPRETERS:
                yield (
                    script.span(command),
                    f"{command.program} runs whatever {before.program} got",
                    "Use ADD --checksum=sha256:… URL and run that: it stays what you looked at.",
                )


@rule("WgetAndCurl", "info", "A stage should not need both wget and curl")
def wget_and_curl(subject: Subject) -> Iterator[Finding]:
    for stage in subject.stages:
        seen: set[str] = set()
        for script in subject.scripts:
            for command in script.commands if script.stage is stage else ():
                if command.program in ("wget", "curl") and command.program not in seen:
                    seen.add(command.program)
                    if len(seen) == 2:
                        yield script.span(command), "wget and curl do the same", "Use one of them."


@rule("FailureIgnored", "warning", "A command's failure should not be lost at a ;")
def failure_ignored(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if not script.shell or script.document or script.option("e", "errexit"):
            continue
        for before, command in _in_sequence(script):
            if before.after == ";" and before.program not in _HARMLESS:
                yield (
                    script.span(before),
                    f"if {before.program} fails, {command.program} runs all the same",
                    "Put && in place of ;, or begin with set -e.",
                )
                break


@rule("HeredocWithoutErrexit", "warning", "A RUN heredoc should begin with set -e")
def heredoc_without_errexit(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        if not script.document or script.option("e", "errexit"):
            continue
        for before, _ in _in_sequence(script):
            if before.after in ("\n", ";") and before.program not in _HARMLESS:
                yield (
                    script.span(before),
                    f"if {before.program} fails, the script goes on",
                    "Begin the heredoc with set -e (and -u, and -o pipefail where the shell has it).",
                )
                break


def _in_sequence(script: Script) -> Iterator[tuple[ShellCommand, ShellCommand]]:
    """Yield each command outside of loops, conditions and substitutions with the one after it."""
    plain = [each for each in script.commands if not (each.depth or each.block or each.condition)]
    # A compound command between two plain ones parts them no less.
    last = script.commands[-1] if script.commands else None
    for at, command in enumerate(plain):
        following = plain[at + 1] if at + 1 < len(plain) else last
        if following is not None and following is not command:
            yield command, following


@rule("UseraddWithoutNoLogInit", "warning", "useradd with a large uid should be given --no-log-init")
def useradd_without_no_log_init(subject: Subject) -> Iterator[Finding]:
    for script in subject.scripts:
        for command in script.commands:
            if command.program != "useradd":
                continue
            words = command.arguments
            if any(
                w in ("-l", "--no-log-init") or (w[:1] == "-" and w[1:2] != "-" and "l" in w) for w in words
            ):
                continue
            uid = _option_value(words, "-u", "--uid")
            if uid.isdecimal() and len(uid) > _UID_DIGITS:
                yield (
                    script.span(command),
                    f"useradd for the uid {uid} writes a sparse /var/log/faillog that a layer holds in full",
                    "Add --no-log-init.",
                )


def _option_value(words: tuple[str, ...], short: str, long: str) -> str:
    for at, word in enumerate(words):
        if word in (short, long):
            return words[at + 1] if at + 1 < len(words) else ""
        if word.startswith(long + "="):
            return word[len(long) + 1 :]
        if word.startswith(short) and len(word) > len(short):
            return word[len(short) :]
    return ""
