"""Replies and who waits for them: receipts and questions of one pod. Pure."""

from __future__ import annotations

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
        about: What was asked, and whom, for error texts.
    """

    seq: int
    uuid: bytes
    directed: bool
    waiter: Any
    error: Message | None = None
    about: str = ""


class ReplyTable:
    """Matches replies with receipts and questions, by the uuid that they answer.

    Attributes:
        late: Replies that were dropped: to a question that has its outcome, after the first one to a message,
            or kept too long.
    """

    __slots__ = ("_ended", "_kept", "_questions", "_takers", "late")

    def __init__(self) -> None:
        self._kept: dict[bytes, Message] = {}
        self._takers: dict[bytes, list[Taker]] = {}
        self._questions: dict[bytes, Question] = {}
        self._ended: dict[bytes, None] = {}
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
            del self._ended[next(iter(self._ended))]

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
                del self._kept[next(iter(self._kept))]
                self.late += 1
        return None, message

    def settled(self, ack: Ack) -> list[Question]:
        """Return the questions that everybody has handled without an answer, and forget them."""
        if not self._questions:
            return []
        floor = ack[1]
        newest, ranges = (ack[2], ack[3]) if len(ack) == 4 else (floor, ())
        ended = [
            question
            for question in self._questions.values()
            if question.seq <= floor
            or (question.seq <= newest and not any(first <= question.seq <= last for first, last in ranges))
        ]
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
