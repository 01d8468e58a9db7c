"""containers-registries.conf(5), version 2: what podman, buildah and skopeo know of registries.

Read as containers/image reads it (pkg/sysregistriesv2), when a registry is first spoken to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from cache.errors import RegistryError

if TYPE_CHECKING:
    from cache.oci.reference import Reference

Pulls = Literal["all", "digest-only", "tag-only"]
"""Whether a mirror is asked for what is named by a digest, by a tag, or both."""

_NONE: Mapping[str, str] = MappingProxyType({})
_LARGEST = 4 * 1024 * 1024
_VERSION_1 = "[registries.search] and the like are version 1 of that file, which knows no mirrors"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A place that may have what a rule is about. `location` is `host[:port][/path]`."""

    location: str
    insecure: bool
    pulls: Pulls

    def serves(self, *, by_digest: bool) -> bool:
        """Whether it is asked for what is named by a digest, or else by a tag."""
        return self.pulls == "all" or (self.pulls == "digest-only") == by_digest


@dataclass(frozen=True, slots=True)
class Rule:
    """A `[[registry]]` table. `location` is where what begins with `prefix` is; `file` is where it stands."""

    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[Mirror, ...]
    file: str

    def matched(self, name: str) -> int:
        """How much of `name` the prefix covers, in characters; 0 if it does not match."""
        if self.prefix.startswith("*."):
            host, _, _ = name.partition("/")
            bare = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
            return len(bare) if bare.endswith(self.prefix[1:]) else 0
        if not name.startswith(self.prefix):
            return 0
        return len(self.prefix) if name[len(self.prefix) : len(self.prefix) + 1] in ("", "/", ":", "@") else 0


@dataclass(frozen=True, slots=True)
class RegistriesConf:
    """All files together. `aliases` are those of short names; `search` are registries to look for them in;
    `helpers` are credential helpers, in the order in which they are asked, AUTH_FILES among them.
    """

    rules: tuple[Rule, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=lambda: _NONE)
    search: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()

    def rule(self, reference: Reference) -> Rule | None:
        """The rule for `reference`: the one with the longest prefix."""
        name = str(reference)
        covers = [(rule.matched(name), rule) for rule in self.rules]
        longest = max((covered for covered, _ in covers), default=0)
        return next((rule for covered, rule in covers if longest and covered == longest), None)


def load(environ: Mapping[str, str]) -> RegistriesConf:
    """Return what the files say that `environ` leads to. Raises RegistryError (registry/config)."""
    rules: dict[str, Rule] = {}
    aliases: dict[str, str] = {}
    search: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ()
    for path in files(environ):
        content = _read(path)
        if content is None:
            continue
        reader = _Reader(path)
        # A later file's list and its rules take the place of an earlier one's, prefix by prefix.
        search = reader.search(content) or search
        helpers = reader.helpers(content) or helpers
        rules.update((rule.prefix, rule) for rule in reader.rules(content))
        for name, value in reader.aliases(content):
            if value:
                aliases[name] = value
            else:
                aliases.pop(name, None)
    return RegistriesConf(tuple(rules.values()), MappingProxyType(aliases), search, helpers)


def files(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the files that there may be; a later one overrides an earlier one.

    A user's own file takes the place of the system's, drop-ins included; $CONTAINERS_REGISTRIES_CONF that of
    the main file.
    """
    home = environ.get("HOME") or os.path.expanduser("~")
    user = os.path.join(environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "containers")
    system = "/etc/containers"
    explicit = environ.get("CONTAINERS_REGISTRIES_CONF") or environ.get("REGISTRIES_CONFIG_PATH")
    own = os.path.join(user, "registries.conf")
    if explicit:
        yield explicit
        directories = [system, user]
    elif os.path.exists(own):
        yield own
        directories = [user]
    else:
        yield f"{system}/registries.conf"
        directories = [system, user]
    for directory in directories:
        drop_ins = os.path.join(directory, "registries.conf.d")
        try:
            names = sorted(os.listdir(drop_ins))
        except OSError:
            continue
        yield from (os.path.join(drop_ins, name) for name in names if name.endswith(".conf"))


class _Reader:
    """Reads one file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def search(self, content: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(item.rstrip("/") for item in self._strings(content, "unqualified-search-registries"))

    def helpers(self, content: Mapping[str, Any]) -> tuple[str, ...]:
        return self._strings(content, "credential-helpers")

    def aliases(self, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        table = content.get("aliases", {})
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise self._wrong("[aliases] must be a table of strings")
        yield from table.items()

    def rules(self, content: Mapping[str, Any]) -> Iterator[Rule]:
        if isinstance(content.get("registries"), dict):
            raise self._wrong(_VERSION_1)
        tables = content.get("registry", [])
        if not isinstance(tables, list):
            raise self._wrong("registry must be an array of tables: [[registry]]")
        for table in tables:
            yield self._rule(table)

    def _rule(self, table: Any) -> Rule:
        location = self._place(table, "location")
        prefix = self._place(table, "prefix") or location
        if not prefix or (not location and not prefix.startswith("*.")):
            raise self._wrong("a [[registry]] needs its location")
        digests = self._flag(table, "mirror-by-digest-only")
        mirrors = table.get("mirror", [])
        if not isinstance(mirrors, list):
            raise self._wrong("mirror must be an array of tables: [[registry.mirror]]")
        return Rule(
            prefix,
            location,
            self._flag(table, "insecure"),
            self._flag(table, "blocked"),
            tuple(self._mirror(mirror, digests) for mirror in mirrors),
            self._path,
        )

    def _mirror(self, table: Any, digests: bool) -> Mirror:
        location = self._place(table, "location")
        pulls: Pulls = table.get("pull-from-mirror") or ("digest-only" if digests else "all")
        if not location:
            raise self._wrong("a [[registry.mirror]] needs its location")
        if pulls not in ("all", "digest-only", "tag-only"):
            raise self._wrong("pull-from-mirror must be all, digest-only or tag-only")
        return Mirror(location, self._flag(table, "insecure"), pulls)

    def _strings(self, content: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(f"{key} must be a list of strings")
        return tuple(value)

    def _place(self, table: Any, key: str) -> str:
        if not isinstance(table, dict) or not isinstance(value := table.get(key, ""), str):
            raise self._wrong(f"{key} must be a string")
        if "://" in value or re.search(r"[\s?#]", value):
            raise self._wrong(f"{key} {value[:200]!r} is not host[:port][/path]")
        return value.rstrip("/")

    def _flag(self, table: Any, key: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(f"{key} must be true or false")
        return value

    def _wrong(self, what: str) -> RegistryError:
        return _error(f"{self._path}: {what}")


def _read(path: str) -> Mapping[str, Any] | None:
    import tomli

    try:
        with open(path, "rb") as file:
            return tomli.loads(file.read(_LARGEST).decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _error(f"{path} cannot be read: {reason}") from None


def _error(message: str) -> RegistryError:
    return RegistryError(
        message, code="registry/config", hint="containers-registries.conf(5) says what it may hold"
    )
