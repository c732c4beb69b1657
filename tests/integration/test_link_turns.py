"""What a link makes of the frames of one turn: who is told of what, and in which order."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import zmq

from grav_actors.codec import join_body, pack_record
from grav_actors.errors import NoRespondersError
from grav_actors.ids import id_text, new_id
from grav_actors.message import Message
from grav_actors.pod.link import Link
from grav_actors.pod.pod import Pod
from grav_actors.pod.replies import Question
from grav_actors.protocol import FLAG_RECEIPT, KIND_ANSWER, REPLY_TYPE, Ack, PodSettings, Verb, pack

EPOCH = b"epoch..."
ACTOR = new_id()


class Part:
    """A frame as pyzmq gives it."""

    def __init__(self, content: bytes, *, more: bool) -> None:
        self.bytes = self.buffer = content
        self.more = more

    def __len__(self) -> int:
        return len(self.bytes)


class Arrived:
    """A socket at which messages have arrived, and no more come."""

    def __init__(self, messages: list[tuple[bytes, bytes]]) -> None:
        self._parts = deque(
            Part(content, more=index == 0) for message in messages for index, content in enumerate(message)
        )

    def getsockopt(self, option: int) -> int:
        """Return EVENTS."""
        return int(zmq.POLLIN) if self._parts else 0

    def recv(self, flags: int, *, copy: bool) -> Part:
        """Return the next frame."""
        if not self._parts:
            raise zmq.Again
        return self._parts.popleft()


class Turns:
    """A link without a bus, whose frames a test makes up. The test holds the lock."""

    def __init__(self, endpoint: str) -> None:
        self.link = Link(endpoint)
        self.link._socket.setsockopt(zmq.LINGER, 0)

    def take(self, *messages: tuple[bytes, bytes]) -> None:
        """Have these read in one turn which another thread was woken for."""
        link = self.link
        arrived: Any = Arrived(list(messages))
        real = link._receive_part, link._get_option
        link._receive_part, link._get_option = arrived.recv, arrived.getsockopt
        try:
            link._has_input = True
            link.turn([])
        finally:
            link._receive_part, link._get_option = real
        assert not arrived._parts

    def pod(self) -> Pod:
        """Return one that has joined."""
        pod = Pod(self.link, "", PodSettings())
        self.link.add(pod)
        pod._core.hello(monotonic())
        request = pod._core._hello_request
        header = pack(Verb.WELCOME.value, pod._core.slot, 1, request, EPOCH, new_id(), 0, False, (1 << 20, 1, 1))
        self.take((header, b""))
        assert pod.is_connected
        return pod


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[Turns]:
    made = Turns(f"ipc://{tmp_path}/none.sock")
    with made.link.lock:
        yield made
    made.link.close()


class Outcome:
    """Who waits for a question's outcome."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def resolve(self, value: Any) -> None:
        """Note an answer."""
        self.seen.append(value)

    def fail(self, error: BaseException) -> None:
        """Note an error."""
        self.seen.append(error)


def ask(pod: Pod) -> tuple[Question, Outcome]:
    """Ask an actor."""
    outcome = Outcome()
    record = Message("q", 1)._record
    question = Question(0, record[0], pod._heading_of("q", "actor"), outcome)
    pod._queue(question, record, 60)
    pod._flush_now()
    return question, outcome


def answer(pod: Pod, question: Question, data: Any, ack: Ack, number: int = 1) -> tuple[bytes, bytes]:
    """Return the frame that brings an answer, and the watermark which says that the question was handled."""
    message = Message("x", data, reply_to=id_text(question.uuid))
    body = join_body([pack_record(message, 1 << 20)])
    run = (ACTOR, number, 0, KIND_ANSWER, REPLY_TYPE, 1, len(body), FLAG_RECEIPT, 1)
    return pack(Verb.DELIVER.value, pod._core.slot, number, ack, [run]), body


def test_an_answer_counts_before_the_watermark_of_its_frame_whatever_comes_behind_it(turns: Turns) -> None:
    asker, other = turns.pod(), turns.pod()
    question, outcome = ask(asker)
    turns.take(
        (pack(Verb.PING.value, 0), b""),
        answer(asker, question, "answer", (1, 1)),
        (pack(Verb.ACK.value, other._core.slot, (0, 0)), b""),
    )
    assert outcome.seen == ["answer"]


def test_an_answer_counts_before_the_watermark_of_its_frame_also_after_an_interruption(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = turns.pod()
    question, outcome = ask(asker)
    with monkeypatch.context() as patched:
        patched.setattr(turns.link, "_hand_on", lambda pod, now: pytest.fail("Ctrl-C"))
        with pytest.raises(pytest.fail.Exception):
            turns.take(answer(asker, question, "answer", (1, 1)))
    assert not outcome.seen
    turns.link.is_torn = True  # as the duty has it then
    turns.take()
    assert outcome.seen == ["answer"]


def test_a_question_that_was_handled_without_an_answer_ends_with_an_error(turns: Turns) -> None:
    asker, other = turns.pod(), turns.pod()
    _, outcome = ask(asker)
    answered, second = ask(asker)
    turns.take(answer(asker, answered, "answer", (2, 2)), (pack(Verb.ACK.value, other._core.slot, (0, 0)), b""))
    assert second.seen == ["answer"]
    (error,) = outcome.seen
    assert isinstance(error, NoRespondersError)
