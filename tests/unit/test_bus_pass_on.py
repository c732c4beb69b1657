"""A run that is passed on at once, and the same run routed, leave the bus in the same state and go out as the same."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from grav_actors.bus.core import BusCore
from grav_actors.bus.receiver import Receiver
from grav_actors.codec import join_body, pack_record
from grav_actors.message import Message
from grav_actors.protocol import (
    FAIL_ERROR,
    KIND_ANSWER,
    KIND_ASK,
    KIND_TELL,
    STOP_TYPE,
    VERB_DELIVER,
    VERB_HANDLED,
    VERB_SEND,
    Hello,
    PodSettings,
    Verb,
    pack,
    pack_hello,
    unpack_header,
)

EPOCH = b"epoch..."
UUIDS = [bytes([number]) * 16 for number in range(4)]
"""Of three actors, and of a pod that is not there."""
BODIES = [join_body([pack_record(Message("q", index), 1000) for index in range(count)]) for count in range(1, 4)]
Step = tuple[str, int, Any, int]

names = st.sampled_from(["a0", "a1", "a2", "s", "nobody", "grav.bus"])
pods = st.integers(0, 2)
counts = st.integers(1, 3)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["ask", "tell"]), pods, names, counts),
        st.tuples(st.just("answer"), pods, st.sampled_from([*UUIDS, UUIDS[0][:8]]), counts),
        st.tuples(st.sampled_from(["stop", "again", "leap"]), pods, names, st.just(1)),
        st.tuples(st.sampled_from(["handle", "fail", "ride"]), pods, st.integers(0, 3), st.just(0)),
        st.tuples(st.sampled_from(["lose", "join", "wait"]), pods, st.none(), st.just(0)),
        st.tuples(st.just("cancel"), pods, st.integers(1, 12), st.just(0)),
    ),
    max_size=30,
)


class Bus:
    """A core and three actors that talk to it in frames; it is ticked after each of them."""

    def __init__(self) -> None:
        self.core = BusCore(EPOCH)
        self.now = 100.0
        self.seqs = [1, 1, 1]
        for number in range(3):
            self.join(number)

    def join(self, number: int) -> None:
        limits: Any = {"overflow": "drop_newest", "mailbox_limit": 6} if number == 2 else {"mailbox_limit": 8}
        about = PodSettings(actor=True, service="s" if number else "", prefetch=2 + 2 * number, **limits)
        hello = Hello(1, UUIDS[number], f"a{number}", about, (True, True, (), ()), EPOCH, 0, 0, 0)
        self.give(number, pack_hello(1, hello))

    def give(self, number: int, header: bytes, body: bytes = b"") -> list[Any]:
        """Give a frame of an actor; return what goes out by each route, but for watermarks: they may ride elsewhere."""
        self.core.receive(b"route%d" % number, header, body, self.now)
        self.core.tick(self.now)
        out, self.core.out = self.core.out, []
        seen: list[Any] = []
        for route, answer, _ in out:
            fields = unpack_header(answer)
            if fields[0] == VERB_DELIVER:
                runs = [(run[1], *run[3:6], *run[7:]) for run in fields[4]]
                seen.append((route, fields[2], runs))
            elif fields[0] == Verb.CANCELLED:
                seen.append((route, fields))
        return sorted(seen, key=itemgetter(0))

    def receiver(self, number: int) -> Receiver:
        return self.core.directory.by_uuid[UUIDS[number]]

    def act(self, what: str, number: int, about: Any, count: int) -> list[Any]:
        receiver = self.receiver(number)
        floor = max(0, receiver.number - 1 - about) if isinstance(about, int) else 0
        if what in ("ask", "tell", "answer", "stop", "again", "leap", "ride"):
            kind = {"ask": KIND_ASK, "answer": KIND_ANSWER, "again": KIND_ASK, "ride": KIND_ANSWER}.get(what, KIND_TELL)
            body = BODIES[max(count, 1) - 1]
            dest = UUIDS[(number + 1) % 3] if what == "ride" else about
            seq = self.seqs[number] - (what == "again") + (what == "leap")
            run = (kind, STOP_TYPE if what == "stop" else "q", max(count, 1), len(body), dest)
            self.seqs[number] = max(self.seqs[number], seq + max(count, 1))
            handled = floor if what == "ride" else None
            return self.give(number, pack(VERB_SEND, 1, max(seq, 1), handled, (run,)), body)
        if what == "handle":
            return self.give(number, pack(VERB_HANDLED, 1, floor))
        if what == "fail":
            failures = ((receiver.number - 1, FAIL_ERROR, "broken"),) if receiver.number > 1 else ()
            return self.give(number, pack(VERB_HANDLED, 1, (0, (), failures)))
        if what == "cancel":
            return self.give(number, pack(Verb.CANCEL, 1, (about,)))
        if what == "lose":
            self.core.unreachable(b"route%d" % number, self.now)
        elif what == "join":
            self.join(number)
        else:
            self.now += 0.02
        return []

    def state(self) -> list[Any]:
        """Return all that routing may change."""
        found: list[Any] = [self.core.ledger.held_bytes]
        for number in range(3):
            receiver = self.receiver(number)
            mailbox, sender = receiver.mailbox, receiver.sender
            found += [
                (receiver.number, receiver.window_used, receiver.window_bytes, receiver.answers, receiver.answer_bytes),
                [(one.number, one.run.seq, one.lo, one.hi, one.flags, one.priority) for one in receiver.in_flight],
                [(one.run.seq, one.lo, one.hi, one.flags) for one in mailbox.waiting],
                (mailbox.used, mailbox.used_bytes, len(receiver.priority), len(receiver.failed)),
                (sender.received, sender.accepted, sender.settled(), sender.sent_bytes, len(sender.blockers)),
                [(seq, run.pending) for seq, run in sender.open.items()],
            ]
        about = self.core.postman.counts
        return [*found, about.messages, about.deliveries, about.handled, about.given_up, about.late_answers]


class RoutingBus(Bus):
    """The same, with everything routed."""

    def __init__(self) -> None:
        super().__init__()
        postman: Any = self.core.postman
        postman.pass_on = lambda *_: None


@settings(max_examples=150, deadline=None)
@given(steps)
def test_what_is_passed_on_ends_as_what_is_routed(story: list[Step]) -> None:
    passing, routing = Bus(), RoutingBus()
    for step in story:
        assert passing.act(*step) == routing.act(*step), step
        assert passing.state() == routing.state(), step


def ask(bus: Bus, number: int, name: str) -> None:
    """Have an actor ask another, and nothing more."""
    seq = bus.seqs[number]
    bus.seqs[number] += 1
    run = (KIND_ASK, "q", 1, len(BODIES[0]), name)
    bus.core.receive(b"route%d" % number, pack(VERB_SEND, 1, seq, None, (run,)), BODIES[0], bus.now)


def delivered(bus: Bus) -> list[tuple[bytes, int]]:
    """Take what is to be sent; return the routes of deliveries, and how many runs each frame has."""
    out, bus.core.out = bus.core.out, []
    frames = [(route, unpack_header(header)) for route, header, _ in out]
    return [(route, len(fields[4])) for route, fields in frames if fields[0] == VERB_DELIVER]


def test_a_question_leaves_at_once_and_what_follows_in_the_same_drain_leaves_together() -> None:
    bus = Bus()
    ask(bus, 0, "a2")
    assert delivered(bus) == [(b"route2", 1)]
    ask(bus, 1, "a2")
    ask(bus, 0, "a2")
    ask(bus, 2, "a0")
    assert delivered(bus) == [(b"route0", 1)], "the other ones wait for the end of the drain"
    bus.core.tick(bus.now)
    assert delivered(bus) == [(b"route2", 2)]
    ask(bus, 1, "a2")
    assert delivered(bus) == [(b"route2", 1)], "the next drain"


def test_what_was_passed_on_to_a_pod_that_cannot_be_reached_is_in_flight_to_it() -> None:
    bus = Bus()
    ask(bus, 0, "a1")
    assert delivered(bus) == [(b"route1", 1)]
    bus.core.unreachable(b"route1", bus.now)  # as the socket says when the frame is to leave
    ask(bus, 0, "a1")
    bus.core.tick(bus.now)
    assert delivered(bus) == []
    receiver = bus.receiver(1)
    assert [delivery.number for delivery in receiver.in_flight] == [1]
    assert receiver.mailbox.used == 2
    assert list(bus.receiver(0).sender.open) == [1, 2]
    bus.join(1)
    assert [delivery.number for delivery in receiver.in_flight] == [1, 2]
