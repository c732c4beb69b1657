"""Who is on the bus: pods that join, come back, are lost, leave, and are taken over by their next incarnation.

The states of a pod, and the answer to every frame in each, are in `docs/protocol.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from grav_actors.bus import roster
from grav_actors.bus.directory import Directory, Group
from grav_actors.bus.notices import Notices
from grav_actors.bus.postman import Postman
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Body
from grav_actors.bus.sender import Sender
from grav_actors.bus.shelf import REASONS
from grav_actors.bus.watches import Ended
from grav_actors.errors import ProtocolError
from grav_actors.filters import FILTERS_FULL, FilterSet
from grav_actors.protocol import (
    BYE_CRASHED,
    BYE_STOPPING,
    BYE_UNHEALTHY,
    CLOSE_PROTOCOL,
    CLOSE_REPLACED,
    FAILED_LIMIT,
    GATEWAY_NAME,
    MAX_ERROR_TEXT,
    OK_FULL,
    REJOIN_GRACE,
    VERSION,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    Hello,
    Verb,
    pack,
    read_hello,
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
"""Pods that are gone whose numbers are remembered, so that one which comes back does not send anything twice."""
MAX_REPEATS = 16
"""Times that a pod which finishes nothing is given again, by one route, what is in flight to it."""
NAME_TAKEN = "name_taken"


@dataclass(slots=True)
class Route:
    """One link: the pods behind it by slot, and its malformed frames."""

    pods: dict[int, Receiver] = field(default_factory=dict)
    bad_frames: int = 0


class Membership:
    """The part of `BusCore` that decides who is on the bus.

    Attributes:
        out: Frames to send, in order: `(route, header, body)`.
        journal: Roster records to be written before `out` leaves.
    """

    def __init__(self, epoch: bytes, *, replay_limit: int, max_message: int) -> None:
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
        self.notices = Notices(self.directory, self._reply)
        self.watches = self.notices.watches
        self._routes: dict[bytes, Route] = {}
        self._away: dict[Receiver, float] = {}
        self._departed: dict[bytes, Sender] = {}
        self._again: dict[Receiver, int] = {}
        self._readmitted = 0

    def knows(self, route_id: bytes) -> bool:
        """Whether pods have joined by this route."""
        route = self._routes.get(route_id)
        return route is not None and bool(route.pods)

    # Joining

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
        filters = FilterSet.from_wire(hello.filters)
        predecessor = self.directory.by_name.get(hello.name) if hello.settings.actor else None
        if not self.directory.has_room(filters, receiver or predecessor):
            self._refuse(route_id, slot, hello.request, "full", FILTERS_FULL)
            return
        is_resumed = receiver is not None and hello.epoch == (receiver.epoch or self.epoch)
        if receiver is None:
            receiver = self._admit(route_id, slot, hello, filters, now)
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
        self.notices.tell_local()
        limits = (self.max_message, WINDOW_MESSAGES, WINDOW_BYTES)
        welcome = pack(
            Verb.WELCOME.value, slot, VERSION, hello.request, receiver.epoch or self.epoch,
            self.postman.own.uuid, sender.received, is_resumed, limits,
        )  # fmt: skip
        self._reply(receiver, welcome)
        # When the drain ends: of several HELLOs that waited for the bus, only the last needs the deliveries.
        self._again[receiver] = hello.received if is_resumed else 0
        self.directory.filter(receiver, filters)
        self.journal.append(roster.join_record(receiver))
        self._replay_once(receiver, now)
        self.mailroom.touch(receiver)
        self._is_back(receiver)
        # What it was told last may have been lost with the connection.
        sender.urgent = True
        self.ledger.note(sender, now)

    def _admit(self, route_id: bytes, slot: int, hello: Hello, filters: FilterSet, now: float) -> Receiver | None:
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
        gateway = self.directory.gateway
        if gateway is not None and hello.name == GATEWAY_NAME:
            if gateway not in self._away:
                text = "this bus is part of a mesh already: only one node on a bus may have a transport"
                self._refuse(route_id, slot, hello.request, NAME_TAKEN, text)
                return None
            self._release(gateway, "pod_lost", Ended("lost"), now)
        sender = self._departed.pop(hello.uuid, None)
        if sender is None:
            sender = Sender(hello.uuid, hello.floor)
            sender.resent_until = hello.sent
        receiver = Receiver(hello.uuid, hello.name, settings, filters, sender)
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
        self.notices.began(receiver)
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

    def _is_back(self, receiver: Receiver) -> None:
        """Let what waits for a member of a group go on: it is here, or no longer expected."""
        group = self.directory.groups.get(receiver.settings.group)
        if group is not None:
            group.missing.discard(receiver)
            self.mailroom.dirty_groups.add(group.name)

    def _replay_once(self, receiver: Receiver, now: float) -> None:
        if receiver.filters.listening and not receiver.replayed:
            # Also of one that asks for no replay, or no more: what the ring holds from now on it gets as it comes,
            # and its next incarnation, which asks anew, would get that twice.
            receiver.replayed = True
            if receiver.settings.replay:
                self.postman.replay(receiver, now)

    def _on_filter(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        filters = FilterSet.from_wire(fields[3])
        if not self.directory.has_room(filters, receiver):
            self._reply(receiver, pack(Verb.OK.value, receiver.slot, fields[2], OK_FULL))
            return
        self.directory.filter(receiver, filters)
        self.journal.append(roster.filter_record(receiver))
        self.notices.tell_local()
        self._reply(receiver, pack(Verb.OK.value, receiver.slot, fields[2], ""))
        self._replay_once(receiver, now)

    def _refuse(self, route_id: bytes, slot: int, request: int, code: str, text: str) -> None:
        self.out.append((route_id, pack(Verb.REFUSED.value, slot, request, code, text), b""))

    def _reply(self, receiver: Receiver, header: bytes) -> None:
        self.out.append((receiver.route, header, b""))

    # Leaving

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

    def _unhealthy(self, receiver: Receiver, now: float) -> None:
        """Disconnect a pod whose failures have reached the limit."""
        failures, receiver.failed = receiver.failed, []
        self.handling.failing.discard(receiver)
        for failure in failures:
            attempts = failure.delivery.attempt - 1
            self.dead_letters.bury_of(receiver, failure.delivery, "pod_unhealthy", now, attempts, failure.error)
        self._end(receiver, "", Ended("crashed", f"{FAILED_LIMIT} messages failed"), now, died=False)

    def _end(self, receiver: Receiver, reason: str, why: Ended, now: float, *, died: bool) -> None:
        """Strike a pod that has ended; a supervised one keeps name and mailbox for its next incarnation."""
        if receiver.is_supervised:
            self._lost(receiver, now)
            self.handover.take_back(receiver, now, died=died)
        else:
            self._release(receiver, reason, why, now)

    def _lost(self, receiver: Receiver, now: float) -> None:
        """Note that a pod cannot be reached; it may come back within the grace, and then has what it had."""
        self._detach(receiver)
        receiver.route = b""
        self._away[receiver] = now + REJOIN_GRACE

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

    def unreachable(self, route_id: bytes, now: float) -> None:
        """Note that nothing can be sent to a route: its process is gone."""
        route = self._routes.pop(route_id, None)
        if route is not None:
            for receiver in list(route.pods.values()):
                self._lost(receiver, now)

    def _release(self, receiver: Receiver, reason: str, why: Ended, now: float) -> None:
        """Strike a pod for good. With the reason "" what it held is counted and not buried."""
        self._detach(receiver)
        receiver.route = b""
        self._away.pop(receiver, None)
        self.watches.forget(receiver)
        ended_group = self.directory.remove(receiver)
        self.notices.ended(receiver, why)
        self.handover.give_up(receiver, reason, now)
        # One that has left, too: if its connection breaks before it learns of that it joins once more.
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

    def _check_away(self, now: float) -> None:
        """Strike the pods that have not come back in time, but those that somebody starts again."""
        for receiver, deadline in list(self._away.items()):
            if now < deadline:
                continue
            if self._is_awaited(receiver, now):
                self.handover.take_back(receiver, now, died=True, is_told_later=True)
                self._is_back(receiver)
            else:
                self._release(receiver, "pod_lost", Ended("lost"), now)

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
