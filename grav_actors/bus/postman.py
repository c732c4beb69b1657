"""Routing: who gets a run, and the parts of the bus that see to it from there."""

from __future__ import annotations

from typing import Any

from grav_actors.bus.counts import Counts
from grav_actors.bus.dead_letter_retry import DeadLetterRetry
from grav_actors.bus.dead_letters import DEAD, DeadLetters
from grav_actors.bus.directory import Directory, Group, Plan
from grav_actors.bus.handling import Handling
from grav_actors.bus.handover import Handover
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.mailroom import Mailroom
from grav_actors.bus.own_messages import OwnMessages
from grav_actors.bus.receiver import ANSWERS_BYTES, ANSWERS_LIMIT, Receiver
from grav_actors.bus.replay import ReplayRing
from grav_actors.bus.run import Body, Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.codec import join_body, pack_record, record_ids
from grav_actors.errors import MessageDecodeError
from grav_actors.filters import FilterSet, is_framework_type
from grav_actors.ids import new_id
from grav_actors.message import Message
from grav_actors.protocol import (
    BUS_NAME,
    CODE_NO_RESPONDERS,
    CODE_SETTLED,
    FLAG_GROUP,
    FLAG_RECEIPT,
    FLAG_REDELIVERED,
    FLAG_RELAYED,
    FLAG_RESENT,
    KIND_ANSWER,
    KIND_ASK,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    MAX_OWN_BYTES,
    MAX_RUN_BYTES,
    QUESTION_KINDS,
    RELAY_REDELIVERED,
    STOP_TYPE,
    VERB_DELIVER,
    pack,
)


