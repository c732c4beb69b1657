"""Replies find their receipts and questions."""

from __future__ import annotations

import pytest

from grav_actors.ids import id_text, new_id
from grav_actors.message import Message
from grav_actors.pod.replies import ENDED_QUESTIONS, KEPT_REPLIES, Heading, Question, ReplyTable
from grav_actors.protocol import KIND_ASK, KIND_ASK_ANY


class Answers(list[object]):
    """Waits for one outcome."""

    resolve = list.append
    fail = list.append


def reply(uuid: bytes, data: object = None, message_type: str = "grav.reply") -> Message:
    return Message._framework(message_type, data, reply_to=id_text(uuid))


def question(table: ReplyTable, seq: int = 1, *, directed: bool = True) -> Question:
    heading = Heading(KIND_ASK, "x", "a") if directed else Heading(KIND_ASK_ANY, "x", None)
    one = Question(seq, new_id(), heading, Answers())
    table.ask(one)
    return one


# Receipts


def test_a_reply_goes_to_whoever_waits_for_it() -> None:
    table, uuid = ReplyTable(), new_id()
    got: list[Message] = []
    assert table.expect(uuid, got.append) is None
    table.offer(reply(new_id()))
    assert got == []
    answer = reply(uuid)
    table.offer(answer)
    assert got == [answer]


def test_a_reply_that_comes_before_anybody_waits_is_kept_once() -> None:
    table, uuid = ReplyTable(), new_id()
    answer = reply(uuid)
    table.offer(answer)
    assert table.expect(uuid, lambda message: None) is answer
    assert table.expect(uuid, lambda message: None) is None


def test_the_first_reply_counts() -> None:
    table, uuid = ReplyTable(), new_id()
    first = reply(uuid, 1)
    table.offer(first)
    table.offer(reply(uuid, 2))
    assert table.expect(uuid, lambda message: None) is first
    assert table.late == 1


def test_the_latest_4096_replies_are_kept() -> None:
    table = ReplyTable()
    ids = [new_id() for _ in range(KEPT_REPLIES + 1)]
    for uuid in ids:
        table.offer(reply(uuid))
    assert table.expect(ids[0], lambda message: None) is None
    assert table.expect(ids[1], lambda message: None) is not None
    assert table.late == 1


def test_many_may_wait_for_one_reply_and_who_has_left_gets_none() -> None:
    table, uuid = ReplyTable(), new_id()
    one: list[Message] = []
    other: list[Message] = []
    gone: list[Message] = []
    takers = [one.append, other.append, gone.append]
    for taker in takers:
        table.expect(uuid, taker)
    table.forget(uuid, takers[2])
    table.offer(reply(uuid))
    assert (len(one), len(other), len(gone)) == (1, 1, 0)


def test_forgetting_who_never_waited_does_nothing() -> None:
    ReplyTable().forget(new_id(), print)


# Questions


def test_an_answer_ends_its_question() -> None:
    table = ReplyTable()
    asked = question(table)
    ended, message = table.offer(reply(asked.uuid, 5))
    assert ended is asked
    assert message.data == 5
    assert table.settled((9, 9)) == []


def test_answers_of_actors_end_their_questions_together_and_what_is_left_is_looked_at_one_by_one() -> None:
    table = ReplyTable()
    first, second, open_ = (question(table, seq) for seq in (1, 2, 3))
    answers = [reply(asked.uuid, asked.seq)._record for asked in (first, second)]
    odd = [reply(first.uuid, 7), reply(new_id(), 8)]
    left = table.answer([answers[0], odd[0]._record, answers[1], odd[1]._record])
    assert left == [message._record for message in odd]
    assert [asked.waiter for asked in (first, second, open_)] == [[1], [2], []]
    assert [table.offer(message)[0] for message in odd] == [None, None]
    assert table.late == 1, "that to the question which has its answer; the other may be for a receipt"


def test_a_later_answer_is_dropped_and_counted() -> None:
    table = ReplyTable()
    asked = question(table)
    table.offer(reply(asked.uuid, 1))
    assert table.offer(reply(asked.uuid, 2))[0] is None
    assert table.late == 1
    assert table.expect(asked.uuid, lambda message: None) is None


def test_an_answer_to_a_question_that_was_taken_back_is_dropped_and_counted() -> None:
    table = ReplyTable()
    asked = question(table)
    assert table.withdraw(asked.uuid) is asked
    assert table.withdraw(asked.uuid) is None
    table.offer(reply(asked.uuid))
    assert table.late == 1


def test_the_first_error_ends_a_directed_question() -> None:
    table = ReplyTable()
    asked = question(table)
    assert table.offer(reply(asked.uuid, {}, "grav.error"))[0] is asked


def test_an_error_leaves_a_published_question_to_the_other_receivers() -> None:
    table = ReplyTable()
    asked = question(table, directed=False)
    error = reply(asked.uuid, {"code": "failed"}, "grav.error")
    assert table.offer(error)[0] is None
    assert table.offer(reply(asked.uuid, {}, "grav.error"))[0] is None
    assert asked.error is error
    assert table.offer(reply(asked.uuid, 7))[0] is asked


def test_a_question_that_all_have_handled_without_an_answer_ends() -> None:
    table = ReplyTable()
    first, second, third = (question(table, seq) for seq in (3, 4, 9))
    assert table.settled((9, 2)) == []
    assert table.settled((9, 3)) == [first]
    assert table.settled((9, 3, 8, ((5, 8),))) == [second]
    assert table.settled((9, 3, 9, ((5, 9),))) == []
    assert table.settled((9, 3, 9, ((5, 8),))) == [third]


@pytest.mark.parametrize("how", ["withdrawn", "answered"])
def test_questions_that_have_ended_are_forgotten_in_time_the_latest_4096_last(how: str) -> None:
    table = ReplyTable()
    asked = [question(table) for _ in range(3 * ENDED_QUESTIONS + 10)]
    for one in asked:
        if how == "withdrawn":
            table.withdraw(one.uuid)
        else:
            table.answer([reply(one.uuid)._record])
    assert len(table._ended) + len(table._ended_before) < 2 * ENDED_QUESTIONS
    for one in asked[-ENDED_QUESTIONS:]:
        table.offer(reply(one.uuid))
    assert table.late == ENDED_QUESTIONS
    table.offer(reply(asked[0].uuid))
    assert table.late == ENDED_QUESTIONS


def test_closing_returns_what_was_open() -> None:
    table = ReplyTable()
    asked = question(table)
    table.expect(new_id(), print)
    assert table.close() == [asked]
    assert table.close() == []
