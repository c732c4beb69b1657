"""A node of the simulated mesh: the core, driven as the hub drives it, over connections in memory."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from grav_actors.ids import id_text
from grav_actors.mesh.core import TICK, MeshCore
from grav_actors.mesh.delivery import OWN_TYPES
from grav_actors.mesh.effects import (
    ActorsChanged,
    Ask,
    Close,
    Deliver,
    DeliverTunnelled,
    Dial,
    Effect,
    Finish,
    GapFound,
    Open,
    PeerChanged,
    Post,
    PostError,
    Publish,
    Refuse,
    Reply,
    Subscribe,
    TakeBack,
    TunnelEnded,
    Withdrawn,
)
from grav_actors.mesh.frames import Frame, decode_frame, encode_frame
from grav_actors.mesh.handshake import Identity
from grav_actors.mesh.inflow import Arrival
from grav_actors.mesh.peers import Peer, PeerState
from grav_actors.mesh.switchboard import Leaving, Switchboard
from grav_actors.mesh.topics import type_topic
from grav_actors.transports.base import HANDSHAKE_TIMEOUT, HandshakeAck
from support.meshsim.bus import SimBus
from support.meshsim.history import DIRECTED, Lost, MeshHistory
from support.meshsim.network import Network


@dataclass(frozen=True, slots=True)
class OwnCame:
    """A run that is for the mesh itself has come."""

    life: bytes
    number: int


@dataclass(eq=False)
class End:
    """One end of a connection.

    Attributes:
        subscribed: What the other end has subscribed to, as far as it has arrived here.
        is_open: The node takes what comes; before that it waits in `early`.
    """

    node: SimNode
    link: int
    other: End | None = None
    is_open: bool = False
    is_closed: bool = False
    subscribed: tuple[bytes, ...] = ()
    early: list[tuple[bytes, bytes, int]] = field(default_factory=list[tuple[bytes, bytes, int]])


class SimNode:
    """One life of a node.

    Attributes:
        host: Where it is; cuts are between hosts.
        ledger: Tells when each life ends, and judges.
    """

    def __init__(
        self,
        host: str,
        network: Network,
        directory: dict[str, SimNode],
        history: MeshHistory,
        seed: int,
        *,
        uuid: bytes | None = None,
        retransmit: int = 64 * 1024 * 1024,
        interests: tuple[str, ...] = (),
    ) -> None:
        rng = random.Random(seed)
        self.host = host
        self.network = network
        self.directory = directory
        self.history = history
        self.raw_uuid = uuid if uuid is not None else rng.randbytes(16)
        self.life = rng.randbytes(8)
        self.endpoint = f"sim://{host}"
        self.me = Identity(id_text(self.raw_uuid), self.life, host, interests=interests, endpoints=(self.endpoint,))
        self.core = MeshCore(self.me, rng.random, retransmit=retransmit)
        self.switchboard = Switchboard(self.core)
        self.bus = SimBus(self, random.Random(seed + 1))
        self._note_directed()
        self.ends: dict[int, End] = {}
        self.is_alive = True
        self.is_stalled = False
        self.has_withdrawn = False
        self.tunnels_ended: dict[int, str] = {}
        self.tunnelled: list[tuple[int, bool]] = []
        self._late: list[Any] = []
        self._number = 0
        self._directed = DIRECTED
        self._tickets: dict[int, End] = {}
        self._ticket_count = 0
        directory[self.endpoint] = self
        history.alive.add(self.life)
        network.after(rng.random() * TICK, self._tick)

    def _note_directed(self) -> None:
        """Have what goes to one peer, and what the mesh itself says, noted in the history as owed and as got."""
        delivery = self.core._delivery
        direct, on_own = delivery.direct, delivery.on_own

        def noted_direct(peer: Peer, type: str, count: int, meta: bytes, body: bytes) -> bool:
            number = self._directed
            tag = f"{type}#{number}" if type not in OWN_TYPES else type
            if not direct(peer, tag, count, meta or str(number).encode(), body):
                return False
            self._directed += count
            self.history.owed[self.life, peer.incarnation].extend(range(number, number + count))
            return True

        def noted_own(peer: Peer, run: Arrival) -> None:
            # In its place among what is delivered.
            effects: Any = self.core.out
            effects.append(OwnCame(peer.incarnation, int(run.meta)))
            on_own(peer, run)

        vars(delivery).update(direct=noted_direct, on_own=noted_own)

    def take_number(self) -> int:
        """Return a number for a message of this life."""
        self._number += 1
        return self._number - 1

    # Doing things

    def _tick(self) -> None:
        if self.is_alive:
            self.do(lambda: self.core.tick(self.network.now))
            self.network.after(TICK, self._tick)

    def do(self, action: Any) -> Any:
        """Act on the core and carry out its effects; a stalled node does so when it goes on."""
        if not self.is_alive:
            return None
        if self.is_stalled:
            self._late.append(action)
            return None
        result = action()
        self.pump()
        return result

    def stall(self) -> None:
        self.is_stalled = True

    def go_on(self) -> None:
        self.is_stalled = False
        late, self._late = self._late, []
        # One tick for all that were missed, as of a loop that was held up.
        for action in late:
            self.do(action)

    def publish(self, type: str, count: int) -> None:
        self.do(lambda: self._publish(type, count))

    def _publish(self, type: str, count: int) -> None:
        numbers = list(range(self._number, self._number + count))
        self._number += count
        self._check_agreed(type)
        tracks = self.core._state.outflow.wanted_by(type_topic(type))
        for track in tracks:
            self.history.owed[self.life, track.incarnation].extend(numbers)
        self.core.publish(type, count, b"", msgpack.packb(numbers))

    def published(self, run: Leaving, number: int) -> None:
        """Carry what was published on this node's bus; those on whose tracks it goes are owed it."""
        for track in self.core._state.outflow.wanted_by(type_topic(run.type)):
            self.history.owed[self.life, track.incarnation].append(number)
        self.switchboard.leave(run)

    def _check_agreed(self, type: str) -> None:
        """Who has agreed with this node that it wants a type must be on the tracks of that type."""
        topic = type_topic(type)
        wanting = {track.incarnation for track in self.core._state.outflow.wanted_by(topic)}
        for peer in self.core.peers():
            other = self.directory.get(f"sim://{peer.name}")
            if other is None or not other.is_alive or other.life != peer.incarnation:
                continue
            mine = other.core.peer(self.me.uuid)
            if mine is None or mine.incarnation != self.life or mine.asked is not None or not mine.is_answered:
                continue
            if peer.state is PeerState.WITHDRAWN:
                continue
            wants = topic.startswith(mine.subscribed) if mine.subscribed else False
            if wants and peer.incarnation not in wanting:
                self.history.wrong.append(f"{self.network.now:.3f}: {self.host} does not know that {peer.name} wants")
            if not wants and peer.incarnation in wanting:
                self.history.wrong.append(f"{self.network.now:.3f}: {self.host} sends {type} to {peer.name} unasked")

    def want(self, *patterns: str) -> None:
        self.do(lambda: self.core.want(patterns, self.network.now))

    def hint(self, other: SimNode) -> None:
        self.do(lambda: self.core.hint(other.endpoint, "", self.network.now, is_lasting=True))

    def withdraw(self) -> None:
        self.do(lambda: self.core.withdraw(self.network.now))

    def tunnel(self, capability: str, number: int, timeout: float = 5.0) -> int:
        now = self.network.now
        key: int = self.do(lambda: self.core.tunnel(capability, b"", msgpack.packb(number), now, now + timeout))
        return key

    def die(self, *, is_loud: bool) -> None:
        """End at once; loud: the peers' sockets notice, as of a killed process but not of a power cut."""
        self.is_alive = False
        self.history.alive.discard(self.life)
        if self.directory.get(self.endpoint) is self:
            del self.directory[self.endpoint]
        for end in self.ends.values():
            end.is_closed = True
            if end.other is not None:
                self.network.suffer(self.host, end.other.node.host)
                if is_loud:
                    self._report_end(end.other)
        for node in self.directory.values():
            self.network.suffer(self.host, node.host)

    def states(self) -> dict[str, str]:
        return {peer.name: peer.state.value for peer in self.core.peers()}

    # Effects

    def pump(self) -> None:
        while self.core.out:
            effects = list(self.core.out)
            self.core.out.clear()
            for effect in effects:
                self._carry_out(effect)

    def _carry_out(self, effect: Effect | OwnCame) -> None:
        match effect:
            case Dial(link, endpoint):
                self._dial(link, endpoint)
            case Open(link):
                self._open(link)
            case Close(link):
                self._close(link)
            case Subscribe(link, prefixes):
                self._subscribe(link, prefixes)
            case Publish(topic, frame, body, links):
                self._publish_frame(topic, frame, body, links)
            case Ask(link, frame, body):
                self._send(link, "request", frame, body)
            case Reply(link, ticket, frame, body):
                # The answer goes where the question came from, whatever link the peer has by now.
                end = self._tickets.pop(ticket, None)
                if end is not None and not end.is_closed:
                    self._send(end.link, "answer", frame, body)
            case _:
                self._tell(effect)

    def _tell(self, effect: Effect | OwnCame) -> None:
        match effect:
            case OwnCame(life, number):
                self.history.got[life, self.life].append(number)
            case Deliver(meta=b""):
                self._delivered(effect.incarnation, effect.count, effect.body)
            case Deliver():
                self._carried(effect)
            case Post() | PostError() | TakeBack() | Finish() | Refuse() | ActorsChanged():
                self.bus.take(effect)
            case GapFound(_, life, count):
                self.history.got[life, self.life].append(Lost(count))
                self.switchboard.lost(effect)
            case PeerChanged(peer, state, reason):
                self.switchboard.changed(effect)
                self._peer_changed(peer, state, reason)
            case DeliverTunnelled(_, _, body, redelivered):
                self.tunnelled.append((msgpack.unpackb(body), redelivered))
            case TunnelEnded(key, peer, _):
                self.tunnels_ended[key] = peer
            case Withdrawn():
                self.has_withdrawn = True
            case _:
                pass

    def _carried(self, run: Deliver) -> None:
        type_, tag, number = run.type.rpartition("#")
        first = int(number) if tag else msgpack.unpackb(run.body)[0][4]
        self.history.got[run.incarnation, self.life].extend(range(first, first + run.count))
        self.switchboard.deliver(replace(run, type=type_) if tag else run)

    def _delivered(self, life: bytes, count: int, body: bytes) -> None:
        numbers = msgpack.unpackb(body)
        if len(numbers) != count:
            self.history.wrong.append(f"{self.host} got {len(numbers)} messages in a run of {count}")
        self.history.got[life, self.life].extend(numbers)

    def _peer_changed(self, uuid: str, state: str, reason: str) -> None:
        now = self.network.now
        peer = self.core.peer(uuid)
        name = peer.name if peer is not None else uuid
        self.history.states.append((now, self.host, name, state))
        is_dead = peer is not None and peer.incarnation not in self.history.alive
        if state == "down" and peer is not None and not is_dead and not self.network.suffered(self.host, name, 12.0):
            self.history.wrong.append(f"{now:.3f}: {self.host} calls {name} down without a reason: {reason}")

    # Connections

    def _dial(self, link: int, endpoint: str) -> None:
        end = self.ends[link] = End(self, link)
        handshake = self.me.handshake()
        is_over = False

        def fail() -> None:
            nonlocal is_over
            if not is_over and not end.is_closed:
                is_over = True
                self.do(lambda: self.core.dial_failed(link, self.network.now))
                self._close(link)

        def arrive() -> None:
            other = self.directory.get(endpoint)
            if other is None:
                self.network.send(f"{endpoint[6:]}", self.host, object(), fail)
                return
            if not other.is_stalled:
                other._introduced(end, handshake, answer)

        def answer(ack: HandshakeAck, theirs: End | None) -> None:
            nonlocal is_over
            if is_over or end.is_closed or not self.is_alive:
                if theirs is not None:
                    self._report_end(theirs)
                return
            is_over = True
            end.other = theirs
            self.do(lambda: self.core.greeted(link, ack, self.network.now))

        target = endpoint.removeprefix("sim://")
        self.network.send(self.host, target, object(), arrive)
        self.network.after(HANDSHAKE_TIMEOUT, fail)

    def _introduced(self, theirs: End, handshake: Any, answer: Any) -> None:
        if not self.is_alive:
            return
        link = self.core.accept()
        mine = End(self, link, theirs)
        ack = self.core.introduced(link, handshake, self.network.now)
        if ack.accept:
            self.ends[link] = mine
            theirs.other = mine
        self.pump()
        self.network.send(self.host, theirs.node.host, object(), lambda: answer(ack, mine if ack.accept else None))
        if ack.accept:
            self.network.after(HANDSHAKE_TIMEOUT, lambda: self._give_up(mine, theirs))

    def _give_up(self, mine: End, theirs: End) -> None:
        # Of a handshake that came twice, the other node may have taken the other answer.
        if theirs.is_closed or theirs.other is not mine:
            self._report_end(mine)

    def _open(self, link: int) -> None:
        end = self.ends.get(link)
        if end is None or end.is_closed:
            return
        end.is_open = True
        early, end.early = end.early, []
        for header, body, ticket in early:
            self._receive(end, header, body, ticket)

    def _close(self, link: int) -> None:
        end = self.ends.pop(link, None)
        if end is not None and not end.is_closed:
            end.is_closed = True
            if end.other is not None:
                self._report_end(end.other)

    def _report_end(self, end: End) -> None:
        """Tell an end that the other one is closed; a cut keeps that from it for good."""
        mine, theirs = self.host, end.node.host

        def arrive() -> None:
            if not end.is_closed:
                end.is_closed = True
                end.node.ends.pop(end.link, None)
                end.node.network.suffer(mine, theirs)
                end.node.do(lambda: end.node.core.link_down(end.link, "closed by the peer", end.node.network.now))

        if (mine, theirs) not in self.network.cuts:
            self.network.after(self.network.rng.uniform(*self.network.weather.delay), arrive)

    def _subscribe(self, link: int, prefixes: tuple[bytes, ...]) -> None:
        end = self.ends.get(link)
        if end is None or end.other is None:
            return
        theirs = end.other

        def arrive() -> None:
            if end.is_closed or theirs.is_closed:
                return
            theirs.subscribed = prefixes
            node = theirs.node
            for prefix in prefixes:
                if prefix.startswith(b"x"):
                    node.do(lambda prefix=prefix: node.core.subscribed(prefix, node.network.now))

        self.network.send_surely(self.host, theirs.node.host, arrive)

    def _publish_frame(self, topic: bytes, frame: Frame, body: bytes, links: tuple[int, ...]) -> None:
        for end in list(self.ends.values()):
            # As an XPUB socket: to whoever has subscribed, needed or not.
            if end.other is not None and end.subscribed and topic.startswith(end.subscribed):
                self._send(end.link, "stream", frame, body)

    def _send(self, link: int, channel: str, frame: Frame, body: bytes) -> None:
        end = self.ends.get(link)
        if end is None or end.is_closed or end.other is None:
            return
        theirs = end.other
        header = encode_frame(frame)
        ticket = 0
        if channel == "request":
            theirs.node._ticket_count += 1
            ticket = theirs.node._ticket_count
            theirs.node._tickets[ticket] = theirs
        self.network.send(
            self.host, theirs.node.host, (end, channel), lambda: theirs.node._arrive(theirs, header, body, ticket)
        )

    def _arrive(self, end: End, header: bytes, body: bytes, ticket: int) -> None:
        if end.is_closed or not self.is_alive:
            return
        if end.is_open:
            self._receive(end, header, body, ticket)
        elif len(end.early) < 1000:
            end.early.append((header, body, ticket))

    def _receive(self, end: End, header: bytes, body: bytes, ticket: int) -> None:
        frame = decode_frame(header, len(body))
        self.do(lambda: self.core.receive(end.link, frame, body, self.network.now, ticket))
