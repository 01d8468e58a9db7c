"""The lock file of a recipe: what each name in it stood for. docs/lock.md says it in full.

TOML, in one order whatever the order of the recipe, a table for each pin: two of them differ in just the
lines that differ.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from builder.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

VERSION = 1
_MOST_BYTES = 16 << 20


class LockError(BuildError):
    """A lock file does not say what it has to, or what it says is no more so."""

    code = "lock/error"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class BasePin:
    """An image: by the `digest` of its index or manifest, else by its id. `platform` is "" where the pin
    holds for each.

    `releases` are the signed Release files that an mmdebstrap base was made of: `sha256:… URI SUITE`.
    """

    name: str
    platform: str = ""
    digest: str = ""
    image: str = ""
    releases: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        return (self.name, self.platform)

    @property
    def shown(self) -> str:
        return self.digest or self.image


@dataclass(frozen=True, slots=True)
class FilePin:
    """A file that ADD downloads, by its sha256."""

    url: str
    checksum: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.url,)

    @property
    def shown(self) -> str:
        return self.checksum


@dataclass(frozen=True, slots=True)
class GitPin:
    """A repository that ADD reads: the commit that its ref was, and where `.git` is kept, the ref's whole
    name, and the id of the tag.
    """

    url: str
    commit: str
    ref: str = ""
    tag: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        return (self.url,)

    @property
    def shown(self) -> str:
        return self.commit


@dataclass(frozen=True, slots=True)
class PackagesPin:
    """What a PACKAGES line installed: `name=version`, what it brought along included."""

    line: str
    stage: str
    platform: str
    installed: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        return (self.stage, self.line, self.platform)

    @property
    def shown(self) -> str:
        return " ".join(self.installed)


Pin = BasePin | FilePin | GitPin | PackagesPin
P = TypeVar("P", BasePin, FilePin, GitPin, PackagesPin)


@dataclass(frozen=True, slots=True)
class LockFile:
    """All pins of a recipe, each kind in the order of their keys."""

    bases: tuple[BasePin, ...] = ()
    files: tuple[FilePin, ...] = ()
    repositories: tuple[GitPin, ...] = ()
    packages: tuple[PackagesPin, ...] = ()

    def base(self, name: str, platform: str) -> BasePin | None:
        """Return the pin of a base on `platform`, None if there is none."""
        named = [pin for pin in self.bases if pin.name == name]
        return next((pin for pin in named if pin.platform in (platform, "")), None)

    def with_pins(self, pins: Iterable[Pin]) -> LockFile:
        """Return this with `pins`, each in place of the one that had its key."""
        found, given = self, list(pins)
        for table, kind in _TABLES.items():
            member = _MEMBERS[table]
            merged = {pin.key: pin for pin in getattr(found, member)}
            merged.update({pin.key: pin for pin in given if isinstance(pin, kind)})
            ordered = tuple(merged[key] for key in sorted(merged))
            found = replace(found, **{member: ordered})
        return found

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (*self.bases, *self.files, *self.repositories, *self.packages)


_TABLES: dict[str, type[Any]] = {
    "base": BasePin,
    "file": FilePin,
    "git": GitPin,
    "packages": PackagesPin,
}
_MEMBERS = {"base": "bases", "file": "files", "git": "repositories", "packages": "packages"}
_DIGESTS = ("digest", "image", "checksum")


def lock_path(recipe: str) -> str:
    """Return where the lock file of a recipe is: beside it, with `.lock` behind its name."""
    return recipe + ".lock"


def read_lock(path: str) -> LockFile | None:
    """Return the lock file at `path`, None if there is none. Raises LockError (lock/malformed)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _malformed(path, error.strerror or "it cannot be read") from None
    with open(fd, "rb") as file:
        try:
            data = file.read(_MOST_BYTES + 1)
            text = data.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _malformed(path, str(error)) from None
    if len(data) > _MOST_BYTES:
        raise _malformed(path, "it is too large")
    return parse_lock(text, path)


def parse_lock(text: str, path: str) -> LockFile:
    """Return what the lock file `text` says; errors call it `path`. Raises LockError (lock/malformed)."""
    import tomli

    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise _malformed(path, f"it is not TOML: {error}") from None
    version = document.pop("version", None)
    if version != VERSION:
        raise _malformed(path, f"it is of version {version}, and this pybuild knows {VERSION}")
    pins: list[Pin] = []
    for table, entries in document.items():
        kind = _TABLES.get(table)
        if kind is None or not isinstance(entries, list):
            raise _malformed(path, f"it has no place for {table!r}")
        pins += [_read_pin(path, table, kind, entry) for entry in entries]
    if len({(type(pin), pin.key) for pin in pins}) != len(pins):
        raise _malformed(path, "it says of something twice what it is")
    return LockFile().with_pins(pins)


def format_lock(lock: LockFile, recipe: str) -> str:
    """Return the text of the lock file of `recipe`, which is told by the last part of its path."""
    name = os.path.basename(recipe)
    lines = [
        f"# What the names in {_plain(name)} are; `pybuild lock` writes it. Keep it beside the recipe.",
        "# `pybuild lock --update[=NAME]` asks anew; `pybuild build --locked` takes nothing else.",
        f"version = {VERSION}",
    ]
    for table, member in _MEMBERS.items():
        for pin in getattr(lock, member):
            lines += ["", f"[[{table}]]", *_pin_lines(pin)]
    return "\n".join(lines) + "\n"


def _pin_lines(pin: Pin) -> Iterable[str]:
    for field in fields(pin):
        value = getattr(pin, field.name)
        if isinstance(value, tuple):
            if value:
                yield f"{field.name} = ["
                yield from (f"    {_quoted(each)}," for each in value)
                yield "]"
        elif value:
            yield f"{field.name} = {_quoted(value)}"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's, but for DEL, which may not stand in one."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _read_pin(path: str, table: str, kind: Callable[..., Pin], entry: object) -> Pin:
    if not isinstance(entry, dict):
        raise _malformed(path, f"[[{table}]] is not a table")
    known = {field.name: field for field in fields(_TABLES[table])}
    values: dict[str, Any] = {}
    for name, value in entry.items():
        if name not in known:
            raise _malformed(path, f"[[{table}]] has no place for {name!r}")
        listed = "tuple" in str(known[name].type)
        texts = value if listed and isinstance(value, list) else [value]
        if listed != isinstance(value, list) or not all(isinstance(text, str) for text in texts):
            raise _malformed(
                path, f"{name} in [[{table}]] must be {'a list of strings' if listed else 'a string'}"
            )
        if name in _DIGESTS:
            _check_digest(path, value)
        values[name] = tuple(value) if listed else value
    try:
        pin = kind(**values)
    except TypeError:
        raise _malformed(path, f"[[{table}]] lacks something that it must have") from None
    if isinstance(pin, BasePin) and not pin.shown:
        raise _malformed(path, f"of the base {pin.name} it has neither digest nor image")
    return pin


def _check_digest(path: str, text: str) -> None:
    from cache.errors import FormatError
    from cache.oci.digest import Digest

    try:
        Digest.parse(text)
    except FormatError as error:
        raise _malformed(path, error.message) from None


def _malformed(path: str, problem: str) -> LockError:
    return LockError(
        f"{path}: {problem}",
        code="lock/malformed",
        hint="`pybuild lock --update` writes it anew, --no-lock builds without it",
    )
