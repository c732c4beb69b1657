"""Receipts, wait_on, flush and ask of pods on a real bus: who gets a reply, limits, and how waits end."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from grav_actors import (
    AskTimeoutError,
    ConnectionClosedError,
    Grav,
    Message,
    MessageNotWanted,
    NoRespondersError,
    Pod,
    Receipt,
    ReentrantWaitError,
    WaitTimeoutError,
)
from support.collecting import LIMIT, Collector, in_thread, settle, wait_for_receivers
from support.naming import stable

Connect = Callable[..., Pod]


@pytest.fixture
def grav(shared_grav: Grav) -> Grav:
    return shared_grav


def unwanted(message: Message) -> None:
    raise MessageNotWanted


def echo(pod: Pod, message_type: str = "ping") -> Pod:
    """Have a pod answer each message of a type with its data."""
    pod.on_type(message_type, lambda message: pod.reply_to(message, Message("pong", message.data)))
    return pod


# Who gets a reply


@pytest.mark.parametrize("by", ["message", "receipt", "uuid", "send", "publish"])
def test_reply_reaches_its_receipt_past_the_filter_and_everybody_who_wants_its_type(connect: Connect, by: str) -> None:
    asker, responder, observer = connect(), connect(), connect()
    to_asker, to_observer, asked = Collector(), Collector(), Collector()
    asker.on_type("other", to_asker)
    observer.on_type("pong", to_observer)
    responder.on_type("ping", asked)
    receipt = asker.publish("ping", 1)
    (question,) = asked.wait(1)
    answer = Message("pong", 2)
    if by == "message":
        responder.reply_to(question, answer)
    elif by == "receipt":
        responder.reply_to(receipt, answer)
    elif by == "uuid":
        responder.reply_to(question.uuid, answer)
    elif by == "send":
        answer.set_reply_to(question.uuid)
        responder.send(answer)
    else:
        responder.publish("pong", 2, reply_to=question.uuid)
    reply = receipt.result(LIMIT)
    assert (reply.type, reply.data, reply.reply_to) == ("pong", 2, question.uuid)
    settle(responder)
    (observed,) = to_observer.wait(1)
    assert observed.reply_to == receipt.uuid
    assert to_asker.messages == []


def test_reply_also_reaches_the_handler_if_the_filter_lets_its_type_through(connect: Connect) -> None:
    asker, responder = connect(), echo(connect())
    collected = Collector()
    asker.on_type("pong", collected)
    receipt = asker.publish("ping", 5)
    assert receipt.result(LIMIT).data == 5
    settle(asker, responder)
    assert [(message.type, message.data) for message in collected.messages] == [("pong", 5)]


def test_reply_from_another_process_or_link_reaches_the_receipt(connect: Connect, grav: Grav) -> None:
    asker = connect()
    with Grav(bus=grav.bus_endpoint) as elsewhere:
        echo(elsewhere.connect(), "far")
        assert asker.publish("far", 3).result(LIMIT).data == 3


def test_first_reply_counts(connect: Connect) -> None:
    asker, responder = connect(), connect()

    def twice(message: Message) -> None:
        responder.reply_to(message, Message("pong", 1))
        responder.reply_to(message, Message("pong", 2))

    responder.on_type("ping", twice)
    receipt = asker.publish("ping")
    assert receipt.wait_on(lambda reply: reply.data) == 1


def test_reply_to_a_reply_goes_on(connect: Connect) -> None:
    asker, responder = connect(), connect()
    ends = Collector()

    def respond(message: Message) -> None:
        receipt = responder.reply_to(message, Message("pong", message.data + 1))
        receipt.on_reply(ends)

    responder.on_type("ping", respond)
    reply = asker.publish("ping", 1).result(LIMIT)
    asker.reply_to(reply, Message("thanks", reply.data + 1))
    ends.wait(1)
    assert ends.data == [3]


def test_reply_does_not_replace_the_handler(connect: Connect) -> None:
    asker, responder = connect(), echo(connect())
    collected = Collector()
    asker.on_type("news", collected)
    asker.publish("ping").on_reply(lambda message: None)
    asker.publish("ping").result(LIMIT)
    responder.publish("news")
    collected.wait(1)


# Receipts


def test_reply_is_given_to_the_function_and_its_result_returned(connect: Connect) -> None:
    asker = connect()
    echo(connect())
    assert asker.publish("ping", 4).wait_on(lambda message: message.data + 1) == 5
    assert asker.publish("ping", 4).wait_until(LIMIT, lambda message: message.data + 2) == 6
    with pytest.raises(KeyError, match="mine"):
        asker.publish("ping").wait_on(lambda message: message.headers["mine"])


def test_reply_that_comes_before_anybody_waits_is_kept(connect: Connect) -> None:
    asker, responder = connect(), echo(connect())
    receipts = [asker.publish("ping", number) for number in range(100)]
    settle(asker, responder)  # the replies are handled: they are here
    for number, receipt in reversed(list(enumerate(receipts))):
        assert receipt.result(0).data == number


def test_only_the_latest_4096_unclaimed_replies_are_kept(connect: Connect) -> None:
    asker, responder = connect(), echo(connect())
    receipts = [asker.publish("ping", number) for number in range(4100)]
    settle(asker, responder)
    for receipt in receipts[:4]:
        with pytest.raises(WaitTimeoutError):
            receipt.result(0)
    assert [receipt.result(0).data for receipt in receipts[4:]] == list(range(4, 4100))


def test_reply_is_given_once(connect: Connect) -> None:
    asker = connect()
    echo(connect())
    receipt = asker.publish("ping")
    receipt.result(LIMIT)
    with pytest.raises(WaitTimeoutError):
        receipt.result(0)


def test_many_receipts_wait_at_once_in_many_threads(connect: Connect) -> None:
    asker = connect()
    echo(connect())

    def work(worker: int) -> None:
        for number in range(200):
            receipt = asker.publish("ping", [worker, number])
            assert receipt.result(LIMIT).data == [worker, number]

    joins = [in_thread(lambda worker=worker: work(worker)) for worker in range(8)]  # type: ignore[misc]
    for join in joins:
        join()


def test_replies_find_their_receipts_in_whatever_order_they_come(connect: Connect) -> None:
    asker, responder = connect(), connect()
    asked = Collector()
    responder.on_type("ping", asked)
    receipts = [asker.publish("ping", number) for number in range(50)]
    joins = [in_thread(lambda receipt=receipt: receipt.result(LIMIT).data) for receipt in receipts]  # type: ignore[misc]
    for message in reversed(asked.wait(50)):
        responder.reply_to(message, Message("pong", message.data))
    assert [join() for join in joins] == list(range(50))


def test_on_reply_runs_on_the_callback_thread(connect: Connect) -> None:
    asker, responder = connect(), echo(connect())
    threads = Collector(then=lambda message: seen.append(threading.get_ident()))
    seen: list[int] = []
    asker.on_type("news", threads)
    responder.publish("news")
    threads.wait(1)
    kept = asker.publish("ping")
    settle(asker, responder)
    kept.on_reply(threads)
    asker.publish("ping").on_reply(threads)
    threads.wait(3)
    settle(asker)
    asker.disconnect()  # joins the thread
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


def test_exception_of_an_on_reply_function_is_logged_and_ends_nothing(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    asker = connect()
    echo(connect())

    def fail(message: Message) -> None:
        raise LookupError("in the background")

    collected = Collector()
    asker.publish("ping").on_reply(fail)
    asker.publish("ping", 2).on_reply(collected)
    collected.wait(1)
    assert collected.data == [2]
    assert "in the background" in caplog.text


def test_await_gives_the_reply(connect: Connect) -> None:
    asker, responder = connect(), echo(connect())

    async def one(number: int) -> Any:
        reply = await asker.publish("ping", number)
        return reply.data

    async def run() -> list[Any]:
        answers = await asyncio.gather(*(one(number) for number in range(200)))
        kept = asker.publish("ping", 200)
        await asyncio.to_thread(settle, asker, responder)
        answers.append((await kept).data)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asker.publish("nobody.answers")
        return answers

    assert asyncio.run(run()) == list(range(201))


def test_reply_after_a_cancelled_await_is_kept(connect: Connect) -> None:
    asker, responder = connect(), connect()
    asked = Collector()
    responder.on_type("ping", asked)

    async def run() -> Any:
        receipt = asker.publish("ping")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await receipt
        responder.reply_to(asked.wait(1)[0], Message("pong", "late"))
        return (await receipt).data

    assert asyncio.run(run()) == "late"


def test_reply_after_a_timeout_is_kept(connect: Connect) -> None:
    asker, responder = connect(), connect()
    asked = Collector()
    responder.on_type("ping", asked)
    receipt = asker.publish("ping")
    with pytest.raises(WaitTimeoutError):
        receipt.result(0.05)
    responder.reply_to(asked.wait(1)[0], Message("pong", "late"))
    assert receipt.result(LIMIT).data == "late"


def test_waits_that_have_ended_leave_nothing_in_the_pod(connect: Connect) -> None:
    asker = connect()
    echo(connect())

    async def wait() -> None:
        await asker.publish("ping")

    for _ in range(100):
        asker.publish("ping").result(LIMIT)
        asker.publish("ping").wait_until(LIMIT, lambda reply: None)
        asyncio.run(wait())
        with pytest.raises(WaitTimeoutError):
            asker.publish("unanswered").result(0)
        with pytest.raises(NoRespondersError):
            asker.ask("unanswered", timeout=LIMIT)
    done = Collector()
    asker.publish("ping").on_reply(done)
    done.wait(1)
    with asker._link.lock:
        assert not asker._waiters
        assert not asker._replies._takers
        assert not asker._replies._questions
        assert not asker._confirmations


def test_receipt_is_true_and_says_the_uuid(connect: Connect) -> None:
    message = Message("x")
    receipt = connect().send(message)
    assert receipt
    assert receipt.uuid == message.uuid
    assert message.uuid in repr(receipt)


# wait_on and wait_until of a pod


def test_wait_on_returns_what_the_function_returns(connect: Connect, grav: Grav) -> None:
    waiter, sender = connect(), connect()
    waiting = in_thread(lambda: waiter.wait_on(lambda message: (message.type, message.data)))
    wait_for_receivers(grav, "any")
    sender.publish("any", 1)
    assert waiting() == ("any", 1)


@pytest.mark.parametrize("how", ["raise", "raise instance", "return class", "return instance"])
def test_wait_on_goes_on_until_a_message_is_wanted(connect: Connect, grav: Grav, how: str) -> None:
    waiter, sender = connect(), connect()
    seen: list[int] = []

    def third(message: Message) -> Any:
        seen.append(message.data)
        if message.data < 3:
            if how == "raise":
                raise MessageNotWanted
            if how == "raise instance":
                raise MessageNotWanted("not yet")
            return MessageNotWanted if how == "return class" else MessageNotWanted()
        return None

    waiting = in_thread(lambda: waiter.wait_on(third))
    wait_for_receivers(grav, "n")
    for number in range(10):
        sender.publish("n", number)
    assert waiting() is None
    settle(sender)  # what it saw counts as handled, and the handler is unset
    assert seen == [0, 1, 2, 3]


def test_wait_resets_the_filter_and_unsets_the_handler(connect: Connect, grav: Grav) -> None:
    waiter, sender = connect(), connect()
    before = Collector()
    waiter.on_type("narrow", before)
    waiting = in_thread(lambda: waiter.wait_until(LIMIT, lambda message: message.type))
    wait_for_receivers(grav, "wide")
    sender.publish("wide")
    assert waiting() == "wide"
    sender.publish("wide")
    sender.publish("narrow")
    settle(sender)
    assert before.messages == []


def test_exception_of_the_function_reaches_the_caller_and_the_message_is_handled(connect: Connect, grav: Grav) -> None:
    waiter, sender = connect(), connect()
    dead = grav.stats()["dead_letters"]
    waiting = in_thread(lambda: waiter.wait_on(lambda message: 1 // message.data))
    wait_for_receivers(grav, "n")
    sender.publish("n", 0)
    with pytest.raises(ZeroDivisionError):
        waiting()
    settle(sender)
    collected = Collector()
    waiter.on(collected)
    sender.publish("n", 1)
    settle(sender)
    assert collected.data == [1]
    assert grav.stats()["dead_letters"] == dead


def test_wait_until_gives_up(connect: Connect) -> None:
    waiter, sender = connect(), connect()
    with pytest.raises(WaitTimeoutError, match=r"0\.05"):
        waiter.wait_until(0.05, unwanted)
    collected = Collector()
    waiter.on(collected)
    sender.publish("later")
    collected.wait(1)


def test_wait_gets_the_replay(grav: Grav, connect: Connect) -> None:
    connect().publish("remembered", 8)
    with grav.connect_with_replay() as waiter:
        assert waiter.wait_until(LIMIT, lambda m: m.data if m.type == "remembered" else MessageNotWanted) == 8


def test_pod_cannot_wait_for_messages_inside_its_own_callback(connect: Connect) -> None:
    pod, other, sender = connect(), connect(), connect()
    errors: list[BaseException] = []
    waits: list[Callable[[], object]] = [
        lambda: pod.wait_on(unwanted),
        lambda: pod.wait_until(0.1, unwanted),
    ]

    def handler(message: Message) -> None:
        for wait in waits:
            try:
                wait()
            except ReentrantWaitError as exc:
                errors.append(exc)
        with pytest.raises(WaitTimeoutError):
            other.wait_until(0.01, unwanted)  # another pod may

    collected = Collector(then=handler)
    pod.on(collected)
    sender.publish("x")
    settle(sender)
    assert len(errors) == 2
    assert isinstance(errors[0], RuntimeError)
    sender.publish("x")  # the handler is still there
    settle(sender)
    assert len(errors) == 4


def test_other_waits_work_inside_the_callback(connect: Connect) -> None:
    pod, sender, observer = connect(), connect(), connect()
    echo(connect())
    collected, results = Collector(), Collector()
    observer.on_type("result", collected)

    def handler(message: Message) -> None:
        by_receipt = pod.publish("ping", 1).result(LIMIT).data
        by_function = pod.publish("ping", 2).wait_until(LIMIT, lambda reply: reply.data)
        pod.publish("ping", 3).on_reply(results)
        with pytest.raises(NoRespondersError):
            pod.ask("nobody.there", timeout=LIMIT)
        pod.publish("result", [by_receipt, by_function])
        pod.flush(LIMIT)
        pod.flush(LIMIT, settled=True)

    failures = Collector(then=handler)
    pod.on_type("start", failures)
    sender.publish("start")
    sender.publish("start")
    settle(sender)
    assert collected.data == [[1, 2], [1, 2]]
    assert [message.attempt for message in failures.messages] == [1, 1]
    results.wait(2)
    assert results.data == [3, 3]


def test_flood_from_inside_a_callback_passes(connect: Connect) -> None:
    pod, sender, receiver = connect(), connect(), connect()
    collected = Collector()
    receiver.on_type("out", collected)
    pod.on_type("start", lambda message: [pod.publish("out", number) for number in range(20_000)])
    sender.publish("start")
    collected.wait(20_000)
    assert collected.data == list(range(20_000))


# flush


def test_flush_returns_when_the_bus_has_accepted(connect: Connect, gate: threading.Event) -> None:
    receiver, sender = connect(), connect()
    collected = Collector(then=lambda message: gate.wait(LIMIT))
    receiver.on(collected)
    sender.flush()
    for number in range(10):
        sender.publish("n", number)
    sender.flush(LIMIT)
    with pytest.raises(WaitTimeoutError, match="settled"):
        sender.flush(0.05, settled=True)
    with pytest.raises(WaitTimeoutError):
        sender.flush(0, settled=True)
    assert collected.data == [0]
    gate.set()
    sender.flush(settled=True)
    assert collected.data == list(range(10))


def test_settled_means_handled_by_every_receiver(connect: Connect) -> None:
    sender = connect()
    collected = [Collector() for _ in range(5)]
    for one in collected:
        connect().on(one)
    for batch in range(1, 51):
        for number in range(7):
            sender.publish("n", number)
        settle(sender)
        assert [len(one.messages) for one in collected] == [7 * batch] * 5


def test_flush_of_one_thread_does_not_wait_for_what_others_send_later(connect: Connect) -> None:
    sender, receiver = connect(), connect()
    receiver.on(Collector())
    stop = threading.Event()

    def stream() -> None:
        while not stop.is_set():
            sender.publish("stream")

    streaming = in_thread(stream)
    for _ in range(20):
        sender.flush(LIMIT, settled=True)
    stop.set()
    streaming()


# Limits


def publish_and_flush(pod: Pod, limit: Any) -> None:
    pod.publish("held")
    pod.flush(limit, settled=True)


WAITS: dict[str, Callable[[Pod, Any], object]] = {
    "result": lambda pod, limit: pod.publish("unanswered").result(limit),
    "flush": publish_and_flush,
    "ask": lambda pod, limit: pod.ask("held", timeout=limit),
}


@pytest.fixture
def held(connect: Connect, gate: threading.Event) -> Pod:
    """A pod that holds messages of the type `held` until the gate is opened."""
    pod = connect()
    pod.on_type("held", lambda message: gate.wait(LIMIT))
    return pod


@pytest.mark.parametrize("limit", [0, 0.01, lambda: 0, lambda: 0.01], ids=["0", "0.01", "-> 0", "-> 0.01"])
@pytest.mark.parametrize("wait", WAITS)
def test_wait_ends_with_its_limit(connect: Connect, held: Pod, wait: str, limit: Any) -> None:
    error = AskTimeoutError if wait == "ask" else WaitTimeoutError
    with pytest.raises(error) as caught:
        WAITS[wait](connect(), limit)
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("limit", [-1, -0.001, float("nan"), "1", True, lambda: -1], ids=stable)
@pytest.mark.parametrize("wait", WAITS)
def test_negative_limit_is_an_error(connect: Connect, held: Pod, wait: str, limit: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        WAITS[wait](connect(), limit)


@pytest.mark.parametrize("limit", [None, lambda: None], ids=["None", "-> None"])
@pytest.mark.parametrize("wait", ["result", "flush", "ask"])
def test_none_is_no_limit(connect: Connect, wait: str, limit: Any) -> None:
    pod = connect()
    echo(connect())
    actions: dict[str, Callable[[], object]] = {
        "result": lambda: pod.publish("ping").result(limit),
        "flush": lambda: pod.flush(limit, settled=True),
        "ask": lambda: pod.ask("grav.sys.bus.stats", to="grav.bus", timeout=limit),
    }
    actions[wait]()


@pytest.mark.parametrize("limit", [0, -1, -0.5, None, lambda: 0, lambda: -3], ids=stable)
def test_wait_until_of_zero_or_less_has_no_limit(connect: Connect, grav: Grav, limit: Any) -> None:
    pod, sender = connect(), connect()
    receipt = pod.publish("question")
    waiting = in_thread(lambda: receipt.wait_until(limit, lambda message: message.data))
    pod_waiting = in_thread(lambda: pod.wait_until(limit, lambda message: message.data))
    wait_for_receivers(grav, "news")
    sender.reply_to(receipt, Message("news", 1))
    assert waiting() == 1
    assert pod_waiting() == 1


def test_wait_until_takes_a_callable(connect: Connect) -> None:
    pod = connect()
    with pytest.raises(WaitTimeoutError):
        pod.wait_until(lambda: 0.01, unwanted)
    with pytest.raises(WaitTimeoutError):
        pod.publish("unanswered").wait_until(lambda: 0.01, unwanted)


# How waits end


def test_ask_that_nobody_handles_ends_at_once(connect: Connect) -> None:
    pod = connect()
    for _ in range(20):
        with pytest.raises(NoRespondersError):
            pod.ask("nobody.handles", timeout=None)
        with pytest.raises(NoRespondersError):
            pod.ask("any", to="nobody-of-this-name", timeout=None)


def test_receipt_waits_though_nobody_responds_yet(connect: Connect, grav: Grav) -> None:
    asker = connect()
    receipt = asker.publish("early.ping", 6)
    settle(asker)
    with grav.connect_with_replay() as late:
        echo(late, "early.ping")
        assert receipt.result(LIMIT).data == 6


async def _await(receipt: Receipt) -> Message:
    return await receipt


async def _iterate(pod: Pod) -> None:
    async for _ in pod.messages():
        pass


def flood(pod: Pod) -> None:
    for number in range(200_000):
        if not pod.publish("held", number):  # the pod left while this thread was between two of them
            raise ConnectionClosedError


ENDLESS: dict[str, Callable[[Pod], object]] = {
    "result": lambda pod: pod.publish("unanswered").result(),
    "receipt.wait_on": lambda pod: pod.publish("unanswered").wait_on(unwanted),
    "receipt.wait_until": lambda pod: pod.publish("unanswered").wait_until(0, unwanted),
    "limited": lambda pod: pod.publish("unanswered").result(LIMIT * 10),
    "await": lambda pod: asyncio.run(_await(pod.publish("unanswered"))),
    "wait_on": lambda pod: pod.wait_on(unwanted),
    "wait_until": lambda pod: pod.wait_until(LIMIT * 10, unwanted),
    "ask": lambda pod: pod.ask("held", timeout=None),
    "ask_async": lambda pod: asyncio.run(pod.ask_async("held", timeout=LIMIT * 10)),
    "flush": lambda pod: publish_and_flush(pod, None),
    "send": flood,
}


def waiting_in(pod: Pod, kind: str) -> bool:
    """Whether a wait of this kind has begun."""
    with pod._link.lock:
        if kind in ("flush", "send"):
            return pod._room_waiters > 0
        if kind.startswith("ask"):
            return bool(pod._replies._questions)
        if kind in ("wait_on", "wait_until"):
            return bool(pod._waiters) and pod._core.filters.listening and not pod._confirmations
        return bool(pod._waiters)


@pytest.mark.parametrize("end", ["stop", "disconnect"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_wait_ends_when_its_node_or_pod_ends(kind: str, end: str) -> None:
    release = threading.Event()
    with Grav() as grav:
        holder, pod = grav.connect(mailbox_limit=100, stuck_after=None), grav.connect()
        holder.on_type("held", lambda message: release.wait(LIMIT))
        waiting = in_thread(lambda: ENDLESS[kind](pod))
        while not waiting_in(pod, kind):
            os.sched_yield()
        ending = in_thread(lambda: grav.stop(0.1)) if end == "stop" else in_thread(pod.disconnect)
        try:
            with pytest.raises(ConnectionClosedError):
                waiting()
        finally:
            release.set()
        ending()


@pytest.mark.parametrize("end", ["stop", "disconnect"])
def test_async_for_ends_when_its_node_or_pod_ends(end: str) -> None:
    with Grav() as grav:
        pod = grav.connect()
        iterating = in_thread(lambda: asyncio.run(_iterate(pod)))
        wait_for_receivers(grav, "any")
        if end == "disconnect":
            pod.disconnect()
            iterating()
        else:
            grav.stop()
            with pytest.raises(ConnectionClosedError):
                iterating()


@pytest.mark.parametrize("kind", ENDLESS)
def test_stopped_node_refuses_every_wait(kind: str) -> None:
    grav = Grav()
    pod = grav.connect()
    receipt = pod.publish("before")
    grav.stop()
    if kind in ("result", "receipt.wait_on", "receipt.wait_until", "limited", "await"):
        with pytest.raises(ConnectionClosedError):
            receipt.result(LIMIT)
    else:
        with pytest.raises(ConnectionClosedError):
            ENDLESS[kind](pod)
    with pytest.raises(ConnectionClosedError):
        pod.publish("after")
    for use in (grav.connect, grav.connect_with_replay, grav.stats, lambda: grav.publish("x"), lambda: grav.ask("x")):
        with pytest.raises(ConnectionClosedError):
            use()
