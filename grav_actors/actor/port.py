"""What references reach actors through: the pod of whoever holds them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from grav_actors.message import Message
from grav_actors.pod.pod import Pod
from grav_actors.protocol import BUS_NAME, STOP_TYPE
from grav_actors.timeouts import Timeout

CONNECTED = "grav.sys.bus.connected"


class PodPort:
    """Tells, asks, stops and looks for actors through one pod."""

    __slots__ = ("_pod",)

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    def tell(self, to: str, type: str, data: Any) -> None:
        """Send to one actor."""
        self._pod._tell(to, Message(type, data))

    def ask(self, to: str, type: str, data: Any, timeout: Timeout) -> Any:
        """Ask one actor; see `Pod.ask`."""
        return self._pod._ask_here(type, data, to, timeout)

    def ask_async(self, to: str, type: str, data: Any, timeout: Timeout) -> Coroutine[Any, Any, Any]:
        """Ask one actor in asyncio; see `Pod.ask`."""
        return self._pod._ask_in_loop(type, data, to, timeout)

    def stop_actor(self, name: str) -> None:
        """Have an actor, or all instances behind a name, end for good; returns at once."""
        self._pod._tell(name, Message._framework(STOP_TYPE, None))

    def is_actor_alive(self, name: str) -> bool:
        """Return whether the bus has an actor of that name that can be reached."""
        return bool(self._pod.ask(CONNECTED, name, to=BUS_NAME))
