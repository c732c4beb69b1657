"""Replies and who waits for them: receipts and questions of one pod. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from grav_actors.message import Message
from grav_actors.protocol import CODE_NO_RESPONDERS, CODE_SETTLED, ERROR_TYPE, KIND_ASK, Ack

KEPT_REPLIES = 4096
"""Replies that nobody waits for yet; the oldest go first."""
ENDED_QUESTIONS = 4096
"""Questions whose later answers are dropped as late: so many at least, and fewer than twice as many. Those to older
ones are taken for replies to a receipt."""

FINAL_CODES = (CODE_NO_RESPONDERS, CODE_SETTLED)
"""Errors that the bus gives: also a published question has no other outcome any more."""

Taker = Callable[[Message], None]


class Heading:
    """What questions of one type to one destination have in common.

    Attributes:
        kind, type, dest: As of a run.
        directed: The first error is final; a published question may still be answered by another.
    """

    __slots__ = ("dest", "directed", "kind", "type")

    def __init__(self, kind: int, type: str, dest: Any) -> None:
        self.kind = kind
        self.type = type
        self.dest = dest
        self.directed = kind == KIND_ASK

    @property
    def about(self) -> str:
        """What is asked, and whom, for error texts."""
        return f"{self.type} to {self.dest!r}" if self.directed else self.type


class Question:
    """An ask that waits for its answer.

    Attributes:
        seq: What the outbox has given it.
        waiter: Who waits; opaque here, but that it takes the outcome.
        error: The first error that came.
    """

    __slots__ = ("error", "heading", "seq", "uuid", "waiter")

    def __init__(self, seq: int, uuid: bytes, heading: Heading, waiter: Any) -> None:
        self.seq = seq
        self.uuid = uuid
        self.heading = heading
        self.waiter = waiter
        self.error: Message | None = None

    def resolve(self, value: Any) -> None:
        """Give the answer to who waits. The caller holds the lock of the link, here and below."""
        self.waiter.resolve(value)

    def fail(self, error: BaseException) -> None:
        """Give an error to who waits."""
        self.waiter.fail(error)


class ReplyTable:
    """Matches replies with receipts and questions, by the uuid that they answer.

    Args:
        questions: Where those stand that are open, in the order of their seqs; the outbox may put others in.

    Attributes:
        late: Replies that were dropped: to a question that has its outcome, after the first one to a message,
            or kept too long.
    """

    __slots__ = ("_ended", "_ended_before", "_kept", "_questions", "_takers", "late")

    def __init__(self, questions: dict[bytes, Question] | None = None) -> None:
        self._kept: OrderedDict[bytes, Message] = OrderedDict()
        self._takers: dict[bytes, list[Taker]] = {}
        self._questions: dict[bytes, Question] = {} if questions is None else questions
        # In two halves, of which the older is forgotten as a whole: less work than to forget them one by one.
        self._ended: dict[bytes, None] = {}
        self._ended_before: dict[bytes, None] = {}
        self.late = 0

    def expect(self, uuid: bytes, taker: Taker) -> Message | None:
        """Return the reply that came already, or note who takes it when it comes."""
        kept = self._kept.pop(uuid, None)
        if kept is None:
            self._takers.setdefault(uuid, []).append(taker)
        return kept

    def forget(self, uuid: bytes, taker: Taker) -> None:
        """Note that a taker no longer waits."""
        takers = self._takers.get(uuid)
        if takers and taker in takers:
            takers.remove(taker)
            if not takers:
                del self._takers[uuid]

    def ask(self, question: Question) -> None:
        """Note a question."""
        self._questions[question.uuid] = question

    def withdraw(self, uuid: bytes) -> Question | None:
        """Take a question back; None when it has an outcome already."""
        question = self._questions.pop(uuid, None)
        if question is not None:
            self._end(uuid)
        return question

    def _end(self, uuid: bytes) -> None:
        self._ended[uuid] = None
        if len(self._ended) >= ENDED_QUESTIONS:
            self._forget_ended()

    def _forget_ended(self) -> None:
        self._ended_before, self._ended = self._ended, {}

    def answer(self, records: list[list[Any]]) -> list[list[Any]]:
        """Give what actors have answered to who asked: no errors, and no replies.

        As `offer` does for each, but that nobody needs the messages.

        Returns:
            Records that end no question.
        """
        take = self._questions.pop
        ended = self._ended
        others: list[list[Any]] = []
        for record in records:
            uuid = record[1]
            question = take(uuid, None)
            if question is None:
                others.append(record)
            else:
                ended[uuid] = None
                question.resolve(record[4])
        if len(ended) >= ENDED_QUESTIONS:
            self._forget_ended()
        return others

    def offer(self, message: Message) -> tuple[Question | None, Message]:
        """Take in a reply; return the question that it ends, if it does."""
        uuid: bytes = message._record[1]
        question = self._questions.get(uuid)
        if question is not None:
            code = _error_code(message)
            if code is not None and code not in FINAL_CODES and not question.heading.directed:
                question.error = question.error or message
                return None, message
            del self._questions[uuid]
            self._end(uuid)
            if code == CODE_SETTLED and question.error is not None:
                return question, question.error
            return question, message
        if uuid in self._ended or uuid in self._ended_before:
            self.late += 1
            return None, message
        takers = self._takers.pop(uuid, None)
        if takers is not None:
            for taker in takers:
                taker(message)
        elif uuid in self._kept:
            self.late += 1  # the first one counts
        else:
            self._kept[uuid] = message
            if len(self._kept) > KEPT_REPLIES:
                self._kept.popitem(last=False)
                self.late += 1
        return None, message

    def is_expecting(self) -> bool:
        """Whether any question is open."""
        return bool(self._questions)

    def settled(self, ack: Ack) -> list[Question]:
        """Return the questions that everybody has handled without an answer, and forget them."""
        floor = ack[1]
        newest, ranges = (ack[2], ack[3]) if len(ack) == 4 else (floor, ())
        ended: list[Question] = []
        for question in self._questions.values():  # in the order of their seqs
            seq = question.seq
            if seq > newest:
                break
            if seq <= floor or not any(first <= seq <= last for first, last in ranges):
                ended.append(question)
        for question in ended:
            del self._questions[question.uuid]
            self._end(question.uuid)
        return ended

    def close(self) -> list[Question]:
        """Forget everything; return the questions that were open."""
        questions = list(self._questions.values())
        self._questions.clear()
        self._kept.clear()
        self._takers.clear()
        return questions


def _error_code(message: Message) -> str | None:
    """Return the code of an error, "" if it has none; None if the message is an answer."""
    if message.type != ERROR_TYPE:
        return None
    data = message._record[4]
    return str(data.get("code", "")) if isinstance(data, dict) else ""
