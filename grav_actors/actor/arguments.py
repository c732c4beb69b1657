"""The arguments of an actor's constructor on their way to its process."""

from __future__ import annotations

import io
import pickle
from typing import Any

from grav_actors.reference import ActorRef, RefPort

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> str | None:
        return obj.name if isinstance(obj, ActorRef) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, raw: bytes, port: RefPort | None) -> None:
        super().__init__(io.BytesIO(raw))
        self._port = port

    def persistent_load(self, pid: Any) -> ActorRef:
        return ActorRef(pid, self._port)


def dump_arguments(arguments: Arguments) -> bytes:
    """Return arguments as bytes for a child process.

    Raises:
        Exception: Something in them cannot be pickled; of whatever type.
    """
    file = io.BytesIO()
    _Pickler(file).dump(arguments)
    return file.getvalue()


def load_arguments(raw: bytes, port: RefPort | None) -> Arguments:
    """Return what `dump_arguments` was given, in bytes from the own parent; references reach actors through `port`.

    Raises:
        Exception: The class of something in them is not found here; of whatever type.
    """
    arguments: Arguments = _Unpickler(raw, port).load()
    return arguments
