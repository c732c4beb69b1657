"""Several threads at one pod: what one does between two steps of another. The steps are met at chosen places."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from time import monotonic, time_ns
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from grav_actors import ConnectionClosedError, Grav, Message, MessageEncodeError, Pod, ids
from grav_actors.codec import pack_record
from grav_actors.message import Origin
from grav_actors.pod import pod as pod_module
from grav_actors.pod.inbound import Inbound
from grav_actors.pod.outbox import SMALL_DATA, Outbox
from grav_actors.pod.outcomes import Disconnected
from grav_actors.pod.replies import Heading, Question
from grav_actors.pod.waiter import Waiter
from grav_actors.protocol import KIND_ASK_ANY, KIND_PUBLISH
from support.collecting import LIMIT, Collector, in_thread, settle

Connect = Callable[..., Pod]

MIB = 1024 * 1024


@pytest.fixture
def grav(shared_grav: Grav) -> Grav:
    return shared_grav


@pytest.fixture(autouse=True)
def known_types() -> None:
    """A message of a type that was never seen is published the slow way."""
    for name in ("n", "late", "timely", "a"):
        Message(name)


class Met(list[Any]):
    """`Outbox.incoming` of a pod, in which something happens right before a thread puts a message in."""

    def __init__(self, pod: Pod, happens: Callable[[], object]) -> None:
        super().__init__()
        self._happens: list[Callable[[], object]] = [happens]
        with pod._link.lock:
            assert not pod._outbox.incoming
            pod._outbox.incoming = self

    def __iadd__(self, items: Any) -> Any:  # type: ignore[misc]
        if self._happens:
            self._happens.pop()()
        self.extend(items)
        return self


def open_for(pod: Pod, count: int) -> None:
    """Let so many messages come in without the lock."""
    with pod._link.lock:
        pod._outbox.limit, pod._outbox.limit_bytes = 5 * count, SMALL_DATA


def at_rest(pod: Pod) -> None:
    """Return when nothing of the pod is under way and nobody looks after it."""
    settle(pod)
    with pod._link.lock:
        pod._core.flush(monotonic(), force=True)
        pod._link.send_out(pod)
        pod._link._active.pop(pod, None)


def one_run(pod: Pod, messages: list[Message], *, flush: bool = True) -> None:
    """Send messages together, or queue them only."""
    with pod._link.lock:
        for message in messages:
            record = pack_record(message, MIB)
            pod._outbox.add(KIND_PUBLISH, message.type, None, record, len(record))
        if flush:
            pod._flush_now()


# What is queued is sent


def test_message_queued_while_all_is_sent_and_gathered_by_another_thread_is_sent(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    at_rest(sender)
    outbox = sender._outbox
    expect_flush = sender._expect_flush

    def all_is_sent() -> None:
        outbox.limit = 0

    def another_is_first(number: int) -> bool:
        with sender._link.lock:
            outbox.appended_at = time_ns()
        in_thread(lambda: sender.publish("n", "another"))()
        return expect_flush(number)

    monkeypatch.setattr(sender, "_expect_flush", another_is_first)
    Met(sender, all_is_sent)
    open_for(sender, 10)
    sender.publish("n", "one")
    collected.wait(2)
    assert collected.data == ["one", "another"]


def test_what_is_published_behind_a_question_that_waits_for_its_loop_is_sent(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    at_rest(sender)
    record = Message("n", "question")._record
    question = Question(0, record[0], Heading(KIND_ASK_ANY, "n", None), Waiter())
    # As `ask_async`, of which the loop does something else.
    sender._outbox.incoming += (question.heading, record, 10, question, None)
    with sender._link.lock:
        sender._outbox.appended_at = time_ns()
    sender.publish("n", "behind")
    collected.wait(2)
    assert collected.data == ["question", "behind"]


# Questions


def test_a_question_that_comes_in_while_the_pod_leaves_ends_with_an_error(connect: Connect) -> None:
    receiver, asker = connect(), connect()
    receiver.on_type("n", lambda message: pytest.fail("it was asked"))
    at_rest(asker)
    with asker._link.lock:
        assert asker._outbox.has_room()
    Met(asker, asker.disconnect)
    with pytest.raises(ConnectionClosedError, match="disconnected"):
        asyncio.run(asker.ask_async("n", timeout=None))
    with pytest.raises(ConnectionClosedError, match="disconnected"):
        asyncio.run(asker.ask_async("n", timeout=None))
    assert not asker._replies._questions
    assert len(asker._outbox._queue) == 1, "the second did not come in"


def test_a_question_that_is_cancelled_before_it_is_sent_is_taken_back(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, asker = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    at_rest(asker)
    with asker._link.lock:
        assert asker._outbox.has_room()

    async def main() -> None:
        asking = asker.ask_async("n", "question", timeout=None)
        asking.send(None)
        assert asker._outbox.incoming
        with pytest.raises(asyncio.CancelledError):
            asking.throw(asyncio.CancelledError())
        assert len(asker._replies._ended) == 1
        assert not asker._outbox.incoming

    with monkeypatch.context() as patch:
        patch.setattr(asker._link, "_look_after", lambda now: None)
        asyncio.run(main())
    assert not asker._replies._questions
    asker.publish("n", "behind")
    # The question may have got there before word came that nobody waits for it.
    collected.wait_for(lambda messages: messages[-1].data == "behind")
    asker.flush(LIMIT, settled=True)
    assert asker._outbox.taken_back() == []


def test_loops_that_ask_through_one_pod_serve_for_themselves(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, asker = connect(), connect()
    receiver.on_type("n", lambda message: receiver.reply_to(message, Message("n", message.data)))
    other = asyncio.new_event_loop()
    served: list[asyncio.AbstractEventLoop] = []
    monkeypatch.setattr(asker._link.duty, "serve_in", served.append)

    async def main() -> None:
        task = asyncio.create_task(asker.ask_async("n", 1, timeout=LIMIT))
        await asyncio.sleep(0)
        asker._flush_loop = other  # as its thread does which asks too
        assert await task == 1
        assert served == [asyncio.get_running_loop()]
        assert asker._flush_loop is other

    asyncio.run(main())
    other.close()


def test_a_question_has_its_loop_send_although_the_one_before_was_interrupted_at_that(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = connect()

    def interrupt(*args: Any) -> Any:
        raise KeyboardInterrupt

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patched:
            patched.setattr(loop, "call_soon", interrupt)
            asking = asker.ask_async("n", "first")
            with pytest.raises(KeyboardInterrupt):
                asking.send(None)
        due: list[Any] = []
        with monkeypatch.context() as patched:
            patched.setattr(loop, "call_soon", lambda call, *args: due.append(call))
            asking = asker.ask_async("n", "second", timeout=LIMIT)
            assert asking.send(None) is not None
        assert asker._flush_called in due
        asking.close()

    asyncio.run(main())


def test_a_pod_that_leaves_for_its_failures_says_with_which_questions_it_has_begun_when_it_begins_with_none(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = connect()
    gates: list[Any] = []
    begun = pod._cancellations.begun

    class Watched:
        def begun(self) -> Any:
            gates.append(pod._gate)
            return begun()

    monkeypatch.setattr(pod, "_cancellations", Watched())
    pod._leave_unhealthy()
    (gate,) = gates
    assert isinstance(gate, Disconnected)


def test_question_is_open_until_it_is_answered_whatever_others_publish_meanwhile(
    connect: Connect, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, asker = connect(), connect()
    begun = threading.Event()

    def answer(message: Message) -> None:
        begun.set()
        gate.wait(LIMIT)
        receiver.reply_to(message, Message("answer", "late"))

    receiver.on_type("question", answer)
    has_room = Outbox.has_room

    def another_publishes(outbox: Outbox, count: int = 1) -> bool:
        has = has_room(outbox, count)
        if outbox is asker._outbox:
            outbox.incoming += ("unheard", ids.next_number(), time_ns(), b"", b"")
        return has

    monkeypatch.setattr(Outbox, "has_room", another_publishes)
    asking = in_thread(lambda: asker.ask("question", timeout=LIMIT))
    assert begun.wait(LIMIT)
    monkeypatch.undo()
    asker.flush(LIMIT)  # it has heard that what went before is settled
    gate.set()
    assert asking() == "late"


# A pod that leaves meanwhile


@pytest.fixture
def leaving(connect: Connect, grav: Grav) -> Iterator[tuple[Pod, Collector]]:
    """A pod that leaves while something is sent, and what came of it."""
    collected = Collector()
    connect().on(collected)
    with grav.connect() as pod:
        yield pod, collected


def is_told(grav: Grav, collected: Collector) -> list[Any]:
    """Return what has come before a message that is sent now."""
    grav.publish("end", "end")
    collected.wait_for(lambda messages: messages[-1].data == "end")
    return collected.data[:-1]


def test_receipt_is_false_when_the_pod_left_before_the_message_was_queued(
    grav: Grav, leaving: tuple[Pod, Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, collected = leaving
    message = Message("late", "message")
    carried = pod_module._carried

    def disconnect_first(data: Any, limit: int) -> tuple[Any, int]:
        pod.disconnect()
        return carried(data, limit)

    monkeypatch.setattr(pod_module, "_carried", disconnect_first)
    assert not pod.send(message)
    assert is_told(grav, collected) == []


@pytest.mark.parametrize("is_open", [False, True])
def test_publish_is_refused_when_the_pod_left_before_the_message_was_queued(
    grav: Grav, leaving: tuple[Pod, Collector], monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    pod, collected = leaving
    next_number = ids.next_number

    def disconnect_first() -> int:
        monkeypatch.undo()
        pod.disconnect()
        if is_open:
            open_for(pod, 1)
            Met(pod, lambda: open_for(pod, 0))
        return next_number()

    monkeypatch.setattr(ids, "next_number", disconnect_first)
    assert not pod.publish("late", "publish")
    assert not pod._outbox.incoming
    assert is_told(grav, collected) == []


def test_publish_is_refused_when_the_pod_leaves_right_before_the_message_is_put_in(
    grav: Grav, leaving: tuple[Pod, Collector]
) -> None:
    pod, collected = leaving
    one_run(pod, [Message("timely", "before")], flush=False)
    Met(pod, pod.disconnect)
    open_for(pod, 10)
    assert not pod.publish("late", "publish")
    assert is_told(grav, collected) == ["before"]


def test_publish_raises_when_the_node_stops_right_before_the_message_is_put_in() -> None:
    with Grav() as grav:
        pod = grav.connect()
        Met(pod, grav.stop)
        open_for(pod, 10)
        with pytest.raises(ConnectionClosedError):
            pod.publish("late", "publish")


def test_receipt_is_true_when_the_message_left_with_the_pod(
    grav: Grav, leaving: tuple[Pod, Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, collected = leaving
    expect_flush = pod._expect_flush

    def disconnect_first(number: int) -> bool:
        pod.disconnect()
        return expect_flush(number)

    monkeypatch.setattr(pod, "_expect_flush", disconnect_first)
    Met(pod, lambda: open_for(pod, 0))
    open_for(pod, 10)
    assert pod.publish("timely", "publish")
    assert is_told(grav, collected) == ["publish"]


def test_message_with_headers_is_refused_when_the_pod_left_before_it_was_queued(
    grav: Grav, leaving: tuple[Pod, Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, collected = leaving

    def disconnect_first(message: Message, limit: int) -> bytes:
        pod.disconnect()
        return pack_record(message, limit)

    monkeypatch.setattr(pod_module, "pack_record", disconnect_first)
    assert not pod.send(Message("late", "headers", headers={"a": "b"}))
    assert not pod.send(Message("late", "again", headers={"a": "b"}))
    assert is_told(grav, collected) == []


def test_question_ends_when_its_pod_leaves_while_it_gets_room(
    leaving: tuple[Pod, Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod, _ = leaving
    has_room = Outbox.has_room
    seen: list[bool] = []

    def leave(outbox: Outbox, count: int = 1) -> bool:
        if outbox is not pod._outbox or len(seen) == 2:
            return has_room(outbox, count)
        seen.append(True)
        if len(seen) == 2:
            pod._say_bye("", Disconnected())
        return len(seen) == 2  # at first there is none; then there is, and the pod has left meanwhile

    monkeypatch.setattr(Outbox, "has_room", leave)
    with pytest.raises(ConnectionClosedError):
        pod.ask("question", timeout=None)


# What is queued can be sent


class Liar:
    """Says of itself that it is bytes."""

    __class__ = bytes  # type: ignore[assignment]

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize(
    "make",
    [
        Liar,
        lambda: MagicMock(spec=bytes),
        lambda: Mock(spec=str),
        lambda: Mock(spec=int),
        lambda: Mock(spec=float),
        lambda: Mock(spec=bool),
    ],
)
@pytest.mark.parametrize("how", ["publish", "send", "ask", "answer", "result"])
def test_what_only_says_that_it_is_data_raises_where_it_is_sent_and_the_pod_goes_on(
    connect: Connect, make: Callable[[], Any], how: str
) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    question = Message("question")
    question._origin = Origin(receiver._id, 0)
    asked = Inbound(1, (receiver._id, 1, 0, 0, "question", 1, 0, 0, 1), b"")
    ways: dict[str, Callable[[], object]] = {
        "publish": lambda: sender.publish("n", make()),
        "send": lambda: sender.send(Message("n", make())),
        "ask": lambda: sender.ask("n", make(), timeout=LIMIT),
        "answer": lambda: sender._answer(question, "grav.reply", make()),
        "result": lambda: sender._answer_result(asked, question._id, make(), False),
    }
    with pytest.raises(MessageEncodeError):
        ways[how]()
    sender.publish("n", "after")
    settle(sender)
    assert collected.data == ["after"]


@pytest.mark.parametrize("make", [lambda size: "é" * (size // 2), bytearray, lambda size: memoryview(bytes(size))])
def test_largest_data_may_be_published_whatever_it_is(connect: Connect, make: Callable[[int], Any]) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    assert sender.publish("n", make(MIB))
    settle(sender)
    (data,) = collected.data
    assert len(data.encode() if isinstance(data, str) else data) == MIB


# The handler is changed meanwhile


def test_new_handler_gets_nothing_of_a_run_that_its_filter_refuses(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    first, second = Collector(), Collector()

    def change(message: Message) -> None:
        first(message)
        if message.data == 3:
            receiver.on_type("b", second)

    receiver.on_type("a", change)
    one_run(sender, [Message("a", number) for number in range(10)])
    settle(sender)
    sender.publish("b", "b")
    settle(sender)
    assert first.data == [0, 1, 2, 3]
    assert second.data == ["b"]


def test_uuid_refused_in_a_handler_is_refused_in_the_same_run(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    messages = [Message("a", number) for number in range(10)]
    collected = Collector()

    def refuse(message: Message) -> None:
        collected(message)
        if message.data < 5:
            receiver.filter_uuid(messages[message.data + 5].uuid, False)

    receiver.on(refuse)
    one_run(sender, messages)
    settle(sender)
    assert collected.data == [0, 1, 2, 3, 4]
