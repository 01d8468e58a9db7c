"""Names of images in registries: `[registry/]repository[:tag][@digest]`.

The grammar is distribution's (reference/reference.go), and so is what a short name stands for: `debian` is
`docker.io/library/debian:latest`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cache.errors import FormatError
from cache.oci.digest import Digest

DEFAULT_REGISTRY = "docker.io"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete name: nothing about it is implied. At least one of `tag` and `digest` is set."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Return what `text` names, what it implies filled in. Raises FormatError if it is no name."""
        name, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        head, colon, last = name.rpartition(":")
        tag: str | None = None
        if colon and "/" not in last:  # else the colon is that of a registry's port
            name, tag = head, last
            if _TAG.fullmatch(tag) is None:
                raise FormatError(f"{text[:300]!r} is not an image name: the tag {tag[:140]!r} is not valid")
        registry, repository = _split(name)
        _check(text, registry, repository)
        return cls(registry, repository, tag if tag or digest else "latest", digest)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The short form that people type: `debian:bookworm`; parses to the same reference."""
        name = self.name
        if self.registry == DEFAULT_REGISTRY:
            bare = self.repository.removeprefix("library/")
            short = bare if "/" not in bare else self.repository
            # `docker.io/a.b/c` is not `a.b/c`: that has a.b for its registry.
            name = short if _split(short) == (self.registry, self.repository) else name
        return name + self._suffix()

    def with_tag(self, tag: str) -> Reference:
        """The same repository's `tag`. Raises FormatError if it is not valid as one."""
        if _TAG.fullmatch(tag) is None:
            raise FormatError(f"not a tag: {tag[:140]!r}")
        return Reference(self.registry, self.repository, tag)

    def with_digest(self, digest: Digest) -> Reference:
        """This reference, pinned to `digest`."""
        return Reference(self.registry, self.repository, self.tag, digest)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _split(name: str) -> tuple[str, str]:
    """Part `name`: its first component is a registry only if it cannot belong to a repository."""
    first, slash, rest = name.partition("/")
    is_registry = slash and (
        first == "localhost" or any(mark in first for mark in ".:") or first != first.lower()
    )
    registry, repository = (first, rest) if is_registry else (DEFAULT_REGISTRY, name)
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _check(text: str, registry: str, repository: str) -> None:
    shown = repr(text[:300])
    bare = repository.removeprefix("library/")
    if not bare:
        raise FormatError(f"{shown} is not an image name: it is empty")
    if _HEX.fullmatch(bare) and registry == DEFAULT_REGISTRY:
        raise FormatError(
            f"{shown} is not an image name: it is an image id", hint="a name must not be 64 hex digits"
        )
    if _REGISTRY.fullmatch(registry) is None:
        raise FormatError(f"{shown} is not an image name: {registry[:100]!r} is not a registry")
    if _REPOSITORY.fullmatch(repository) is None:
        lower = repository.lower()
        hint = f"repository names are lower case: {lower[:100]}" if _REPOSITORY.fullmatch(lower) else None
        raise FormatError(f"{shown} is not an image name: {bare[:100]!r} is not a repository", hint=hint)
    if len(registry) + 1 + len(repository) > 255:
        raise FormatError(f"{shown} is not an image name: it is longer than 255 characters")
