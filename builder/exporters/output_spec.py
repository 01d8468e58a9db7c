"""What `--output` says: `type=oci,dest=app.tar,compression=zstd`, in the words of Docker's `--output`.

Fields are separated as in CSV (RFC 4180), so that one with a comma in it can be quoted:
`type=oci,"name=app:1,app:2",dest=…`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from builder.errors import UsageError
from cache.compression import Compression
from cache.errors import CacheError
from grammar.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

Type = Literal["oci", "oci-layout", "docker", "tar", "dir", "registry"]

_TYPES: dict[str, Type] = {
    "oci": "oci",
    "oci-archive": "oci",
    "oci-layout": "oci-layout",
    "oci-dir": "oci-layout",
    "docker": "docker",
    "docker-archive": "docker",
    "tar": "tar",
    "dir": "dir",
    "local": "dir",
    "registry": "registry",
    "image": "registry",
}
PACKED = frozenset(("oci", "oci-layout", "registry"))  # what is made of compressed layers
_NAMED = frozenset(("oci", "oci-layout", "docker", "registry"))
_KEYS = ("type", "dest", "compression", "compression-level", "name", "tar", "push")

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output. `dest` is a path, `-` for standard output, or "" for registries; `names` are added to those
    of the build.

    `compression` is that of the layers; of `docker`, `tar` and `dir`, whose layers are not packed, it is
    `none` but where the user asked for a `tar` to be compressed as a whole.
    """

    type: Type
    dest: str
    compression: Compression
    names: tuple[str, ...] = ()
    text: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str, *, default: Compression | None = None) -> OutputSpec:
        """Return the output that `text` describes. Raises UsageError.

        `PATH` alone is `type=dir,dest=PATH`, and `-` alone is `type=tar,dest=-`. `default` is how layers are
        compressed where that is not said (None: gzip).
        """
        fields = _split(text)
        if fields == [text] and not text.startswith("type="):
            key = text.partition("=")[0].lower()
            if not text or (key != text and key in _KEYS):
                raise _error(text, "its type is missing", "such as type=oci,dest=image.tar")
            kind: Type = "tar" if text == STDOUT else "dir"
            return cls(kind, text, Compression.parse("none"), text=text)
        options = _options(text, fields)
        kind = _type(text, options)
        dest = options.get("dest", "")
        if kind == "registry":
            _check_push(text, options)
        elif not dest:
            raise _error(
                text, f"type={kind} needs a dest", "such as dest=image.tar, or dest=- for standard output"
            )
        if dest == STDOUT and kind in ("dir", "oci-layout"):
            raise _error(text, f"type={kind} is a directory, and cannot go to standard output")
        if "push" in options and kind != "registry":
            raise _error(text, f"type={kind} is a file or a directory, and not pushed")
        if "name" in options and kind not in _NAMED:
            raise _error(text, f"type={kind} has no place for a name")
        return cls(kind, dest, _compression(text, kind, options, default), _names(text, options), text)


def _check_push(text: str, options: dict[str, str]) -> None:
    """An image goes to registries by its names, in layers that are compressed."""
    if "dest" in options:
        raise _error(text, "registries are told by names, not by a dest", "such as name=registry/app:1")
    if options["type"] == "image" and options.get("push") != "true":
        raise _error(text, "an image stands in the store anyway", "type=image,push=true pushes it, too")
    if options.get("push", "true") != "true":
        raise _error(text, f"push is true, not {options['push']!r}")
    if options.get("compression") == "none":
        raise _error(text, "layers go to registries compressed", "gzip and zstd are known")


def _split(text: str) -> list[str]:
    """Part one CSV record into its fields. Raises UsageError."""
    import csv

    if "\n" in text or "\r" in text:
        raise _error(text, "it has more than one line")
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise _error(text, f"its quotes do not match ({error})") from None
    return rows[0] if rows and rows[0] else [text]


def _options(text: str, fields: Iterable[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in fields:
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if not equals:
            raise _error(text, f"{part!r} is not of the form KEY=VALUE", _suggest(key, _KEYS))
        if key not in _KEYS:
            raise _error(text, f"unknown key {key!r}", _suggest(key, _KEYS))
        if key in options:
            raise _error(text, f"{key} is given twice")
        options[key] = value.strip() if key != "dest" else value
    return options


def _type(text: str, options: dict[str, str]) -> Type:
    name = options.get("type", "")
    if not name:
        raise _error(text, "its type is missing", "oci, oci-layout, docker, tar, dir and registry are known")
    if name not in _TYPES:
        raise _error(text, f"unknown type {name!r}", _suggest(name, _TYPES))
    kind = _TYPES[name]
    archive = options.get("tar", "true").lower()
    if archive not in ("true", "false"):
        raise _error(text, f"tar is true or false, not {archive!r}")
    if archive == "false":
        if kind not in PACKED:
            raise _error(text, f"tar=false makes a directory of type=oci, not of type={name}")
        return "oci-layout"
    return kind


def _names(text: str, options: dict[str, str]) -> tuple[str, ...]:
    from cache.errors import FormatError
    from cache.oci.reference import Reference

    names = tuple(name for name in map(str.strip, options.get("name", "").split(",")) if name)
    for name in names:
        try:
            reference = Reference.parse(name)
        except FormatError as error:
            raise _error(text, error.message, error.hint) from None
        if reference.digest is not None:
            raise _error(text, f"{name!r} cannot name an image: its digest is what it will be")
    return names


def _compression(text: str, kind: Type, options: dict[str, str], default: Compression | None) -> Compression:
    wanted = options.get("compression", "")
    level = _level(text, options)
    if kind not in PACKED and kind != "tar" and (wanted not in ("", "none") or level is not None):
        raise _error(text, f"type={kind} is not compressed")
    if not wanted and kind in PACKED and level is None and default is not None:
        return default
    if not wanted:
        wanted = (default.kind if default is not None else "gzip") if kind in PACKED else "none"
    try:
        return Compression.parse(wanted, level)
    except CacheError as error:
        raise _error(text, error.message, error.hint) from None


def _level(text: str, options: dict[str, str]) -> int | None:
    value = options.get("compression-level")
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise _error(text, f"compression-level is a number, not {value!r}") from None


def _suggest(word: str, known: Iterable[str]) -> str:
    return did_you_mean(word, known) or f"known are {', '.join(known)}"


def _error(text: str, problem: str, hint: str | None = None) -> UsageError:
    return UsageError(f"--output {text[:300]}: {problem}", hint=hint, code="usage/output")
