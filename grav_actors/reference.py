"""ActorRef: the name of an actor, with a way to reach it."""

import re
from collections.abc import Coroutine
from typing import Any, NoReturn, Protocol

from grav_actors.errors import ActorStartError, ConnectionClosedError
from grav_actors.timeouts import Timeout

MAX_REF_BYTES = 255
"""Longest name of a reference, in bytes of UTF-8. It may name more than an actor may be called."""

_ACTOR_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class RefPort(Protocol):
    """What a reference asks of the pod or node it was made by; `to` and `name` are actor names."""

    def tell(self, to: str, type: str, data: Any) -> None:
        """Send to one actor, without an answer."""
        ...

    def ask(self, to: str, type: str, data: Any, timeout: Timeout) -> Any:
        """Send to one actor and return the data of its answer."""
        ...

    def ask_async(self, to: str, type: str, data: Any, timeout: Timeout) -> Coroutine[Any, Any, Any]:
        """Do what `ask` does, under asyncio."""
        ...

    def stop_actor(self, name: str) -> None:
        """End the actor for good."""
        ...

    def is_actor_alive(self, name: str) -> bool:
        """Tell whether the actor runs."""
        ...


class ActorRef:
    """A reference to an actor: a value, equal by name, hashable; may travel inside messages.

    It says who, not where: the name stays right while the actor is restarted, and a reference to an
    actor that never was is no error before it is used. Copies and pickles keep the name and lose the
    port; what arrives in a message has the receiver's port.

    Raises:
        ValueError: The name is no text of 1 to 255 bytes of UTF-8.
    """

    __slots__ = ("_node", "_port", "name")

    name: str
    _node: str
    _port: RefPort | None

    def __init__(self, name: str, port: RefPort | None = None) -> None:
        try:
            plain = str.__str__(name)
            size = len(plain.encode())
        except (TypeError, UnicodeEncodeError):
            plain, size = "", 0
        if not 1 <= size <= MAX_REF_BYTES:
            raise ValueError(f"no actor can be called {name!r:.80}; give 1 to {MAX_REF_BYTES} bytes of UTF-8")
        object.__setattr__(self, "name", plain)
        object.__setattr__(self, "_node", "")
        object.__setattr__(self, "_port", port)

    @property
    def node(self) -> str:
        """The node of the actor; "" is the one of the port."""
        return self._node

    def tell(self, type: str, data: Any = None) -> None:
        """Send to the actor, without an answer; nobody there: dead letter `no_responders`."""
        self._reach().tell(self.name, type, data)

    def ask(self, type: str, data: Any = None, timeout: Timeout = 5.0) -> Any:
        """Send to the actor and return the data of its answer.

        Args:
            type: Message type the actor handles.
            data: Data of the message.
            timeout: Seconds, or a callable that returns them; None means no limit.

        Raises:
            AskTimeoutError: No answer within `timeout`.
            HandlerError: The handler failed; carries the remote traceback.
            NoRespondersError: The name is unknown, or the actor does not handle the type.
            ActorStoppedError: The actor ended with the question.
        """
        return (self._port or self._reach()).ask(self.name, type, data, timeout)

    def ask_async(self, type: str, data: Any = None, timeout: Timeout = 5.0) -> Coroutine[Any, Any, Any]:
        """Do what `ask` does, under asyncio."""
        # No coroutine of its own: it would be gone through at each end of the wait.
        return (self._port or self._reach()).ask_async(self.name, type, data, timeout)

    def stop(self) -> None:
        """End the actor, or all instances behind its name; an end that was asked for is never restarted."""
        self._reach().stop_actor(self.name)

    def is_alive(self) -> bool:
        """Tell whether the actor runs now."""
        return self._reach().is_actor_alive(self.name)

    def _reach(self) -> RefPort:
        if self._port is None:
            raise ConnectionClosedError(
                f"the reference to actor {self.name!r} belongs to no node or pod (it was made by hand, copied"
                f" or unpickled); use grav.actor({self.name!r}), or hand it to tell() or ask() of a pod"
            )
        return self._port

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorRef):
            return NotImplemented
        return self.name == other.name and self._node == other._node

    def __hash__(self) -> int:
        return hash((self.name, self._node))

    def __repr__(self) -> str:
        return f"ActorRef({self.name!r})"

    def __reduce__(self) -> tuple[type["ActorRef"], tuple[str]]:
        return type(self), (self.name,)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an ActorRef does not change; {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an ActorRef does not change; {name!r} cannot be deleted")


def check_actor_name(name: str) -> str:
    """Return `name` if an actor may be called so.

    Raises:
        ActorStartError: Not 1 to 64 letters, digits, dots, underscores and dashes, or it begins with
            `grav.`, which is the framework's.
    """
    try:
        is_good = _ACTOR_NAME.fullmatch(name) is not None
    except TypeError:
        is_good = False
    if not is_good:
        raise ActorStartError(
            f"bad actor name {name!r:.100}: 1 to 64 of A-Z, a-z, 0-9, dot, underscore and dash are allowed"
        )
    if name.startswith("grav."):
        raise ActorStartError(f"bad actor name {name!r}: names that begin with 'grav.' are the framework's")
    return name
