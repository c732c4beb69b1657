"""The bus without its socket: frames and the time come in, frames and roster records go out.

The states of a pod on the bus, and the answer to every frame in each, are in `docs/protocol.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from grav_actors.bus.holdups import HoldUps
from grav_actors.bus.inquiry import answer_inquiry
from grav_actors.bus.membership import BAD_FRAMES_LIMIT, Membership, Route
from grav_actors.bus.ordered import OrderedSet
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Body, Run
from grav_actors.bus.sender import Sender
from grav_actors.bus.watches import Ended
from grav_actors.errors import ProtocolError
from grav_actors.ids import id_text
from grav_actors.protocol import (
    ACK_DELAY,
    BEAT_INTERVAL,
    BUS_NAME,
    CLOSE_OVERFLOW,
    CLOSE_STOPPING,
    CLOSE_UNHEALTHY,
    FAILED_LIMIT,
    KIND_ANSWER,
    KIND_ASK,
    KIND_TELL,
    MAX_OVERHEAD,
    MAX_RUN_BYTES,
    OK_UNKNOWN,
    VERB_ACK,
    VERB_HANDLED,
    VERB_SEND,
    Handled,
    Verb,
    check_control,
    check_send,
    pack,
    read_handled,
    unpack_header,
)

PING = pack(Verb.PING.value, 0)
"""The frame that each route is sent every second. One is as good as many."""

PASSED_KINDS = (KIND_ASK, KIND_ANSWER, KIND_TELL)
"""What is for one pod, and so can go into a frame without the look at who else has something to be sent."""


class BusCore(Membership):
    """Decides what every frame means.

    Not thread-safe. Nothing here blocks, reads a clock or raises for what came from a socket.
    """

    def __init__(self, epoch: bytes, *, replay_limit: int = 128, max_message: int = 1_048_576) -> None:
        super().__init__(epoch, replay_limit=replay_limit, max_message=max_message)
        self.holdups = HoldUps(self.directory, self.ledger, self.dead_letters, self.mailroom)
        self.max_body = max(max_message + MAX_OVERHEAD, MAX_RUN_BYTES * 2)
        self.started_at: float | None = None
        self._next_second = 0.0
        self._late: tuple[Receiver, Handled | None] | None = None
        self._on: dict[int, Callable[[Receiver, tuple[Any, ...], float], None]] = {
            Verb.FILTER: self._on_filter,
            Verb.BYE: self._on_bye,
            Verb.SYNC: self._on_sync,
            Verb.CANCEL: self._on_cancel,
            Verb.WATCH: self._on_watch,
            Verb.GATEWAY: self._on_gateway,
        }

    # Input

    def receive(self, route_id: bytes, header: bytes, body: Body, now: float) -> None:
        """Take one frame pair from a route. What `out` holds then may leave at once, the rest after `flush`."""
        if self._late is not None:
            self._apply_late(now)
        route = self._routes.get(route_id)
        if route is not None and route.bad_frames >= BAD_FRAMES_LIMIT:
            self.postman.counts.bad_frames += 1
            return
        try:
            fields = unpack_header(header)
            verb = fields[0]
            if verb == VERB_SEND:
                size = len(body)
                if size > self.max_body:
                    raise ProtocolError(f"body of {size} bytes, allowed are {self.max_body}")
                check_send(fields, size)
                receiver = route.pods.get(fields[1]) if route is not None else None
                if receiver is not None:
                    self._on_send(receiver, fields, body, now)
                else:
                    self._pod(route_id, route, fields[1])
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

    def cut(self, count: int) -> None:
        """Count connections that were ended, as they sent messages without an end."""
        self.postman.counts.cut += count
        self.postman.counts.bad_frames += count

    # Frames of a pod that has joined

    def _on_send(self, receiver: Receiver, fields: tuple[Any, ...], body: Body, now: float) -> None:
        _, _, seq, handled, runs = fields
        sender = receiver.sender
        postman = self.postman
        if handled is not None and (type(handled) is not int or handled >= receiver.number):
            receiver.check(handled)
        single = len(runs) == 1
        if not single or sender.blockers:  # else it has all of its window, which takes any run
            sender.check(seq, runs, self.max_body)
        if single and seq == sender.received + 1 and (kind := runs[0][0]) in PASSED_KINDS:
            if kind == KIND_ANSWER and handled is not None:
                # First: that the question is settled travels with its answer.
                self.handling.handled(receiver, handled, now)
                handled = None
            # Not while an error is to be sent: the frame may say that a question has been settled with it.
            frame = postman.pass_on(receiver, seq, runs[0], body) if not postman.own_messages.queue else None
            if frame is not None:
                self.out.append(frame)
                self._late = (receiver, handled)
                return
        counts = postman.counts
        offset = 0
        for kind, message_type, count, size, dest in runs:
            if seq <= sender.received:
                counts.duplicates += count
            else:
                if seq > sender.received + 1:
                    if seq > sender.resent_until + 1:
                        counts.missing += seq - 1 - max(sender.received, sender.resent_until)
                    sender.received = seq - 1  # what lies between was settled in an earlier epoch
                part = body if single else body[offset : offset + size]
                run = Run(sender, seq, kind, message_type, count, part, size, dest)
                counts.runs += 1
                counts.messages += count
                sender.received += count
                if kind == KIND_ASK and dest == BUS_NAME:
                    answer_inquiry(self, run, now)
                    sender.taken(size)
                else:
                    postman.route(run, receiver, now)
                    sender.taken(size, count)
            seq += count
            offset += size
        self.ledger.note(sender, now)
        # After its output: what a handler sent is ahead of the news that the handler has ended.
        if handled is not None:
            self._late = (receiver, handled)

    def _apply_late(self, now: float) -> None:
        """Note what was passed on of the last frame, and what came as handled with it: its output can have left before.

        It comes before anything else that is done; only of routes something may be learned in between: that one cannot
        be reached, or sends what is malformed.
        """
        if self._late is not None:
            receiver, handled = self._late
            self._late = None
            if self.postman.passed is not None:
                self.postman.note_passed(now)
            if handled is not None:
                self.handling.handled(receiver, handled, now)

    def _on_sync(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        receiver.sender.urgent = True
        self.ledger.note(receiver.sender, now)

    def _on_watch(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        self.notices.watch(receiver, fields[2], fields[3])

    def _on_gateway(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        self.notices.take_remote(receiver, fields)

    def _on_cancel(self, receiver: Receiver, fields: tuple[Any, ...], now: float) -> None:
        for target, seqs in self.mailroom.cancel(receiver.sender, fields[2], now).items():
            self.out.append((target.route, pack(Verb.CANCELLED.value, target.slot, receiver.uuid, seqs), b""))

    # Ends of drains, and time

    def flush(self, now: float) -> None:
        """Put into `out` what the frames since the last call have made deliverable; call it after each drain."""
        postman = self.postman
        if self._late is not None:
            self._apply_late(now)
        if self.directory.news is not None:
            self.notices.tell_local()
        if self.dead_letters.untold:
            postman.post_dead(now)
        self._deliver(now)
        self.mailroom.turn += 1
        if self.ledger.unacked:
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
        while (
            mailroom.dirty
            or mailroom.dirty_groups
            or mailroom.unhealthy
            or mailroom.overflowed
            or postman.own_messages.queue
        ):
            if mailroom.unhealthy or mailroom.overflowed:
                self._disconnect(now)
            if mailroom.dirty_groups:
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
                if not route_id or not (receiver.mailbox.waiting or receiver.priority):
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

    def _disconnect(self, now: float) -> None:
        """Close the pods that are to be disconnected; one may be noted twice."""
        mailroom = self.mailroom
        unhealthy, mailroom.unhealthy = mailroom.unhealthy, []
        for receiver in unhealthy:
            if self._is_here(receiver) and len(receiver.failed) >= FAILED_LIMIT:
                self._close(receiver, CLOSE_UNHEALTHY)
                self._unhealthy(receiver, now)
        overflowed, mailroom.overflowed = mailroom.overflowed, []
        for receiver in overflowed:
            if self._is_here(receiver):
                self._close(receiver, CLOSE_OVERFLOW)
                self._release(receiver, "overflow", Ended("crashed", "its mailbox overflowed"), now)

    def _is_here(self, receiver: Receiver) -> bool:
        return self.directory.by_uuid.get(receiver.uuid) is receiver

    def _send_acks(self, now: float) -> None:
        unacked = self.ledger.unacked
        sent: list[Sender] = []
        for sender, noted in unacked.items():
            if not noted:
                unacked[sender] = now + ACK_DELAY
            if (not noted or now < noted) and not sender.is_due():
                continue
            sent.append(sender)
            receiver = self.directory.by_uuid.get(sender.uuid)
            # Not to a pod whose messages somebody else has sent: a dead letter that was given again.
            if receiver is not None and receiver.sender is sender and receiver.route:
                self._reply(receiver, pack(VERB_ACK, receiver.slot, sender.ack()))
                if sender.unheard:
                    self.postman.tell_unheard(sender)
        for sender in sent:
            del unacked[sender]

    def tick(self, now: float) -> float:
        """Do what is due, and `flush`; return when to call again at the latest."""
        if self.started_at is None:
            self.started_at = now
        if now >= self._next_second:
            self._apply_late(now)
            self._next_second = now + BEAT_INTERVAL
            self._each_second(now)
        self.flush(now)
        if self.dead_letters.untold:
            return now
        for due in self.ledger.unacked.values():
            return min(self._next_second, due)  # they were noted in order
        return self._next_second

    def _each_second(self, now: float) -> None:
        self._check_away(now)
        # Only a send can find out that a process is gone.
        self.out.extend((route_id, PING, b"") for route_id in self._routes)
        self.handling.retry_failed(now)
        self.mailroom.check_stuck(now)
        self.holdups.check(now)
        for sender in list(self.ledger.starved):
            starved = self.directory.by_uuid.get(sender.uuid)
            if starved is not None and starved.mailbox.used:
                self.ledger.feed(sender, now)
        for receiver in self.directory:
            if receiver.sender.is_behind:
                # It may have nothing more to say: it may wait in `send` for just what was settled and not told.
                self.ledger.note(receiver.sender, now)
        self.dead_letters.log.tick(now)
        self.mailroom.check_slow(now)

    def unreachable(self, route_id: bytes, now: float) -> None:
        """Note that nothing can be sent to a route: its process is gone."""
        self._apply_late(now)
        super().unreachable(route_id, now)

    def stop(self, now: float) -> None:
        """Tell every pod that the bus is going to stop."""
        for receiver in self.directory:
            self._close(receiver, CLOSE_STOPPING)

    # For people

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
