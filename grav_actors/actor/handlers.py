"""Which method handles which type: the `on_type` mark, and the table made of it when a class is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from grav_actors.filters import FilterSet
from grav_actors.pattern import check_pattern, is_pattern, matches

F = TypeVar("F", bound=Callable[..., Any])

FOUND_LIMIT = 4096
"""Types whose method is remembered; those that only patterns match could be without number."""

HOOKS = {"on_start": (), "on_stop": ("reason",), "on_restart": ("cause",)}
"""The hooks, with what each takes."""

KEEPING_HOOKS = {"snapshot": (), "restore": ("state",)}
"""The hooks by which an actor keeps its state, if its class defines them; it has both or neither."""

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
        marked: object = function
        if not inspect.isfunction(marked):
            raise TypeError(f"on_type marks methods, not {marked!r}")
        setattr(function, _MARK, (*getattr(function, _MARK, ()), *types_or_patterns))
        return function

    return mark


class HandlerTable:
    """Types and patterns with the names of their methods: the exact type, else the first pattern defined.

    Attributes:
        is_async: Whether a handler or hook is a coroutine function.
        keeps_state: Whether the class has `snapshot` and `restore`.
    """

    __slots__ = ("_exact", "_found", "_patterns", "is_async", "keeps_state")

    def __init__(self) -> None:
        self._exact: dict[str, str] = {}
        self._patterns: dict[str, str] = {}
        self._found: dict[str, str | None] = {}
        self.is_async = False
        self.keeps_state = False

    @classmethod
    def of(cls, actor_class: type) -> HandlerTable:
        """Build the table of a class: its bases' handlers, replaced by its own.

        A method that is defined anew without a mark keeps the types of its base's; with one it has only its own.

        Raises:
            TypeError: Two methods of one class handle the same type, or one takes no message.
        """
        table = cls()
        for base in reversed(actor_class.__mro__):
            table._add(base)
        for name in {*table._exact.values(), *table._patterns.values()}:
            _check_handler(actor_class, name)
        for name, arguments in HOOKS.items():
            _check_hook(actor_class, name, arguments)
        handlers = {*table._exact.values(), *table._patterns.values()}
        table.keeps_state = _keeps_state(actor_class, handlers)
        names = {*handlers, *HOOKS, *(KEEPING_HOOKS if table.keeps_state else ())}
        table.is_async = any(inspect.iscoroutinefunction(getattr(actor_class, name)) for name in names)
        return table

    def _add(self, base: type) -> None:
        """Enter the handlers that one class of the inheritance defines."""
        own: dict[str, str] = {}
        for name, item in _marked(base):
            if item in own:
                methods = f"{name} handles {item!r} twice"
                if own[item] != name:
                    methods = f"{own[item]} and {name} both handle {item!r}"
                raise TypeError(f"{base.__qualname__}: {methods}; one type has one handler")
            own[item] = name
        defined_anew = set(own.values())
        for entries in (self._exact, self._patterns):
            for item in [item for item, name in entries.items() if name in defined_anew and item not in own]:
                del entries[item]
        for item, name in own.items():
            (self._patterns if is_pattern(item) else self._exact)[item] = name

    def find(self, message_type: str) -> str | None:
        """Return the name of the method for a type; None if there is none."""
        try:
            return self._found[message_type]
        except KeyError:
            pass
        name = self._exact.get(message_type)
        if name is None:
            name = next((name for item, name in self._patterns.items() if matches(item, message_type)), None)
        if len(self._found) < FOUND_LIMIT:
            self._found[message_type] = name
        return name

    def types(self) -> tuple[str, ...]:
        """Return the types and patterns that are handled."""
        return (*self._exact, *self._patterns)

    def filters(self) -> FilterSet:
        """Return the filter that lets through just what is handled."""
        filters = FilterSet(listening=True, exclusive=True)
        for item in (*self._exact, *self._patterns):
            filters.set_type(item, True)
        return filters


def _marked(base: type) -> Iterator[tuple[str, str]]:
    """Yield the methods that a class itself defines under `on_type`, with each of their types."""
    for name, attribute in vars(base).items():
        is_bound_elsewhere = isinstance(attribute, (staticmethod, classmethod))
        types = getattr(attribute.__func__ if is_bound_elsewhere else attribute, _MARK, ())
        if not isinstance(types, tuple):
            continue  # something that has every attribute
        if types and is_bound_elsewhere:
            raise TypeError(f"{base.__qualname__}.{name} cannot be a handler: it must be a method of the object")
        for item in types:
            yield name, item


def _check_handler(actor_class: type, name: str) -> None:
    function = inspect.getattr_static(actor_class, name)
    where = f"{actor_class.__qualname__}.{name}"
    if not callable(function):
        raise TypeError(f"{where} cannot be a handler: it is {function!r}, and replaces one of its base class")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{where} cannot be a handler: it holds a yield, so calling it would run none of it")
    if not _takes(function, 1):
        raise TypeError(
            f"{where}{inspect.signature(function)} cannot be a handler: it is called with self and one message"
        )


def _check_hook(actor_class: type, name: str, arguments: tuple[str, ...]) -> None:
    function = inspect.getattr_static(actor_class, name)
    if not callable(function) or not _takes(function, len(arguments)):
        wanted = ", ".join(("self", *arguments))
        raise TypeError(f"{actor_class.__qualname__}.{name} cannot be the hook: write `def {name}({wanted})`")


def _keeps_state(actor_class: type, handlers: set[str]) -> bool:
    """Return whether a class has the hooks to keep its state; handlers of these names are no hooks."""
    found = [name for name in KEEPING_HOOKS if hasattr(actor_class, name) and name not in handlers]
    if not found:
        return False
    missing = [name for name in KEEPING_HOOKS if name not in found]
    if missing:
        wanted = ", ".join(("self", *KEEPING_HOOKS[missing[0]]))
        raise TypeError(
            f"{actor_class.__qualname__} has {found[0]} and no {missing[0]}, and so cannot keep its state: write "
            f"`def {missing[0]}({wanted})`, or call {found[0]} otherwise"
        )
    for name, arguments in KEEPING_HOOKS.items():
        _check_hook(actor_class, name, arguments)
    return True


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether a method can be called with that many arguments besides self."""
    try:
        inspect.signature(function).bind(*[None] * (count + 1))
    except (TypeError, ValueError):
        return False
    return True
