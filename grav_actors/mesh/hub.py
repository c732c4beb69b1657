"""The hub of a node: drives the core of the mesh with a transport, discoveries and a pod on the local bus."""

from __future__ import annotations

import logging
import math
import os
import random
from collections.abc import Callable
from dataclasses import replace
from time import monotonic, time
from typing import Any

from grav_actors.codec import pack_fields, pack_records
from grav_actors.discovery.base import Discovery
from grav_actors.errors import (
    ConfigError,
    ConnectionClosedError,
    GravError,
    TunnelNotEstablishedError,
    WaitTimeoutError,
)
from grav_actors.mesh import handshake as refusals
from grav_actors.mesh.bulletin import Bulletin
from grav_actors.mesh.carrier import Carrier
from grav_actors.mesh.core import MeshCore
from grav_actors.mesh.delivery import ACK_BYTES
from grav_actors.mesh.effects import (
    ActorsChanged,
    Deliver,
    DeliverTunnelled,
    DialRefused,
    Effect,
    Finish,
    GapFound,
    PeerChanged,
    Post,
    PostError,
    Refuse,
    Reply,
    TakeBack,
    TooLarge,
    TunnelEnded,
    WantedChanged,
    Withdrawn,
)
from grav_actors.mesh.frames import INCARNATION_BYTES, Beat, Frame, InterestDone, Run
from grav_actors.mesh.handshake import Identity
from grav_actors.mesh.local_news import LocalNews
from grav_actors.mesh.peers import PeerState
from grav_actors.mesh.relay import Relay
from grav_actors.mesh.relay_frames import decode_type, encode_type
from grav_actors.mesh.switchboard import Leaving, Switchboard
from grav_actors.mesh.topics import interest_prefixes
from grav_actors.mesh.turns import Turns
from grav_actors.mesh.view import Peer, look_at
from grav_actors.message import Message
from grav_actors.pod.pod import Pod
from grav_actors.timeouts import Timeout, seconds
from grav_actors.transports.base import (
    Channel,
    Handshake,
    HandshakeAck,
    MeshConnection,
    MeshTransport,
    TransportOptions,
)

NODE_UP, NODE_DOWN, NODE_GAP = "grav.sys.node.up", "grav.sys.node.down", "grav.sys.node.gap"
"""Events on the bus: a peer is up; it is down or has withdrawn; messages of it will never come."""
BACKLOG_BYTES = 32 * 1024 * 1024
"""Bytes of peers that wait for the local bus. Past it frames of peers are lost, which the mesh repairs."""
FULL_BYTES = 8 * 1024 * 1024
"""Bytes of the same past which nothing more is acknowledged to peers, so that they wait."""
LEAVING_BYTES = 4 * 1024 * 1024
"""Bytes of the local bus that wait for the hub. Past it the local pod waits."""
STOP_TIMEOUT = 3.0
"""Seconds that a stopping hub gives its peers to acknowledge that it leaves."""


