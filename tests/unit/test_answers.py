"""What an actor answers to runs of questions: each once, in order, soon, and as it was returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors import Actor, Message, on_type
from grav_actors.codec import Opened
from grav_actors.message import Origin
from grav_actors.pod.cancellations import Cancellations
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.outcomes import Disconnected
from grav_actors.pod.pod import ANSWERS_TOGETHER
from grav_actors.protocol import ERROR_TYPE, KIND_ANSWER, KIND_PUBLISH, KIND_TELL, REPLY_TYPE
from support.answering import ASKER, Answerer

OTHER = b"one more that as"


class Echo(Actor):
    @on_type("q")
    def q(self, msg: Message) -> Any:
        return msg.data

    @on_type("news")
    def news(self, msg: Message) -> Any:
        self.publish("heard", msg.data)
        return msg.data


def runs_of(frames: list[Any]) -> list[tuple[int, str, Any, int]]:
    return [(kind, type_, dest, len(records)) for frame in frames for kind, type_, dest, records in frame]


@pytest.mark.parametrize("count", [1, 2, ANSWERS_TOGETHER - 1, ANSWERS_TOGETHER, ANSWERS_TOGETHER + 1, 100])
def test_the_answers_of_a_run_leave_thirty_two_at_a_time_and_the_rest_when_it_ends(count: int) -> None:
    with Answerer(Echo) as answerer:
        assert answerer.pod._outbox.has_room()  # counted, as it is behind the first message
        for _ in range(2):
            answerer.deliver([b"%d" % number for number in range(count)])
            before = answerer.handle()
            full, rest = divmod(count, ANSWERS_TOGETHER)
            sizes = [ANSWERS_TOGETHER] * full + [rest] * (rest > 0)
            assert [run[3] for run in runs_of(answerer.sent())] == sizes
            assert before == full + (rest == 1)  # one alone leaves at once


data_returned = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.text(max_size=5),
    st.binary(max_size=600),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(st.text(max_size=2), st.binary(max_size=3), max_size=2),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["q", "news"]),
            st.sampled_from([ASKER, OTHER]),
            st.lists(data_returned, min_size=1, max_size=9),
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_every_question_is_answered_in_order_behind_what_its_handler_sent(
    runs: list[tuple[str, bytes, list[Any]]], together: bool
) -> None:
    with Answerer(Echo) as answerer:
        expected: list[tuple[Any, ...]] = []
        for type_, asker, data in runs:
            for uuid, one in zip(answerer.deliver(data, type_=type_, asker=asker), data, strict=True):
                if type_ == "news":
                    expected.append((KIND_PUBLISH, "heard", None, b"", uuid, one))
                expected.append((KIND_ANSWER, REPLY_TYPE, asker, uuid, uuid, one))
            if not together:
                answerer.handle()
        if together:
            answerer.handle()
        seen = [
            (kind, type_, dest, record[1], record[2], record[4])
            for frame in answerer.sent()
            for kind, type_, dest, records in frame
            for record in records
        ]
        assert seen == expected


@pytest.mark.parametrize("count", [1, 2, 70])
def test_a_question_is_never_told_as_handled_before_its_answer_is_sent(count: int) -> None:
    with Answerer(Echo) as answerer:
        answerer.deliver([b"x"] * count)
        answerer.handle()
        told = answerer.handled()
        answers = [sum(len(run[3]) for run in frame) for frame in answerer.sent()]
        assert len(told) == len(answers)
        for place, handled in enumerate(told):
            assert handled is None or handled <= sum(answers[: place + 1])
        assert told[-1] == count  # the last frame takes it along


def test_answers_have_uuids_of_their_own() -> None:
    with Answerer(Echo) as answerer:
        asked = answerer.deliver([b"x"] * 70)
        answerer.handle()
        made = [record[0] for frame in answerer.sent() for run in frame for record in run[3]]
        assert len({*asked, *made}) == 140


def test_what_is_told_is_not_answered() -> None:
    with Answerer(Echo) as answerer:
        answerer.deliver([b"x", b"y"], kind=KIND_TELL)
        answerer.handle()
        assert answerer.sent() == []


class Picky(Actor):
    @on_type("q")
    def q(self, msg: Message) -> Any:
        if msg.data == "bad":
            raise ValueError(msg.data)
        return {1, 2} if msg.data == "set" else msg.data


@pytest.mark.parametrize("bad", ["bad", "set"])
def test_a_failure_among_answers_is_an_error_in_its_place(bad: str) -> None:
    with Answerer(Picky) as answerer:
        answerer.deliver([1, 2, bad, b"x" * 1000, bad])
        answerer.handle()
        assert runs_of(answerer.sent()) == [
            (KIND_ANSWER, REPLY_TYPE, ASKER, 2),
            (KIND_ANSWER, ERROR_TYPE, ASKER, 1),
            (KIND_ANSWER, REPLY_TYPE, ASKER, 1),
            (KIND_ANSWER, ERROR_TYPE, ASKER, 1),
        ]


@pytest.mark.parametrize("kind", [bytes, lambda size: "x" * size])
@pytest.mark.parametrize("place", [0, 3])
def test_an_answer_may_be_as_large_as_a_message_and_no_larger(kind: Callable[[int], Any], place: int) -> None:
    class Large(Actor):
        @on_type("q")
        def q(self, msg: Message) -> Any:
            return kind(msg.data)

    with Answerer(Large) as answerer:
        answerer.pod._core.max_message = 2000
        answerer.deliver([10] * place + [2000, 2001, 1999])
        answerer.handle()
        answers = [(run[1], record[4]) for frame in answerer.sent() for run in frame for record in run[3]]
        assert [type_ for type_, _ in answers] == [REPLY_TYPE] * (place + 1) + [ERROR_TYPE, REPLY_TYPE]
        assert "the data has 2001 bytes, 2000 are allowed" in answers[place + 1][1]["error"]


def test_answers_that_are_ready_leave_while_the_next_handler_runs() -> None:
    seen: list[int] = []

    class Slow(Actor):
        @on_type("q")
        def q(self, msg: Message) -> Any:
            answerer.serve()
            seen.append(sum(run[3] for run in runs_of(answerer.sent())))
            return msg.data

    with Answerer(Slow) as answerer:
        answerer.deliver([b"x"] * 5)
        answerer.handle()
        assert seen == [0, 1, 1, 1, 1]
        assert [run[3] for run in runs_of(answerer.sent())] == [1]


def test_nothing_is_answered_once_the_pod_has_left() -> None:
    handled: list[int] = []

    class Leaving(Actor):
        @on_type("q")
        def q(self, msg: Message) -> Any:
            handled.append(msg.data)
            if msg.data == 3:
                with answerer.link.lock:
                    answerer.pod._end(Disconnected())
            return msg.data

    with Answerer(Leaving) as answerer:
        answerer.deliver([1, 2, 3, 4])
        answerer.handle()
        outbox = answerer.pod._outbox
        outbox.has_room()
        assert handled == [1, 2, 3]
        assert outbox.next_seq == 3
        assert outbox.incoming == []


def test_questions_of_a_pod_that_leaves_before_it_has_begun_are_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[int] = []

    class Noting(Actor):
        @on_type("q")
        def q(self, msg: Message) -> Any:
            handled.append(msg.data)

    with Answerer(Noting) as answerer:
        pod = answerer.pod
        begin = pod._cancellations.begin

        def begin_late(inbound: Inbound, opened: Opened, origin: Origin) -> None:
            told = pod._cancellations.begun()  # what the bus is told with BYE
            pod._gate = Disconnected()
            begin(inbound, opened, origin)
            assert told == []

        monkeypatch.setattr(Cancellations, "begin", lambda self, *run: begin_late(*run))
        answerer.deliver([1, 2])
        answerer.handle()
        assert handled == []
