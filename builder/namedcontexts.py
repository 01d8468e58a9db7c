"""What `--build-context NAME=VALUE` gives a name: a directory, an image, a recipe, another stage.

As with BuildKit (frontend/dockerui/namedcontext.go), such a name is found wherever a recipe names an image
or a stage: in FROM, in COPY --from and in RUN --mount=from=. The stage of that name is not built then.
Names are those of images, so that `debian`, `debian:latest` and `docker.io/library/debian` are one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.steps import CopyStep, ImageBase, LocalTree, RecipeBase
from cache.errors import FormatError
from cache.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cache.oci.platform import Platform
    from grammar.source import Span


@dataclass(frozen=True, slots=True)
class NamedStage:
    """Another stage of the recipe that is built."""

    stage: str


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """A git repository, or a tar behind a URL, that is to be fetched: into a LocalTree."""

    url: str = field(repr=False)


NamedContext = LocalTree | ImageBase | RecipeBase | NamedStage | RemoteContext

NamedContexts = tuple[tuple[str, NamedContext], ...]
"""Names, as `context_name` gives them, and what they mean."""

_IMAGES = ("docker-image", "container-image", "docker")
"""BuildKit's word, and buildah's two."""


def find(contexts: NamedContexts, name: str) -> NamedContext | None:
    """Return what an image's or a stage's name means by `--build-context`, None if that does not say."""
    if not contexts:
        return None
    try:
        wanted = context_name(name)
    except FormatError:
        return None
    return next((value for known, value in contexts if known == wanted), None)


def context_name(text: str) -> str:
    """Return the one spelling of a name. Raises FormatError if it could not be an image's."""
    reference = Reference.parse(text)
    return reference.familiar.removesuffix(":latest" if reference.digest is None else "")


def parse_contexts(texts: Mapping[str, str], platform: Platform) -> NamedContexts:
    """Return what is given as name -> value. Paths are meant from the working directory. Raises
    UsageError.
    """
    found: dict[str, NamedContext] = {}
    for text, value in texts.items():
        try:
            name = context_name(text)
        except FormatError as error:
            raise _error(text, value, error.message, error.hint) from None
        found[name] = _parse(name, value, platform)
    return tuple(sorted(found.items()))


def files_step(tree: LocalTree, span: Span) -> CopyStep:
    """Return the step that lets a stage stand on a directory: it has its files."""
    text = f"FROM {tree.name}"
    return CopyStep(
        span=span,
        text=text,
        created_by=f"{text} # pybuild",
        tree=tree,
        sources=(".",),
        documents=(),
        dest="/",
        into_directory=True,
        chown="",
        chmod="",
    )


def split(text: str) -> tuple[str, str]:
    """Part `NAME=VALUE`. Raises UsageError."""
    name, mark, value = text.partition("=")
    if not name or not mark or not value:
        raise UsageError(
            f"--build-context {text!r}: write NAME=VALUE",
            code="usage/build-context",
            hint="VALUE is a directory, docker-image://NAME, oci-layout://PATH, target:STAGE or a recipe",
        )
    return name, value


def at_directory(value: str, directory: str) -> str:
    """Return `value` with its path, if it is one, meant from `directory`."""
    scheme, mark, location = value.partition("://")
    if mark:
        return f"{scheme}://{_absolute(location, directory)}" if _is_path(scheme) else value
    if value.startswith("target:") or is_remote(value):
        return value
    return _absolute(os.path.expanduser(value), directory)


def is_remote(value: str) -> bool:
    """Whether `value` is fetched: a git repository, or a tar behind a URL. Raises PlanError for a malformed
    URL.
    """
    if os.path.exists(value):
        return False
    from builder.remotes.address import parse_address

    return parse_address(value, context=True) is not None


def _parse(name: str, value: str, platform: Platform) -> NamedContext:
    from builder.bases import SCHEMES

    if value.startswith("target:"):
        return NamedStage(value.removeprefix("target:"))
    if is_remote(value):
        return RemoteContext(value)
    value = at_directory(value, os.getcwd())
    scheme, mark, location = value.partition("://")
    if not mark:
        return _local(name, value, platform)
    if scheme in _IMAGES:
        try:
            Reference.parse(location)
        except FormatError as error:
            raise _error(name, value, error.message, error.hint) from None
        return ImageBase(location, platform)
    if scheme in SCHEMES:
        return ImageBase(value, platform)
    raise _error(
        name,
        value,
        f"unknown kind of context: {scheme}://",
        "a directory, docker-image://NAME, oci-layout://PATH, target:STAGE, or a recipe",
    )


def _local(name: str, path: str, platform: Platform) -> NamedContext:
    if os.path.isdir(path):
        return LocalTree(path, name)
    recipe, mark, target = path.partition("#")
    if os.path.isfile(recipe):
        return RecipeBase(recipe, target if mark else None, platform)
    raise _error(name, path, "no such directory or recipe", None)


def _is_path(scheme: str) -> bool:
    return scheme in ("oci-layout", "oci-archive", "docker-archive")


def _absolute(path: str, directory: str) -> str:
    return os.path.normpath(os.path.join(os.path.abspath(directory), path))


def _error(name: str, value: str, problem: str, hint: str | None) -> UsageError:
    return UsageError(
        f"--build-context {name}={value[:200]}: {problem}", code="usage/build-context", hint=hint
    )