class Hub:
    """The mesh of a node. Any thread may call any method but those with an underscore.

    Args:
        pod: A pod of its own, that has joined the bus.
        transport: Not set up yet.
        options: For the transport.
        identity: Of the node; incarnation and endpoints are filled in here.
        report: Takes a peer whose state has changed, and why; on the hub's thread. Default: it is logged.

    Raises:
        BusBusyError: The bus does not say what its pods want.
    """

    def __init__(
        self,
        pod: Pod,
        transport: MeshTransport,
        options: TransportOptions,
        identity: Callable[[bytes, tuple[str, ...]], Identity],
        logger: logging.Logger | None = None,
        report: Callable[[Peer, str], None] | None = None,
    ) -> None:
        self._log = logger if logger is not None else logging.getLogger(__name__)
        self._report = report if report is not None else self._log_change
        self._bulletin = Bulletin()
        self._is_congested = False  # peers are behind: the local pod waits
        self._is_full = False  # so are the pods of the local bus: peers wait
        self._leaving_bytes = 0  # of the local bus, not taken by the core yet
        self._coming_bytes = 0  # of peers, same
        self._announced: set[str] = set()  # peers that are up as far as the bus knows; one that was suspect still is
        self._pid = os.getpid()
        self._discoveries: list[Discovery] = []
        self._wants: dict[str, None] = {}
        self._news = LocalNews()
        self._settling: list[Callable[[], bool]] = []
        self._turns = Turns("grav-mesh-hub", self._finish, self._tick, self._log)
        self._relay = Relay(pod, self)

        def take(connection: Any) -> None:
            self._turns.put(lambda now: self._carrier.take(connection))

        def find(uuid: str) -> MeshConnection | None:
            return self._find(uuid) if hasattr(self, "_carrier") else None  # not while the transport is set up

        try:
            self._relay.begin()  # first: what peers are told when they are met
            self.endpoint = transport.setup(options, take, find)
        except BaseException:
            self._relay.stop(1.0)
            raise
        endpoints = (self.endpoint,) if self.endpoint else ()
        self._core = MeshCore(identity(os.urandom(INCARNATION_BYTES), endpoints), random.random)
        self._switchboard = Switchboard(self._core)
        self._carrier = Carrier(transport, self, self._core.me.handshake)
        self._turns.start()

    # For users

    def peers(self) -> list[Peer]:
        """Return all peers that are known, as they are now, also those that are down or have withdrawn."""
        peers: list[Peer] = self._call(lambda now: [look_at(self._core, peer, now) for peer in self._core.peers()])
        return peers

    def unreached(self) -> dict[str, str]:
        """Return the endpoints that have led to no link, and why."""
        silent: dict[str, int] = self._call(lambda now: self._core.unanswered())
        with self._bulletin.changed:
            found = {endpoint: str(why) for endpoint, why in self._bulletin.refused.items()}
        return {**found, **{endpoint: f"nobody answers ({count} times)" for endpoint, count in silent.items()}}

    def discoveries(self) -> list[Discovery]:
        """Return the discoveries that were given to `add`."""
        return list(self._discoveries)

    def wait_for_peers(self, count: int, timeout: Timeout) -> list[Peer]:
        """Return the peers that are up, once there are so many.

        Raises:
            WaitTimeoutError: There were fewer; says how many, and in which state the others are.
            ConnectionClosedError: The node is stopped.
        """

        def look() -> list[Peer] | None:
            up = [peer for peer in self._bulletin.peers if peer.state == "up"]
            return up if len(up) >= count else None

        found: list[Peer] | None = self._bulletin.wait(look, timeout)
        if found is None:
            states = (
                ", ".join(f"{peer.name or peer.uuid} is {peer.state}" for peer in self._bulletin.peers)
                or "none is known"
            )
            raise WaitTimeoutError(f"{count} peers were not up within {timeout} s: {states}")
        return found

    def connect_endpoint(self, endpoint: str, timeout: Timeout) -> Peer:
        """Dial a peer, now and whenever it is lost, and return when it is up.

        Raises:
            BelongsToMismatchError, NodeUUIDMismatchError, NodeWithdrawnError: It refuses, or is refused.
            ConnectionClosedError: It refuses for another reason, or this node is stopped.
            WaitTimeoutError: Nobody answers.
            ConfigError: The transport cannot dial such an endpoint.
        """
        self._bulletin.forget(endpoint)
        self._relay.catch_up()  # the peer is told all that is wanted here by now
        self.hint(endpoint, "", is_lasting=True)

        def look() -> Peer | GravError | None:
            up = [peer for peer in self._bulletin.peers if peer.endpoint == endpoint and peer.state == "up"]
            return up[0] if up else self._bulletin.refused.get(endpoint)

        found: Peer | GravError | None = self._bulletin.wait(look, timeout)
        if found is None:
            raise WaitTimeoutError(f"nobody answered at {endpoint} within {timeout} s; is a node listening there?")
        if isinstance(found, ConfigError):
            raise found
        if isinstance(found, GravError):
            raise type(found)(f"{endpoint}: {found}")
        return found

    def wait_until_known(self, timeout: Timeout) -> None:
        """Return when every peer that is up sends what the pods here want now, and knows the actors here.

        Raises:
            WaitTimeoutError: Some do not; names them.
            BusBusyError: The bus does not answer.
            ConnectionClosedError: The node is stopped.
        """
        self._relay.catch_up()
        waiting: list[str] = []
        is_known: list[bool] = []

        def begin(now: float) -> None:
            marks = self._core.marks()

            def look() -> bool:
                waiting[:] = [peer.name or peer.uuid for peer in self._core.behind(marks)]
                is_known[:] = [True] if not waiting else []
                return not waiting

            self._settling.append(look)

        self._call(begin)
        if self._bulletin.wait(lambda: is_known or None, timeout) is None:
            raise WaitTimeoutError(
                f"these peers did not learn within {timeout} s what is wanted here: {', '.join(waiting)}"
            )

    def give_up_questions(self) -> None:
        """Tell those here who wait for peers that the node ends; back when that was told."""
        try:
            self._call(lambda now: self._switchboard.give_up("this node is stopped"))
        except ConnectionClosedError:
            return

    def hint(self, endpoint: str, uuid: str, *, is_lasting: bool = False) -> None:
        """Take what a discovery says; does not block."""
        self._turns.put(lambda now: self._core.hint(endpoint, uuid, now, is_lasting=is_lasting))

    def add(self, discovery: Discovery) -> None:
        """Stop this discovery, which is started, before the node leaves or stops."""
        self._discoveries.append(discovery)

    def tunnel(self, capability: str, message: Message, timeout: Timeout, max_message: int) -> None:
        """Send a message to one peer that offers a capability; back when that has acknowledged.

        Raises:
            TunnelNotEstablishedError: No peer offers it, or none acknowledged in time.
            MessageEncodeError, MessageTooLargeError: The data cannot be carried.
        """
        limit = seconds(timeout)
        body = pack_records([pack_fields(message._record, max_message)])
        meta = encode_type(message._type)
        key = self._call(
            lambda now: self._core.tunnel(capability, meta, body, now, math.inf if limit is None else now + limit)
        )
        if not key:
            raise TunnelNotEstablishedError(
                f"no peer that is up offers {capability!r} and takes {len(body)} bytes; `grav.peers()` shows what they"
                " offer"
            )
        ended: TunnelEnded = self._bulletin.wait(
            lambda: self._bulletin.tunnels.pop(key, None), None
        )  # its deadline ends it
        if not ended.peer:
            raise TunnelNotEstablishedError(f"{capability!r}: {ended.reason} within {limit} s")

    def withdraw(self, timeout: Timeout) -> None:
        """Leave discovery, tell every peer, and return when all have acknowledged.

        Raises:
            WaitTimeoutError: Some did not; names them.
        """
        for discovery in self._discoveries:
            discovery.stop()
        self._turns.put(self._core.withdraw)
        if self._bulletin.wait(lambda: self._bulletin.has_left or None, timeout) is None:
            missing = self._call(lambda now: [peer.name or peer.uuid for peer in self._core.unacknowledged()])
            raise WaitTimeoutError(f"these peers did not acknowledge within {timeout} s: {', '.join(missing)}")

    def stop(self) -> None:
        """Leave the mesh, and end everything: threads, links, the transport. Idempotent."""
        if self._bulletin.is_stopped or self._pid != os.getpid():
            return
        try:
            self.withdraw(STOP_TIMEOUT)
        except GravError as exc:
            self._log.debug("the mesh was left without a farewell: %s", exc)
        self._bulletin.stop()
        self._turns.stop()
        self._carrier.stop()
        self._relay.stop(STOP_TIMEOUT)

    def _call(self, ask: Callable[[float], Any]) -> Any:
        """Return what the core says, asked on the hub's thread."""
        answers: list[Any] = []

        def event(now: float) -> None:
            answer = ask(now)
            self._bulletin.note(lambda: answers.append(answer))

        self._turns.put(event)
        return self._bulletin.wait(lambda: answers or None, None)[0]

    # With the turn

    def _tick(self, now: float) -> None:
        self._core.tick(now)

    def _finish(self, now: float) -> None:
        """Do what the events before call for."""
        self._regulate(now)
        self._pump()

    def _regulate(self, now: float) -> None:
        """Have the local pod wait for peers that are behind, and peers for the local bus."""
        is_congested = self._core.is_congested(now)
        if is_congested != self._is_congested:
            self._bulletin.note(lambda: setattr(self, "_is_congested", is_congested))
        waiting = self._coming_bytes + self._relay.waiting_bytes
        # Between the two limits it stays as it was; what is told of each MiB keeps the peers from giving up.
        is_full = waiting > FULL_BYTES - (ACK_BYTES if self._is_full else 0)
        if is_full != self._is_full:
            self._is_full = is_full
            self._core.hold_back(now, is_full=is_full)

    def _pump(self) -> None:
        out = self._core.out
        while out:
            effects = list(out)
            out.clear()
            for effect in effects:
                try:
                    self._carry_out(effect)
                except Exception:
                    self._log.exception("an effect of the mesh failed: %.200r", effect)
        if self._settling:
            with self._bulletin.changed:
                self._settling = [is_settled for is_settled in self._settling if not is_settled()]
                self._bulletin.changed.notify_all()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Deliver():
                self._switchboard.deliver(effect)
            case Post():
                self._relay.post(effect)
            case PostError() | TakeBack() | Finish() | Refuse():
                self._tell_bus(effect)
            case ActorsChanged():
                self._relay.change_actors(effect)
            case WantedChanged():
                self._want()
            case DeliverTunnelled():
                self._switchboard.deliver_tunnelled(effect, decode_type(effect.meta))
            case PeerChanged(uuid, state, reason):
                self._switchboard.changed(effect)
                self._peer_changed(uuid, state, reason)
            case GapFound(uuid, _, count):
                self._log.warning("%s messages of node %s are lost", count if count >= 0 else "some", uuid)
                self._relay.announce(NODE_GAP, {"uuid": uuid, "count": count})
                self._switchboard.lost(effect)
            case TooLarge(uuid, count):
                self._log.warning("%d messages of node %s are larger than this one takes", count, uuid)
                self._relay.announce(NODE_GAP, {"uuid": uuid, "count": count})
            case DialRefused(endpoint, _, reason):
                self._log.warning("no link to %s: %s", endpoint, reason)
                self._bulletin.refuse(effect)
            case TunnelEnded(key):
                self._bulletin.note(lambda: self._bulletin.tunnels.__setitem__(key, effect))
            case Withdrawn():
                self._bulletin.note(lambda: setattr(self._bulletin, "has_left", True))
            case Reply(frame=InterestDone()):
                # What the peer wants is asked for from the bus first: the answer promises that it comes.
                if self._want():
                    self._carrier.carry_out(effect)
            case _:
                self._carrier.carry_out(effect)

    def _tell_bus(self, effect: PostError | TakeBack | Finish | Refuse) -> None:
        match effect:
            case PostError():
                self._relay.post_error(effect)
            case TakeBack():
                self._relay.take_back(effect)
            case Finish():
                self._relay.finish(effect)
            case Refuse():
                self._relay.refuse(effect)

    def _want(self) -> bool:
        """Ask the bus for what peers and their groups want; return whether it has confirmed."""
        groups = interest_prefixes(self._core.actors.group_patterns())
        try:
            self._relay.want((*self._core.wanted(), *groups))
        except GravError as exc:
            self._log.warning("what a peer wants could not be asked for from the bus: %s", exc)
            return False
        return True

    def _log_change(self, peer: Peer, reason: str) -> None:
        self._log.info("node %s is %s%s", peer.name or peer.uuid, peer.state, f": {reason}" if reason else "")

    def _peer_changed(self, uuid: str, state: str, reason: str) -> None:
        now = monotonic()
        peers = [look_at(self._core, peer, now) for peer in self._core.peers()]
        self._bulletin.note(lambda: setattr(self._bulletin, "peers", peers))
        known = next((peer for peer in peers if peer.uuid == uuid), None)
        name, endpoint = (known.name, known.endpoint) if known is not None else ("", "")
        if known is not None:
            if state == PeerState.UP.value:
                self._bulletin.forget(endpoint)
            # Not the view's own state: what is told one after another may have changed at once.
            self._report(replace(known, state=state), reason)
        if state == PeerState.UP.value and uuid not in self._announced:
            self._announced.add(uuid)
            self._relay.announce(NODE_UP, {"uuid": uuid, "name": name, "endpoint": endpoint})
        elif state in (PeerState.DOWN.value, PeerState.WITHDRAWN.value):
            self._announced.discard(uuid)
            self._relay.announce(NODE_DOWN, {"uuid": uuid, "name": name, "endpoint": endpoint, "reason": reason})

    # From the local bus

    def leave(self, run: Leaving) -> None:
        """Take a run; on the pod's callback thread, which waits while the hub is behind."""
        if self._leaving_bytes > LEAVING_BYTES or self._is_congested:
            with self._bulletin.changed:
                while (self._leaving_bytes > LEAVING_BYTES or self._is_congested) and not self._bulletin.is_stopped:
                    self._bulletin.changed.wait(1.0)
        if self._turns.act(lambda now: self._switchboard.leave(run)):
            return
        with self._bulletin.changed:
            self._leaving_bytes += len(run.body)
        self._turns.put(lambda now: self._leave(run))

    def _leave(self, run: Leaving) -> None:
        was_full = self._leaving_bytes > LEAVING_BYTES
        with self._bulletin.changed:
            self._leaving_bytes -= len(run.body)
            if was_full:
                self._bulletin.changed.notify_all()
        self._switchboard.leave(run)

    def local(self, stage: int, wants: tuple[Any, ...], groups: tuple[Any, ...], names: tuple[Any, ...]) -> None:
        """Take what the pods of the bus want, and which actors there are."""
        self._turns.put(lambda now: self._local(stage, wants, groups, names, now))

    def _local(
        self, stage: int, wants: tuple[Any, ...], groups: tuple[Any, ...], names: tuple[Any, ...], now: float
    ) -> None:
        change = self._news.take(stage, wants, groups, names)
        if change is None:
            return
        if change.is_all:
            self._wants.clear()
        for pattern, is_wanted in change.wants:
            if is_wanted:
                self._wants[pattern] = None
            else:
                self._wants.pop(pattern, None)
        self._core.want(self._wants, now)
        self._core.tell_actors(change.groups, change.names, is_all=change.is_all)

    def cancelled(self, asker: bytes, seqs: tuple[int, ...]) -> None:
        """Note that nobody waits for these questions any more."""
        self._turns.put(lambda now: self._switchboard.cancelled(asker, seqs))

    def settled(self, question: bytes) -> None:
        """Note that no answer follows to a peer's question."""
        self._turns.put(lambda now: self._switchboard.settled(question))

    def unposted(self, questions: tuple[bytes, ...], text: str) -> None:
        """Note that questions of a peer did not reach the bus."""
        self._turns.put(lambda now: self._switchboard.unposted(questions, text))

    # For the transport

    def _find(self, uuid: str) -> MeshConnection | None:
        """Return the started connection to a peer; from any thread."""
        peer = self._core.peer(uuid)
        return self._carrier.connection(peer.link) if peer is not None else None

    # From the carrier: events, from any thread

    def accept(self) -> int:
        """Return the number of a link that a peer has opened; 0 when the hub stops."""
        try:
            return int(self._call(lambda now: self._core.accept()))
        except ConnectionClosedError:
            return 0

    def introduced(self, link: int, handshake: Handshake, *, can_replace: bool) -> HandshakeAck:
        """Return the answer to a peer."""
        try:
            answer: HandshakeAck = self._call(
                lambda now: self._core.introduced(link, handshake, now, can_replace=can_replace)
            )
        except ConnectionClosedError as exc:
            return self._core.me.refuse(refusals.Refusal(refusals.WITHDRAWN, str(exc)))
        return answer

    def greeted(self, link: int, answer: HandshakeAck, *, can_replace: bool) -> None:
        """Take the answer of a peer."""
        self._turns.put(lambda now: self._core.greeted(link, answer, now, can_replace=can_replace))

    def dial_failed(self, link: int) -> None:
        """Note that nobody answered."""
        self._turns.put(lambda now: self._core.dial_failed(link, now))

    def undiallable(self, endpoint: str, error: GravError) -> None:
        """Note that an endpoint is none for this transport."""
        self._bulletin.fail(endpoint, error)

    def handshaken(self, link: int) -> None:
        """Note that the answer to a peer is on its way."""
        self._turns.put(lambda now: self._carrier.release(link))

    def link_down(self, link: int, reason: str) -> None:
        """Note that a link has ended."""
        self._turns.put(lambda now: self._core.link_down(link, reason, now))

    def subscribed(self, prefix: bytes) -> None:
        """Note that a peer has subscribed to something."""
        self._turns.put(lambda now: self._core.subscribed(prefix, now))

    def came(self, link: int, frame: Frame, body: bytes, ticket: int, channel: Channel) -> None:
        """Take a frame; one of the stream is lost when too much waits already."""
        size = len(body)
        if isinstance(frame, Run):
            if self._coming_bytes + self._relay.waiting_bytes > BACKLOG_BYTES:
                return
            if self._turns.act(lambda now: self._core.receive(link, frame, bytes(body), now)):
                return
        with self._bulletin.changed:
            self._coming_bytes += size
        if isinstance(frame, Beat) and frame.clock:
            ahead = frame.clock / 1e6 - time()  # now, not when the hub gets to it
            self._turns.put(lambda now: self._hear_clock(frame.incarnation, ahead))
        self._turns.put(lambda now: self._came(link, frame, bytes(body), now, ticket))

    def _hear_clock(self, incarnation: bytes, ahead: float) -> None:
        for peer in self._core.peers():
            if peer.incarnation == incarnation:
                peer.vitals.ahead = ahead

    def _came(self, link: int, frame: Frame, body: bytes, now: float, ticket: int) -> None:
        with self._bulletin.changed:
            self._coming_bytes -= len(body)
        self._core.receive(link, frame, body, now, ticket)
