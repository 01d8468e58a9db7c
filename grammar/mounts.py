"""`RUN --mount=…`: the option list, and what it means once its variables are expanded."""

from __future__ import annotations

from grammar.ast import Mount, Pair, Word
from grammar.errors import RecipeError
from grammar.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from grammar.source import Span

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_SYNONYMS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_SWITCHES = ("readonly", "readwrite", "required")
_KEYS = ("type", "from", "source", "target", "id", "sharing", "mode", "uid", "gid", "size", "env", *_SWITCHES)
_ONLY_FOR = {
    "required": ("secret", "ssh"),
    "size": ("tmpfs",),
    "sharing": ("cache",),
    "env": ("secret",),
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


class MountSpec(Node):
    """A mount with all values expanded. Empty strings and None: not given. `size` in bytes."""

    type: str
    from_: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    id: str = ""
    sharing: str = ""
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    env: str = ""


def parse_mount(word: Word) -> Mount:
    """Return the mount that the value of a `--mount` flag describes.

    Raises RecipeError (recipe/mount) for an unknown or malformed option; of options with a variable in them
    the value is looked at by `resolve_mount` only.
    """
    type_: Word | None = None
    options: list[Pair] = []
    for field, span in _fields(word):
        key, equals, value = field.partition("=")
        name = _SYNONYMS.get(key.lower(), key.lower())
        if name not in _KEYS:
            from grammar.suggest import did_you_mean

            hint = did_you_mean(key, (*_KEYS, *_SYNONYMS)) or f"Known are {', '.join(_KEYS)}."
            raise _wrong(f"unknown mount option: {key}", span, hint)
        if not equals and name not in _SWITCHES:
            raise _wrong(f"the mount option {key} needs a value", span, f"Write {key}=VALUE.")
        at = span.column + len(key) + 1
        inside = span.line == span.end_line and span.end_column - span.column == len(field)
        key_word = Word(name, span.replace(end_column=at - 1) if inside else span)
        value_word = Word(value, span.replace(column=at) if inside else span)
        if name == "type":
            type_ = value_word
        else:
            options.append(Pair(key_word, value_word if equals else None, span))
    mount = Mount(type_ or Word("bind", word.span), tuple(options), word.span)
    from_ = mount.option("from")
    if from_ is not None and "$" in from_.text[:-1]:
        raise _wrong(
            "from takes no variable",
            from_.span,
            "Name the image in a stage of its own, and give the stage's name here.",
        )
    if word.plain:
        resolve_mount(mount, lambda value: value.text)
    return mount


def _fields(word: Word) -> list[tuple[str, Span]]:
    """Split the comma-separated list. A field that holds a comma stands in double quotes (RFC 4180)."""
    text, span = word.text, word.span
    fields = text.split(",")
    if '"' in text:
        import csv

        try:
            fields = next(csv.reader([text], strict=True))
        except (csv.Error, StopIteration) as error:
            raise _wrong(f"the mount's options cannot be read: {error}", span, None) from None
        return [(field, span) for field in fields]
    inside = span.line == span.end_line and span.end_column - span.column == len(text)
    out: list[tuple[str, Span]] = []
    column = span.column
    for field in fields:
        place = span.replace(column=column, end_column=column + len(field)) if inside else span
        out.append((field, place))
        column += len(field) + 1
    return out


def resolve_mount(mount: Mount, expand: Callable[[Word], str]) -> MountSpec:
    """Return what `mount` means, each value put through `expand`.

    Raises RecipeError (recipe/mount) for a value that is none, and for options that do not belong to the type
    of mount.
    """
    type_ = expand(mount.type).lower()
    if type_ not in TYPES:
        raise _unknown("mount type", type_, TYPES, mount.type.span)
    given: dict[str, object] = {}
    read_only = type_ not in ("cache", "tmpfs")
    for pair in mount.options:
        key = pair.key.text
        allowed = _ONLY_FOR.get(key, TYPES)
        if type_ not in allowed:
            raise _wrong(
                f"{key} is no option of a {type_} mount", pair.span, f"It is one of {' and '.join(allowed)}."
            )
        value = None if pair.value is None else expand(pair.value)
        if key == "readonly":
            read_only = _boolean(value, pair.span)
        elif key == "readwrite":
            read_only = not _boolean(value, pair.span)
        else:
            given["from_" if key == "from" else key] = _value(key, value, pair.span)
    if type_ == "secret":
        _check_secret(given, mount.span)
    return MountSpec(type_, read_only=read_only, **given)  # type: ignore[arg-type]


def _value(key: str, value: str | None, span: Span) -> object:
    """Return the value of an option, as the type that MountSpec has for it."""
    if key == "required":
        return _boolean(value, span)
    assert value is not None, "parse_mount has seen to it"
    if key in ("uid", "gid"):
        return _number(key, value, 10, span)
    if key == "mode":
        return _number(key, value, 8, span)
    if key == "size":
        return _size(value, span)
    if key == "sharing":
        if value.lower() not in SHARING:
            raise _unknown("sharing mode", value, SHARING, span)
        return value.lower()
    return value


def _check_secret(given: dict[str, object], span: Span) -> None:
    if "from_" in given:
        raise _wrong("a secret mount comes from no stage", span, None)
    if not any(given.get(key) for key in ("id", "source", "target", "env")):
        raise _wrong("a secret mount needs an id", span, "Write --mount=type=secret,id=NAME.")
    if given.get("source") and given.get("id"):
        raise _wrong("a secret mount has either an id or a source", span, None)


def _boolean(value: str | None, span: Span) -> bool:
    if value is None or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise _wrong(f"{value!r} is neither true nor false", span, None)


def _number(key: str, value: str, base: int, span: Span) -> int:
    digits = "0123456789"[:base]
    if not value or value.strip(digits) or len(value) > 12 or int(value, base) > 0xFFFFFFFF:
        what = "an octal mode, as in 0755" if base == 8 else "a number"
        raise _wrong(f"{key}={value} is not {what}", span, None)
    return int(value, base)


def _size(value: str, span: Span) -> int:
    """Return a size in bytes: a number and perhaps k, m, g, t or p (powers of 1024), `i` and `b` after it as
    one likes.
    """
    text = value.strip().lower().removesuffix("b").removesuffix("i")
    unit = text[-1:] if text[-1:].isalpha() else ""
    number = text.removesuffix(unit).strip()
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if unit not in _UNITS or not (digits.isascii() and digits.isdecimal()) or not whole or len(digits) > 18:
        raise _wrong(f"{value!r} is no size", span, "Write a number with a unit: 64m, 1g.")
    size: int = (int(digits) << _UNITS[unit]) // 10 ** len(fraction)
    return size


def _unknown(what: str, value: str, known: tuple[str, ...], span: Span) -> RecipeError:
    from grammar.suggest import did_you_mean

    return _wrong(
        f"unknown {what}: {value}", span, did_you_mean(value, known) or f"Known are {', '.join(known)}."
    )


def _wrong(message: str, span: Span, hint: str | None) -> RecipeError:
    return RecipeError(message, span, hint=hint, code="recipe/mount")
