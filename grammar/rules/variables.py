"""Variables in a stage: used before they are set, and set to what should be kept secret."""

from __future__ import annotations

import re

from grammar.ast import Arg, Command, Env, Fragment, Heredoc, Include, Instruction, Onbuild, Pair, Word
from grammar.errors import RecipeError
from grammar.expand import expand, expand_document
from grammar.includes import spliced
from grammar.node import Node
from grammar.rules.names import PLATFORM_ARGUMENTS, PROXY_ARGUMENTS, variables
from grammar.rules.rule import rule
from grammar.suggest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.ast import Recipe, Stage
    from grammar.rules.rule import Finding, Subject

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.I
)
_PUBLIC = re.compile(r"(?:_|^)(?:public)(?:_|$)", re.I)
"""The names that BuildKit's rule goes by (frontend/dockerfile/dockerfile2llb/convert.go)."""


@rule("UndefinedVar", "warning", "A variable should be set before it is used", whole=True)
def undefined_var(subject: Subject) -> Iterator[Finding]:
    """What an image brings along is not known here: a variable that its base may set is an info."""
    states: dict[int, tuple[set[str], bool]] = {}
    for stage in subject.stages:
        parent = subject.parent(stage)
        if parent is not None:
            known, sure = states[parent.index]
            known = set(known)
        else:
            known = {"PATH", *PROXY_ARGUMENTS}
            sure = stage.from_.image.text == "scratch" and not subject.fragment
        later = _later(stage)
        for instruction in stage.instructions:
            sure = sure and not (isinstance(instruction, Include) and instruction.fragment is None)
            for word in _words(instruction):
                for name in variables(word, subject.recipe.directives.escape):
                    if name not in known:
                        yield _undefined(subject, word, name, known, later, sure)
            known.update(_set(instruction))
        states[stage.index] = (known, sure)


def _later(stage: Stage) -> dict[str, int]:
    """Return the variables that the stage sets, and the first line that does so."""
    found: dict[str, int] = {}
    for instruction in stage.instructions:
        for name in _set(instruction):
            found.setdefault(name, instruction.span.line)
    return found


def _undefined(
    subject: Subject, word: Word, name: str, known: set[str], later: dict[str, int], sure: bool
) -> Finding:
    outside = (pair.key.text for argument in subject.recipe.global_args for pair in argument.pairs)
    # Among thousands of names there is always a near one.
    near = nearest(name, sorted(known - PROXY_ARGUMENTS)) if len(known) < 1000 else None
    severity = "warning"
    if name in later:
        hint = f"It is set in line {later[name]}: move that line up."
    elif name in outside:
        hint = f"An ARG before FROM is for FROM lines alone: repeat ARG {name} in this stage."
    elif name in PLATFORM_ARGUMENTS:
        hint = f"Write ARG {name} in this stage."
    elif near:
        hint = f"Did you mean ${near}?"
    else:
        hint = f"Write ARG {name} or ENV {name}=… before it."
        severity = "warning" if sure else "info"
    unless = "" if severity == "warning" else ", unless the base sets it"
    return word.span, f"${name} is not set here{unless}", hint, severity


def unexpandable(recipe: Recipe) -> Iterator[RecipeError]:
    """Yield what is wrong with the words of `recipe`, whatever the variables: a build finds only those in
    stages that it needs."""
    escape = recipe.directives.escape
    stages = [each for stage in recipe.stages for each in (stage.from_, *stage.instructions)]
    for instruction in (*recipe.global_args, *stages):
        if isinstance(instruction, Include):
            continue
        documents = [doc for doc in getattr(instruction, "heredocs", ()) if doc.expand]
        try:
            for word in _words(instruction.replace(heredocs=()) if documents else instruction):
                expand(word.text, "x".format, escape=escape, span=word.span)
            for doc in documents:
                expand_document(doc.content, "x".format, span=doc.span)
        except RecipeError as error:
            yield error


def _set(instruction: Instruction) -> set[str]:
    if isinstance(instruction, Arg | Env):
        return {pair.key.text for pair in instruction.pairs}
    if isinstance(instruction, Include) and instruction.fragment is not None:
        # What is set with ENV stays; the ARGs of a fragment are its own.
        below = [each for each in spliced((instruction,)) if isinstance(each, Env)]
        return {pair.key.text for each in below for pair in each.pairs}
    return set()


def _words(value: object) -> Iterator[Word]:
    """Yield the words below a node in which variables are expanded."""
    if isinstance(value, Word):
        yield value
    elif isinstance(value, Heredoc):
        if value.expand:
            yield Word(value.body, value.span)
    elif isinstance(value, Pair):
        yield from _words(value.key)
        yield from _words(value.value)
    elif isinstance(value, Onbuild | Command | Fragment):
        return
    elif isinstance(value, Node):
        for field in value.values():
            yield from _words(field)
    elif isinstance(value, tuple):
        for item in value:
            yield from _words(item)


@rule("SecretsUsedInArgOrEnv", "warning", "ARG and ENV should hold no secrets: they stay in the image")
def secrets_used_in_arg_or_env(subject: Subject) -> Iterator[Finding]:
    found: list[Instruction] = [
        *subject.recipe.global_args,
        *(each for stage in subject.stages for each in stage.instructions),
    ]
    for instruction in found:
        told = instruction.trigger if isinstance(instruction, Onbuild) else instruction
        for pair in told.pairs if isinstance(told, Arg | Env) else ():
            name = pair.key.text
            if _SECRET.search(name) and not _PUBLIC.search(name):
                yield (
                    pair.key.span,
                    f"{told.keyword} {name} looks like a secret, and can be read from the image",
                    f"Hand it to a RUN: RUN --mount=type=secret,id={name.lower()},env={name} …",
                )
