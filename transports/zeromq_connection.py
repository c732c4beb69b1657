"""One link of a node to a peer over ZeroMQ."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final, Protocol

from grav_actors.errors import (
    GravError,
    MessageTooLargeError,
    NodeWithdrawnError,
    ProtocolError,
)
from grav_actors.message import Message
from grav_actors.transports.base import (
    HANDSHAKE_TIMEOUT,
    Channel,
    Handshake,
    HandshakeAck,
    HandshakeFunc,
    LinkDown,
    MeshFrame,
    ReceiveFunc,
    Subscribed,
    Withdraw,
)
from grav_actors.transports.inbox import Inbox
from grav_actors.transports.standing import Standing
from grav_actors.transports.tcp_address import TcpAddress
from grav_actors.transports.zeromq_approach import Approach
from grav_actors.transports.zeromq_lines import Lines, Station
from grav_actors.transports.zeromq_wire import (
    TOKEN_BYTES,
    Acceptance,
    Introduction,
    Kind,
    pack_withdrawal,
    unpack_withdrawal,
)

WINDOW: Final = 1024
"""Messages of `send` that the peer has not handed over yet; past it `send` waits."""
MAX_TICKETS: Final = 4096
"""Requests of a peer that wait for their answer; past it the oldest is not answered."""
DIAL_BACK_TIMEOUT: Final = 2.5
"""Seconds that the dialled node takes to reach the dialler, within what that waits for the answer."""


class Owner(Station, Protocol):
    """The transport that a connection belongs to."""

    def keys_to_try(self, address: TcpAddress) -> list[str]:
        """Return the public keys that the node there may have, the likeliest first; [""] without encryption."""
        ...

    def check_uuid(self, uuid: str, key: str) -> str:
        """Return why the node with this key cannot have that uuid; "" when it can."""
        ...

    def reached(self, address: TcpAddress, key: str) -> None:
        """Note whose key it is that the node there has."""
        ...

    def reply(self, asker: Asker, kind: Kind, header: bytes = b"", body: bytes = b"") -> None:
        """Answer a request; on the loop's thread."""
        ...

    def forget(self, connection: ZeroMQConnection) -> None:
        """Let go of a connection that has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Asker:
    """Where the answer to a request goes.

    Attributes:
        key: Public key of who asks; "" without encryption.
    """

    route: bytes
    id: bytes
    key: str = ""


class ZeroMQConnection:
    """A link; see `Connection` and `MeshConnection`.

    Args:
        address: Of the peer: what to dial, or where a peer that has dialled takes requests.
        introduction: Of a peer that has dialled, and where its answer goes; None for one that is dialled.
    """

    def __init__(
        self, owner: Owner, address: TcpAddress, introduction: tuple[Introduction, bytes, Asker] | None = None
    ) -> None:
        self._owner = owner
        self._address = address
        self._introduction = introduction
        self._lines = Lines(owner, self)
        self._inbox = Inbox(owner.logger)
        self._standing = Standing(str(address))
        self._approach = Approach(owner.loop, self._lines, self._standing, self.end)
        self._is_closed = False
        self._is_established = False
        self._has_withdrawn = False  # the peer
        self._acceptance: Acceptance | None = None
        self._is_confirmed = False
        self._peer_uuid = ""
        self._stream_at = address
        self._peer_max_frame = owner.max_frame
        self._unanswered: OrderedDict[int, None] = OrderedDict()  # messages and withdrawals
        self._tickets: OrderedDict[int, Asker] = OrderedDict()
        self._next_ticket = 1
        self._ups = 0
        self.token = os.urandom(TOKEN_BYTES)
        self.key = ""
        if introduction is not None:
            self._lines.token, self.key = introduction[1], introduction[2].key

    def __repr__(self) -> str:
        return f"<ZeroMQConnection to {self._standing.peer}{', ' + self._standing.end if self._standing.end else ''}>"

    @property
    def is_pending(self) -> bool:
        """Whether a peer has dialled and has no answer yet."""
        return self._introduction is not None and not self._is_established

    # Handshakes

    def do_outgoing_handshake(self, handshake: Handshake) -> HandshakeAck:
        """Introduce this node; see `Connection`."""
        deadline = monotonic() + HANDSHAKE_TIMEOUT
        owner = self._owner
        address = self._address.resolve()
        self.key = self._approach.reach(address, owner.keys_to_try(address), deadline)
        introduction = Introduction(handshake, owner.host, owner.request_port, owner.stream_port, owner.max_frame)
        raw = introduction.pack()
        owner.loop.post(lambda: self._ask_or_end(Kind.INTRODUCE, raw, token=self.token))
        found = self._standing.wait_for(lambda: self._acceptance, deadline, f"{address} did not answer in time")
        ack = found.ack
        refusal = owner.check_uuid(ack.uuid, self.key)
        if refusal:
            raise ProtocolError(f"{address}: {refusal}")
        self._peer_uuid = self._standing.peer = ack.uuid
        self._peer_max_frame = found.max_frame
        self._stream_at = address.at(found.stream_port)
        self._lines.token = found.token
        self._is_established = ack.accept
        owner.reached(address, self.key)
        return replace(ack, endpoints=_seen_from(ack.endpoints, address.host))

    def do_incoming_handshake(self, callback: HandshakeFunc) -> None:
        """Reach the peer where it listens, have it confirm its introduction, and answer it; see `Connection`."""
        assert self._introduction is not None, "this side has dialled"
        introduction, _, asker = self._introduction
        owner = self._owner
        deadline = monotonic() + DIAL_BACK_TIMEOUT
        try:
            self._approach.reach(self._address, [self.key], deadline)
            # Its introduction may be one that somebody has recorded: it counts when its sender knows of it.
            owner.loop.post(lambda: self._ask_or_end(Kind.CONFIRM))
            self._standing.wait_for(
                lambda: self._is_confirmed or None, deadline, f"{self._address} did not confirm in time"
            )
        except GravError as exc:
            reason = f"the node there could not reach this one: {exc}".encode()
            owner.loop.post(lambda: owner.reply(asker, Kind.FAILED, reason))
            raise
        handshake = introduction.handshake
        self._peer_uuid = self._standing.peer = handshake.uuid
        self._peer_max_frame = introduction.max_frame
        self._stream_at = self._address.at(introduction.stream_port)
        self._is_established = True
        ack = callback(replace(handshake, endpoints=_seen_from(handshake.endpoints, self._address.host)))
        self._is_established = ack.accept
        raw = Acceptance(ack, self.token, owner.stream_port, owner.max_frame).pack()
        owner.loop.post(lambda: owner.reply(asker, Kind.INTRODUCED, raw))

    # Carrying

    def start(self, receive_func: ReceiveFunc) -> None:
        """Begin to hand over what the peer sends, on a thread of this connection; see `Connection`."""
        with self._standing.changed:
            self._standing.check()
            self._inbox.start(f"grav-zmq to {self._peer_uuid}", self._peer_uuid, receive_func)
        self._owner.loop.post(lambda: self._lines.open_stream(self._stream_at, self.key))

    def send(self, message: Message) -> None:
        """Send a message; waits while the peer has not handed over many before; see `Connection`."""
        raw = message.marshal()
        if len(raw) > self._peer_max_frame:
            raise MessageTooLargeError(
                f"a message of {len(raw)} bytes; node {self._peer_uuid} takes at most {self._peer_max_frame}"
            )
        self._send(Kind.MESSAGE, b"", raw, WINDOW)

    def _send(self, kind: Kind, header: bytes, body: bytes, window: int) -> int:
        with self._standing.changed:
            while len(self._unanswered) >= window and not self._standing.end:
                self._standing.changed.wait()
            self._standing.check()
            if self._has_withdrawn and kind is Kind.MESSAGE:
                raise NodeWithdrawnError(f"node {self._peer_uuid} has left the mesh")
            number = self._lines.next_number()
            self._unanswered[number] = None
            self._owner.loop.post(lambda: self._ask_or_end(kind, header, body, number=number))
        return number

    def send_withdraw(self, withdraw: Withdraw) -> None:
        """Tell the peer that this node leaves; see `Connection`."""
        header = pack_withdrawal(withdraw.uuid, withdraw.reason)
        number = self._send(Kind.WITHDRAW, header, b"", WINDOW + 1)
        text = f"node {self._peer_uuid} did not acknowledge within {HANDSHAKE_TIMEOUT:g} s"
        deadline = monotonic() + HANDSHAKE_TIMEOUT
        self._standing.wait_for(lambda: True if number not in self._unanswered else None, deadline, text)

    def can_replace(self) -> bool:
        """Return False: the link lasts."""
        return False

    def subscribe(self, prefixes: tuple[bytes, ...]) -> None:
        """Have the peer publish what begins with one of these; see `MeshConnection`."""
        self._standing.check()
        self._owner.loop.post(lambda: self._lines.subscribe(prefixes))

    def ask(self, header: bytes, body: bytes = b"") -> None:
        """Send a request; see `MeshConnection`."""
        self._standing.check()
        if self._fits(body):
            self._owner.loop.post(lambda: self._ignore(self._lines.ask(Kind.ASK, header, body)))

    def answer(self, ticket: int, header: bytes, body: bytes = b"") -> None:
        """Answer a request; see `MeshConnection`."""
        with self._standing.changed:
            self._standing.check()
            asker = self._tickets.pop(ticket, None)
        if asker is not None and self._fits(body):
            self._owner.loop.post(lambda: self._owner.reply(asker, Kind.ANSWER, header, body))

    def _fits(self, body: bytes) -> bool:
        """Tell whether a peer takes this: a larger frame would end its connection, again and again."""
        if len(body) <= self._peer_max_frame:
            return True
        self._owner.bad_frame(f"nothing over {self._peer_max_frame} bytes goes to node {self._peer_uuid}")
        return False

    @staticmethod
    def _ignore(is_sent: bool) -> None:
        """Let a question go that could not leave: whoever asks asks again."""

    # What comes; on the loop's thread

    def asked(self, kind: Kind, asker: Asker, header: bytes, body: bytes) -> None:
        """Take a request of the peer for this link."""
        reply = self._owner.reply
        if self._standing.end or asker.key != self.key:
            reply(asker, Kind.GONE)
        elif kind is Kind.CONFIRM:
            is_mine = self._introduction is None and self._acceptance is None
            reply(asker, Kind.DONE if is_mine else Kind.GONE)
        elif kind is Kind.STILL:
            reply(asker, Kind.DONE)
        elif kind is Kind.BYE:
            self.end("the peer has closed it")
        elif kind is Kind.ASK:
            self._inbox.offer([MeshFrame(Channel.REQUEST, header, body, self._keep(asker))])
        else:
            self._take(kind, asker, header, body)

    def _keep(self, asker: Asker) -> int:
        with self._standing.changed:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._tickets[ticket] = asker
            if len(self._tickets) > MAX_TICKETS:
                self._tickets.popitem(last=False)
            return ticket

    def _take(self, kind: Kind, asker: Asker, header: bytes, body: bytes) -> None:
        def done() -> None:
            self._owner.loop.post(lambda: self._owner.reply(asker, Kind.DONE))

        try:
            if kind is Kind.MESSAGE:
                item: Message | Withdraw = Message.unmarshal(body)
            else:
                item = Withdraw(*unpack_withdrawal(header))
                self._has_withdrawn = True
        except GravError as exc:
            self._owner.bad_frame(f"a {kind.name.lower()}: {exc}")
            done()
            return
        self._inbox.put(item, done)

    def answered(self, kind: Kind, number: int, header: bytes, body: bytes) -> None:
        """Take an answer of the peer."""
        if kind is Kind.ANSWER:
            self._inbox.offer([MeshFrame(Channel.ANSWER, header, body)])
        elif kind is Kind.GONE:
            self.end("the peer does not have it any more")
        elif kind is Kind.FAILED:
            self.end(header[:500].decode(errors="replace") or "the introduction came to nothing")
        elif kind is Kind.INTRODUCED:
            self._take_acceptance(header)
        elif kind is Kind.DONE:
            with self._standing.changed:
                self._unanswered.pop(number, None)
                self._is_confirmed = True
                self._standing.changed.notify_all()

    def _take_acceptance(self, header: bytes) -> None:
        try:
            acceptance = Acceptance.unpack(header)
        except ProtocolError as exc:
            self._owner.bad_frame(f"an answer to an introduction: {exc}")
            self.end(f"the answer is none that this version understands: {exc}")
            return
        with self._standing.changed:
            if self._introduction is None and self._acceptance is None:
                self._acceptance = acceptance
                self._standing.changed.notify_all()

    def published(self, frames: list[MeshFrame]) -> None:
        """Take what the peer has published."""
        self._inbox.offer(frames)

    def subscribed(self, last: bytes) -> None:
        """Note that what the peer has subscribed to counts."""
        self._inbox.put(Subscribed(last))

    def line_changed(self) -> None:
        """Note that a connection was made, or lost."""
        line = self._lines.requests
        if line is not None and self._is_established:
            if line.ups > max(self._ups, 1):
                # It may be another node that listens there now.
                self._lines.ask(Kind.STILL)
            elif line.lost_at is not None and line.ups and self._unanswered:
                self.end("the connection was lost with messages under way")
            self._ups = line.ups
        with self._standing.changed:
            self._standing.changed.notify_all()

    def look(self, now: float) -> None:
        """End the link if its connections are lost for too long."""
        if self._is_established and not self._standing.end:
            trouble = self._lines.trouble(now)
            if trouble:
                self.end(trouble)

    def _ask_or_end(
        self, kind: Kind, header: bytes = b"", body: bytes = b"", *, token: bytes = b"", number: int = 0
    ) -> None:
        """Send what must not be lost while the link lasts."""
        if not self._standing.end and not self._lines.ask(kind, header, body, token=token, number=number):
            self.end("the peer takes nothing")

    # Ending

    def end(self, reason: str) -> None:
        """End the link, which is lost; the receiver is told. On the loop's thread."""
        if not self._standing.finish(reason):
            return
        self._inbox.end(LinkDown(reason))
        self._owner.forget(self)
        self._lines.close(is_lost=True)

    def close(self) -> None:
        """End the link; see `Connection`."""
        with self._standing.changed:
            is_first = not self._is_closed
            self._is_closed = True
        is_standing = self._standing.finish("it was closed")
        if is_first:
            self._owner.forget(self)
            if is_standing:
                self._owner.loop.post(self._say_goodbye)
        self._inbox.close()

    def _say_goodbye(self) -> None:
        if self._is_established:
            self._lines.ask(Kind.BYE)
        elif self._introduction is not None:
            self._owner.reply(self._introduction[2], Kind.FAILED, b"the node there has closed the link")
        self._lines.close()


def _seen_from(endpoints: tuple[str, ...], host: str) -> tuple[str, ...]:
    """Return endpoints with the host under which a node was seen where they name none."""
    found: list[str] = []
    for endpoint in endpoints:
        with contextlib.suppress(ValueError):
            address = TcpAddress.parse(endpoint)
            found.append(endpoint if address is None else str(address.seen_from(host)))
    return tuple(dict.fromkeys(found))
