"""Replies and who waits for them: receipts and questions of one pod. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grav_actors.message import Message
from grav_actors.protocol import CODE_NO_RESPONDERS, CODE_SETTLED, ERROR_TYPE, Ack

KEPT_REPLIES = 4096
"""Replies that nobody waits for yet; the oldest go first."""
ENDED_QUESTIONS = 4096
"""Questions whose later answers are dropped as late; older ones are taken for replies to a receipt."""

FINAL_CODES = (CODE_NO_RESPONDERS, CODE_SETTLED)
"""Errors that the bus gives: also a published question has no other outcome any more."""

Taker = Callable[[Message], None]


@dataclass(slots=True)
class Question:
    """An ask that waits for its answer.

    Attributes:
        waiter: Who waits; opaque here.
        directed: Its first error is final; a published question may still be answered by another.
        error: The first error that came.
        type, to: What was asked, and whom; None if it was published.
    """

    seq: int
    uuid: bytes
    directed: bool
    waiter: Any
    error: Message | None = None
    type: str = ""
    to: str | None = None

    @property
    def about(self) -> str:
        """What was asked, and whom, for error texts."""
        return self.type if self.to is None else f"{self.type} to {self.to!r}"


class ReplyTable:
    """Matches replies with receipts and questions, by the uuid that they answer.

    Attributes:
        late: Replies that were dropped: to a question that has its outcome, after the first one to a message,
            or kept too long.
    """

    __slots__ = ("_ended", "_kept", "_questions", "_takers", "late")

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Message] = OrderedDict()
        self._takers: dict[bytes, list[Taker]] = {}
        self._questions: dict[bytes, Question] = {}
        # Ordered by a linked list: a plain dict is slow to find its first entry when many before it are gone.
        self._ended: OrderedDict[bytes, None] = OrderedDict()
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
            self._end(question)
        return question

    def _end(self, question: Question) -> None:
        self._ended[question.uuid] = None
        if len(self._ended) > ENDED_QUESTIONS:
            self._ended.popitem(last=False)

    def answered(self, uuid: bytes) -> Question | None:
        """Return the question that an answer of an actor ends, if it does: no error, and not a reply."""
        question = self._questions.pop(uuid, None)
        if question is not None:
            self._end(question)
        return question

    def offer(self, message: Message) -> tuple[Question | None, Message]:
        """Take in a reply; return the question that it ends, if it does."""
        uuid: bytes = message._record[1]
        question = self._questions.get(uuid)
        if question is not None:
            code = _error_code(message)
            if code is not None and code not in FINAL_CODES and not question.directed:
                question.error = question.error or message
                return None, message
            del self._questions[uuid]
            self._end(question)
            if code == CODE_SETTLED and question.error is not None:
                return question, question.error
            return question, message
        if uuid in self._ended:
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

    def settled(self, ack: Ack) -> list[Question]:
        """Return the questions that everybody has handled without an answer, and forget them."""
        if not self._questions:
            return []
        floor = ack[1]
        newest, ranges = (ack[2], ack[3]) if len(ack) == 4 else (floor, ())
        ended: list[Question] = []
        for question in self._questions.values():  # in the order of their seqs
            if question.seq > newest:
                break
            if question.seq <= floor or not any(first <= question.seq <= last for first, last in ranges):
                ended.append(question)
        for question in ended:
            del self._questions[question.uuid]
            self._end(question)
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
