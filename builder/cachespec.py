"""`--cache-from` and `--cache-to`: text of CSV fields, as BuildKit's, to a value. Nothing is opened here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from builder.errors import UsageError
from grammar.durations import parse_duration
from grammar.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["registry", "dir", "object"]

_KINDS: dict[str, Kind] = {"registry": "registry", "dir": "dir", "local": "dir", "object": "object"}
_PLACES: dict[Kind, tuple[str, ...]] = {
    "registry": ("ref",),
    "dir": ("path", "src", "dest"),
    "object": ("url", "endpoint", "region"),
}
_COMMON = ("type", "name", "mode", "trust", "key", "compression", "ttl", "claims", "timeout")
_MODES = {
    "read": (True, False),
    "write": (False, True),
    "read-write": (True, True),
    # BuildKit's: which layers are exported. Here it is always all of them.
    "min": None,
    "max": None,
}
_ELSEWHERE = {
    "inline": "entries are no part of the image: type=registry,ref=… has a place of its own",
    "gha": "type=registry,ref=ghcr.io/… or type=object does the same on any CI",
    "s3": "type=object,url=s3://BUCKET/PREFIX",
    "azblob": "type=object,url=az://CONTAINER/PREFIX",
}
_SCHEMES = ("s3://", "gs://", "az://", "file://")
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """One shared cache as it was asked for.

    `location` is a repository, an absolute path, or a URL. `trust` are names of keys, or files of them;
    ("any",) needs no signature; () is what nobody has said. `key` is a file, "" for none. `compression` is ""
    where it is to be that of the images. `ttl` and `timeout` are in seconds.
    """

    kind: Kind
    location: str
    name: str
    reads: bool
    writes: bool
    trust: tuple[str, ...] = ()
    key: str = ""
    compression: str = ""
    ttl: int | None = None
    claims: bool = True
    timeout: float = _TIMEOUT
    options: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        """What opens the same cache again, for reading its layers alone."""
        field = _PLACES[self.kind][0]
        fields = (("type", self.kind), (field, self.location), *self.options)
        return ",".join(_quoted(f"{name}={value}") for name, value in fields)

    @property
    def repository(self) -> str:
        """The repository (`host/path`) that it is, "" if it is none."""
        from cache.oci.reference import Reference

        return Reference.parse(self.location).name if self.kind == "registry" else ""

    @classmethod
    def parse(cls, text: str, *, option: str = "--cache-from", directory: str = ".") -> CacheSpec:
        """Return the cache that `text` names: fields as `type=registry,ref=host/name`, or a repository alone.
        `option` says what it is for, in messages too; relative paths are meant from `directory`. Raises
        UsageError.
        """
        reading = option == "--cache-from"
        fields = _split(option, text)
        if len(fields) == 1 and "=" not in text:
            fields = ["type=registry", f"ref={text}"]
        given = _fields(option, text, fields)
        kind = _kind(option, text, given)
        allowed = (*_COMMON, *_PLACES[kind])
        for name in given:
            if name not in allowed:
                raise _error(option, text, f"unknown field {name!r}", _suggest(name, allowed))
        mode = given.get("mode", "")
        if mode and mode not in _MODES:
            raise _error(
                option, text, f"unknown mode {mode!r}", "read, write and read-write; BuildKit's min and max"
            )
        reads, writes = _MODES.get(mode) or (reading, not reading)
        location = _location(option, text, kind, given, directory)
        return cls(
            kind,
            location,
            given.get("name") or _shown(kind, location),
            reads,
            writes,
            _trust(given.get("trust", ""), directory),
            _path(given["key"], directory) if given.get("key") else "",
            _choice(option, text, given, "compression", ("zstd", "gzip")) if "compression" in given else "",
            _ttl(option, text, given),
            _choice(option, text, given, "claims", ("yes", "no", "true", "false")) in ("yes", "true"),
            _timeout(option, text, given),
            tuple((name, given[name]) for name in ("endpoint", "region") if name in given),
        )


def merged(specs: Iterable[CacheSpec]) -> tuple[CacheSpec, ...]:
    """Return `specs`, each place once: what is both read and written is one cache."""
    found: dict[str, CacheSpec] = {}
    for spec in specs:
        known = found.get(spec.place)
        if known is not None:
            spec = replace(
                known,
                reads=known.reads or spec.reads,
                writes=known.writes or spec.writes,
                trust=known.trust or spec.trust,
                key=known.key or spec.key,
                ttl=spec.ttl if known.ttl is None else known.ttl,
                claims=known.claims and spec.claims,
                compression=spec.compression if spec.writes else known.compression,
            )
        found[spec.place] = spec
    return tuple(found.values())


def _split(option: str, text: str) -> list[str]:
    import csv

    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise _error(option, text, f"its quotes do not match ({error})") from None
    return rows[0] if rows and rows[0] else [text]


def _fields(option: str, text: str, fields: Iterable[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        name = name.strip().lower()
        if not equals:
            raise _error(option, text, f"{field!r} is not of the form NAME=VALUE")
        if name in found:
            raise _error(option, text, f"{name} is given twice")
        found[name] = value.strip()
    return found


def _kind(option: str, text: str, given: Mapping[str, str]) -> Kind:
    name = given.get("type", "")
    if name in _ELSEWHERE:
        raise _error(option, text, f"type={name} is not known here", _ELSEWHERE[name])
    if name not in _KINDS:
        problem = f"unknown type {name!r}" if name else "its type is missing"
        raise _error(option, text, problem, "type=registry, type=dir and type=object are known")
    return _KINDS[name]


def _location(option: str, text: str, kind: Kind, given: Mapping[str, str], directory: str) -> str:
    names = _PLACES[kind][:1] if kind == "object" else _PLACES[kind]
    values = [given[name] for name in names if given.get(name)]
    if not values:
        raise _error(option, text, f"type={kind} needs {' or '.join(f'{name}=' for name in names)}")
    if len(set(values)) > 1:
        raise _error(option, text, f"one of {', '.join(names)} is enough")
    if kind == "dir":
        return _path(values[0], directory)
    if kind == "object":
        if not values[0].startswith(_SCHEMES):
            raise _error(option, text, f"{values[0]!r} is no url of a store", ", ".join(_SCHEMES))
        return values[0].rstrip("/")
    return _repository(option, text, values[0])


def _repository(option: str, text: str, ref: str) -> str:
    from cache.errors import FormatError
    from cache.oci.reference import Reference

    try:
        reference = Reference.parse(ref)
    except FormatError as error:
        raise _error(option, text, error.message, error.hint) from None
    if reference.digest is not None:
        raise _error(option, text, "a cache has no digest: it grows")
    # BuildKit's caches have a tag. Here a repository holds one cache, under tags of its own.
    return f"{reference.registry}/{reference.repository}"


def _shown(kind: Kind, location: str) -> str:
    return os.path.basename(location) or location if kind == "dir" else location.removeprefix("docker.io/")


def _trust(text: str, directory: str) -> tuple[str, ...]:
    names = [name for name in text.split("+") if name]
    return tuple(_path(name, directory) if "/" in name else name for name in names)


def _path(text: str, directory: str) -> str:
    return os.path.normpath(os.path.join(os.path.abspath(directory), os.path.expanduser(text)))


def _choice(option: str, text: str, given: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    value = given.get(name, known[0])
    if value not in known:
        raise _error(option, text, f"{name} is {' or '.join(known[:2])}, not {value!r}")
    return value


def _ttl(option: str, text: str, given: Mapping[str, str]) -> int | None:
    value = given.get("ttl")
    if value is None:
        return None
    days = value[:-1] if value.endswith("d") else ""
    if days.isdecimal() and int(days):
        return int(days) * 86400
    nanoseconds = parse_duration(value)
    if nanoseconds is None or nanoseconds < 10**9:
        raise _error(option, text, f"ttl {value!r} is no duration", "such as 30d or 12h")
    return nanoseconds // 10**9


def _timeout(option: str, text: str, given: Mapping[str, str]) -> float:
    value = given.get("timeout")
    if value is None:
        return _TIMEOUT
    nanoseconds = parse_duration(value)
    if nanoseconds is None or nanoseconds <= 0:
        raise _error(option, text, f"timeout {value!r} is no duration", "such as 10s")
    return nanoseconds / 10**9


def _quoted(field: str) -> str:
    if any(char in field for char in ',"'):
        doubled = field.replace('"', '""')
        return f'"{doubled}"'
    return field


def _suggest(word: str, known: tuple[str, ...]) -> str:
    return cast("str", did_you_mean(word, known)) or f"known are {', '.join(known)}"


def _error(option: str, text: str, problem: str, hint: str | None = None) -> UsageError:
    return UsageError(f"{option} {text[:300]}: {problem}", hint=hint, code="usage/cache")
