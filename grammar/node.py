"""Frozen, slotted value classes without the price of the `dataclasses` module.

What `@dataclass(frozen=True, slots=True)` gives, for type checkers too (PEP 681), at a hundredth of its
import time: the module and the code that it compiles for some thirty node classes cost 20 ms, more than the
interpreter's own start, and a cached build loads these classes and little else.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class NodeType(type):
    """Makes a class's annotations its slots, and their values its defaults."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> NodeType:
        annotations: dict[str, str] = namespace.get("__annotations__", {})
        own = tuple(field for field, kind in annotations.items() if not kind.startswith("ClassVar"))
        inherited = tuple(field for base in bases for field in getattr(base, "__match_args__", ()))
        defaults = {k: v for base in reversed(bases) for k, v in getattr(base, "_defaults", {}).items()}
        defaults.update((field, namespace.pop(field)) for field in own if field in namespace)
        namespace["__slots__"] = own
        namespace["__match_args__"] = inherited + own
        namespace["_defaults"] = defaults
        cls = super().__new__(mcs, name, bases, namespace)
        setters = tuple(getattr(cls, field).__set__ for field in inherited + own)
        type.__setattr__(cls, "_setters", setters)
        return cls


class Node(metaclass=NodeType):
    """Base of the value classes: equal by type and fields, hashable, immutable. Fields are the class's
    annotations."""

    if TYPE_CHECKING:
        __match_args__: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[dict[str, object]]
        _setters: ClassVar[tuple[Callable[[Node, object], None], ...]]
    else:

        def __init__(self, *args, **kwargs):
            fields = self.__match_args__
            if kwargs or len(args) != len(fields):
                args += tuple(_take(kwargs, field, self) for field in fields[len(args) :])
                if kwargs or len(args) != len(fields):
                    raise TypeError(f"{type(self).__name__}: unexpected arguments: {[*kwargs] or args}")
            for setter, value in zip(self._setters, args, strict=True):
                setter(self, value)

    @classmethod
    def make(cls, values: Iterable[object]) -> Self:
        """Return a node whose fields, in order, are `values`: all of them, unchecked. The quick way in for
        a decoder."""
        node = cls.__new__(cls)
        for setter, value in zip(cls._setters, values, strict=True):
            setter(node, value)
        return node

    def values(self) -> tuple[object, ...]:
        """Return the values of the fields in order."""
        return tuple([getattr(self, field) for field in self.__match_args__])

    def replace(self, **changes: object) -> Self:
        """Return a copy with the fields named in `changes` set anew."""
        return type(self)(**{**dict(zip(self.__match_args__, self.values(), strict=True)), **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: nodes are frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: nodes are frozen")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self), self.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v!r}" for k, v in zip(self.__match_args__, self.values(), strict=True))
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), self.values()


def _take(given: dict[str, object], field: str, node: Node) -> object:
    """Take `field` out of `given`, or else its default."""
    if field in given:
        return given.pop(field)
    try:
        return node._defaults[field]
    except KeyError:
        raise TypeError(f"{type(node).__name__}: missing argument: {field}") from None
