"""Names without a registry: Docker's, unless pybuild.toml lets registries.conf give some of them another
meaning (docs/decisions/short-names.md).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.config import Config

Aliases = tuple[tuple[str, str], ...]
"""Short names without a tag, and the repositories that they stand for."""


def aliases(config: Config, environ: Mapping[str, str] = os.environ) -> Aliases:
    """Return the aliases that are in force. Raises RegistryError (registry/config), UsageError."""
    if config.short_names != "aliases":
        return ()
    from cache.errors import FormatError
    from cache.oci.reference import Reference
    from cache.registry.registriesconf import load

    found = load(environ).aliases
    for name, value in found.items():
        try:
            ok = _split(name)[1] == "" and _split(value)[1] == "" and _has_registry(value)
            Reference.parse(value)
        except FormatError:
            ok = False
        if not ok or _has_registry(name):
            raise UsageError(
                f"registries.conf: the alias {name[:200]!r} = {value[:200]!r} makes no sense",
                code="usage/alias",
                hint='a short name, and what it stands for: "ubi9" = "registry.access.redhat.com/ubi9"',
            )
    return tuple(sorted(found.items()))


def full_name(text: str, known: Aliases) -> str:
    """Return `text` with what it is an alias of; tag and digest stay. What has a registry, or is no alias, is
    returned as it is.
    """
    if not known or "://" in text or _has_registry(text):
        return text
    name, suffix = _split(text)
    value = dict(known).get(name)
    return text if value is None else value + suffix


def _split(text: str) -> tuple[str, str]:
    """Part a name from `:tag` and `@digest`."""
    name, at, digest = text.partition("@")
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return head, f":{tag}{at}{digest}"
    return name, at + digest


def _has_registry(text: str) -> bool:
    first, slash, _ = text.partition("/")
    return bool(slash) and (first == "localhost" or "." in first or ":" in first or first != first.lower())
