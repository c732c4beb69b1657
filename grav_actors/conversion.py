"""The data of a message as an object of the class that its receiver wants."""

import json
import sys
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from grav_actors.codec import unpack_value
from grav_actors.errors import MessageDecodeError


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def decode_bytes(data: bytes) -> Any:
    """Decode bytes as JSON or MessagePack. MessagePack that could be JSON is one byte, a digit."""
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError as exc:
        raise MessageDecodeError("data: JSON nested too deep") from exc
    except ValueError as exc:
        json_fault = exc
    try:
        return unpack_value(data)
    except MessageDecodeError as exc:
        raise MessageDecodeError(
            f"data: {len(data)} bytes that are neither JSON ({json_fault}) nor MessagePack ({exc})"
        ) from exc


def convert(value: Any, cls: Any, path: str = "data") -> Any:
    """Return plain data as `cls`; msgspec and pydantic are asked only if the class is theirs."""
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError as exc:
            # msgspec ends its reason with the place, as "- at `$.site`".
            reason, _, place = str(exc).partition(" - at `$")
            raise MessageDecodeError(f"{path}{place.rstrip('`')}: {reason}") from exc
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(cls, type) and issubclass(cls, pydantic.BaseModel):
        try:
            return cls.model_validate(value)  # type: ignore[attr-defined]
        except pydantic.ValidationError as exc:
            faults = [f"{'.'.join([path, *map(str, one['loc'])])}: {one['msg']}" for one in exc.errors()]
            raise MessageDecodeError("; ".join(faults)) from exc
    if isinstance(cls, type) and hasattr(cls, "__dataclass_fields__"):
        return _convert_dataclass(value, cls, path)
    if cls is Any or cls is object:
        return value
    origin = get_origin(cls)
    if origin is not None:
        return _convert_generic(value, origin, get_args(cls), cls, path)
    if cls is None or cls is type(None):
        cls = type(None)
    if not isinstance(cls, type):
        raise TypeError(f"{path}: {cls!r} is no class that data can be turned into")
    if type(value) is cls or (isinstance(value, cls) and not isinstance(value, bool)):
        return value
    if cls is float and type(value) is int:
        return float(value)
    if cls in (tuple, set, frozenset) and isinstance(value, list):
        return _build(cls, value, path)
    if sys.modules.get("enum") is not None and isinstance(cls, sys.modules["enum"].EnumMeta):
        return _build(cls, value, path)
    raise MessageDecodeError(f"{path}: expected {cls.__name__}, got {_seen(value)}")


def _convert_dataclass(value: Any, cls: Any, path: str) -> Any:
    """Build a dataclass from a dict; as msgspec and pydantic do, keys that are no field are passed over."""
    if isinstance(value, cls):
        return value
    if not isinstance(value, dict):
        raise MessageDecodeError(f"{path}: expected a dict for {cls.__name__}, got {_seen(value)}")
    from dataclasses import MISSING, fields  # noqa: PLC0415  (loaded already if there is a dataclass)

    try:
        hints = get_type_hints(cls)
    except NameError as exc:
        raise TypeError(f"{path}: the annotations of {cls.__name__} cannot be resolved: {exc}") from exc
    given = {}
    for field in fields(cls):
        if not field.init:
            continue
        if field.name in value:
            given[field.name] = convert(value[field.name], hints[field.name], f"{path}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise MessageDecodeError(f"{path}.{field.name}: missing; {cls.__name__} requires it")
    try:
        return cls(**given)
    except (TypeError, ValueError) as exc:
        raise MessageDecodeError(f"{path}: {cls.__name__} refused it: {exc}") from exc


def _convert_generic(value: Any, origin: Any, args: tuple[Any, ...], cls: Any, path: str) -> Any:
    if origin in (Union, types.UnionType):
        # Its own class first: float | int must not make a float of an int.
        for choice in sorted(args, key=lambda choice: type(value) is not choice):
            try:
                return convert(value, choice, path)
            except MessageDecodeError:
                continue
        raise MessageDecodeError(f"{path}: expected {cls}, got {_seen(value)}")
    if origin is Annotated:
        return convert(value, args[0], path)
    if origin is Literal:
        if value in args:
            return value
        raise MessageDecodeError(f"{path}: expected one of {args}, got {_seen(value)}")
    if not isinstance(origin, type):
        raise TypeError(f"{path}: {cls!r} is no class that data can be turned into")
    if isinstance(value, list) and (origin in (set, frozenset) or issubclass(list, origin)):
        kind = origin if origin in (set, frozenset) else list
        return _build(kind, [convert(item, args[0], f"{path}[{i}]") for i, item in enumerate(value)], path)
    if origin is tuple and isinstance(value, list):
        wanted = [args[0]] * len(value) if args[1:] == (...,) else list(args)
        if len(wanted) != len(value):
            raise MessageDecodeError(f"{path}: expected {len(wanted)} items, got {len(value)}")
        pairs = enumerate(zip(value, wanted, strict=True))
        return tuple(convert(item, want, f"{path}[{i}]") for i, (item, want) in pairs)
    if isinstance(value, dict) and issubclass(origin, Mapping):
        key_type, item_type = args
        return {
            convert(key, key_type, f"{path}: key {key!r:.80}"): convert(item, item_type, f"{path}[{key!r:.80}]")
            for key, item in value.items()
        }
    raise MessageDecodeError(f"{path}: expected {cls}, got {_seen(value)}")


def _build(cls: Any, value: Any, path: str) -> Any:
    try:
        return cls(value)
    except (TypeError, ValueError) as exc:
        raise MessageDecodeError(f"{path}: {exc}") from exc


def _seen(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.60}"
