"""The bus without its socket: frames and the time come in, frames and roster records go out.

The states of a pod on the bus, and the answer to every frame in each, are in `docs/protocol.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from grav_actors.bus import roster
from grav_actors.bus.directory import Directory, Group
from grav_actors.bus.holdups import HoldUps
from grav_actors.bus.inquiry import answer_inquiry
from grav_actors.bus.ordered import OrderedSet
from grav_actors.bus.postman import Postman
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Body, Run
from grav_actors.bus.sender import Sender
from grav_actors.bus.shelf import REASONS
from grav_actors.bus.watches import Ended, Watches
from grav_actors.errors import ProtocolError
from grav_actors.filters import FilterSet
from grav_actors.ids import id_text
from grav_actors.protocol import (
    ACK_DELAY,
    BEAT_INTERVAL,
    BUS_NAME,
    BYE_CRASHED,
    BYE_STOPPING,
    BYE_UNHEALTHY,
    CLOSE_OVERFLOW,
    CLOSE_PROTOCOL,
    CLOSE_REPLACED,
    CLOSE_STOPPING,
    CLOSE_UNHEALTHY,
    FAILED_LIMIT,
    KIND_ASK,
    MAX_ERROR_TEXT,
    MAX_OVERHEAD,
    MAX_RUN_BYTES,
    OK_UNKNOWN,
    REJOIN_GRACE,
    VERB_ACK,
    VERB_HANDLED,
    VERB_SEND,
    VERSION,
    WATCHES_LIMIT,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Hello,
    Verb,
    check_control,
    check_send,
    pack,
    read_handled,
    read_hello,
    unpack_header,
)

BAD_FRAMES_LIMIT = 8
"""Malformed frames after which a route is ignored."""
MAX_ROUTES = 65_536
"""Routes that the bus remembers; past it a new one is ignored until one is gone."""
MAX_PODS = 65_536
"""Pods that the bus admits."""
MAX_LEVELS = 16
"""Supervisors above each other that are looked at; what pods say of theirs might go in a circle."""
MAX_DEPARTED = 4096
"""Lost pods whose numbers are remembered, so that one which comes back does not send anything twice."""
MAX_REPEATS = 16
"""Times that a pod which finishes nothing is given again, by one route, what is in flight to it."""
NAME_TAKEN = "name_taken"
PING = pack(Verb.PING.value, 0)
"""The frame that each route is sent every second. One is as good as many."""


@dataclass(slots=True)
class Route:
    """One link: the pods behind it by slot, and its malformed frames."""

    pods: dict[int, Receiver] = field(default_factory=dict)
    bad_frames: int = 0


class BusCore:
    """Decides what every frame means.

    Not thread-safe. Nothing here blocks, reads a clock or raises for what came from a socket.

    Attributes:
        out: Frames to send, in order: `(route, header, body)`.
        journal: Roster records to be written before `out` leaves.
    """

    def __init__(self, epoch: bytes, *, replay_limit: int = 128, max_message: int = 1_048_576) -> None:
        self.epoch = epoch
        self.max_message = max_message
        self.out: list[tuple[bytes, bytes, Body]] = []
        self.journal: list[bytes] = []
        self.directory = Directory()
        self.postman = Postman(self.directory, replay_limit)
        self.ledger = self.postman.ledger
        self.dead_letters = self.postman.dead_letters
        self.mailroom = self.postman.mailroom
        self.handling = self.postman.handling
        self.handover = self.postman.handover
        self.holdups = HoldUps(self.directory, self.ledger, self.dead_letters, self.mailroom)
        self.watches = Watches(self.directory)
        self.max_body = max(max_message + MAX_OVERHEAD, MAX_RUN_BYTES * 2)
        self.started_at: float | None = None
        self._routes: dict[bytes, Route] = {}
        self._away: dict[Receiver, float] = {}
        self._departed: dict[bytes, Sender] = {}
        self._again: dict[Receiver, int] = {}
        self._readmitted = 0
        self._next_second = 0.0
        self._on: dict[int, Callable[[Receiver, tuple[Any, ...], float], None]] = {
            Verb.FILTER: self._on_filter,
            Verb.BYE: self._on_bye,
            Verb.SYNC: self._on_sync,
            Verb.CANCEL: self._on_cancel,
            Verb.WATCH: self._on_watch,
        }

    # Input

    def receive(self, route_id: bytes, header: bytes, body: Body, now: float) -> None:
        """Take one frame pair from a route."""
        route = self._routes.get(route_id)
        if route is not None and route.bad_frames >= BAD_FRAMES_LIMIT:
            self.postman.counts.bad_frames += 1
            return
        try:
            fields = unpack_header(header)
            verb = fields[0]
            if verb == VERB_SEND:
                if len(body) > self.max_body:
                    raise ProtocolError(f"body of {len(body)} bytes, allowed are {self.max_body}")
                check_send(fields, len(body))
                receiver = self._pod(route_id, route, fields[1])
                if receiver is not None:
                    self._on_send(receiver, fields, body, now)
            elif verb == VERB_HANDLED and len(fields) == 3:
                handled = read_handled(fields[2])
                receiver = self._pod(route_id, route, fields[1])
                if receiver is not None:
                    receiver.check(handled)
                    self.handling.handled(receiver, handled, now)
            elif verb == Verb.HELLO:
                self._on_hello(route_id, fields, now)
            else:
                check_control(fields)
                self._control(route_id, route, fields, now)
        except ProtocolError:
            self.bad_frame(route_id, now)

    def _control(self, route_id: bytes, route: Route | None, fields: tuple[Any, ...], now: float) -> None:
        verb, slot = fields[0], fields[1]
        if verb == Verb.BEAT:
            if route is None or not route.pods:
                self.out.append((route_id, pack(Verb.REJOIN.value, 0), b""))
            return
        action = self._on.get(verb)
        if action is None:
            raise ProtocolError(f"{Verb(verb).name} is not for the bus")
        if verb == Verb.BYE and (route is None or slot not in route.pods):
            self.out.append((route_id, pack(Verb.OK.value, slot, fields[2], OK_UNKNOWN), b""))
            return
        receiver = self._pod(route_id, route, slot)
        if receiver is not None:
            action(receiver, fields, now)

    def _pod(self, route_id: bytes, route: Route | None, slot: int) -> Receiver | None:
        if route is None or not route.pods:
            # The whole link is unknown; its other pods may have nothing to send and would never find out.
            self.out.append((route_id, pack(Verb.REJOIN.value, 0), b""))
            return None
        receiver = route.pods.get(slot)
        if receiver is None:
            self.out.append((route_id, pack(Verb.REJOIN.value, slot), b""))
        return receiver

    def knows(self, route_id: bytes) -> bool:
        """Whether pods have joined by this route."""
        route = self._routes.get(route_id)
        return route is not None and bool(route.pods)

    def cut(self, count: int) -> None:
        """Count connections that were ended, as they sent messages without an end."""
        self.postman.counts.cut += count
        self.postman.counts.bad_frames += count

    def bad_frame(self, route_id: bytes, now: float) -> None:
        """Count a frame that is malformed, or a message of any other number; ignore its route after the eighth."""
        self.postman.counts.bad_frames += 1
        route = self._routes.get(route_id)
        if route is None:
            if len(self._routes) >= MAX_ROUTES:
                return
            route = self._routes[route_id] = Route()
        route.bad_frames += 1
        if route.bad_frames == BAD_FRAMES_LIMIT:
            text = f"{BAD_FRAMES_LIMIT} malformed frames came from its link"
            for receiver in list(route.pods.values()):
                self._reply(receiver, pack(Verb.CLOSE.value, receiver.slot, CLOSE_PROTOCOL, text))
                self._lost(receiver, now)

    # Joining and leaving

    def _on_hello(self, route_id: bytes, fields: tuple[Any, ...], now: float) -> None:
        slot = fields[1]
        if len(fields) < 4 or type(fields[2]) is not int or type(fields[3]) is not int:
            raise ProtocolError("HELLO: malformed")
        if fields[2] != VERSION:
            text = f"the pod speaks version {fields[2]} of the protocol, this bus version {VERSION}: update one"
            self._refuse(route_id, slot, fields[3], "version", text)
            return
        hello = read_hello(fields)
        if len(self._routes) >= MAX_ROUTES and route_id not in self._routes:
            self._refuse(route_id, slot, hello.request, "full", f"the bus has {MAX_ROUTES} links already")
            return
        receiver = self.directory.by_uuid.get(hello.uuid)
        is_resumed = receiver is not None and hello.epoch == (receiver.epoch or self.epoch)
        if receiver is None:
            receiver = self._admit(route_id, slot, hello, now)
            if receiver is None:
                return
            if hello.epoch == self.epoch:
                # It was given up, and counts from anew. It may have said HELLO several times before it learns of that,
                # and the later ones are not from where it stands now.
                self._readmitted = (self._readmitted + 1) % 2**32
                receiver.epoch = (int.from_bytes(self.epoch) ^ self._readmitted << 32).to_bytes(8)
        if receiver.route != route_id:
            receiver.repeats = 0
        elif receiver.in_flight and receiver.repeats >= MAX_REPEATS:
            raise ProtocolError(f"HELLO for the {MAX_REPEATS + 1}th time, without anything finished in between")
        self._attach(receiver, route_id, slot, now)
        sender = receiver.sender
        if not is_resumed:
            if hello.epoch != self.epoch:
                sender.resent_until = hello.sent  # perhaps delivered by the bus before this one
            if hello.floor > sender.received:
                sender.received = sender.accepted = hello.floor
            receiver.claims = dict(hello.claims)
        limits = (self.max_message, WINDOW_MESSAGES, WINDOW_BYTES)
        welcome = pack(
            Verb.WELCOME.value, slot, VERSION, hello.request, receiver.epoch or self.epoch,
            self.postman.own.uuid, sender.received, is_resumed, limits,
        )  # fmt: skip
        self._reply(receiver, welcome)
        # When the drain ends: of several HELLOs that waited for the bus, only the last needs the deliveries.
        self._again[receiver] = hello.received if is_resumed else 0
        self.directory.filter(receiver, FilterSet.from_wire(hello.filters))
        self.journal.append(roster.join_record(receiver))
        self._replay_once(receiver, now)
        self.mailroom.touch(receiver)
        self._is_back(receiver)
        # What it was told last may have been lost with the connection.
        sender.urgent = True
        self.ledger.note(sender, now)

    def _is_back(self, receiver: Receiver) -> None:
        """Let what waits for a member of a group go on: it is here, or no longer expected."""
        group = self.directory.groups.get(receiver.settings.group)
        if group is not None:
            group.missing.discard(receiver)
            self.mailroom.dirty_groups.add(group.name)

    def _admit(self, route_id: bytes, slot: int, hello: Hello, now: float) -> Receiver | None:
        settings = hello.settings
        if len(self.directory) >= MAX_PODS:
            self._refuse(route_id, slot, hello.request, "full", f"the bus has {MAX_PODS} pods already")
            return None
        owner = self.directory.by_name.get(hello.name) if settings.actor else None
        successor = False
        if owner is not None:
            successor = bool(settings.supervisor) and settings.supervisor == owner.settings.supervisor
            is_next = successor and settings.incarnation > owner.settings.incarnation
            if not is_next and (owner not in self._away or self._is_awaited(owner, now)):
                text = f"an actor named {hello.name!r} is on this bus already; choose another name"
                self._refuse(route_id, slot, hello.request, NAME_TAKEN, text)
                return None
        sender = self._departed.pop(hello.uuid, None)
        if sender is None:
            sender = Sender(hello.uuid, hello.floor)
            sender.resent_until = hello.sent
        receiver = Receiver(hello.uuid, hello.name, settings, FilterSet.from_wire(hello.filters), sender)
        if owner is not None:
            if owner.route:
                self._reply(owner, pack(Verb.CLOSE.value, owner.slot, CLOSE_REPLACED, ""))
            if not successor:
                self._release(owner, "pod_lost", Ended("lost"), now)
            else:
                self._detach(owner)
                owner.route = b""
                self._away.pop(owner, None)
                self.watches.forget(owner)
                self.directory.add(receiver)  # first, so that a group does not end between the two
                self.handover.inherit(owner, receiver, now)
                self.directory.hand_on(owner.uuid, receiver.uuid)
                # The next incarnation may be of another group, or of none, and the last of this one is gone.
                self._end_group(self.directory.remove(owner), "no_responders", now)
                self.journal.append(roster.leave_record(owner.uuid))
                return receiver
        self.directory.add(receiver)
        self.watches.began(receiver)
        return receiver

    def _attach(self, receiver: Receiver, route_id: bytes, slot: int, now: float) -> None:
        self._detach(receiver)
        route = self._routes.get(route_id)
        if route is None:
            route = self._routes[route_id] = Route()
            # Its pods that have nothing to say would never find out that this bus does not know them.
            self.out.append((route_id, pack(Verb.REJOIN.value, 0), b""))
        previous = route.pods.get(slot)
        if previous is not None and previous is not receiver:
            self._lost(previous, now)  # a slot that is used again: its pod left without BYE
            self._routes[route_id] = route  # it was struck if that was its only pod
        route.pods[slot] = receiver
        receiver.route = route_id
        receiver.slot = slot
        self._away.pop(receiver, None)

    def _detach(self, receiver: Receiver) -> None:
        route = self._routes.get(receiver.route)
        if route is not None and route.pods.get(receiver.slot) is receiver:
            del route.pods[receiver.slot]
            if not route.pods and not route.bad_frames:
                del self._routes[receiver.route]

    def _refuse(self, route_id: bytes, slot: int, request: int, code: str, text: str) -> None:
        self.out.append((route_id, pack(Verb.REFUSED.value, slot, request, code, text), b""))

    def _lost(self, receiver: Receiver, now: float) -> None:
        """Note that a pod cannot be reached; it may come back within the grace, and then has what it had."""
        self._detach(receiver)
        receiver.route = b""
        self._away[receiver] = now + REJOIN_GRACE

    def _release(self, receiver: Receiver, reason: str, why: Ended, now: float) -> None:
        """Strike a pod for good. With the reason "" what it held is counted and not buried."""
        self._detach(receiver)
        receiver.route = b""
        self._away.pop(receiver, None)
        self.watches.forget(receiver)
        ended_group = self.directory.remove(receiver)
        for watcher, number, told in self.watches.ended(receiver, why):
            self._tell_down(watcher, number, told)
        self.handover.give_up(receiver, reason, now)
        if reason == "pod_lost":
            self._departed[receiver.uuid] = receiver.sender
            if len(self._departed) > MAX_DEPARTED:
                del self._departed[next(iter(self._departed))]
        self._end_group(ended_group, reason, now)
        self.journal.append(roster.leave_record(receiver.uuid))

    def _end_group(self, group: Group | None, reason: str, now: float) -> None:
        """End what waits for a group that has no member any more."""
        if group is not None:
            self.dead_letters.abandon(group.mailbox.pop_waiting(), reason, group.name, now)
            self.mailroom.forget(group.mailbox, now)

    def _is_awaited(self, receiver: Receiver, now: float) -> bool:
        """Return whether somebody is there who starts this actor again, or says that it is gone for good.

        A supervisor that is lost itself counts if it is awaited in turn: its next incarnation takes its actors over.
        """
        for _ in range(MAX_LEVELS):
            supervisor = self.directory.by_uuid.get(receiver.settings.supervisor) if receiver.is_supervised else None
            if supervisor is None:
                return False
            if now < self._away.get(supervisor, float("inf")):
                return True
            receiver = supervisor
        return False

    def release_name(
        self,
        supervisor: bytes,
        name: str,
        incarnation: int,
        reason: str,
        error: str,
        handling: Collection[tuple[bytes, int]],
        now: float,
    ) -> bool:
        """Note that an actor has ended, as its supervisor tells; return whether that incarnation was known.

        With the reason `crashed` a next one will come; else it is struck. The messages in `handling`, each by the
        uuid of its sender and its seq, were in handlers, and are charged with a death.

        Args:
            error: What it failed with, for those who watch it; "" if it did not fail.
        """
        receiver = self.directory.by_name.get(name)
        # A later incarnation may have died before its HELLO came here: then the one before has ended too.
        if (
            receiver is None
            or receiver.settings.supervisor != supervisor
            or receiver.settings.incarnation > incarnation
        ):
            return False
        self.handover.charge(receiver, handling, now)
        if reason == BYE_CRASHED:
            self._end(receiver, "pod_lost", Ended("crashed", error), now, died=True)
            return True
        if receiver.route:
            self._reply(receiver, pack(Verb.CLOSE.value, receiver.slot, CLOSE_REPLACED, reason))
        why = Ended("crashed", error[:MAX_ERROR_TEXT]) if error else Ended("stopped")
        self._release(receiver, reason if reason in REASONS else "stopping", why, now)
        return True

    def unreachable(self, route_id: bytes, now: float) -> None:
        """Note that nothing can be sent to a route: its process is gone."""
        route = self._routes.pop(route_id, None)
        if route is not None:
            for receiver in list(route.pods.values()):
                self._lost(receiver, now)

    # Frames of a pod that has joined

    def _on_send(self, receiver: Receiver, fields: tuple[Any, ...], body: Body, now: float) -> None:
        seq, handled, runs = fields[2], fields[3], fields[4]
        sender = receiver.sender
        postman = self.postman
        if handled is not None:
            receiver.check(handled)
        offset = 0
        single = len(runs) == 1
        for kind, message_type, count, size, dest in runs:
            if seq <= sender.received:
                postman.counts.duplicates += count
            else:
                if seq > sender.received + 1:
                    if seq > sender.resent_until + 1:
                        postman.counts.missing += seq - 1 - max(sender.received, sender.resent_until)
                    sender.received = seq - 1  # what lies between was settled in an earlier epoch
                part = body if single else body[offset : offset + size]
                run = Run(sender, seq, kind, message_type, count, part, size, dest)
                postman.counts.runs += 1
                postman.counts.messages += count
                sender.received += count
                if kind == KIND_ASK and dest == BUS_NAME:
                    answer_inquiry(self, run, now)
                else:
                    postman.route(run, receiver, now)
                sender.taken(size)
            seq += count
            offset += size
        self.ledger.note(sender, now)
        # After its output: what a handler sent is ahead of the news that the handler has ended.
        if handled is not None:
            self.handling.handled(receiver, handled, now)

    def _on_filter(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        self.directory.filter(receiver, FilterSet.from_wire(fields[3]))
        self.journal.append(roster.filter_record(receiver))
        self._reply(receiver, pack(Verb.OK.value, receiver.slot, fields[2], ""))
        self._replay_once(receiver, now)

    def _replay_once(self, receiver: Receiver, now: float) -> None:
        if receiver.filters.listening and not receiver.replayed:
            # Also of one that asks for no replay, or no more: what the ring holds from now on it gets as it comes,
            # and its next incarnation, which asks anew, would get that twice.
            receiver.replayed = True
            if receiver.settings.replay:
                self.postman.replay(receiver, now)

    def _on_bye(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        self._reply(receiver, pack(Verb.OK.value, receiver.slot, fields[2], ""))
        reason = fields[3]
        if reason == BYE_UNHEALTHY:
            self._unhealthy(receiver, now)
        elif reason == BYE_CRASHED:
            self.handover.charge(receiver, (), now)  # it has said itself in which handler
            self._end(receiver, "pod_lost", Ended("crashed"), now, died=True)
        else:
            self._release(receiver, reason if reason == BYE_STOPPING else "", Ended("stopped"), now)

    def _end(self, receiver: Receiver, reason: str, why: Ended, now: float, *, died: bool) -> None:
        """Strike a pod that has ended; a supervised one keeps name and mailbox for its next incarnation."""
        if receiver.is_supervised:
            self._lost(receiver, now)
            self.handover.take_back(receiver, now, died=died)
        else:
            self._release(receiver, reason, why, now)

    def _on_sync(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        receiver.sender.urgent = True
        self.ledger.note(receiver.sender, now)

    def _on_cancel(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        for seq in fields[2]:
            for target, numbers in self.mailroom.cancel(receiver.sender, seq, now):
                self.out.append((target.route, pack(Verb.CANCELLED.value, target.slot, receiver.uuid, numbers), b""))

    def _on_watch(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        if not self.watches.has_room(receiver, [number for number, _ in fields[2]], fields[3]):
            raise ProtocolError(f"more than {WATCHES_LIMIT} watches of one pod")
        for number in fields[3]:
            self.watches.unwatch(receiver, number)
        for number, name in fields[2]:
            gone = self.watches.watch(receiver, number, name)
            if gone is not None:
                self._tell_down(receiver, number, gone)

    def _tell_down(self, watcher: Receiver, number: int, why: Ended) -> None:
        """Tell a watch its end. A pod that is away repeats its watches when it is back, and is told then."""
        if watcher.route:
            self._reply(watcher, pack(Verb.DOWN.value, watcher.slot, number, why.reason, why.error))

    def _unhealthy(self, receiver: Receiver, now: float) -> None:
        """Disconnect a pod whose failures have reached the limit."""
        failures, receiver.failed = receiver.failed, []
        self.handling.failing.discard(receiver)
        for failure in failures:
            attempts = failure.delivery.attempt - 1
            self.dead_letters.bury_of(receiver, failure.delivery, "pod_unhealthy", now, attempts, failure.error)
        self._end(receiver, "", Ended("crashed", f"{FAILED_LIMIT} messages failed"), now, died=False)

    def _reply(self, receiver: Receiver, header: bytes) -> None:
        self.out.append((receiver.route, header, b""))

    # Ends of drains, and time

    def flush(self, now: float) -> None:
        """Put into `out` what the frames since the last call have made deliverable; call it after each drain."""
        postman = self.postman
        if self.dead_letters.has_untold:
            postman.post_dead(now)
        self._deliver(now)
        self._send_acks(now)
        if postman.own_messages.queue:
            self._deliver(now)  # what the acknowledgements had no room for

    def _deliver(self, now: float) -> None:
        """Put what waits into frames, until nothing more can be sent."""
        postman = self.postman
        mailroom = self.mailroom
        unacked = self.ledger.unacked
        out = self.out
        if self._again:
            self._repeat()
        while mailroom.dirty or mailroom.dirty_groups or mailroom.overflowed or postman.own_messages.queue:
            overflowed, mailroom.overflowed = mailroom.overflowed, []
            for receiver in overflowed:
                self._disconnect(receiver, now)
            groups, mailroom.dirty_groups = mailroom.dirty_groups, OrderedSet()
            for name in groups:
                group = self.directory.groups.get(name)
                if group is not None:
                    mailroom.share(group, now)
            # Before any frame: its acknowledgement may say that a question has been settled.
            if postman.own_messages.queue:
                postman.post_own(now)
            dirty, mailroom.dirty = mailroom.dirty, []
            for receiver in dirty:
                receiver.is_dirty = False
                route_id = receiver.route
                if not route_id:
                    continue
                first = receiver.number
                for header, body, garbled in receiver.frames(unacked):
                    for delivery in garbled:
                        mailroom.drop_garbled(receiver, delivery)
                    if header:
                        out.append((route_id, header, body))
                postman.counts.deliveries += receiver.number - first
                if receiver.sender.unheard:
                    postman.tell_unheard(receiver.sender)

    def _repeat(self) -> None:
        """Send again what was in flight to pods when their connections broke, ahead of anything new."""
        again, self._again = self._again, {}
        for receiver, received in again.items():
            frames = list(receiver.frames_again(received)) if receiver.route else []
            receiver.repeats += bool(frames)
            self.out.extend((receiver.route, *frame) for frame in frames)

    def _disconnect(self, receiver: Receiver, now: float) -> None:
        if self.directory.by_uuid.get(receiver.uuid) is not receiver:
            return
        is_unhealthy = len(receiver.failed) >= FAILED_LIMIT
        if not is_unhealthy and receiver.settings.overflow != "disconnect":
            return  # it was noted twice, and has been dealt with
        if receiver.route:
            code = CLOSE_UNHEALTHY if is_unhealthy else CLOSE_OVERFLOW
            self._reply(receiver, pack(Verb.CLOSE.value, receiver.slot, code, ""))
        if is_unhealthy:
            self._unhealthy(receiver, now)
        else:
            self._release(receiver, "overflow", Ended("crashed", "its mailbox overflowed"), now)

    def _send_acks(self, now: float) -> None:
        unacked = self.ledger.unacked
        if not unacked:
            return
        sent: list[Sender] = []
        for sender, noted in unacked.items():
            due = noted or now + ACK_DELAY
            unacked[sender] = due
            if now >= due or sender.is_due():
                receiver = self.directory.by_uuid.get(sender.uuid)
                # Not to a pod whose messages somebody else has sent: a dead letter that was given again.
                if receiver is not None and receiver.sender is sender and receiver.route:
                    self._reply(receiver, pack(VERB_ACK, receiver.slot, sender.ack()))
                    if sender.unheard:
                        self.postman.tell_unheard(sender)
                sent.append(sender)
        for sender in sent:
            del unacked[sender]

    def tick(self, now: float) -> float:
        """Do what is due, and `flush`; return when to call again at the latest."""
        if self.started_at is None:
            self.started_at = now
        if now >= self._next_second:
            self._next_second = now + BEAT_INTERVAL
            self._each_second(now)
        self.flush(now)
        if self.dead_letters.has_untold:
            return now
        for due in self.ledger.unacked.values():
            return min(self._next_second, due)  # they were noted in order
        return self._next_second

    def _each_second(self, now: float) -> None:
        for receiver, deadline in list(self._away.items()):
            if now < deadline:
                continue
            if self._is_awaited(receiver, now):
                self.handover.take_back(receiver, now, died=True, is_told_later=True)
                self._is_back(receiver)
            else:
                self._release(receiver, "pod_lost", Ended("lost"), now)
        # Only a send can find out that a process is gone.
        self.out.extend((route_id, PING, b"") for route_id in self._routes)
        self.handling.retry_failed(now)
        self.mailroom.check_stuck(now)
        self.holdups.check(now)
        for sender in list(self.ledger.starved):
            starved = self.directory.by_uuid.get(sender.uuid)
            if starved is not None and starved.mailbox.used:
                self.ledger.feed(sender, now)
        self.dead_letters.log.tick(now)
        self.mailroom.check_slow(now)

    def stop(self, now: float) -> None:
        """Tell every pod that the bus is going to stop."""
        for receiver in self.directory:
            if receiver.route:
                self._reply(receiver, pack(Verb.CLOSE.value, receiver.slot, CLOSE_STOPPING, ""))

    # Roster

    def restore(self, entries: Iterable[roster.RosterEntry], now: float) -> None:
        """Expect the pods that were connected to the bus before this one."""
        for entry in entries:
            filters = FilterSet.from_wire(entry.filters)
            receiver = Receiver(entry.uuid, entry.name, entry.settings, filters, Sender(entry.uuid))
            receiver.replayed = filters.listening
            self.directory.add(receiver)
            self._away[receiver] = now + REJOIN_GRACE
            if receiver.settings.group:
                self.directory.groups[receiver.settings.group].missing.add(receiver)

    def compacted(self) -> bytes:
        """Return the roster as a journal without history."""
        return roster.compact(self.directory)

    def describe(self, now: float) -> dict[str, Any]:
        """Return the counters of the bus."""
        postman = self.postman
        return {
            **asdict(postman.counts),
            "dead_letters": dict(postman.shelf.counts),
            "shelf": len(postman.shelf),
            "pods": len(self.directory),
            "groups": len(self.directory.groups),
            "mailboxes": sum(receiver.mailbox.used for receiver in self.directory)
            + sum(group.mailbox.used for group in self.directory.groups.values()),
            "replay": len(postman.ring),
            "held_bytes": self.ledger.held_bytes,
            "uptime": now - (self.started_at if self.started_at is not None else now),
            "epoch": self.epoch.hex(),
        }

    def describe_pods(self) -> list[dict[str, Any]]:
        """Return one row for each pod."""
        return [
            {
                "uuid": id_text(receiver.uuid),
                "name": receiver.name,
                "actor": receiver.settings.actor,
                "group": receiver.settings.group,
                "connected": bool(receiver.route),
                "mailbox": receiver.mailbox.used,
                "slow": receiver.mailbox.slow,
                "stuck": receiver.mailbox.stuck,
                "failed": len(receiver.failed),
                "sent": receiver.sender.received,
                "delivered": receiver.number - 1,
            }
            for receiver in self.directory
        ]
