"""Which method handles which type: the `on_type` mark, and the table made of it when a class is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from grav_actors.filters import FilterSet
from grav_actors.pattern import check_pattern, is_pattern, matches

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "_grav_types"


def on_type(*types_or_patterns: str) -> Callable[[F], F]:
    """Mark a method as the handler of a type or pattern, or of several.

    The method takes one message, and may be `async def`. What it returns is the answer to an ask.

    Raises:
        MessageEncodeError: It is no type and no pattern.
        TypeError: None is given, or the mark is put on something that is no function.
    """
    if not types_or_patterns or not all(isinstance(item, str) for item in types_or_patterns):
        raise TypeError('on_type needs the type in brackets: @on_type("sensor.temp")')
    for item in types_or_patterns:
        check_pattern(item)

    def mark(function: F) -> F:
        if not inspect.isfunction(function):
            raise TypeError(f"on_type marks methods, not {function!r}")
        setattr(function, _MARK, (*getattr(function, _MARK, ()), *types_or_patterns))
        return function

    return mark


class HandlerTable:
    """Types and patterns with the names of their methods: the exact type, else the first pattern defined.

    Attributes:
        is_async: Whether a handler or hook is a coroutine function.
    """

    __slots__ = ("_exact", "_found", "_patterns", "is_async")

    def __init__(self) -> None:
        self._exact: dict[str, str] = {}
        self._patterns: dict[str, str] = {}
        self._found: dict[str, str | None] = {}
        self.is_async = False

    @classmethod
    def of(cls, actor_class: type, hooks: tuple[str, ...]) -> HandlerTable:
        """Build the table of a class: its bases' handlers, replaced by its own of the same type.

        Raises:
            TypeError: Two methods of one class handle the same type, or one takes no message.
        """
        table = cls()
        for base in reversed(actor_class.__mro__):
            own: dict[str, str] = {}
            for name, function in vars(base).items():
                for item in getattr(function, _MARK, ()):
                    if item in own:
                        raise TypeError(
                            f"{base.__qualname__}: {own[item]} and {name} both handle {item!r}; one type has one handler"
                        )
                    _check_takes_message(base, name, function)
                    own[item] = name
            for item, name in own.items():
                (table._patterns if is_pattern(item) else table._exact)[item] = name
        names = {*table._exact.values(), *table._patterns.values(), *hooks}
        table.is_async = any(inspect.iscoroutinefunction(getattr(actor_class, name)) for name in names)
        return table

    def find(self, message_type: str) -> str | None:
        """Return the name of the method for a type; None if there is none."""
        try:
            return self._found[message_type]
        except KeyError:
            pass
        name = self._exact.get(message_type)
        if name is None:
            name = next((name for item, name in self._patterns.items() if matches(item, message_type)), None)
        if len(self._found) < 4096:
            self._found[message_type] = name
        return name

    def filters(self) -> FilterSet:
        """Return the filter that lets through just what is handled."""
        filters = FilterSet(listening=True, exclusive=True)
        for item in (*self._exact, *self._patterns):
            filters.set_type(item, True)
        return filters


def _check_takes_message(base: type, name: str, function: Any) -> None:
    signature = inspect.signature(function)
    try:
        signature.bind(None, None)
    except TypeError:
        raise TypeError(
            f"{base.__qualname__}.{name}{signature} cannot be a handler: it is called with self and one message"
        ) from None
