"""What pods are told of others: who watches an actor, of its end; the gateway, of what is here and of what it knows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from grav_actors.bus.directory import Directory
from grav_actors.bus.gateway import is_gateway
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.watches import Ended, Notice, Watches
from grav_actors.errors import ProtocolError
from grav_actors.protocol import (
    GATEWAY_NAME,
    MAX_REMOTE_NAMES,
    STAGE_BEGIN,
    STAGE_END,
    WATCHES_LIMIT,
    Verb,
    pack,
)


class Notices:
    """The part of the bus that tells watchers and the gateway.

    Attributes:
        watches: Who watches whom.

    Args:
        reply: Sends a header to a pod that can be reached.
    """

    def __init__(self, directory: Directory, reply: Callable[[Receiver, bytes], None]) -> None:
        self._directory = directory
        self._reply = reply
        self.watches = Watches(directory)

    def began(self, receiver: Receiver) -> None:
        """Note that a pod has joined."""
        self.watches.began(receiver)
        news = self._directory.news
        if news is not None and receiver.settings.actor:
            news.began(receiver.name)
            news.began(receiver.settings.service)

    def ended(self, receiver: Receiver, why: Ended) -> None:
        """Tell that a pod is gone for good, which is out of the directory already."""
        self._tell_all(self.watches.ended(receiver, why))
        news = self._directory.news
        if news is not None and receiver.settings.actor:
            for name in (receiver.name, receiver.settings.service):
                if not self._directory.has_name(name):
                    news.ended(name, why.reason, why.error)
        if is_gateway(receiver) and self._directory.gateway is None:
            for name, node in self._directory.remote.clear():
                self._tell_all(self.watches.remote_ended(name, node, Ended("lost", "this node has left the mesh")))
            self._tell_all(self.watches.remote_known())

    def watch(self, receiver: Receiver, begun: Collection[tuple[int, str]], ended: Collection[int]) -> None:
        """Take what a pod watches from now on, and what no longer; raise ProtocolError if that is too much."""
        if not self.watches.has_room(receiver, [number for number, _ in begun], ended):
            raise ProtocolError(f"more than {WATCHES_LIMIT} watches of one pod")
        for number in ended:
            self.watches.unwatch(receiver, number)
        for number, name in begun:
            gone = self.watches.watch(receiver, number, name)
            if gone is not None:
                self._tell(receiver, number, gone)

    def _tell_all(self, notices: Iterable[Notice]) -> None:
        for watcher, number, why in notices:
            self._tell(watcher, number, why)

    def _tell(self, watcher: Receiver, number: int, why: Ended) -> None:
        """Tell a watch its end. A pod that is away repeats its watches when it is back, and is told then."""
        if watcher.route:
            self._reply(watcher, pack(Verb.DOWN.value, watcher.slot, number, why.reason, why.error))

    # Other nodes

    def take_remote(self, receiver: Receiver, fields: tuple[Any, ...]) -> None:
        """Take what the gateway says of the actors of other nodes; at its beginning it is told all of this one's."""
        if receiver is not self._directory.gateway:
            raise ProtocolError(f"GATEWAY of a pod that is not called {GATEWAY_NAME}")
        _, _, stage, begun, ended = fields
        remote = self._directory.remote
        if len(remote) + len(begun) > MAX_REMOTE_NAMES:
            raise ProtocolError(f"more than {MAX_REMOTE_NAMES} names of other nodes")
        if stage & STAGE_BEGIN:
            remote.begin()
            self._directory.begin_news()
        for name, reason, error in ended:
            node = remote.remove(name)
            if node is not None:
                self._tell_all(self.watches.remote_ended(name, node, Ended(reason, error)))
        for name, node in begun:
            before = remote.add(name, node)
            if before is not None:
                self._tell_all(self.watches.remote_ended(name, before, Ended("lost")))
            self.watches.remote_began(name)
        if stage & STAGE_END:
            for name, node in remote.end():
                self._tell_all(self.watches.remote_ended(name, node, Ended("lost")))
            self._tell_all(self.watches.remote_known())
        self.tell_local()

    def tell_local(self) -> None:
        """Tell the gateway what has changed here: before the change is confirmed, so that it is ahead of its use."""
        news, gateway = self._directory.news, self._directory.gateway
        if news is not None and news.has_news and gateway is not None and gateway.route:
            for local in news.take():
                self._reply(gateway, pack(Verb.LOCAL.value, gateway.slot, *local))
