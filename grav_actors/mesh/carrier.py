"""The connections of a hub: threads for handshakes, and frames in and out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from time import time_ns
from typing import Any, Protocol

from grav_actors.errors import ConfigError, GravError, ProtocolError
from grav_actors.mesh.effects import Ask, Close, Dial, Effect, Open, Publish, Reply, Subscribe
from grav_actors.mesh.frames import Beat, Frame, decode_frame, encode_frame
from grav_actors.transports.base import (
    Channel,
    Handshake,
    HandshakeAck,
    Incoming,
    LinkDown,
    MeshConnection,
    MeshFrame,
    MeshTransport,
    Subscribed,
)

logger = logging.getLogger(__name__)

MAX_TICKETS = 4096
"""Requests that wait for their answer; past it the oldest is not answered, and asked again."""


class Events(Protocol):
    """What a carrier tells its hub. Called from any thread, must not block.

    `introduced` is the exception: it waits for the answer.
    """

    def accept(self) -> int:
        """Return the number of a link that a peer has opened."""
        ...

    def introduced(self, link: int, handshake: Handshake, *, can_replace: bool) -> HandshakeAck:
        """Return the answer to a peer; with what its connection says of itself, see `Connection.can_replace`."""
        ...

    def greeted(self, link: int, answer: HandshakeAck, *, can_replace: bool) -> None:
        """Take the answer of a peer."""
        ...

    def dial_failed(self, link: int) -> None:
        """Note that nobody answered."""
        ...

    def undiallable(self, endpoint: str, error: GravError) -> None:
        """Note that an endpoint is none for this transport."""
        ...

    def handshaken(self, link: int) -> None:
        """Note that the answer to a peer is on its way."""
        ...

    def link_down(self, link: int, reason: str) -> None:
        """Note that a link has ended."""
        ...

    def subscribed(self, prefix: bytes) -> None:
        """Note that a peer has subscribed to something."""
        ...

    def came(self, link: int, frame: Frame, body: bytes, ticket: int, channel: Channel) -> None:
        """Take a frame."""
        ...


class Carrier:
    """Carries out the effects that concern links. All methods but `take` are called by the hub's thread.

    Attributes:
        bad_frames: Frames that were malformed.
    """

    def __init__(self, transport: MeshTransport, events: Events, handshake: Callable[[], Handshake]) -> None:
        self._transport = transport
        self._events = events
        self._handshake = handshake
        self._connections: dict[int, MeshConnection] = {}
        self._held: dict[int, list[Effect]] = {}  # of links whose answer is not on its way yet
        self._tickets: dict[int, tuple[MeshConnection, int]] = {}
        self._next_ticket = 1
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self.bad_frames = 0

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        def run() -> None:
            try:
                target(*args)
            finally:
                with self._lock:
                    self._threads.discard(thread)

        thread = threading.Thread(target=run, name="grav-mesh-handshake", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    # Handshakes

    def take(self, connection: Any) -> None:
        """Take a connection that a peer has opened; from a thread of the transport."""
        self._start(self._accept, connection)

    def _accept(self, connection: MeshConnection) -> None:
        link = self._events.accept()
        if not link:
            connection.close()
            return
        with self._lock:
            self._connections[link] = connection
            self._held[link] = []
        answers: list[HandshakeAck] = []
        is_done = False

        def answer(handshake: Handshake) -> HandshakeAck:
            answers.append(self._events.introduced(link, handshake, can_replace=connection.can_replace()))
            return answers[0]

        try:
            connection.do_incoming_handshake(answer)
            is_done = True
        except GravError as exc:
            logger.debug("a peer's handshake failed: %s", exc)
            self._events.link_down(link, str(exc))
        except Exception:
            logger.exception("a peer's handshake failed")
            self._events.link_down(link, "its handshake failed")
        if is_done and answers[0].accept:
            self._events.handshaken(link)
        else:
            connection.close()
            with self._lock:
                self._connections.pop(link, None)
                self._held.pop(link, None)

    def _dial(self, link: int, endpoint: str) -> None:
        try:
            connection: Any = self._transport.connect(endpoint)
        except GravError as exc:
            if isinstance(exc, ConfigError):
                self._events.undiallable(endpoint, exc)
            logger.debug("%s cannot be dialled: %s", endpoint, exc)
            self._events.dial_failed(link)
            return
        with self._lock:
            self._connections[link] = connection
        try:
            answer = connection.do_outgoing_handshake(self._handshake())
        except Exception as exc:
            if not isinstance(exc, GravError):
                logger.exception("the handshake with %s failed", endpoint)
            with self._lock:
                self._connections.pop(link, None)
            connection.close()
            self._events.dial_failed(link)
            return
        self._events.greeted(link, answer, can_replace=connection.can_replace())

    def release(self, link: int) -> None:
        """Carry out what was held until the answer to a peer was on its way."""
        with self._lock:
            held = self._held.pop(link, [])
        for effect in held:
            self.carry_out(effect)

    def connection(self, link: int) -> MeshConnection | None:
        """Return the started connection of a link; from any thread."""
        with self._lock:
            return self._connections.get(link) if link not in self._held else None

    # Effects

    def carry_out(self, effect: Effect) -> None:
        """Carry out an effect that concerns links; others do nothing."""
        try:
            match effect:
                case Dial(link, endpoint):
                    self._start(self._dial, link, endpoint)
                case Publish(topic, frame, body, _):
                    if isinstance(frame, Beat):
                        frame = replace(frame, clock=time_ns() // 1000)  # the core knows no clock
                    self._transport.publish(topic, encode_frame(frame), body)
                case Reply(_, ticket, frame, body):
                    self._reply(ticket, frame, body)
                case Open() | Close() | Subscribe() | Ask():
                    self._on_link(effect)
                case _:
                    pass
        except GravError as exc:
            # Its end is told by the connection itself; whatever was lost is asked for again.
            logger.debug("%s was not carried out: %s", type(effect).__name__, exc)

    def _on_link(self, effect: Open | Close | Subscribe | Ask) -> None:
        link = effect.link
        with self._lock:
            held = self._held.get(link)
            if held is not None:
                held.append(effect)
                return
            connection = self._connections.get(link)
        if connection is None:
            return
        match effect:
            case Open():
                try:
                    connection.start(lambda uuid, item: self._receive(link, connection, item))
                except GravError as exc:
                    self._events.link_down(link, str(exc))
            case Close():
                with self._lock:
                    self._connections.pop(link, None)
                connection.close()
            case Subscribe(_, prefixes):
                connection.subscribe(prefixes)
            case Ask(_, frame, body):
                connection.ask(encode_frame(frame), body)

    def _reply(self, ticket: int, frame: Frame, body: bytes) -> None:
        with self._lock:
            found = self._tickets.pop(ticket, None)
        if found is not None:
            found[0].answer(found[1], encode_frame(frame), body)

    # What comes

    def _receive(self, link: int, connection: MeshConnection, item: Incoming) -> None:
        match item:
            case MeshFrame(channel, header, body, ticket):
                try:
                    frame = decode_frame(header, len(body))
                except ProtocolError as exc:
                    self.bad_frames += 1
                    logger.debug("a malformed frame was dropped: %s", exc)
                    return
                self._events.came(link, frame, body, self._keep(connection, channel, ticket), channel)
            case Subscribed(prefix):
                self._events.subscribed(prefix)
            case LinkDown(reason):
                with self._lock:
                    self._connections.pop(link, None)
                self._events.link_down(link, reason)
            case _:
                self.bad_frames += 1  # the mesh sends no plain messages

    def _keep(self, connection: MeshConnection, channel: Channel, ticket: int) -> int:
        """Return a number of this carrier for a request: tickets of different connections may be alike."""
        if channel is not Channel.REQUEST:
            return 0
        with self._lock:
            number = self._next_ticket
            self._next_ticket += 1
            self._tickets[number] = (connection, ticket)
            if len(self._tickets) > MAX_TICKETS:
                del self._tickets[next(iter(self._tickets))]
            return number

    def stop(self) -> None:
        """Close the transport with all its connections, and wait for the handshakes to end."""
        self._transport.close()
        with self._lock:
            connections = list(self._connections.values())
            threads = list(self._threads)
        for connection in connections:
            connection.close()
        for thread in threads:
            thread.join()
