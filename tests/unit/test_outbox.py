"""What a pod sends: runs, windows, and what is kept until it is settled."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.codec import LARGE_DATA, join_body, pack_fields, pack_record, pack_value, unpack_body
from grav_actors.message import Message
from grav_actors.pod.outbox import ITEM, MAX_FRAME_HEADER, RECORD_BYTES, SMALL_DATA, Outbox, OutRun
from grav_actors.pod.replies import Heading, Question
from grav_actors.protocol import (
    BUS_NAME,
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_TELL,
    MAX_RUN_BYTES,
    MAX_RUN_MESSAGES,
    REPLY_TYPE,
    RETAIN_MESSAGES,
    WINDOW_BYTES,
    WINDOW_MESSAGES,
    pack,
)
from grav_actors.reference import ActorRef

RECORD = pack_record(Message("x", 1), 1 << 20)
ANY = Heading(KIND_ASK_ANY, "x", None)


def add(outbox: Outbox, count: int = 1, message_type: str = "x", record: bytes = RECORD, kind: int = KIND_PUBLISH,
        dest: Any = None) -> None:  # fmt: skip
    for _ in range(count):
        outbox.add(kind, message_type, dest, record, len(record))


def frames(outbox: Outbox) -> list[list[tuple[int, int, str]]]:
    """Send what is queued; return seq, count and type of each run, by frame."""
    return [[(run.seq, run.count, run.type) for run in frame] for frame in outbox.take_frames()]


def test_consecutive_messages_of_one_type_and_destination_make_one_run() -> None:
    outbox = Outbox()
    add(outbox, 3)
    add(outbox, 1, "y")
    add(outbox, 2)
    add(outbox, 1, kind=KIND_TELL, dest="a")
    add(outbox, 1, kind=KIND_TELL, dest="b")
    assert frames(outbox) == [[(1, 3, "x"), (4, 1, "y"), (5, 2, "x"), (7, 1, "x"), (8, 1, "x")]]


def test_a_run_does_not_grow_over_a_frame_that_has_left() -> None:
    outbox = Outbox()
    add(outbox)
    assert frames(outbox) == [[(1, 1, "x")]]
    add(outbox)
    assert frames(outbox) == [[(2, 1, "x")]]
    assert frames(outbox) == []


def test_a_body_holds_the_records_in_order() -> None:
    outbox = Outbox()
    for number in range(3):
        add(outbox, record=pack_record(Message("x", number), 1 << 20))
    ((run,),) = outbox.take_frames()
    assert [record[4] for record in unpack_body(run.body, 3, ActorRef)] == [0, 1, 2]


@pytest.mark.parametrize("way", ["published", "as a list", "packed"])
def test_a_large_message_is_kept_once_and_its_body_made_anew_each_time_it_is_sent(way: str) -> None:
    outbox = Outbox()
    data = bytes(range(256)) * (LARGE_DATA // 256)
    record = [outbox.prefix + (7).to_bytes(8, "big"), b"", b"", 1_000_000, data, None]
    packed = pack_fields(record, len(data))
    if way == "published":
        outbox.publish("x", 7, 1_000_000, data, b"")
    elif way == "as a list":
        outbox.add(KIND_PUBLISH, "x", None, list(record), RECORD_BYTES + len(data))
    else:
        outbox.add(KIND_PUBLISH, "x", None, packed, len(packed))
    ((run,),) = outbox.take_frames()
    assert any(part is (packed if way == "packed" else data) for part in run.parts)
    assert run.whole() == join_body([packed])
    ((again,),) = outbox.resend_frames(0)
    assert again.whole() == run.whole()
    assert again.without({1}) == []


def test_a_message_that_is_not_large_is_kept_as_it_is_sent() -> None:
    outbox = Outbox()
    outbox.publish("x", 7, 1_000_000, bytes(LARGE_DATA - 1), b"")
    ((run,),) = outbox.take_frames()
    assert not run.parts
    assert run.whole() is run.body


def test_a_run_ends_at_512_messages_and_a_frame_too() -> None:
    outbox = Outbox()
    add(outbox, 1030)
    assert frames(outbox) == [[(1, 512, "x")], [(513, 512, "x")], [(1025, 6, "x")]]


def test_a_run_ends_at_256_kib() -> None:
    outbox = Outbox()
    add(outbox, 3, record=bytes(100 * 1024))
    assert [[count for _, count, _ in frame] for frame in frames(outbox)] == [[2], [1]]


def test_a_message_over_256_kib_travels_alone() -> None:
    outbox = Outbox()
    add(outbox)
    add(outbox, record=bytes(MAX_RUN_BYTES + 1))
    add(outbox)
    assert frames(outbox) == [[(1, 1, "x")], [(2, 1, "x")], [(3, 1, "x")]]


@pytest.mark.parametrize("message_type", ["t" * 251, "ü" * 125])
def test_the_header_of_a_frame_stays_within_its_limit(message_type: str) -> None:
    outbox = Outbox()
    for number in range(512):
        add(outbox, 1, f"{message_type}.{number:03}", kind=KIND_TELL, dest="d" * 64)
    made = list(outbox.take_frames())
    assert len(made) > 1
    for frame in made:
        runs = [(run.kind, run.type, run.count, len(run.body), run.dest) for run in frame]
        assert len(pack(2, 1, frame[0].seq, None, runs)) < MAX_FRAME_HEADER + 64


# The window


def test_the_window_is_4096_messages() -> None:
    outbox = Outbox()
    for _ in range(WINDOW_MESSAGES):
        assert outbox.has_room()
        add(outbox)
    assert not outbox.has_room()
    frames(outbox)
    assert not outbox.has_room()
    outbox.apply((1, 0))
    assert outbox.has_room()
    add(outbox)
    assert not outbox.has_room()


def test_the_window_is_8_mib() -> None:
    outbox = Outbox()
    record = bytes(1024 * 1024)
    sent = 0
    while outbox.has_room():
        add(outbox, record=record)
        sent += 1
    assert sent == WINDOW_BYTES // len(record)
    frames(outbox)
    outbox.apply((sent, 0))
    assert outbox.has_room()
    assert outbox.unaccepted_bytes == 0


def test_what_is_not_settled_is_kept_up_to_65536_messages() -> None:
    outbox = Outbox()
    while outbox.has_room():
        add(outbox)
        if outbox.queued == 512:
            frames(outbox)
            outbox.apply((outbox.sent, 0))
    assert outbox.retained_messages + outbox.queued == RETAIN_MESSAGES
    outbox.apply((outbox.sent, 512))
    assert outbox.has_room()


# Watermarks


def sent(*counts: int) -> Outbox:
    """Return an outbox that has sent runs of these lengths."""
    outbox = Outbox()
    for number, count in enumerate(counts):
        add(outbox, count, f"t{number}")
    frames(outbox)
    return outbox


def kept(outbox: Outbox) -> list[int]:
    return [run.seq for frame in outbox.resend_frames(0) for run in frame]


def test_a_run_is_kept_until_its_last_message_is_settled() -> None:
    outbox = sent(3, 3)
    outbox.apply((6, 2))
    assert kept(outbox) == [1, 4]
    outbox.apply((6, 3))
    assert kept(outbox) == [4]
    assert outbox.floor() == 3
    outbox.apply((6, 6))
    assert outbox.is_all_settled
    assert outbox.floor() == 6


def test_runs_between_open_ranges_are_settled() -> None:
    outbox = sent(2, 2, 2, 2)
    outbox.apply((8, 0, 6, ((1, 2), (5, 6))))
    assert kept(outbox) == [1, 5, 7]
    assert outbox.floor() == 0


def test_a_lower_watermark_changes_nothing() -> None:
    outbox = sent(2, 2)
    for ack in ((4, 2), (1, 1)):
        outbox.apply(ack)
        assert (outbox.accepted, outbox.settled) == (4, 2)
        assert kept(outbox) == [3]


def test_a_watermark_over_what_was_sent_is_ignored() -> None:
    outbox = sent(2)
    add(outbox, 2)
    for forged in ((3, 0), (0, 3), (4, 4), (99, 99, 99, ())):
        outbox.apply(forged)
        assert kept(outbox) == [1]
        assert (outbox.accepted, outbox.settled) == (0, 0)


def test_what_is_settled_is_accepted_too() -> None:
    outbox = sent(2, 2)
    outbox.apply((0, 0, 4, ((3, 4),)))
    assert outbox.accepted == 2
    outbox.apply((0, 0, 4, ()))
    assert outbox.accepted == 4
    assert outbox.unaccepted_bytes == 0


def test_what_an_earlier_bus_has_settled_behind_what_is_kept_is_accepted_with_that() -> None:
    outbox = sent(2, 2)
    outbox.apply((0, 0, 4, ((1, 2),)))
    assert [[run.seq for run in frame] for frame in outbox.resend_frames(0)] == [[1]]
    outbox.apply((1, 0, 2, ((1, 2),)))
    assert outbox.accepted == 1
    outbox.apply((2, 0, 2, ((1, 2),)))
    assert outbox.accepted == 4, "the bus that has taken 1 and 2 never hears of 3 and 4"
    assert outbox.has_room()
    assert outbox.unaccepted_bytes == 0


def test_frames_sent_again_break_where_something_was_settled() -> None:
    outbox = sent(1, 1, 1, 1)
    outbox.apply((4, 0, 4, ((1, 1), (3, 4))))
    again = [[run.seq for run in frame] for frame in outbox.resend_frames(0)]
    assert again == [[1], [3, 4]], "a frame tells only its first seq"


def test_only_what_the_bus_has_not_is_sent_again() -> None:
    outbox = sent(2, 2, 2)
    assert [[run.seq for run in frame] for frame in outbox.resend_frames(2)] == [[3, 5]]


def test_the_floor_counts_what_is_queued_as_open() -> None:
    outbox = Outbox()
    assert outbox.floor() == 0
    add(outbox, 2)
    assert outbox.floor() == 0
    assert outbox.sent == 0
    frames(outbox)
    assert outbox.sent == 2


def test_many_settled_runs_are_dropped_in_one_go() -> None:
    outbox = Outbox()
    for number in range(60_000):
        outbox.add(KIND_PUBLISH, f"t{number % 2}", None, RECORD, len(RECORD))
    frames(outbox)
    outbox.apply((60_000, 60_000))  # quadratic work would take a minute
    assert outbox.is_all_settled


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.data())
def test_accounts_are_even_whatever_is_settled_when(counts: list[int], data: st.DataObject) -> None:
    outbox = sent(*counts)
    runs: dict[int, OutRun] = dict(outbox._retained)
    open_ = set(runs)
    while open_:
        open_.discard(data.draw(st.sampled_from(sorted(open_))))
        floor = min(open_) - 1 if open_ else outbox.sent
        ranges = tuple((seq, runs[seq].last) for seq in sorted(open_))
        outbox.apply((outbox.sent, floor, outbox.sent, ranges))
        assert set(outbox._retained) == open_
        assert outbox.retained_messages == sum(runs[seq].count for seq in open_)
        assert outbox.retained_bytes == sum(runs[seq].size for seq in open_)
    assert outbox.is_all_settled
    assert outbox.retained_messages == outbox.retained_bytes == outbox.unaccepted_bytes == 0


Item = tuple[str, int, int, Any, bytes]


def item(message_type: str, number: int, data: Any = b"", parent: bytes = b"") -> Item:
    return (message_type, number, 1_000_000 + number, data, parent)


def leaving(outbox: Outbox) -> list[tuple[str, list[Any]]]:
    """Send what is queued; return the type and the records of each run."""
    return [
        (run.type, [list(record) for record in unpack_body(run.whole(), run.count, ActorRef)])
        for frame in outbox.take_frames()
        for run in frame
    ]


def test_what_comes_in_without_the_lock_leaves_in_order_in_runs_of_one_type() -> None:
    outbox = Outbox()
    for number, message_type in enumerate("xxxxxyyxxxxx"):
        outbox.incoming += item(message_type, number, b"%d" % number)
    runs = leaving(outbox)
    assert [(message_type, len(records)) for message_type, records in runs] == [("x", 5), ("y", 2), ("x", 5)]
    records = [record for _, records in runs for record in records]
    assert records == [
        [outbox.prefix + number.to_bytes(8, "big"), b"", b"", 1_000_000 + number, b"%d" % number, None]
        for number in range(12)
    ]
    assert outbox.sent == 12
    assert not outbox.has_queued


data_of_messages = st.one_of(
    st.none(), st.floats(allow_nan=False), st.integers(0, 300), st.text(max_size=4), st.binary(max_size=9)
)
messages_given = st.tuples(
    st.sampled_from("xy"), data_of_messages, st.sampled_from([b"", b"p" * 16, b"q" * 16]), st.booleans()
)


@given(st.lists(messages_given, max_size=30), st.sets(st.integers(0, 29)))
def test_all_ways_into_a_run_carry_a_message_as_it_is(
    messages: list[tuple[str, Any, bytes, bool]], slow: set[int]
) -> None:
    outbox = Outbox()
    for number, (message_type, data, parent, is_packed) in enumerate(messages):
        carried = (pack_value(data),) if is_packed else data
        if number in slow:
            outbox.publish(*item(message_type, number, carried, parent))
        else:
            outbox.incoming += item(message_type, number, carried, parent)
    runs = leaving(outbox)
    assert [(message_type, record[4], record[2]) for message_type, records in runs for record in records] == [
        (message_type, data, parent) for message_type, data, parent, _ in messages
    ]
    assert outbox.next_seq == len(messages) + 1
    assert [type_ for type_, _ in runs] == [type_ for type_, _ in groupby(messages, key=itemgetter(0))]


sent_given = st.one_of(
    st.tuples(st.sampled_from("xy"), st.integers(1, 3)),
    st.tuples(st.sampled_from([b"a" * 16, b"b" * 16]), st.integers(1, 40)),
)


@given(st.lists(sent_given, max_size=12), st.sets(st.integers(0, 11)))
def test_answers_come_in_as_if_each_were_added(sent: list[tuple[str | bytes, int]], gathered: set[int]) -> None:
    quick, slow = Outbox(), Outbox()
    number = 0
    for place, (to, count) in enumerate(sent):
        for _ in range(count):
            number += 1
            if isinstance(to, str):
                quick.incoming += item(to, number)
                slow.publish(*item(to, number))
                continue
            fields = [quick.prefix + number.to_bytes(8, "big"), b"q" * 16, b"q" * 16, number, number, None]
            record = fields if number % 3 else pack_fields(fields, 1 << 20)
            quick.incoming += ((to,), number, number, record, 50 + number)
            slow.add(KIND_ANSWER, REPLY_TYPE, to, record, 50 + number)
        if place in gathered:
            quick.gather()
    assert quick.has_room() == slow.has_room()
    for name in ("next_seq", "queued", "queued_bytes", "unaccepted_bytes", "room", "room_bytes"):
        assert getattr(quick, name) == getattr(slow, name)
    quick_runs, slow_runs = ([run for frame in box.take_frames() for run in frame] for box in (quick, slow))
    seen = [(run.seq, run.kind, run.type, run.dest, run.count, run.size, run.body) for run in quick_runs]
    assert seen == [(run.seq, run.kind, run.type, run.dest, run.count, run.size, run.body) for run in slow_runs]


def test_an_answer_can_be_taken_out_while_it_is_in_no_run() -> None:
    outbox = Outbox()
    for number in (1, 2, 3):
        outbox.incoming += ((b"a" * 16,), number, number, RECORD, len(RECORD))
    assert outbox.forget_incoming(2)
    assert not outbox.forget_incoming(2)
    outbox.gather()
    assert outbox.next_seq == 3


@pytest.mark.parametrize("size", [10, 100 * 1024])
def test_answers_of_threads_at_the_same_moment_make_no_run_beyond_the_limits(size: int) -> None:
    outbox = Outbox()
    count = 1300 if size == 10 else 7
    for number in range(count):
        fields = [outbox.prefix + number.to_bytes(8, "big"), b"q" * 16, b"q" * 16, number, bytes(size), None]
        outbox.incoming += ((b"a" * 16,), number, number, fields, RECORD_BYTES + size)
    sent = [run for frame in outbox.take_frames() for run in frame]
    assert all(run.count <= MAX_RUN_MESSAGES and run.size <= MAX_RUN_BYTES for run in sent)
    records = [record for run in sent for record in unpack_body(run.body, run.count, ActorRef)]
    assert [record[3] for record in records] == list(range(count))


asked_or_published = st.tuples(st.sampled_from("xy"), st.sampled_from([None, "a", "b", "published"]), st.booleans())


@given(st.lists(asked_or_published, max_size=30), st.sets(st.integers(0, 29)))
def test_a_question_that_comes_in_without_the_lock_leaves_as_one_that_is_added_and_in_its_place(
    messages: list[tuple[str, str | None, bool]], slow: set[int]
) -> None:
    outbox, added = Outbox(), Outbox()
    headings = {(type_, to): Heading(KIND_ASK if to else KIND_ASK_ANY, type_, to) for type_, to, _ in messages}
    questions: list[Question] = []
    for number, (type_, to, is_packed) in enumerate(messages):
        if to == "published":
            for each in (outbox, added):
                each.incoming += item(type_, number)
            continue
        heading = headings[type_, to]
        message = Message(type_, number)
        record = pack_record(message, 1 << 20) if is_packed else message._record
        question = Question(0, message._record[0], heading, None)
        questions.append(question)
        seq = added.add(heading.kind, type_, to, record, 50)
        if number in slow:
            question.seq = outbox.add(heading.kind, type_, to, record, 50)
            outbox.questions[question.uuid] = question
        else:
            outbox.incoming += (heading, record, 50, question, None)
        outbox.appended_at = added.appended_at = 0
        if number % 7 == 0:
            outbox.gather() if outbox.incoming else None
            assert question.seq == seq
    assert outbox.has_room() == added.has_room()
    for name in ("next_seq", "queued", "queued_bytes", "unaccepted_bytes", "room", "room_bytes"):
        assert getattr(outbox, name) == getattr(added, name)
    assert list(outbox.questions.values()) == questions
    assert [question.seq for question in questions] == [
        place for place, (_, to, _) in enumerate(messages, 1) if to != "published"
    ]
    assert leaving(outbox) == leaving(added)


def test_questions_do_not_count_as_the_time_when_something_was_published() -> None:
    outbox = Outbox()
    outbox.incoming += item("x", 5)
    outbox.incoming += (Heading(KIND_ASK, "x", "a"), RECORD, len(RECORD), Question(0, b"", ANY, None), None)
    outbox.gather()
    assert outbox.appended_at == 1_000_005


@pytest.mark.parametrize("size", [10, 100 * 1024])
def test_questions_that_come_in_at_the_same_moment_make_no_run_beyond_the_limits(size: int) -> None:
    outbox = Outbox()
    count = 1300 if size == 10 else 7
    for number in range(count):
        outbox.incoming += (ANY, bytes(size), size, Question(0, number.to_bytes(16, "big"), ANY, None), None)
    outbox.gather()
    sent = [run for frame in outbox.take_frames() for run in frame]
    assert all(run.count <= MAX_RUN_MESSAGES and run.size <= MAX_RUN_BYTES for run in sent)
    assert [question.seq for question in outbox.questions.values()] == list(range(1, count + 1))
    assert [int.from_bytes(uuid, "big") for uuid in outbox.questions] == list(range(count))


def test_what_has_come_in_counts_everywhere() -> None:
    outbox = Outbox()
    assert outbox.has_room()
    outbox.incoming += item("x", 1)
    assert outbox.has_queued
    assert not outbox.is_all_settled
    assert outbox.floor() == 0
    outbox.incoming += item("x", 2)
    assert outbox.add(KIND_TELL, "x", "a", RECORD, len(RECORD)) == 3
    outbox.incoming += item("x", 4)
    outbox.room = 0
    assert outbox.has_room()
    assert outbox.next_seq == 5
    assert outbox.room == WINDOW_MESSAGES - 4


def test_messages_come_in_without_the_lock_only_while_a_flush_is_to_follow_and_as_many_as_fit() -> None:
    outbox = Outbox()
    assert outbox.limit == 0
    assert outbox.has_room()
    outbox.publish(*item("x", 0))
    outbox.open(0, 1 << 20)
    assert outbox.limit == ITEM * (MAX_RUN_MESSAGES - 2)
    assert outbox.limit_bytes == SMALL_DATA
    outbox.incoming += item("x", 1)
    outbox.gather()
    assert outbox.limit == ITEM * (MAX_RUN_MESSAGES - 3)
    outbox.open(50_000, 1 << 20)
    assert outbox.limit == ITEM * (MAX_RUN_BYTES // (62_500 + RECORD_BYTES))
    assert outbox.limit_bytes == 62_500
    outbox.open(0, 100)
    assert outbox.limit_bytes == 100
    outbox.room = 3
    outbox.open(0, 1 << 20)
    assert outbox.limit == ITEM * 3
    outbox.room_bytes = 0
    outbox.open(0, 1 << 20)
    assert outbox.limit == 0
    list(outbox.take_frames())
    assert outbox.limit == 0


def test_what_comes_in_while_all_is_being_sent_is_sent_with_the_next() -> None:
    outbox = Outbox()
    outbox.publish(*item("x", 0))
    outbox.open(0, 1 << 20)
    list(outbox.take_frames())
    outbox.incoming += item("x", 1)  # by a thread that had seen the limit before
    assert not outbox.limit  # which tells it that nobody flushes
    assert outbox.has_queued
    assert [len(records) for _, records in leaving(outbox)] == [1]


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 512)), min_size=1, max_size=20))
def test_adding_several_at_once_does_what_adding_each_does_and_parts_none(several: list[tuple[str, int]]) -> None:
    each, together = Outbox(), Outbox()
    for message_type, count in several:
        add(each, count, message_type)
        seq = together.next_seq
        body = join_body([RECORD] * count) if count > 1 else RECORD
        assert together.add(KIND_PUBLISH, message_type, None, body, len(RECORD) * count, count) == seq
    for name in ("next_seq", "queued", "queued_bytes", "unaccepted_bytes"):
        assert getattr(each, name) == getattr(together, name)
    runs = [run for frame in together.take_frames() for run in frame]
    assert all(run.count <= MAX_RUN_MESSAGES for run in runs)
    assert [run.seq for run in runs] == [1 + sum(run.count for run in runs[:place]) for place in range(len(runs))]
    firsts = {1 + sum(count for _, count in several[:place]) for place in range(len(several))}
    assert firsts.issuperset(run.seq for run in runs)
    for run in runs:
        assert len(unpack_body(run.whole(), run.count, ActorRef)) == run.count
    types = [run.type for run in runs for _ in range(run.count)]
    assert types == [message_type for message_type, count in several for _ in range(count)]


def test_several_at_once_wait_until_the_window_takes_all_of_them() -> None:
    outbox = Outbox()
    assert outbox.has_room(WINDOW_MESSAGES)
    assert not outbox.has_room(WINDOW_MESSAGES + 1)
    outbox.add(KIND_PUBLISH, "x", None, RECORD * 500, len(RECORD) * 500, 500)
    frames(outbox)
    assert outbox.has_room(WINDOW_MESSAGES - 500)
    assert not outbox.has_room(WINDOW_MESSAGES - 499)
    outbox.apply((500, 500))
    assert outbox.has_room(WINDOW_MESSAGES)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_what_is_left_when_questions_are_dropped_is_what_was_sent(counts: list[int], data: st.DataObject) -> None:
    outbox = Outbox()
    for number, count in enumerate(counts):
        for _ in range(count):
            record = pack_record(Message("q", outbox.next_seq), 1 << 20)
            outbox.add(KIND_ASK, "q", f"a{number}", record, len(record))
    frames(outbox)
    add(outbox, 1, "q", kind=KIND_ASK, dest="a")
    last = outbox.sent
    dropped = data.draw(st.sets(st.integers(1, last + 1)))
    outbox.take_back(dropped)
    ack = outbox.drop_taken_back()
    assert (ack is not None) == any(seq <= last for seq in dropped)
    if ack is not None:
        open_ = [seq for first, end in ack[3] for seq in range(first, end + 1)]
        assert (ack[2], open_) == (last, [seq for seq in range(1, last + 1) if seq not in dropped])
    again = [run for frame in outbox.resend_frames(0) for run in frame]
    bodies = [record[4] for run in again for record in unpack_body(run.whole(), run.count, ActorRef)]
    assert bodies == [seq for seq in range(1, last + 1) if seq not in dropped]
    assert bodies == [seq for run in again for seq in range(run.seq, run.last + 1)]
    assert outbox.retained_messages == len(bodies)
    assert outbox.retained_bytes == sum(run.size for run in outbox._retained.values())
    assert outbox.taken_back() == [seq for seq in dropped if seq > last], "what no bus has had has yet to be sent"
    frames(outbox)
    outbox.apply((last + 1, last + 1))
    assert outbox.is_all_settled
    assert outbox.retained_messages == outbox.retained_bytes == outbox.unaccepted_bytes == 0
    assert outbox.taken_back() == []


def test_only_questions_that_are_open_can_be_taken_back() -> None:
    outbox = sent(1, 1)
    outbox.apply((2, 1))
    outbox.take_back([1, 2, 3])
    assert outbox.taken_back() == [2]
    outbox.drop_taken_back()
    assert [run.seq for frame in outbox.resend_frames(0) for run in frame] == [2], "it is no question"


def test_what_the_bus_itself_was_asked_is_sent_again_though_nobody_waits() -> None:
    outbox = Outbox()
    add(outbox, 1, "q", kind=KIND_ASK, dest=BUS_NAME)
    add(outbox, 1, "q", kind=KIND_ASK, dest="a")
    frames(outbox)
    outbox.take_back([1, 2])
    outbox.drop_taken_back()
    assert [run.seq for frame in outbox.resend_frames(0) for run in frame] == [1]


def test_what_was_taken_back_and_dropped_is_accepted() -> None:
    outbox = Outbox()
    add(outbox, 3, "q", kind=KIND_ASK, dest="a")
    frames(outbox)
    outbox.take_back([1, 2])
    outbox.drop_taken_back()
    assert (outbox.accepted, outbox.floor()) == (2, 2)
    outbox.take_back([3])
    outbox.drop_taken_back()
    assert outbox.accepted == outbox.floor() == 3
    assert outbox.unaccepted_bytes == 0


@pytest.mark.parametrize("size", [10, 100 * 1024])
def test_what_threads_put_in_at_the_same_moment_makes_no_run_beyond_the_limits(size: int) -> None:
    outbox = Outbox()
    for number in range(1300 if size == 10 else 7):
        outbox.incoming += item("x", number, bytes(size), b"")
    outbox.gather()
    sent = [run for frame in outbox.take_frames() for run in frame]
    assert all(run.count <= MAX_RUN_MESSAGES and run.size <= MAX_RUN_BYTES for run in sent)
    assert [run.seq for run in sent[1:]] == [run.last + 1 for run in sent[:-1]]
    records = [record for run in sent for record in unpack_body(run.whole(), run.count, ActorRef)]
    assert [int.from_bytes(record[0][8:], "big") for record in records] == list(range(len(records)))
