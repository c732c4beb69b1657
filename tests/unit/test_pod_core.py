"""The pod's half of the protocol: joining, acknowledging, failing, and coming to a new bus."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.codec import join_body, pack_record, unpack_body
from grav_actors.errors import ProtocolError
from grav_actors.filters import FilterSet
from grav_actors.ids import new_id
from grav_actors.message import Message
from grav_actors.pod.core import HELLO_INTERVAL, PodCore, State
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.outbox import Outbox
from grav_actors.protocol import (
    FAIL_ERROR,
    FAIL_REJECT,
    FLAG_GROUP,
    FLAG_RECEIPT,
    FLAG_REDELIVERED,
    FLAG_RESENT,
    KIND_ASK,
    KIND_PUBLISH,
    MAX_CANCELS,
    MAX_FAILURES,
    MAX_HEADER,
    WINDOW_MESSAGES,
    Hello,
    PodSettings,
    Verb,
    pack,
    read_hello,
    unpack_header,
)
from grav_actors.reference import ActorRef

SENDER = new_id()
BUS = new_id()
EPOCH, NEXT_EPOCH = b"\x01" * 8, b"\x02" * 8
RECORD = pack_record(Message("x", 1), 1 << 20)


class Bus:
    """The other side of one pod: hands it frames and reads what it sends."""

    def __init__(self, pod: PodCore) -> None:
        self.pod = pod
        self.number = 1
        self.now = 10.0

    def give(self, verb: Verb, *fields: Any, body: bytes = b"") -> None:
        self.pod.receive(unpack_header(pack(verb.value, 1, *fields)), body, self.now)

    def sent(self) -> list[tuple[Any, ...]]:
        out, self.pod.out = self.pod.out, []
        return [unpack_header(header) for header, _ in out]

    def verbs(self) -> list[Verb]:
        return [Verb(fields[0]) for fields in self.sent()]

    def hello(self) -> Hello:
        (fields,) = self.sent()
        return read_hello(fields)

    def welcome(self, *, epoch: bytes = EPOCH, received: int = 0, is_resumed: bool = False, request: int = 0) -> None:
        request = request or self.pod._hello_request
        self.give(Verb.WELCOME, 1, request, epoch, BUS, received, is_resumed, (1 << 20, 1, 1))
        if not is_resumed:
            self.number = 1

    def deliver(self, seq: int, count: int = 1, *, flags: int = 0, attempt: int = 1, sender: bytes = SENDER,
                number: int = 0, ack: Any = None, floor: int = 0) -> None:  # fmt: skip
        body = join_body([pack_record(Message("x", seq + index), 1 << 20) for index in range(count)])
        run = (sender, seq, floor, KIND_PUBLISH, "x", count, len(body), flags, attempt)
        self.give(Verb.DELIVER, number or self.number, ack, (run,), body=body)
        self.number = (number or self.number) + count

    def handled(self) -> Any:
        """Have the pod acknowledge; return the watermark of the last frame that carries one."""
        self.pod.flush(self.now, force=True)
        marks = [fields[2 if fields[0] == Verb.HANDLED else 3] for fields in self.sent() if fields[0] in (2, 3)]
        return marks[-1] if marks else None


def joined(**settings: Any) -> tuple[PodCore, Bus]:
    pod = PodCore(new_id(), "pod", PodSettings(**settings), 1)
    pod.hello(10.0)
    bus = Bus(pod)
    bus.welcome()
    bus.sent()
    return pod, bus


def state(pod: PodCore) -> State:
    return pod.state


def finish(pod: PodCore, count: int | None = None) -> None:
    """Handle what waits, in order."""
    for inbound in list(pod.inbox):
        for index in range(max(inbound.done, inbound.skip), inbound.count):
            if count == 0:
                return
            inbound.finish(index)
            count = None if count is None else count - 1
        pod.inbox.remove(inbound)


def data(inbound: Inbound) -> list[Any]:
    return [record[4] for record in unpack_body(inbound.body, inbound.count, ActorRef)]


def send(pod: PodCore, count: int = 1, message_type: str = "x") -> None:
    for _ in range(count):
        pod.outbox.add(KIND_PUBLISH, message_type, None, RECORD, len(RECORD))


def ask(pod: PodCore, count: int) -> None:
    for _ in range(count):
        pod.outbox.add(KIND_ASK, "q", "a", RECORD, len(RECORD))


# Sending


class Twin:
    """One of two pods to which the same happens, but that one may send questions alone."""

    def __init__(self, *, sends_alone: bool) -> None:
        self.pod = PodCore(SENDER, "pod", PodSettings(), 1)
        self.pod.hello(10.0)
        self.bus = Bus(self.pod)
        self.bus.welcome()
        self.out: list[Any] = []
        self.alone = 0
        self._sends_alone = sends_alone

    def ask(self, size: int) -> None:
        pod, outbox = self.pod, self.pod.outbox
        record = [bytes(16), b"", b"", 5, bytes(size), None] if size else RECORD
        question = (KIND_ASK, "q", "a", record, max(size, len(RECORD)))
        seq = pod.send_alone(*question, 20.0) if self._sends_alone else 0
        self.alone += seq > 0
        if not seq and outbox.has_room():
            outbox.add(*question)
            pod.flush(20.0)

    def do(self, what: str, number: int) -> None:
        pod, outbox = self.pod, self.pod.outbox
        if what == "ask":
            self.ask(number)
        elif what == "tighten":
            outbox.room, outbox.room_bytes = number % 3, 99_900 + number
        elif what == "queue":
            outbox.add(KIND_PUBLISH, "x", None, RECORD, len(RECORD))
        elif what == "publish":
            outbox.incoming += ("x", number, 5, b"", b"")
        elif what == "flush":
            pod.flush(15.0, force=bool(number % 2))
        elif what == "settle":
            pod.receive(unpack_header(pack(Verb.ACK.value, 1, (outbox.sent, outbox.sent))), b"", 10.0)
        else:
            self.receive(what, number)
        self.out += pod.out
        pod.out.clear()

    def receive(self, what: str, number: int) -> None:
        pod = self.pod
        if what == "deliver":
            self.bus.deliver(self.bus.number, 1 + number % 31)
        elif what == "fail" and pod.inbox:
            for index in range(pod.inbox[0].count):
                pod.failed(pod.inbox[0], index, FAIL_ERROR, "text")
            finish(pod, pod.inbox[0].count)
        elif what == "finish last" and pod.inbox:
            pod.inbox[-1].finish_all()
            pod.finished_ahead(pod.inbox[-1])
        elif what == "finish":
            finish(pod, 1)
        elif what == "lose":
            pod.rejoin(10.0)
        elif what == "welcome":
            self.bus.welcome(is_resumed=True, received=pod.outbox.sent)

    def picture(self) -> list[Any]:
        outbox = self.pod.outbox
        run = ("seq", "kind", "type", "dest", "count", "size", "body", "records", "columns")
        return [
            self.out,
            self.pod._reported,
            self.pod.ack_sent_at,
            outbox.has_room(),
            [getattr(outbox, name) for name in Outbox.__slots__ if name not in ("_retained", "_queue", "_last")],
            [[getattr(one, name) for name in run] for one in (*outbox._retained.values(), *outbox._queue)],
        ]


happenings = st.tuples(
    st.sampled_from(["ask", "queue", "publish", "flush", "settle", "deliver", "fail", "finish", "finish last", "lose",
                     "welcome", "tighten"]),
    st.sampled_from([0, 1, 100, 300, 100_000]),
)  # fmt: skip


@given(st.lists(st.one_of(happenings, st.just(("ask", 1))), max_size=15))
def test_a_question_that_is_sent_alone_leaves_everything_as_one_that_is_queued_and_flushed(
    happened: list[tuple[str, int]],
) -> None:
    one, other = Twin(sends_alone=True), Twin(sends_alone=False)
    for what, number in happened:
        one.do(what, number)
        other.do(what, number)
        assert one.picture() == other.picture()


def test_most_questions_are_sent_alone_until_the_window_is_nearly_used_up() -> None:
    one = Twin(sends_alone=True)
    for _ in range(WINDOW_MESSAGES + 100):
        one.do("ask", 0)
    assert one.alone == WINDOW_MESSAGES - 1, "the first has the room counted"
    one.do("settle", 0)
    one.do("ask", 1)
    one.do("ask", 100_000)
    one.do("queue", 1)
    one.do("ask", 1)
    assert one.alone == WINDOW_MESSAGES - 1
    one.do("ask", 1)
    assert one.alone == WINDOW_MESSAGES


def test_what_a_handler_asked_before_it_was_finished_leaves_before_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twin = Twin(sends_alone=True)
    twin.do("deliver", 0)
    twin.do("ask", 1)
    assert twin.alone == 0
    pod, news = twin.pod, twin.pod._news

    def finish_first() -> Any:
        pod.outbox.incoming += ("x", 7, 5, b"", b"")
        finish(pod)
        return news()

    monkeypatch.setattr(pod, "_news", finish_first)
    twin.out.clear()
    twin.do("ask", 1)
    assert twin.alone == 1
    (fields,) = [unpack_header(header) for header, _ in twin.out]
    assert (fields[2], fields[3], [run[:3] for run in fields[4]]) == (
        2, 1, [(KIND_PUBLISH, "x", 1), (KIND_ASK, "q", 1)],
    )  # fmt: skip


@pytest.mark.parametrize("is_behind_failures", [False, True])
def test_what_comes_in_without_the_lock_leaves_before_its_handler_is_told_as_finished_without_a_frame(
    monkeypatch: pytest.MonkeyPatch, is_behind_failures: bool
) -> None:
    twin = Twin(sends_alone=True)
    if is_behind_failures:  # more than one frame tells, so that the second follows what was queued
        twin.do("deliver", 19)
        twin.do("fail", 0)
        twin.do("queue", 0)
    twin.do("deliver", 0)
    pod, news = twin.pod, twin.pod._news
    calls: list[int] = []

    def finish_first() -> Any:
        calls.append(1)
        if len(calls) == 1 + is_behind_failures:
            pod.outbox.incoming += ("x", 7, 5, b"", b"")
            finish(pod)
        return news()

    monkeypatch.setattr(pod, "_news", finish_first)
    twin.out.clear()
    twin.do("flush", 1)
    last = unpack_header(twin.out[-1][0])
    assert last[0] == Verb.SEND
    assert [run[1] for run in last[4]] == ["x"]
    assert not pod.has_news(), "the handler was told, and no frame before has told it"
    assert all(floor_of(fields) < pod._floor for fields in (unpack_header(header) for header, _ in twin.out[:-1]))


def floor_of(fields: tuple[Any, ...]) -> int:
    """Return the watermark that a frame carries."""
    handled = fields[2 if fields[0] == Verb.HANDLED else 3]
    return int(handled[0] if isinstance(handled, tuple) else handled or 0)


# Joining


def test_a_pod_says_hello_again_until_it_is_welcomed() -> None:
    pod = PodCore(new_id(), "pod", PodSettings(), 1)
    pod.hello(10.0)
    bus = Bus(pod)
    first = bus.hello()
    pod.tick(10.0 + HELLO_INTERVAL - 0.01)
    assert bus.sent() == []
    pod.tick(10.0 + HELLO_INTERVAL)
    assert bus.hello().request == first.request + 1
    bus.welcome(request=first.request)
    assert state(pod) is State.JOINING, "an answer to the first comes too late: the bus will answer the second"
    bus.welcome()
    assert state(pod) is State.JOINED
    assert pod.confirmed == [first.request, first.request + 1], "whoever waited for the first has what it waits for"
    pod.tick(1e9)
    assert bus.sent() == []


def test_nothing_leaves_before_the_welcome() -> None:
    pod = PodCore(new_id(), "pod", PodSettings(), 1)
    pod.hello(10.0)
    bus = Bus(pod)
    bus.sent()
    send(pod)
    pod.flush(10.0, force=True)
    pod.sync()
    pod.cancel([1], 10.0)
    assert bus.sent() == []
    bus.welcome()
    assert bus.verbs() == [Verb.SEND, Verb.CANCEL]


def test_deliveries_before_the_welcome_are_passed_over() -> None:
    pod = PodCore(new_id(), "pod", PodSettings(), 1)
    pod.hello(10.0)
    bus = Bus(pod)
    bus.deliver(1)
    assert pod.inbox == []


def test_a_pod_that_is_refused_is_closed_with_the_reason() -> None:
    pod = PodCore(new_id(), "pod", PodSettings(), 1)
    pod.hello(10.0)
    bus = Bus(pod)
    bus.give(Verb.REFUSED, 99, "name_taken", "no")
    assert state(pod) is State.JOINING, "that was for another request"
    bus.give(Verb.REFUSED, pod._hello_request, "name_taken", "no")
    assert state(pod) is State.CLOSED
    assert pod.closed_by == ("name_taken", "no")


def test_a_pod_that_is_told_to_rejoin_says_hello_once() -> None:
    _, bus = joined()
    bus.give(Verb.REJOIN)
    bus.give(Verb.REJOIN)
    assert bus.verbs() == [Verb.HELLO]


@pytest.mark.parametrize("verb", [Verb.REJOIN, Verb.WELCOME, Verb.ACK, Verb.OK, Verb.PING, Verb.CANCELLED, Verb.CLOSE])
def test_a_closed_pod_stays_closed_and_silent(verb: Verb) -> None:
    pod, bus = joined()
    bus.give(Verb.CLOSE, "stopping", "")
    fields: dict[Verb, tuple[Any, ...]] = {
        Verb.ACK: ((0, 0),), Verb.OK: (1, ""), Verb.CANCELLED: (SENDER, (1,)), Verb.CLOSE: ("overflow", ""),
        Verb.WELCOME: (1, pod._hello_request, EPOCH, BUS, 0, False, (1, 1, 1)),
    }  # fmt: skip
    bus.give(verb, *fields.get(verb, ()))
    pod.flush(bus.now, force=True)
    assert pod.state is State.CLOSED
    assert pod.closed_by == ("stopping", "")
    assert bus.sent() == []


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb < Verb.WELCOME])
def test_a_frame_that_only_pods_send_is_refused(verb: Verb) -> None:
    pod, bus = joined()
    fields: dict[Verb, tuple[Any, ...]] = {
        Verb.HANDLED: (1,), Verb.FILTER: (1, FilterSet().to_wire()), Verb.BYE: (1, ""), Verb.CANCEL: ((1,),),
    }  # fmt: skip
    with pytest.raises(ProtocolError):
        bus.give(verb, *fields.get(verb, ()))
    assert pod.state is State.JOINED


# Filters and leaving


def test_a_filter_is_confirmed_by_its_own_answer() -> None:
    pod, bus = joined()
    first, second = pod.request_filter(), pod.request_filter()
    pod.confirmed.clear()
    bus.give(Verb.OK, second, "")
    assert pod.confirmed == [second]
    bus.give(Verb.OK, second, "")
    bus.give(Verb.OK, first, "")
    assert pod.confirmed == [second, first]


def test_a_filter_set_before_hello_goes_with_it_and_is_confirmed_by_the_welcome() -> None:
    pod, bus = joined()
    request = pod.request_filter()
    bus.sent()
    pod.filters = FilterSet(listening=True)
    bus.give(Verb.REJOIN)
    assert bus.hello().filters[0] is True
    pod.confirmed.clear()
    bus.welcome(is_resumed=True)
    assert pod.confirmed == [request, pod._hello_request]
    assert bus.verbs() == [Verb.HANDLED]


def test_a_filter_set_after_hello_is_sent_after_the_welcome() -> None:
    pod, bus = joined()
    bus.give(Verb.REJOIN)
    bus.sent()
    pod.filters = FilterSet(listening=True)
    request = pod.request_filter()
    pod.confirmed.clear()
    bus.welcome(epoch=NEXT_EPOCH)
    assert [(fields[0], fields[2]) for fields in bus.sent()] == [(Verb.FILTER, request)]
    assert request not in pod.confirmed, "HELLO had the filter before it"


def test_what_was_sent_and_handled_leaves_before_the_bye() -> None:
    pod, bus = joined()
    bus.deliver(1)
    finish(pod)
    send(pod)
    request = pod.request_bye("stopping")
    sent = bus.sent()
    assert [fields[0] for fields in sent] == [Verb.SEND, Verb.BYE]
    assert sent[0][3] == 1
    assert sent[1][2:] == (request, "stopping")
    assert pod.state is State.LEAVING
    bus.deliver(2)
    assert pod.inbox == []


def test_a_pod_that_leaves_while_the_bus_is_away_says_bye_after_its_hello() -> None:
    pod, bus = joined()
    bus.give(Verb.REJOIN)
    bus.sent()
    send(pod)
    request = pod.request_bye("")
    assert bus.sent() == []
    bus.welcome(epoch=NEXT_EPOCH)
    assert bus.verbs() == [Verb.SEND, Verb.BYE]
    assert request not in pod.confirmed
    bus.give(Verb.OK, request, "")
    assert request in pod.confirmed


def test_a_bye_that_a_bus_took_with_it_is_said_to_the_next() -> None:
    pod, bus = joined()
    pod.request_bye("")
    bus.sent()
    bus.give(Verb.REJOIN)
    assert bus.verbs() == [Verb.HELLO]
    bus.welcome(epoch=NEXT_EPOCH)
    assert bus.verbs() == [Verb.BYE]


def test_a_pod_whose_bye_came_to_nobody_joins_once_more_and_sends_what_was_not_accepted() -> None:
    pod, bus = joined()
    send(pod)
    request = pod.request_bye("")
    bus.sent()
    bus.give(Verb.OK, request, "unknown")
    assert bus.verbs() == [Verb.HELLO]
    bus.give(Verb.OK, request, "unknown")
    assert bus.verbs() == [], "it is about to join"
    bus.welcome(epoch=NEXT_EPOCH)
    assert bus.verbs() == [Verb.SEND, Verb.BYE]
    bus.give(Verb.OK, request, "")
    assert request in pod.confirmed


def test_the_replay_ring_is_asked_for_only_until_it_was_given() -> None:
    pod, bus = joined(replay=True)
    bus.give(Verb.REJOIN)
    assert bus.hello().settings.replay, "the pod has not listened yet"
    bus.welcome(is_resumed=True)
    pod.filters = FilterSet(listening=True)
    request = pod.request_filter()
    assert pod.settings.replay
    bus.sent()
    bus.give(Verb.OK, request, "")
    bus.give(Verb.REJOIN)
    assert not bus.hello().settings.replay


# Acknowledging


def test_a_watermark_rides_on_what_is_sent() -> None:
    pod, bus = joined()
    bus.deliver(1)
    finish(pod)
    send(pod)
    pod.flush(bus.now)
    assert [fields[:4] for fields in bus.sent()] == [(Verb.SEND, 1, 1, 1)]


def test_a_watermark_leaves_on_the_last_of_several_frames() -> None:
    pod, bus = joined()
    bus.deliver(1)
    finish(pod)
    send(pod, 1200)
    pod.flush(bus.now)
    assert [fields[3] for fields in bus.sent()] == [None, None, 1], "it must not overtake what its handler sent"


def test_a_watermark_leaves_alone_only_when_it_must() -> None:
    pod, bus = joined()
    bus.deliver(1)
    finish(pod)
    pod.flush(bus.now)
    assert bus.sent() == []
    pod.flush(bus.now, force=True)
    assert bus.sent() == [(Verb.HANDLED, 1, 1)]
    pod.flush(bus.now, force=True)
    assert bus.sent() == []


def test_the_floor_stops_before_what_is_in_a_handler() -> None:
    pod, bus = joined()
    bus.deliver(1, 4)
    bus.deliver(5, 2)
    finish(pod, 3)
    assert bus.handled() == 3
    assert pod.progress() == 0
    finish(pod, 2)
    assert pod.progress() == 2
    assert bus.handled() == 5


def test_what_is_finished_ahead_is_told_as_ranges() -> None:
    pod, bus = joined()
    bus.deliver(1, 4)
    bus.deliver(5, 4)
    first, second = pod.inbox
    first.finish(2)
    pod.finished_ahead(first)
    second.finish(0)
    pod.finished_ahead(second)
    assert bus.handled() == (0, ((3, 3), (5, 5)), ())
    first.finish(3)
    assert bus.handled() == (0, ((3, 5),), ())
    first.finish(0)
    first.finish(1)
    assert bus.handled() == 5
    assert pod.has_gaps
    for index in (1, 2, 3):
        second.finish(index)
    assert bus.handled() == 8
    assert not pod.has_gaps


def test_replies_are_acknowledged_past_a_handler_that_waits_for_them() -> None:
    pod, bus = joined()
    bus.deliver(1)
    for seq in range(500):
        bus.deliver(10 + seq, flags=FLAG_RECEIPT, sender=new_id())
        if seq % 10 == 0:
            assert bus.handled() == (0, ((2, 2 + seq),), ())
    assert len(pod.replies) == 500
    assert len(pod.inbox) == 1
    finish(pod)
    assert bus.handled() == 501


def test_at_most_64_ranges_are_told_the_lowest_first() -> None:
    pod, bus = joined()
    bus.deliver(1, 200)
    (inbound,) = pod.inbox
    for index in range(1, 200, 2):
        inbound.finish(index)
    pod.finished_ahead(inbound)
    floor, ranges, _ = bus.handled()
    assert floor == 0
    assert ranges == tuple((n, n) for n in range(2, 130, 2))


def test_a_frame_that_comes_twice_is_taken_once() -> None:
    pod, bus = joined()
    bus.deliver(1, 3)
    bus.deliver(1, 3, number=1)
    assert [inbound.seq for inbound in pod.inbox] == [1]


def test_an_acknowledgement_is_seen_after_the_answers_in_its_frame() -> None:
    pod, bus = joined()
    send(pod)
    pod.flush(bus.now)
    bus.deliver(1, flags=FLAG_RECEIPT, ack=(1, 1))
    assert len(pod.replies) == 1
    assert pod.acks == [(1, 1)]
    assert pod.outbox.is_all_settled


# Failures


def test_a_failure_is_told_once_with_its_number() -> None:
    pod, bus = joined()
    bus.deliver(1, 3)
    (inbound,) = pod.inbox
    pod.failed(inbound, 0, FAIL_ERROR, "x" * 5000)
    inbound.finish(0)
    assert bus.handled() == (1, (), ((1, FAIL_ERROR, "x" * 2000),))
    assert bus.handled() is None
    inbound.finish(1)
    assert bus.handled() == 2


def test_no_watermark_passes_a_failure_that_is_told_later() -> None:
    pod, bus = joined()
    bus.deliver(1, 200)
    (inbound,) = pod.inbox
    told: list[int] = []
    for index in range(100):
        if index % 2:
            pod.failed(inbound, index, FAIL_ERROR, "ü" * 2000)
        inbound.finish(index)
        pod.succeeded()
    pod.flush(bus.now, force=True)
    assert all(len(header) < MAX_HEADER for header, _ in pod.out)
    for fields in bus.sent():
        floor, _, failures = fields[2]
        assert len(failures) <= MAX_FAILURES
        told += [number for number, _, _ in failures]
        assert told == list(range(2, 101, 2))[: len(told)]
        assert floor == 100 or floor < told[-1] + 2, "else the next failure would count as a success"
    assert len(told) == 50
    assert pod._reported == 100


def test_ranges_do_not_pass_a_failure_that_is_told_later() -> None:
    pod, bus = joined()
    bus.deliver(1, 100)
    (inbound,) = pod.inbox
    for index in range(1, 40):
        pod.failed(inbound, index, FAIL_ERROR, "")
        inbound.finish(index)
        pod.succeeded()
    pod.finished_ahead(inbound)
    pod.flush(bus.now, force=True)
    assert [fields[2][:2] for fields in bus.sent()] == [
        (0, ((2, 17),)), (0, ((2, 33),)), (0, ((2, 40),)),
    ]  # fmt: skip


def test_the_64th_open_failure_is_one_too_many() -> None:
    pod, bus = joined()
    bus.deliver(1, 100)
    (inbound,) = pod.inbox
    assert [pod.failed(inbound, index, FAIL_ERROR, "") for index in range(64)] == [False] * 63 + [True]


def test_failures_that_nobody_keeps_do_not_count() -> None:
    pod, bus = joined(max_deliver=3)
    bus.deliver(1, 100)
    bus.deliver(101, 100, flags=FLAG_REDELIVERED, attempt=3)
    first, last = pod.inbox
    assert not any(pod.failed(first, index, FAIL_REJECT, "") for index in range(100))
    assert not any(pod.failed(last, index, FAIL_ERROR, "") for index in range(100))


def test_failures_are_told_again_after_a_broken_connection() -> None:
    pod, bus = joined()
    bus.deliver(1, 2)
    (inbound,) = pod.inbox
    pod.failed(inbound, 0, FAIL_ERROR, "e")
    inbound.finish(0)
    bus.handled()
    bus.give(Verb.REJOIN)
    assert bus.verbs() == [Verb.HELLO]
    bus.welcome(is_resumed=True)
    assert bus.sent() == [(Verb.HANDLED, 1, (1, (), ((1, FAIL_ERROR, "e"),)))]


# A broken connection, and a new bus


def test_hello_says_where_the_pod_stands() -> None:
    pod, bus = joined()
    bus.deliver(1, 5)
    send(pod, 3)
    pod.flush(bus.now)
    pod.outbox.apply((3, 0))
    send(pod, 2)
    bus.sent()
    bus.give(Verb.REJOIN)
    hello = bus.hello()
    assert (hello.epoch, hello.received, hello.floor, hello.sent) == (EPOCH, 5, 0, 3)


def test_what_was_handled_follows_what_is_sent_again() -> None:
    pod, bus = joined()
    bus.deliver(1)
    send(pod)
    pod.flush(bus.now)
    finish(pod)
    send(pod)
    pod.flush(bus.now)
    bus.sent()
    bus.give(Verb.REJOIN)
    bus.sent()
    bus.welcome(is_resumed=True, received=0)
    sent = bus.sent()
    assert [(fields[0], fields[2]) for fields in sent] == [(Verb.SEND, 1), (Verb.HANDLED, 1)]
    assert sent[0][3] is None


def test_a_resumed_pod_goes_on_with_its_numbers() -> None:
    pod, bus = joined()
    bus.deliver(1, 2)
    bus.give(Verb.REJOIN)
    bus.sent()
    bus.welcome(is_resumed=True)
    bus.deliver(3, 2)
    finish(pod)
    assert bus.handled() == 4


def test_a_question_is_never_taken_back_ahead_of_itself() -> None:
    pod, bus = joined()
    ask(pod, 2)
    pod.cancel([2], bus.now)
    assert [(fields[0], fields[2]) for fields in bus.sent()] == [(Verb.SEND, 1), (Verb.CANCEL, (2,))]


def test_what_was_taken_back_is_taken_back_again_over_a_new_connection_until_it_is_settled() -> None:
    pod, bus = joined()
    ask(pod, 2)
    pod.flush(bus.now)
    ask(pod, 2)
    pod.cancel([1, 2, 3], bus.now)
    pod.outbox.apply((4, 2))
    bus.sent()
    bus.give(Verb.REJOIN)
    bus.sent()
    bus.welcome(is_resumed=True, received=4)
    assert bus.sent() == [(Verb.HANDLED, 1, 0), (Verb.CANCEL, 1, (3,))]


def test_what_was_taken_back_is_not_sent_to_a_new_bus() -> None:
    pod, bus = joined()
    ask(pod, 3)
    pod.cancel([2], bus.now)
    ask(pod, 2)
    bus.give(Verb.REJOIN)
    pod.cancel([5], bus.now)
    bus.sent()
    bus.welcome(epoch=NEXT_EPOCH)
    sent = bus.sent()
    assert [(fields[0], fields[2]) for fields in sent] == [
        (Verb.SEND, 1),
        (Verb.SEND, 3),
        (Verb.SEND, 4),
        (Verb.CANCEL, (5,)),
    ], "a hole begins a new frame; and that 4 and 5 exist no bus knows yet, so 5 is sent and taken back"
    assert sent[0][4][0][:3] == (KIND_ASK, "q", 1)


def test_who_waits_for_room_is_told_when_all_it_had_sent_was_taken_back_before_a_new_bus_came() -> None:
    pod, bus = joined()
    ask(pod, WINDOW_MESSAGES)
    pod.cancel(list(range(1, WINDOW_MESSAGES + 1)), bus.now)
    assert not pod.outbox.has_room()
    new_bus(pod, bus)
    assert pod.acks == [(WINDOW_MESSAGES, WINDOW_MESSAGES, WINDOW_MESSAGES, ())]
    assert pod.outbox.has_room(WINDOW_MESSAGES)


def test_as_many_are_taken_back_in_one_frame_as_it_may_list() -> None:
    pod, bus = joined()
    ask(pod, 3 * MAX_CANCELS)
    pod.flush(bus.now)
    bus.sent()
    pod.cancel(list(range(1, 2 * MAX_CANCELS + 2)), bus.now)
    assert [len(fields[2]) for fields in bus.sent()] == [MAX_CANCELS, MAX_CANCELS, 1]


def new_bus(pod: PodCore, bus: Bus) -> None:
    bus.give(Verb.REJOIN)
    bus.sent()
    bus.welcome(epoch=NEXT_EPOCH)
    bus.sent()


def test_what_the_old_bus_delivered_is_finished_under_no_number() -> None:
    pod, bus = joined()
    bus.deliver(1, 2)
    new_bus(pod, bus)
    finish(pod)
    assert bus.handled() is None


def test_what_was_handled_for_the_old_bus_is_not_handled_again() -> None:
    pod, bus = joined()
    bus.deliver(1, 3)
    finish(pod)
    new_bus(pod, bus)
    bus.deliver(1, 3, flags=FLAG_RESENT)
    assert pod.inbox == []
    assert bus.handled() == 3


def test_what_is_still_held_is_acknowledged_when_it_is_finished() -> None:
    pod, bus = joined()
    bus.deliver(1, 3)
    finish(pod, 1)
    new_bus(pod, bus)
    bus.deliver(1, 3, flags=FLAG_RESENT)
    assert len(pod.inbox) == 1, "it is not given to the handler a second time"
    assert bus.handled() == 1
    finish(pod)
    assert bus.handled() == 3


def test_what_is_held_in_pieces_of_another_size_is_found_too() -> None:
    pod, bus = joined()
    bus.deliver(3, 2)
    bus.deliver(5, 4)
    finish(pod, 3)
    new_bus(pod, bus)
    bus.deliver(1, 6, flags=FLAG_RESENT)
    bus.deliver(7, 4, flags=FLAG_RESENT)
    assert [(inbound.seq, inbound.count, data(inbound)) for inbound in pod.inbox] == [
        (5, 4, [5, 6, 7, 8]), (1, 2, [1, 2]), (9, 2, [9, 10]),
    ]  # fmt: skip
    assert not any(inbound.flags & FLAG_REDELIVERED for inbound in pod.inbox)
    pod.inbox[1].finish_all()
    assert bus.handled() == 5
    finish(pod)
    assert bus.handled() == 10


def test_a_failure_of_what_is_held_is_told_to_the_new_bus() -> None:
    pod, bus = joined()
    bus.deliver(1, 3)
    new_bus(pod, bus)
    bus.deliver(10)
    bus.deliver(1, 3, flags=FLAG_RESENT)
    held, other = pod.inbox
    pod.failed(held, 1, FAIL_ERROR, "e")
    held.finish_all()
    other.finish_all()
    assert bus.handled() == (4, (), ((3, FAIL_ERROR, "e"),))


def test_what_failed_for_the_old_bus_comes_again_marked() -> None:
    pod, bus = joined()
    bus.deliver(1, 3)
    (inbound,) = pod.inbox
    pod.failed(inbound, 1, FAIL_ERROR, "e")
    finish(pod)
    new_bus(pod, bus)
    assert pod.open_failures == 0
    bus.deliver(1, 3, flags=FLAG_RESENT)
    (again,) = pod.inbox
    assert (again.seq, again.count, again.attempt) == (2, 1, 2)
    assert again.flags & FLAG_REDELIVERED
    assert bus.handled() == 1
    finish(pod)
    assert bus.handled() == 3


def test_what_failed_and_was_then_handled_does_not_come_again() -> None:
    pod, bus = joined()
    bus.deliver(1)
    pod.failed(pod.inbox[0], 0, FAIL_ERROR, "e")
    finish(pod)
    bus.deliver(1, flags=FLAG_REDELIVERED, attempt=2)
    finish(pod)
    new_bus(pod, bus)
    bus.deliver(1, flags=FLAG_RESENT)
    assert pod.inbox == []


def test_what_was_rejected_between_two_buses_is_reported_to_the_second() -> None:
    pod, bus = joined()
    bus.deliver(1)
    new_bus(pod, bus)
    (inbound,) = pod.inbox
    pod.failed(inbound, 0, FAIL_REJECT, "no")
    finish(pod)
    bus.deliver(1, flags=FLAG_RESENT)
    assert pod.inbox == []
    assert bus.handled() == (1, (), ((1, FAIL_REJECT, "no"),))


def test_what_is_settled_by_the_senders_floor_is_not_handled_again() -> None:
    pod, bus = joined()
    bus.deliver(20, floor=18)
    finish(pod)
    new_bus(pod, bus)
    bus.deliver(17, 3, flags=FLAG_RESENT)
    assert [inbound.seq for inbound in pod.inbox] == [19]


def test_what_comes_out_of_order_in_one_life_of_a_bus_is_handled() -> None:
    pod, bus = joined(replay=True)
    bus.deliver(50)
    bus.deliver(3, 2)
    assert [inbound.seq for inbound in pod.inbox] == [50, 3]


@pytest.mark.parametrize(
    ("settings", "flags", "is_marked"),
    [({}, 0, False), ({"incarnation": 1}, 0, True), ({"group": "g"}, FLAG_GROUP, True)],
)
def test_what_another_may_have_had_is_marked(settings: dict[str, Any], flags: int, is_marked: bool) -> None:
    pod, bus = joined(**settings)
    bus.deliver(1, flags=flags | FLAG_RESENT)
    (inbound,) = pod.inbox
    assert bool(inbound.flags & FLAG_REDELIVERED) is is_marked


@pytest.mark.parametrize(("settings", "flags"), [({}, 0), ({"group": "g"}, FLAG_GROUP)])
def test_what_a_member_still_holds_when_a_new_bus_comes_is_marked(settings: dict[str, Any], flags: int) -> None:
    pod, bus = joined(**settings)
    bus.deliver(1, flags=flags)
    (inbound,) = pod.inbox
    assert not inbound.flags & FLAG_REDELIVERED
    new_bus(pod, bus)
    assert bool(inbound.flags & FLAG_REDELIVERED) is bool(flags), "that bus may have given it to another, meanwhile"


def test_a_member_of_a_group_tells_a_new_bus_what_it_had() -> None:
    _, bus = joined(group="g")
    bus.deliver(5, 2, flags=FLAG_GROUP, floor=3)
    bus.give(Verb.REJOIN)
    assert bus.hello().claims == ((SENDER, ((1, 3), (5, 6))),)


def test_a_second_new_bus_finds_what_is_held_from_the_first() -> None:
    pod, bus = joined()
    bus.deliver(1, 2)
    for epoch in (b"\x02" * 8, b"\x03" * 8):
        bus.give(Verb.REJOIN)
        bus.sent()
        bus.welcome(epoch=epoch)
        bus.deliver(1, 2, flags=FLAG_RESENT)
    assert len(pod.inbox) == 1
    assert bus.handled() is None
    finish(pod)
    assert bus.handled() == 2


def test_a_garbled_run_that_was_sent_again_is_handed_on_to_be_counted() -> None:
    pod, bus = joined()
    bus.deliver(1)
    finish(pod)
    new_bus(pod, bus)
    run = (SENDER, 1, 0, KIND_PUBLISH, "x", 2, 3, FLAG_RESENT, 1)
    bus.give(Verb.DELIVER, 1, None, (run,), body=b"\x93\x01\x01")
    assert [(inbound.seq, inbound.body) for inbound in pod.inbox] == [(2, b"")]
    finish(pod)
    assert bus.handled() == 2


def test_failures_remembered_for_a_next_bus_are_bounded() -> None:
    pod, bus = joined()
    for seq in range(1, 5000):
        bus.deliver(seq, floor=seq - 1)
        pod.failed(pod.inbox.pop(), 0, FAIL_REJECT, "")
    assert len(pod._failed_held) <= 1024
