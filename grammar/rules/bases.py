"""What FROM names."""

from __future__ import annotations

import re

from grammar.ast import Pair, Word
from grammar.bases import parse_base
from grammar.errors import RecipeError
from grammar.expand import expand
from grammar.rules.names import PLATFORM_ARGUMENTS, variables
from grammar.rules.rule import rule
from grammar.suggest import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammar.ast import Stage
    from grammar.rules.rule import Finding, Subject

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/|\[[0-9a-fA-F:]+\](?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9+._-]+:[0-9a-fA-F]{32,})?"
)
"""As distribution's reference grammar (github.com/distribution/reference) has it."""


@rule(
    "UndefinedArgInFrom",
    "warning",
    "FROM should only use an ARG that stands before the first FROM",
    whole=True,
)
def undefined_arg_in_from(subject: Subject) -> Iterator[Finding]:
    known = {pair.key.text for pair in _global_pairs(subject)}
    for stage in subject.real_stages:
        for word in _words(stage):
            for name in variables(word, subject.recipe.directives.escape):
                if name not in known and name not in PLATFORM_ARGUMENTS:
                    hint = did_you_mean(name, [*known, *PLATFORM_ARGUMENTS])
                    yield (
                        word.span,
                        f"FROM uses ${name}, which no ARG before the first FROM declares",
                        hint or f"Write ARG {name}=… before the first FROM.",
                    )


@rule(
    "InvalidDefaultArgInFrom",
    "warning",
    "An ARG that FROM uses should have a default that makes a valid base",
    whole=True,
)
def invalid_default_arg_in_from(subject: Subject) -> Iterator[Finding]:
    escape = subject.recipe.directives.escape
    values = dict.fromkeys(PLATFORM_ARGUMENTS, "linux")
    try:
        for pair in _global_pairs(subject):
            if pair.value is not None:
                values[pair.key.text] = expand(pair.value.text, values.get, escape=escape)
    except RecipeError:
        return
    declared = {pair.key.text for pair in _global_pairs(subject)} | PLATFORM_ARGUMENTS
    for stage in subject.real_stages:
        image = stage.from_.image
        used = variables(image, escape)
        if not used or not declared.issuperset(used):
            continue
        try:
            text = expand(image.text, values.get, escape=escape)
        except RecipeError:
            continue
        base = parse_base(text)
        if not text or (base.kind == "name" and not _REFERENCE.fullmatch(text)):
            yield (
                image.span,
                f"with the defaults of its ARGs FROM {image.text} names {text or 'nothing'!r}",
                f"Give ARG {used[0]} a default, so that a build without --build-arg works.",
            )


@rule("BaseImageUntagged", "warning", "A base image should be named with its tag")
def base_image_untagged(subject: Subject) -> Iterator[Finding]:
    for stage, tag in _images(subject):
        if not tag:
            image = stage.from_.image
            yield image.span, f"FROM {image.text} has no tag: it means latest", "Name a version, or a digest."


@rule("BaseImageLatest", "warning", "A base image should not be latest")
def base_image_latest(subject: Subject) -> Iterator[Finding]:
    for stage, tag in _images(subject):
        if tag == "latest":
            yield (
                stage.from_.image.span,
                f"FROM {stage.from_.image.text}: another image tomorrow",
                "Name a version, or a digest.",
            )


def _images(subject: Subject) -> Iterator[tuple[Stage, str]]:
    """Yield the stages that stand on an image of a registry, and its tag (a digest counts as one)."""
    for stage in subject.real_stages:
        text = stage.from_.image.text
        if not stage.from_.image.plain or subject.parent(stage) is not None:
            continue
        base = parse_base(text)
        if base.kind == "name" or base.transport == "docker-image":
            name, at, _ = base.location.partition("@")
            yield stage, "digest" if at else name.rpartition("/")[2].partition(":")[2]


def _global_pairs(subject: Subject) -> Iterator[Pair]:
    for argument in subject.recipe.global_args:
        yield from argument.pairs


def _words(stage: Stage) -> Iterator[Word]:
    from_ = stage.from_
    for word in (from_.image, from_.platform, from_.variant, from_.keyring, *from_.include, *from_.mirror):
        if word is not None:
            yield word
