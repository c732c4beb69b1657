"""Slow changes to be planted: each is of a kind that a stopwatch on a busy machine does not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grav_actors.bus.postman import Postman
from grav_actors.pod import callbacks
from grav_actors.pod.pod import Pod


def _replace(owner: object, slow: Callable[..., Any]) -> None:
    """Put `slow_x` in the place of `x`."""
    setattr(owner, slow.__name__.removeprefix("slow_"), slow)


def _slow_sender() -> None:
    """Look at each character of a message's type before it is sent."""
    publish = Pod.publish

    def slow_publish(self: Pod, type: str, *rest: Any, **fields: Any) -> Any:
        for _ in type:
            pass
        return publish(self, type, *rest, **fields)

    _replace(Pod, slow_publish)


def _slow_bus() -> None:
    """Look at every pod of the bus for each run, whether it wants the run or not."""
    route = Postman.route

    def slow_route(self: Postman, *rest: Any) -> None:
        for _ in self.directory:
            pass
        route(self, *rest)

    _replace(Postman, slow_route)


def _slow_receiver() -> None:
    """Look at each message of a run before any is handled."""
    open_run = callbacks.open_run

    def slow_open_run(pod: Any, inbound: Any) -> Any:
        opened = open_run(pod, inbound)
        opened.data = [data for data in opened.data if len(data) < 1000]
        return opened

    _replace(callbacks, slow_open_run)


PLANTS: dict[str, Callable[[], None]] = {"sender": _slow_sender, "bus": _slow_bus, "receiver": _slow_receiver}
"""By the part that becomes slow."""