class Postman:
    """Brings runs to mailboxes.

    Attributes:
        ledger: Counts what is open, and whom to tell.
        own_messages: What the bus itself has to say.
        dead_letters: Ends what nobody will handle.
        mailroom: The mailboxes.
        handling: What pods have finished and failed.
        handover: What pods leave.
        retry: Gives dead letters again.
        own: The sender of what the bus itself says.
        passed: What was passed on and is not noted yet: from whom, seq, run as it came, body, to whom, number, flags.
    """

    def __init__(self, directory: Directory, replay_limit: int) -> None:
        self.directory = directory
        self.ring = ReplayRing(replay_limit)
        self.counts = counts = Counts()
        self.passed: tuple[Receiver, int, tuple[Any, ...], Body, Receiver, int, int] | None = None
        self.own = Sender(new_id())
        self.ledger = ledger = Ledger(self.own)
        self.own_messages = own_messages = OwnMessages(directory)
        self.dead_letters = dead_letters = DeadLetters(ledger, own_messages, counts)
        self.mailroom = mailroom = Mailroom(directory, ledger, dead_letters, own_messages, counts)
        self.handling = handling = Handling(directory, ledger, dead_letters, mailroom, counts)
        self.handover = Handover(directory, ledger, dead_letters, mailroom, handling, counts)
        self.shelf = dead_letters.shelf
        self.retry = DeadLetterRetry(directory, ledger, mailroom, dead_letters, counts)

    def pass_on(
        self, source: Receiver, seq: int, entry: tuple[Any, ...], body: Body
    ) -> tuple[bytes, bytes, Body] | None:
        """Put a run into a frame at once if it is for one pod that can take it without having it wait; else `route` it.

        For the next run of a pod that is alone in its frame, is for a name or is an answer, and while the bus has
        nothing to say itself: the frame may say that a question has been settled. What else comes for the receiver in
        this turn waits, so that it goes out together. Where other pods may be meant, or room has to be made, nothing is
        done.

        All that the frame does not need is left to `note_passed`, which has to be called before anything else.

        Args:
            entry: The run as it came: kind, type, count, bytes, destination.

        Returns:
            The frame: `(route, header, body)`. None if nothing was done.
        """
        kind, message_type, count, size, dest = entry
        sender = source.sender
        turn = self.mailroom.turn
        flags = FLAG_RESENT if seq <= sender.resent_until else 0
        if kind == KIND_ANSWER:
            receiver = self.directory.by_uuid.get(dest)
            if receiver is None or not receiver.takes_answer_at_once(turn):
                return None
            flags |= FLAG_RECEIPT
        else:
            receiver = self.directory.by_name.get(dest)
            if (
                receiver is None
                or message_type == STOP_TYPE
                or dest == BUS_NAME
                or not receiver.takes_at_once(count, size, turn)
            ):
                return None
        number = receiver.number
        receiver.number = number + count
        receiver.turn = turn
        self.passed = (source, seq, entry, body, receiver, number, flags)
        ack = None
        if self.ledger.unacked.pop(receiver.sender, None) is not None:
            ack = receiver.sender.ack()
            if receiver.sender.unheard:
                self.tell_unheard(receiver.sender)
        run = (sender.uuid, seq, sender.settled(), kind, message_type, count, size, flags, 1)
        return receiver.route, pack(VERB_DELIVER, receiver.slot, number, ack, (run,)), body

    def note_passed(self, now: float) -> None:
        """Note what was passed on last: it is open, and in flight."""
        assert self.passed is not None
        source, seq, (kind, message_type, count, size, dest), body, receiver, number, flags = self.passed
        self.passed = None
        sender = source.sender
        run = Run(sender, seq, kind, message_type, count, body, size, dest)
        sender.received += count
        run.pending = count
        delivery = Delivery(run, 0, count, flags)
        delivery.number = number
        receiver.in_flight.append(delivery)
        if run.traces is not None:
            run.trace(receiver, number)
        delivery.priority = kind == KIND_ANSWER
        receiver.take_room(delivery)
        counts = self.counts
        counts.runs += 1
        counts.messages += count
        counts.deliveries += count
        self.ledger.open(run, is_working=source.mailbox.used > 0)
        sender.taken(size, count)
        self.ledger.note(sender, now)

    def route(self, run: Run, source: Receiver | None, now: float) -> None:
        """Bring a run to everybody whom it is for."""
        kind = run.kind
        sender = run.sender
        if kind in (KIND_TELL, KIND_ASK):
            self._route_named(run, now)
        elif kind == KIND_ANSWER:
            self._route_receipts(run, now)
        else:
            self._route_published(run, source, now)
        if run.pending:
            self.ledger.open(run, is_working=source is not None and source.mailbox.used > 0)
        elif kind in QUESTION_KINDS:
            # The asker should know at once: an acknowledgement has no room for it if much is open.
            sender.urgent = True
            text = f"there is no actor {run.dest}" if run.kind == KIND_ASK else f"nobody handles {run.type}"
            self.own_messages.answer_error(Delivery(run, 0, run.count), CODE_NO_RESPONDERS, text)

    def _route_published(self, run: Run, source: Receiver | None, now: float) -> None:
        plan = self.directory.plan(run.type)
        put = self.mailroom.put
        dirty = self.mailroom.dirty
        flags = 0
        groups = plan.groups
        if type(run.dest) is tuple:
            flags, groups = self._relayed(run, plan, now)
        for receiver in plan.receivers:
            if receiver is source:
                continue
            for delivery in _wanted(run, receiver.filters, flags=flags):
                put(receiver.mailbox, delivery, now)
                if not receiver.is_dirty:
                    receiver.is_dirty = True
                    dirty.append(receiver)
        served: list[str] = []
        for group in groups:
            if self.directory.choose(group, run.type, run.sender.uuid)[1]:
                delivery = Delivery(run, 0, run.count, FLAG_GROUP | flags)
                delivery.group = group.name
                put(group.mailbox, delivery, now)
                self.mailroom.dirty_groups.add(group.name)
                served.append(group.name)
        if plan.gateway is not None and plan.gateway is not source:
            self._give_gateway(plan.gateway, run, tuple(served), now)
        if run.kind == KIND_PUBLISH and not is_framework_type(run.type):
            self.ring.push(run)
        elif run.kind == KIND_REPLY and type(run.dest) is bytes:
            self._route_receipts(run, now)

    def _relayed(self, run: Run, plan: Plan, now: float) -> tuple[int, tuple[Group, ...]]:
        """Return the flags and the groups of what was published on another node, and is meant for these groups."""
        flags, names = run.dest
        groups = plan.groups
        if names is not None:
            groups = tuple(group for group in plan.groups if group.name in names)
            for name in {*names} - {group.name for group in groups}:
                if run.kind not in QUESTION_KINDS:
                    # Its last member left, or the group wants the type no more, while it was on its way.
                    run.pending += run.count
                    dead = Delivery(run, 0, run.count, FLAG_GROUP)
                    dead.group = name
                    self.dead_letters.bury(dead, "no_responders", name, now)
        return (FLAG_REDELIVERED if flags & RELAY_REDELIVERED else 0), groups

    def _give_gateway(self, gateway: Receiver, run: Run, relayed: Any, now: float) -> None:
        """Have a run carried to other nodes; `relayed` says for whom, or which groups have it here."""
        delivery = Delivery(run, 0, run.count, FLAG_RELAYED)
        delivery.relayed = relayed
        self.mailroom.put(gateway.mailbox, delivery, now)
        self.mailroom.touch(gateway)

    def _route_named(self, run: Run, now: float) -> None:
        receiver = self.directory.named(run.dest)
        delivery = Delivery(run, 0, run.count)
        if receiver is not None and run.type == STOP_TYPE:
            # For all the instances behind a name: one that was left would go on in the place of the others.
            for instance in self.directory.instances(run.dest):
                self.mailroom.put(instance.mailbox, Delivery(run, 0, run.count), now)
                self.mailroom.touch(instance)
        elif receiver is not None:
            self.mailroom.put(receiver.mailbox, delivery, now)
            self.mailroom.touch(receiver)
        elif (gateway := self.directory.stand_in(run.dest)) is not None and gateway.sender is not run.sender:
            self._give_gateway(gateway, run, run.dest, now)
        elif run.kind == KIND_TELL:
            run.pending += run.count
            self.dead_letters.bury(delivery, "no_responders", run.dest, now)

    def _route_receipts(self, run: Run, now: float) -> None:
        # Past filter and window: a handler may be blocked waiting for just this.
        if len(run.dest) == 8:
            receivers = self.directory.of_process(run.dest)
        else:
            receiver = self.directory.by_uuid.get(run.dest)
            receivers = [receiver] if receiver is not None else []
        gateway = self.directory.gateway
        relayed = None
        if not receivers and gateway is not None and gateway.sender is not run.sender:
            receivers, relayed = [gateway], run.dest  # whoever asked may be on another node
        if not receivers:
            self.counts.late_answers += run.count
        for receiver in receivers:
            if receiver.answers >= ANSWERS_LIMIT or receiver.answer_bytes >= ANSWERS_BYTES:
                self.counts.given_up += run.count
                continue
            receiver.answers += run.count
            receiver.answer_bytes += run.unit * run.count
            delivery = Delivery(run, 0, run.count, FLAG_RECEIPT if relayed is None else FLAG_RECEIPT | FLAG_RELAYED)
            delivery.priority = True
            delivery.relayed = relayed
            run.pending += run.count
            receiver.priority.append(delivery)
            self.mailroom.touch(receiver)

    def replay(self, receiver: Receiver, now: float) -> None:
        """Give a pod what the ring holds of what it wants and did not send; of that the newest that its mailbox takes.

        The rest is no dead letter: nobody had sent it to this pod.
        """
        wanted: list[Delivery] = []
        for run, skipped in self.ring:
            if run.sender.uuid == receiver.uuid or not receiver.filters.decides(run.type):
                continue
            wanted += _wanted(run, receiver.filters, skipped)
        mailbox = receiver.mailbox
        excess = sum(delivery.count for delivery in wanted) - max(0, mailbox.limit - mailbox.used)
        for delivery in wanted:
            if excess >= delivery.count:
                excess -= delivery.count
                continue
            if excess > 0:
                delivery.split(excess)
                excess = 0
            self.mailroom.put(mailbox, delivery, now)
        self.mailroom.touch(receiver)

    def send_own(self, message: Message, kind: int, dest: Any, now: float) -> None:
        """Send a message of the bus itself."""
        body = join_body([pack_record(message, MAX_OWN_BYTES)])
        self._send_own(message.type, body, 1, kind, dest, now)

    def _send_own(self, message_type: str, body: bytes, count: int, kind: int, dest: Any, now: float) -> None:
        own = self.own
        run = Run(own, own.received + 1, kind, message_type, count, body, len(body), dest)
        own.received += count
        self.route(run, None, now)

    def tell_unheard(self, sender: Sender) -> None:
        """Tell an asker of settled questions that its acknowledgement had no room for."""
        unheard, sender.unheard = sender.unheard, []
        for run in unheard:
            self.own_messages.answer_error(
                Delivery(run, 0, run.count), CODE_SETTLED, "all have handled it without an answer"
            )

    def post_own(self, now: float) -> None:
        """Route what the bus has had to say since the last call."""
        queue, self.own_messages.queue = self.own_messages.queue, []
        for message, kind, dest in queue:
            self.send_own(message, kind, dest, now)

    def post_dead(self, now: float) -> None:
        """Route the next events of dead letters, in runs as pods send them."""
        records: list[bytes] = []
        size = 0
        for event in self.dead_letters.take_events():
            record = pack_record(event, MAX_OWN_BYTES)
            if records and size + len(record) > MAX_RUN_BYTES:
                self._send_own(DEAD, join_body(records), len(records), KIND_PUBLISH, None, now)
                records, size = [], 0
            records.append(record)
            size += len(record)
        self._send_own(DEAD, join_body(records), len(records), KIND_PUBLISH, None, now)


def _wanted(run: Run, filters: FilterSet, skip: int = 0, flags: int = 0) -> list[Delivery]:
    """Return the deliveries of a run that a filter lets through: one, unless uuids are refused."""
    if not filters.uuids:
        return [Delivery(run, skip, run.count, flags)]
    try:
        ids = record_ids(bytes(run.body), run.count)
    except MessageDecodeError:
        return []
    pieces: list[Delivery] = []
    for index in range(skip, run.count):
        if not filters.allows_uuid(ids[index]):
            continue
        if pieces and pieces[-1].hi == index:
            pieces[-1].hi += 1
        else:
            pieces.append(Delivery(run, index, index + 1, flags))
    return pieces
