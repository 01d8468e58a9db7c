"""JSON documents that others wrote (manifests, configs): typed access to their members.

A member of the wrong type is a FormatError that names it. As with Go's decoder, on which every other
tool of the field rests, a member that is null counts as absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

Pairs = tuple[tuple[str, str], ...]
"""A JSON object of strings (annotations, labels), in the order of its keys."""

Extra = tuple[tuple[str, str], ...]
"""Members that we do not know, each with its value as canonical JSON text: nothing is lost on the way."""


def loads(data: bytes, what: str) -> Document:
    """Return the JSON object in `data`. Raises FormatError if it is not one; `what` names it in errors."""
    import json

    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is not valid JSON: {str(error)[:200]}") from None
    return Document.of(value, what)


def dumps(value: object) -> bytes:
    """Return `value` as JSON: keys sorted, no blanks, UTF-8; the same value, the same bytes."""
    return dump_text(value).encode("utf-8", "backslashreplace")  # a lone surrogate becomes JSON's own \uDCxx


def dump_text(value: object) -> str:
    """Return `value` as canonical JSON text (see `dumps`)."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def restore(extra: Extra) -> dict[str, Any]:
    """Return what `Document.rest` kept, as values for `dumps`."""
    if not extra:
        return {}
    import json

    return {key: json.loads(text) for key, text in extra}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Document:
    """A JSON object under reading. It remembers what was asked for: `rest` is what nobody knows."""

    __slots__ = ("_asked", "_value", "_what")

    def __init__(self, value: Mapping[str, Any], what: str) -> None:
        self._value = value
        self._what = what
        self._asked: set[str] = set()

    @classmethod
    def of(cls, value: object, what: str) -> Document:
        """Wrap `value`, which must be a JSON object, or raise FormatError."""
        if not isinstance(value, dict):
            raise FormatError(f"{what} is not a JSON object")
        return cls(value, what)

    def _get(self, key: str) -> Any:
        self._asked.add(key)
        return self._value.get(key)

    def _wrong(self, key: str, wanted: str) -> FormatError:
        return FormatError(f"{self._what}: {key} must be {wanted}")

    def optional_text(self, key: str) -> str | None:
        value = self._get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def text(self, key: str) -> str:
        return self.optional_text(key) or ""

    def required_text(self, key: str) -> str:
        value = self.optional_text(key)
        if not value:
            raise FormatError(f"{self._what}: {key} is missing")
        return value

    def optional_number(self, key: str) -> int | None:
        value = self._get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self._wrong(key, "a whole number")
        return value

    def number(self, key: str) -> int:
        return self.optional_number(key) or 0

    def flag(self, key: str) -> bool:
        value = self._get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return bool(value)

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings; None where it is absent or null, which is not the same as an empty one."""
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings")
        return tuple(value)

    def texts(self, key: str) -> tuple[str, ...]:
        return self.optional_texts(key) or ()

    def pairs(self, key: str) -> Pairs:
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(key, "an object of strings")
        return tuple(sorted(value.items()))

    def keys(self, key: str) -> tuple[str, ...]:
        """The keys of an object whose values say nothing: how Docker writes a set."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise self._wrong(key, "an object")
        return tuple(sorted(value))

    def document(self, key: str) -> Document | None:
        value = self._get(key)
        return None if value is None else Document.of(value, f"{self._what}: {key}")

    def documents(self, key: str) -> Sequence[Document]:
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return [Document.of(item, f"{self._what}: {key}[{index}]") for index, item in enumerate(value)]

    def rest(self) -> Extra:
        """The members that were never asked for."""
        unknown = self._value.keys() - self._asked
        return tuple((key, dump_text(self._value[key])) for key in sorted(unknown)) if unknown else ()
