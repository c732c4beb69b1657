"""When a link takes in the watermarks that come with deliveries: not before what was delivered is handed on."""

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from grav_actors.errors import NoRespondersError
from grav_actors.filters import FilterSet
from grav_actors.pod.link import ACKS_TOGETHER
from grav_actors.protocol import (
    ACK_DELAY,
    FLAG_RECEIPT,
    KIND_ANSWER,
    KIND_PUBLISH,
    KIND_TELL,
    REPLY_TYPE,
    Verb,
    pack,
    unpack_header,
)
from support.work.rig import Member
from support.work.wire import Clock, Stage

SENDER = b"s" * 16
LIMITS = (1024 * 1024, 4096, 65536)


class Served:
    """A pod over a link without a bus, whose frames the test gives."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._stage = Stage(self.clock)
        self.member = Member(b"route", "", FilterSet(listening=True), None)
        self.pod = self.member.pod
        self.link = self.member.link
        self.outbox = self.pod._core.outbox
        self._slot = self.pod._core.slot
        self._number = 0
        with self.link.lock:
            self.pod._core.hello(self.clock.monotonic())
            self.link.send_out(self.pod)
        self.give(pack(Verb.WELCOME.value, self._slot, 1, 1, b"8 octets", b"b" * 16, 0, False, LIMITS))
        self.member.turn()
        assert not self.link._has_input

    def give(self, header: bytes, body: bytes = b"") -> None:
        """Have a frame come in, and be taken by a thread that waited for it, and leaves the duty."""
        self.member.socket.feed(header, body)
        with self.link.lock:
            self.link.take([(self.member.socket.descriptor, 1)])

    def deliver(self, ack: Any, body: bytes = b"\x90", *, kind: int = KIND_PUBLISH, type: str = "x") -> None:
        """Have a run of one message delivered, and taken as above."""
        self._number += 1
        flags = FLAG_RECEIPT if kind == KIND_ANSWER else 0
        run = (SENDER, self._number, 0, kind, type, 1, len(body), flags, 1)
        self.give(pack(Verb.DELIVER.value, self._slot, self._number, ack, (run,)), body)

    def send(self, count: int = 1) -> None:
        """Send messages, each in a frame of its own."""
        with self.link.lock:
            for _ in range(count):
                self.outbox.add(KIND_TELL, "x", "name", b"\x90", 1)
                self.pod._core.flush(self.clock.monotonic())
                self.link.send_out(self.pod)

    def ask(self) -> Any:
        """Ask, and return the question."""
        return self.pod._ask("x", 1, "name", b"")

    def close(self) -> None:
        """End the link."""
        self.link.close()
        self._stage.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def answer(question: Any, data: Any) -> bytes:
    return bytes(msgpack.packb([[b"a" * 16, question.uuid, b"", 1, data, None]]))


def test_watermark_for_which_nobody_waits_is_taken_in_within_ten_milliseconds(served: Served) -> None:
    served.send()
    served.deliver((1, 1))
    served.member.turn()
    assert served.outbox.floor() == 0
    served.clock.now += ACK_DELAY
    served.member.turn()
    assert served.outbox.floor() == 1
    assert served.outbox.accepted == 1


def test_watermark_is_taken_in_at_once_by_who_stays_on_duty(served: Served) -> None:
    served.send()
    served.deliver((1, 1))
    served.link.tend()
    assert served.outbox.floor() == 1


def test_link_does_not_rest_beyond_the_time_of_a_watermark(served: Served) -> None:
    served.send()
    served.deliver((1, 1))
    with served.link.lock:
        served.link._active.clear()  # a pod that has something open is looked after before
        served.link.take([])
        assert served.link.tend() <= ACK_DELAY


def test_many_watermarks_are_taken_in_at_once(served: Served) -> None:
    served.send(ACKS_TOGETHER)
    for number in range(1, ACKS_TOGETHER + 1):
        assert served.outbox.floor() == 0
        served.deliver((number, number))
        served.member.turn()
    assert served.outbox.floor() == ACKS_TOGETHER


def test_watermark_is_taken_in_with_the_next_turn_when_somebody_waits_for_room(served: Served) -> None:
    served.send()
    served.pod._room_waiters += 1
    served.deliver((1, 1))
    served.member.turn()
    assert served.outbox.floor() == 1


def test_watermarks_are_taken_in_before_any_frame_that_is_no_delivery(served: Served) -> None:
    served.send()
    served.deliver((1, 1))
    served.give(pack(Verb.REJOIN.value, 0))
    served.member.turn()
    hello = unpack_header(served.member.socket.outgoing[-1][0])
    assert hello[0] == Verb.HELLO
    assert hello[8][2] == 1, "the floor that it tells the bus"


def test_answer_comes_before_the_watermark_by_which_its_question_is_settled(served: Served) -> None:
    question = served.ask()
    served.deliver((1, 1), answer(question, "answer"), kind=KIND_ANSWER, type=REPLY_TYPE)
    served.link.tend()
    assert question.waiter.result() == "answer"


@pytest.mark.parametrize("behind", [Verb.ACK, Verb.REJOIN, Verb.PING])
def test_answer_comes_before_the_watermark_whatever_frame_is_taken_with_it(served: Served, behind: Verb) -> None:
    question = served.ask()
    body = answer(question, "answer")
    run = (SENDER, 1, 0, KIND_ANSWER, REPLY_TYPE, 1, len(body), FLAG_RECEIPT, 1)
    socket = served.member.socket
    frames = {
        Verb.ACK: pack(Verb.ACK.value, served._slot, (1, 1)),
        Verb.REJOIN: pack(Verb.REJOIN.value, 0),
        Verb.PING: pack(Verb.PING.value, 0),
    }
    with served.link.lock:
        served.link._has_input = True
        socket.feed(pack(Verb.DELIVER.value, served._slot, 1, (1, 1), (run,)), body)
        socket.feed(frames[behind], b"")
        served.link.take([])
        served.link.tend()
    assert question.waiter.result() == "answer"


def test_question_that_is_settled_without_an_answer_ends_with_the_turn_after_the_frame_that_says_so(
    served: Served,
) -> None:
    answered, unanswered, open_one = served.ask(), served.ask(), served.ask()
    served.deliver((3, 2), answer(answered, "answer"), kind=KIND_ANSWER, type=REPLY_TYPE)
    assert answered.waiter.result() == "answer"
    served.member.turn()
    with pytest.raises(NoRespondersError):
        unanswered.waiter.result()
    assert not open_one.waiter.is_done


def test_watermark_of_an_answer_is_left_for_later_when_no_question_is_open(served: Served) -> None:
    question = served.ask()
    served.deliver((1, 1), answer(question, "answer"), kind=KIND_ANSWER, type=REPLY_TYPE)
    assert question.waiter.is_done
    served.member.turn()
    assert served.outbox.floor() == 0


def test_first_frame_is_handed_on_before_the_socket_is_asked_for_more(served: Served) -> None:
    question = served.ask()
    run = (SENDER, 1, 0, KIND_ANSWER, REPLY_TYPE, 1, len(answer(question, 1)), FLAG_RECEIPT, 1)
    served.member.socket.feed(pack(Verb.DELIVER.value, served._slot, 1, None, (run,)), answer(question, 1))
    uses = served.member.socket.uses
    with served.link.lock:
        served.link.take([(served.member.socket.descriptor, 1)])
        assert question.waiter.is_done
        assert served.member.socket.uses - uses == 2, "header and body"
        assert served.link._has_input, "whoever serves next looks for more"


def test_what_lies_behind_the_frame_that_ended_a_turn_is_found_by_the_next_one(served: Served) -> None:
    run = (SENDER, 1, 0, KIND_PUBLISH, "x", 1, 1, 0, 1)
    later = (SENDER, 2, 0, KIND_PUBLISH, "x", 1, 1, 0, 1)
    for number, one in ((1, run), (2, later)):
        served.member.socket.feed(pack(Verb.DELIVER.value, served._slot, number, None, (one,)), b"\x90")
    with served.link.lock:
        served.link.take([(served.member.socket.descriptor, 1)])
        assert [inbound.seq for inbound in served.member.callbacks.given] == [1]
        served.link.take([])
        served.link.tend()
    assert [inbound.seq for inbound in served.member.callbacks.given] == [1, 2]


def test_descriptor_that_told_of_no_frame_does_no_harm(served: Served) -> None:
    served.member.turn(has_input=True)
    assert not served.link._has_input
