"""Pods on a real bus: sending, handlers, filters, failures, asyncio, and the end of a pod."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from time import monotonic
from typing import Any

import pytest

from grav_actors import (
    ActorRef,
    ConfigError,
    ConnectionClosedError,
    Grav,
    Message,
    MessageEncodeError,
    MessageTooLargeError,
    NoReceiptError,
    Pod,
    Receipt,
    Reject,
)
from grav_actors.filters import ALL_FILTERS_BYTES, MAX_FILTER_BYTES, FilterSet
from grav_actors.ids import new_id
from grav_actors.pod.intake import collect
from grav_actors.pod.outbox import Outbox
from grav_actors.protocol import CLOSE_UNHEALTHY, Verb
from support.collecting import LIMIT, Collector, in_thread, settle
from support.naming import stable

Connect = Callable[..., Pod]

MIB = 1024 * 1024


@pytest.fixture
def grav(shared_grav: Grav) -> Grav:
    return shared_grav


# Sending


def test_what_is_sent_is_a_picture_of_the_data(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    data: dict[str, Any] = {"list": [1, 2], "name": "before"}
    message = Message("picture", data)
    sender.send(message)
    data["list"].append(3)
    data["name"] = "after"
    collected.wait(1)
    assert collected.data == [{"list": [1, 2], "name": "before"}]


def test_message_sent_twice_carries_its_data_of_each_time(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    data = [1]
    message = Message("picture", data)
    sender.send(message)
    data.append(2)
    sender.send(message)
    collected.wait(2)
    assert collected.data == [[1], [1, 2]]
    assert {received.uuid for received in collected.messages} == {message.uuid}


def test_each_receiver_has_its_own_copy(connect: Connect) -> None:
    sender = connect()
    copies = [Collector(then=lambda message: message.data.append(9)) for _ in range(3)]
    for copy in copies:
        connect().on(copy)
    sent = [1]
    sender.publish("copy", sent)
    for copy in copies:
        copy.wait(1)
    settle(sender)
    assert [copy.data for copy in copies] == [[[1, 9]]] * 3
    assert sent == [1]


def test_message_arrives_with_all_its_fields(connect: Connect) -> None:
    class Special(Message):
        pass

    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    cause = Message()
    message = Special("field.test", {"k": b"v"}, parent_id=cause.uuid, headers={"trace": "1"})
    receipt = sender.send(message)
    (received,) = collected.wait(1)
    assert type(received) is Message
    assert received == message
    assert received.uuid == receipt.uuid == message.uuid
    assert (received.type, received.data) == ("field.test", {"k": b"v"})
    assert (received.parent_id, received.reply_to, dict(received.headers)) == (cause.uuid, "", {"trace": "1"})
    assert received.timestamp == message.timestamp
    assert (received.attempt, received.redelivered, received.cancelled) == (1, False, False)


def test_publish_makes_the_message(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    cause = Message()
    receipt = sender.publish("made", [1], parent_id=cause.uuid, reply_to=cause.uuid, headers={"a": "b"})
    sender.publish("empty")
    received, empty = collected.wait(2)
    assert (received.uuid, received.type, received.data) == (receipt.uuid, "made", [1])
    assert (received.parent_id, received.reply_to, dict(received.headers)) == (cause.uuid, cause.uuid, {"a": "b"})
    assert empty.data is None


@pytest.mark.parametrize(
    "data",
    [
        None, True, False, 0, -(2**63), 2**64 - 1, 1.5, float("inf"), "", "text", "ü€😀", b"", b"raw", [],
        [1, [2, [3]]], {}, {"a": 1, b"b": 2, 3: None},
        datetime(2024, 2, 29, 12, 0, 0, 123456, UTC),
    ],
    ids=stable,
)  # fmt: skip
def test_data_arrives_equal(connect: Connect, data: Any) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    sender.publish("data", data)
    collected.wait(1)
    assert collected.data == [data]
    assert type(collected.data[0]) is type(data)


class Level(IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("data", "arrives"),
    [
        ((1, (2,)), [1, [2]]), (bytearray(b"x"), b"x"), (memoryview(b"x"), b"x"), (Level.HIGH, 3), (Name("n"), "n"),
        (OrderedDict(a=1), {"a": 1}), ([Level.HIGH, Name("n")], [3, "n"]),
    ],
    ids=stable,
)  # fmt: skip
def test_data_of_other_types_arrives_as_its_base(connect: Connect, data: Any, arrives: Any) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    sender.publish("data", data)
    sender.send(Message("data", data))
    collected.wait(2)
    for received in collected.data:
        assert received == arrives
        assert type(received) is type(arrives)


def test_buffer_that_changes_after_publish_does_not_change_what_arrives(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    for number in range(100):
        buffer = bytearray([number]) * 10
        sender.publish("buffer", buffer)
        buffer[:] = b"overwritten"
    collected.wait(100)
    assert collected.data == [bytes([number]) * 10 for number in range(100)]


def test_reference_arrives_and_is_usable(connect: Connect, grav: Grav) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    sender.publish("ref", {"who": grav.actor("nobody")})
    collected.wait(1)
    ref = collected.data[0]["who"]
    assert type(ref) is ActorRef
    assert ref == grav.actor("nobody")
    assert not ref.is_alive()


def test_own_messages_never_come_back(connect: Connect) -> None:
    pod, other = connect(), connect()
    own, others = Collector(), Collector()
    pod.on(own)
    other.on(others)
    for number in range(100):
        pod.publish("mine", number)
    other.publish("yours")
    own.wait(1)
    settle(pod, other)
    assert own.types == ["yours"]
    assert others.data == list(range(100))


def test_bad_data_raises_where_it_is_sent_and_the_pod_goes_on(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    circle: list[Any] = []
    circle.append(circle)
    naive = datetime(2024, 1, 1)  # noqa: DTZ001
    for bad in ({1, 2}, object(), naive, 2**64, -(2**63) - 1, {1.5: 1}, [{"deep": {3j}}], circle, "\ud800", 3j):
        message = Message("bad", bad)  # nothing is wrong yet
        with pytest.raises(MessageEncodeError):
            sender.send(message)
        with pytest.raises(MessageEncodeError):
            sender.publish("bad", bad)
        with pytest.raises((TypeError, ValueError)):
            sender.reply_to(message, Message("bad", bad))
        with pytest.raises(MessageEncodeError):
            sender.ask("bad", bad)
    sender.publish("good")
    collected.wait(1)
    settle(sender)
    assert collected.types == ["good"]


def test_largest_message_passes_and_one_byte_more_raises_with_both_figures(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    largest = bytes(range(256)) * 4096
    assert len(largest) == MIB
    for _ in range(20):
        sender.publish("large", largest)
    with pytest.raises(MessageTooLargeError, match=r"1[,_]?048[,_]?577.*1[,_]?048[,_]?576"):
        sender.publish("large", largest + b"x")
    sender.publish("small", b"x")
    collected.wait(21)
    settle(sender)
    assert collected.data == [largest] * 20 + [b"x"]


def test_sizes_around_the_limits_of_frames_arrive(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    sizes = [0, 1, 255, 256, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 700_000, 3, 64 * 1024 - 40]
    for size in sizes:
        sender.publish("sized", b"s" * size)
    collected.wait(len(sizes))
    assert [len(data) for data in collected.data] == sizes


def test_pod_may_be_used_from_many_threads_at_once(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)

    def work(worker: int) -> None:
        for number in range(1000):
            assert sender.publish(f"worker.{number % 3}", [worker, number])
            if number % 100 == 0:
                sender.filter_type(f"unwanted.{worker}", False)

    joins = [in_thread(lambda worker=worker: work(worker)) for worker in range(8)]  # type: ignore[misc]
    for join in joins:
        join()
    collected.wait(8000)
    settle(sender)
    assert len(collected.data) == 8000
    for worker in range(8):
        assert [number for who, number in collected.data if who == worker] == list(range(1000))


@pytest.mark.parametrize("count", [1, 3, 700])
def test_a_receipt_has_the_uuid_of_the_message_that_arrives(connect: Connect, count: int) -> None:
    receiver, sender = connect(), connect()
    arrived: list[tuple[str, Any]] = []
    is_all = threading.Event()

    def take(msg: Message) -> None:
        arrived.append((msg.uuid, msg.data))
        if len(arrived) == 3 * count:
            is_all.set()

    receiver.on(take)
    sent: list[tuple[str, Any]] = []
    for number in range(count):
        message = Message("a", [number])
        sent.append((sender.publish("a", b"%d" % number).uuid, b"%d" % number))
        sent.append((sender.publish("b", {"number": number}).uuid, {"number": number}))
        assert sender.send(message).uuid == message.uuid
        sent.append((message.uuid, [number]))
    assert is_all.wait(LIMIT)
    assert arrived == sent


def test_a_question_knows_its_number_whatever_others_publish_meanwhile(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = connect()
    look = Outbox.has_room

    def look_before_another_thread_publishes(outbox: Outbox, count: int = 1) -> bool:
        has_room = look(outbox, count)
        outbox.incoming += ("other", 1, 1, b"", b"")
        return has_room

    monkeypatch.setattr(Outbox, "has_room", look_before_another_thread_publishes)
    assert asker._ask("nobody", None, None, b"").seq == 2


def test_a_uuid_read_in_a_handler_is_that_of_the_message_sent(connect: Connect) -> None:
    first, second, third = connect(), connect(), connect()
    collected = Collector()
    third.on_type("on", collected)
    second.on_type("in", lambda msg: second.send(Message("on", msg.data, parent_id=msg.uuid)))
    receipts = [first.publish("in", number) for number in range(20)]
    collected.wait(20)
    assert [one.parent_id for one in collected.messages] == [receipt.uuid for receipt in receipts]
    assert collected.data == list(range(20))


# Handlers and filters


def test_new_pod_is_routed_nothing(connect: Connect) -> None:
    pod, sender = connect(), connect()
    sender.publish("early")
    settle(sender)
    collected = Collector()
    pod.on(collected)
    sender.publish("late")
    collected.wait(1)
    settle(sender)
    assert collected.types == ["late"]


def test_handler_is_replaced(connect: Connect) -> None:
    pod, sender = connect(), connect()
    first, second = Collector(), Collector()
    pod.on(first)
    sender.publish("one")
    first.wait(1)
    pod.on(second)
    sender.publish("two")
    second.wait(1)
    pod.on(None)
    sender.publish("three")
    settle(sender)
    pod.on_type("four", first)
    sender.publish("four")
    settle(sender)
    assert first.types == ["one", "four"]
    assert second.types == ["two"]


def test_on_resets_the_filter(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on_type("a", collected)
    pod.filter_type("b", False)
    unwanted = Message("c")
    pod.filter_uuid(unwanted.uuid, False)
    pod.on(collected)
    for message in (Message("a"), Message("b"), unwanted):
        sender.send(message)
    settle(sender)
    assert collected.types == ["a", "b", "c"]


def test_on_type_resets_the_filter(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on_type("a", collected)
    pod.on_type("b", collected)
    for message_type in ("a", "b", "c"):
        sender.publish(message_type)
    settle(sender)
    assert collected.types == ["b"]


TYPES = ("grav.default", "a", "b", "a.b", "a.c", "b.b", "a.b.c", "a.b.c.d")


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("a", {"a"}),
        ("a.b", {"a.b"}),
        ("*", {"a", "b"}),
        ("a.*", {"a.b", "a.c"}),
        ("*.b", {"a.b", "b.b"}),
        ("a.>", {"a.b", "a.c", "a.b.c", "a.b.c.d"}),
        ("a.*.c", {"a.b.c"}),
        ("*.*", {"grav.default", "a.b", "a.c", "b.b"}),
        (">", set(TYPES)),
        ("grav.default", {"grav.default"}),
        ("grav.>", {"grav.default"}),
        ("nothing", set()),
    ],
)
def test_on_type_takes_what_its_pattern_matches(connect: Connect, pattern: str, matched: set[str]) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on_type(pattern, collected)
    for message_type in TYPES:
        sender.publish(message_type)
    settle(sender)
    assert set(collected.types) == matched
    assert len(collected.types) == len(matched)


def test_exact_type_comes_before_patterns_and_patterns_in_their_order(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on(collected)
    pod.filter_type("a.b.>", True)
    pod.filter_type("a.>", False)
    pod.filter_type("a.c", True)
    pod.filter_type("b.b", False)
    for message_type in TYPES:
        sender.publish(message_type)
    settle(sender)
    # a.b.> is first of the patterns; a.c is exact; nothing is said of the others but b.b.
    assert collected.types == ["grav.default", "a", "b", "a.c", "a.b.c", "a.b.c.d"]


def test_type_filter_widens_what_on_type_made_exclusive(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on_type("a", collected)
    pod.filter_type("b", True)
    pod.filter_type("a.*", True)
    for message_type in TYPES:
        sender.publish(message_type)
    settle(sender)
    assert collected.types == ["a", "b", "a.b", "a.c"]


def test_type_filter_may_be_taken_back(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on(collected)
    pod.filter_type("a", False)
    sender.publish("a", 1)
    settle(sender)
    pod.filter_type("a", True)
    sender.publish("a", 2)
    settle(sender)
    assert collected.data == [2]


def test_uuid_filter_refuses_one_message_of_many(connect: Connect) -> None:
    pod, other, sender = connect(), connect(), connect()
    collected, all_of_them = Collector(), Collector()
    pod.on(collected)
    other.on(all_of_them)
    messages = [Message("u", number) for number in range(50)]
    for number in (0, 7, 8, 49):
        pod.filter_uuid(messages[number].uuid, False)
    pod.filter_uuid(messages[8].uuid, True)
    for message in messages:
        sender.send(message)
    settle(sender)
    assert collected.data == [number for number in range(50) if number not in (0, 7, 49)]
    assert all_of_them.data == list(range(50))


def test_filter_beyond_what_the_bus_keeps_for_all_pods_raises_and_the_one_before_holds(grav: Grav) -> None:
    large = FilterSet(listening=True)
    while large.size + 20 <= MAX_FILTER_BYTES:
        large.set_uuid(new_id(), False)
    collected = Collector()
    with ExitStack() as stack:
        hoarders = [stack.enter_context(grav.connect()) for _ in range(ALL_FILTERS_BYTES // large.size)]
        sender, pod = (stack.enter_context(grav.connect()) for _ in range(2))
        pod.on_type("room.a", collected)
        for hoarder in hoarders:
            hoarder._set_filters(large)
        with pytest.raises(ConfigError, match="the filters of all pods of this bus have 16 MiB"):
            pod._set_filters(large)
        sender.publish("room.a", 1)
        collected.wait(1)
        hoarders[0].disconnect()
        pod._set_filters(large)
    assert collected.data == [1]


def test_both_filters_must_allow(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on_type("a", collected)
    wrong_type, wrong_uuid, right = Message("b"), Message("a"), Message("a")
    pod.filter_uuid(wrong_type.uuid, True)
    pod.filter_uuid(wrong_uuid.uuid, False)
    for message in (wrong_type, wrong_uuid, right):
        sender.send(message)
    settle(sender)
    assert [message.uuid for message in collected.messages] == [right.uuid]


@pytest.mark.parametrize("bad", ["", "a..b", ".a", "a.", "a b", "a.>.b", "x" * 256, 7, None])
def test_bad_type_or_pattern_raises_and_changes_nothing(connect: Connect, bad: Any) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on_type("a", collected)
    with pytest.raises((TypeError, ValueError)):
        pod.on_type(bad, collected)
    with pytest.raises((TypeError, ValueError)):
        pod.filter_type(bad, False)
    with pytest.raises((TypeError, ValueError)):
        pod.filter_uuid(bad, False)
    sender.publish("a")
    sender.publish("b")
    settle(sender)
    assert collected.types == ["a"]


def test_what_is_no_message_or_function_is_refused_where_it_is_given(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on(collected)
    wrong: Any
    for wrong in ("hello", None, {"type": "a"}, Message):
        with pytest.raises(MessageEncodeError, match=r"what is sent is a Message\(type, data\), not "):
            sender.send(wrong)
        with pytest.raises(MessageEncodeError, match=r"what is sent is a Message"):
            sender.reply_to(Message(), wrong)
    for wrong in (None, 7, b"raw"):
        with pytest.raises(TypeError, match="in_reply_to is the message that is answered"):
            sender.reply_to(wrong, Message())
    for wrong in ("hello", 7):
        with pytest.raises(TypeError, match="a handler is a function that takes a message"):
            pod.on(wrong)
    for wrong in (None, 7):
        with pytest.raises(TypeError, match="a handler is a function that takes a message"):
            pod.on_type("b", wrong)
        with pytest.raises(TypeError, match="on_reply takes a function"):
            sender.publish("unanswered").on_reply(wrong)
    sender.publish("a")
    settle(sender)
    assert collected.types == ["unanswered", "unanswered", "a"]


def test_what_is_sent_after_a_change_returned_follows_it(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector()
    pod.on(collected)
    expected: list[int] = []
    for number in range(200):
        change = number % 4
        if change == 0:
            pod.filter_type("toggled", False)
        elif change == 1:
            pod.filter_type("toggled", True)
        elif change == 2:
            pod.on_type("other", collected)
        else:
            pod.on(collected)
        sender.publish("toggled", number)
        if change in (1, 3):
            expected.append(number)
        settle(sender)
    assert collected.data == expected


def test_first_message_after_on_returned_is_seen_whoever_sends_it(connect: Connect, grav: Grav) -> None:
    sender = connect()
    with Grav(bus=grav.bus_endpoint) as elsewhere:
        stranger = elsewhere.connect()
        for number in range(100):
            pod = connect()
            collected = Collector()
            pod.on_type(f"first.{number}", collected)
            sender.publish(f"first.{number}", "same process")
            stranger.publish(f"first.{number}", "other link")
            collected.wait(2)
            pod.disconnect()
            assert sorted(collected.data) == ["other link", "same process"]


def test_handler_may_be_changed_inside_the_callback(connect: Connect) -> None:
    pod, sender = connect(), connect()
    first, second = Collector(), Collector()

    def change(message: Message) -> None:
        first(message)
        pod.on_type("b", second)

    pod.on(change)
    sender.publish("a")
    first.wait(1)
    settle(sender)
    sender.publish("a")
    sender.publish("b")
    second.wait(1)
    settle(sender)
    assert (first.types, second.types) == (["a"], ["b"])


def test_framework_types_come_only_by_patterns_that_name_them(connect: Connect) -> None:
    sender, rejecting = connect(), connect()
    patterns = (">", "*.*.*", "*.sys.dead", "*.>", "grav.default")
    unaware = {pattern: Collector() for pattern in patterns}
    for pattern, collected in unaware.items():
        connect().on_type(pattern, collected)
    plain = Collector()
    connect().on(plain)
    aware = {pattern: Collector() for pattern in ("grav.sys.dead", "grav.sys.>", "grav.>", "grav.*.dead")}
    for pattern, collected in aware.items():
        connect().on_type(pattern, collected)

    def reject(message: Message) -> None:
        raise Reject("never")

    rejecting.on_type("poison", reject)
    sender.publish("poison")
    for collected in aware.values():
        collected.wait(1)
        assert collected.types == ["grav.sys.dead"]
    settle(sender)
    assert plain.types == ["poison"]
    assert {kind for collected in unaware.values() for kind in collected.types} <= {"poison"}


@pytest.mark.parametrize("message_type", ["grav.sys.dead", "grav.reply", "grav.x"])
def test_nobody_may_send_framework_types(connect: Connect, message_type: str) -> None:
    with pytest.raises(MessageEncodeError, match="grav"):
        connect().publish(message_type)


def test_callbacks_run_one_at_a_time_in_order_on_one_thread(connect: Connect) -> None:
    pod = connect()
    senders = [connect() for _ in range(3)]
    running = threading.Lock()
    threads: set[int] = set()

    def exclusive(message: Message) -> None:
        assert running.acquire(blocking=False), "two at a time"
        threads.add(threading.get_ident())
        running.release()

    collected = Collector(then=exclusive)
    pod.on(collected)
    joins = [
        in_thread(lambda sender=sender, index=index: [sender.publish("n", [index, n]) for n in range(500)])  # type: ignore[misc]
        for index, sender in enumerate(senders)
    ]
    for join in joins:
        join()
    settle(*senders)
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    for index in range(3):
        assert [n for who, n in collected.data if who == index] == list(range(500))
    assert {message.attempt for message in collected.messages} == {1}


def test_all_pods_see_one_order(connect: Connect) -> None:
    collected = [Collector() for _ in range(3)]
    for one in collected:
        connect().on(one)
    senders = [connect() for _ in range(3)]
    joins = [
        in_thread(lambda sender=sender, index=index: [sender.publish("n", [index, n]) for n in range(500)])  # type: ignore[misc]
        for index, sender in enumerate(senders)
    ]
    for join in joins:
        join()
    settle(*senders)
    assert len(collected[0].data) == 1500
    assert collected[0].data == collected[1].data == collected[2].data


def test_cause_comes_before_effect(connect: Connect) -> None:
    observer, relay, sender = connect(), connect(), connect()
    collected = Collector()
    observer.on(collected)
    relay.on_type("cause", lambda message: relay.publish("effect", message.data))
    for number in range(300):
        sender.publish("cause", number)
    settle(sender, relay)
    seen = [(message.type, message.data) for message in collected.messages]
    assert len(seen) == 600
    for number in range(300):
        assert seen.index(("cause", number)) < seen.index(("effect", number))


def test_bus_is_served_while_a_handler_blocks(connect: Connect, gate: threading.Event) -> None:
    blocked, echo, sender = connect(), connect(), connect()
    started = Collector(then=lambda message: gate.wait(LIMIT))
    blocked.on_type("block", started)
    echo.on_type("ping", lambda message: echo.reply_to(message, Message("pong")))
    sender.publish("block")
    started.wait(1)
    # The blocked pod itself sends, asks and is confirmed meanwhile.
    assert blocked.publish("ping").result(LIMIT).type == "pong"
    blocked.filter_type("other", False)
    blocked.flush(LIMIT, settled=True)


# Failures


def failing_on(message_type: str, *, times: int = 1_000_000) -> Callable[[Message], None]:
    left = times

    def fail(message: Message) -> None:
        nonlocal left
        if message.type == message_type and left:
            left -= 1
            raise ValueError("as told")

    return fail


def test_failed_messages_come_again_in_order_after_a_success(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector(then=failing_on("bad", times=3))
    pod.on(collected)
    for number in range(3):
        sender.publish("bad", number)
    collected.wait(3)
    sender.publish("good", 3)
    settle(sender)
    assert collected.data == [0, 1, 2, 3, 0, 1, 2]
    assert [message.attempt for message in collected.messages] == [1, 1, 1, 1, 2, 2, 2]
    assert [message.redelivered for message in collected.messages] == [False] * 4 + [True] * 3


def test_success_among_those_that_came_again_brings_nothing_back(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector(then=failing_on("bad"))
    pod.on(collected)
    half = Collector(then=lambda message: failing_on("bad")(message) if message.attempt < 2 or message.data else None)
    pod.on(half)
    sender.publish("bad", 0)
    sender.publish("bad", 1)
    half.wait(2)
    sender.publish("good", 2)
    half.wait(5)
    # 0 succeeded at its second attempt; 1 failed again and waits for a success that is not of the flushed ones.
    assert half.data == [0, 1, 2, 0, 1]
    sender.publish("good", 3)
    half.wait(7)
    assert half.data == [0, 1, 2, 0, 1, 3, 1]
    assert half.messages[-1].attempt == 3


@pytest.mark.parametrize("limit", [5, 2, 1])
def test_message_that_fails_each_time_becomes_a_dead_letter(connect: Connect, grav: Grav, limit: int) -> None:
    pod = connect("breaker") if limit == 5 else connect("breaker", max_deliver=limit)
    sender, watcher = connect(), connect()
    letters = Collector()
    watcher.on_type("grav.sys.dead", letters)
    collected = Collector(then=failing_on("bad"))
    pod.on(collected)
    before = grav.stats()["dead_letters"].get("max_deliver", 0)
    sender.publish("bad", "it")
    for attempt in range(1, limit):
        collected.wait(2 * attempt - 1)
        sender.publish("good", attempt)
    settle(sender)
    attempts = [message.attempt for message in collected.messages if message.type == "bad"]
    assert attempts == list(range(1, limit + 1))
    (letter,) = letters.wait(1)
    assert letter.data["reason"] == "max_deliver"
    assert letter.data["target"] == "breaker"
    assert letter.data["attempts"] == limit
    assert letter.data["error"] == "ValueError: as told"
    assert grav.stats()["dead_letters"]["max_deliver"] == before + 1
    sender.publish("good", "still connected")
    settle(sender)
    assert collected.data[-1] == "still connected"


def test_rejected_message_is_a_dead_letter_at_once(connect: Connect, grav: Grav) -> None:
    pod, sender, watcher = connect("picky"), connect(), connect()
    letters = Collector()
    watcher.on_type("grav.sys.dead", letters)

    def reject(message: Message) -> None:
        if message.type == "bad":
            raise Reject("not mine")

    collected = Collector(then=reject)
    pod.on(collected)
    before = grav.stats()["dead_letters"].get("rejected", 0)
    for _ in range(3):
        sender.publish("bad")
        sender.publish("good")
    settle(sender)
    assert collected.types == ["bad", "good"] * 3
    assert grav.stats()["dead_letters"]["rejected"] == before + 3
    letters.wait(3)
    assert {(letter.data["reason"], letter.data["target"]) for letter in letters.messages} == {("rejected", "picky")}
    assert "not mine" in letters.data[0]["error"]


def test_sixty_four_failures_disconnect_and_the_rest_goes_on(connect: Connect, grav: Grav) -> None:
    pod, healthy, sender = connect(), connect(), connect()
    bad, good = Collector(then=failing_on("bad")), Collector()
    pod.on(bad)
    healthy.on(good)
    before = grav.stats()["dead_letters"].get("pod_unhealthy", 0)
    for number in range(100):
        sender.publish("bad", number)
    settle(sender)
    assert bad.data == list(range(64))
    assert good.data == list(range(100))
    assert not pod.is_connected
    assert healthy.is_connected
    assert grav.stats()["dead_letters"]["pod_unhealthy"] == before + 64
    assert not pod.publish("late")


def test_a_pod_found_unhealthy_by_the_bus_first_has_disconnected_as_well(connect: Connect) -> None:
    pod = connect()
    with pod._link.lock:
        pod._core.receive((Verb.CLOSE.value, pod._core.slot, CLOSE_UNHEALTHY, ""), b"", monotonic())
        collect(pod)
    assert not pod.is_connected
    assert not pod.publish("late")
    with pytest.raises(ConnectionClosedError, match="64 messages failed, so this pod has disconnected"):
        pod.flush(1.0)


def test_sixty_three_failures_do_not_disconnect(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector(then=failing_on("bad", times=63))
    pod.on(collected)
    for number in range(63):
        sender.publish("bad", number)
    collected.wait(63)
    sender.publish("good", 63)
    settle(sender)
    assert pod.is_connected
    assert collected.data == [*range(64), *range(63)]


@pytest.mark.slow
def test_failed_message_of_an_idle_pod_comes_again_by_itself(connect: Connect) -> None:
    pod, sender = connect(), connect()
    collected = Collector(then=failing_on("bad", times=1))
    pod.on(collected)
    sender.publish("bad", 1)
    _, again = collected.wait(2)
    settle(sender)
    assert (again.data, again.attempt, again.redelivered) == (1, 2, True)


def test_failed_messages_survive_a_change_of_the_handler(connect: Connect) -> None:
    pod, sender = connect(), connect()
    bad, good = Collector(then=failing_on("m")), Collector()
    pod.on(bad)
    for number in range(5):
        sender.publish("m", number)
    bad.wait(5)
    pod.on(good)
    sender.publish("m", 5)
    settle(sender)
    assert bad.data == [0, 1, 2, 3, 4]
    assert good.data == [5, 0, 1, 2, 3, 4]


# Joining and leaving


def test_pod_says_who_it_is(connect: Connect) -> None:
    named, unnamed = connect("front.door-1"), connect()
    assert (named.name, unnamed.name) == ("front.door-1", "")
    assert named.uuid != unnamed.uuid
    assert named.is_connected
    assert "front.door-1" in repr(named)
    for member in ("uuid", "name", "is_connected"):
        with pytest.raises(AttributeError):
            setattr(named, member, "other")


def test_pods_may_have_the_same_name(connect: Connect) -> None:
    first, second = connect("twin"), connect("twin")
    collected = Collector()
    second.on(collected)
    first.publish("hello")
    collected.wait(1)


def test_with_disconnects(grav: Grav) -> None:
    with grav.connect() as pod:
        assert pod.is_connected
        pod.on(Collector())
    assert not pod.is_connected


def test_disconnected_pod_gives_a_falsy_receipt_that_says_so(grav: Grav, connect: Connect) -> None:
    pod, other = grav.connect(), connect()
    collected = Collector()
    other.on(collected)
    pod.disconnect()
    pod.disconnect()
    for receipt in (pod.send(Message("x")), pod.publish("x"), pod.reply_to(Message(), Message("x"))):
        assert not receipt
        assert receipt.uuid == ""
        for use in uses_of(receipt):
            with pytest.raises(NoReceiptError):
                use()
    for refused in (lambda: pod.on(print), lambda: pod.ask("x"), pod.flush, lambda: pod.wait_on(print)):
        with pytest.raises(ConnectionError):
            refused()
    other.publish("unused")
    settle(other)
    assert collected.types == []


def uses_of(receipt: Receipt) -> list[Callable[[], object]]:
    async def wait() -> Message:
        return await receipt

    return [
        receipt.result,
        lambda: receipt.result(0),
        lambda: receipt.result(-1),
        lambda: receipt.wait_until("1", print),  # type: ignore[arg-type]
        lambda: receipt.wait_on(print),
        lambda: receipt.wait_until(1, print),
        lambda: receipt.on_reply(print),
        lambda: asyncio.run(wait()),
    ]


def test_what_was_sent_before_disconnect_arrives(grav: Grav, connect: Connect) -> None:
    receiver = connect()
    collected = Collector()
    receiver.on(collected)
    for _ in range(20):
        before = len(collected.messages)
        with grav.connect() as pod:
            for number in range(1000):
                pod.publish("last", number)
        collected.wait(before + 1000)
    assert collected.data == list(range(1000)) * 20


def test_nothing_comes_after_disconnect_returned(grav: Grav, connect: Connect) -> None:
    sender = connect()
    for _ in range(20):
        pod = grav.connect()
        collected = Collector()
        pod.on(collected)
        for number in range(200):
            sender.publish("n", number)
        pod.disconnect()
        seen = collected.data
        sender.publish("later")
        settle(sender)
        assert collected.data == seen
        assert seen == list(range(len(seen)))


def test_what_a_pod_has_not_handled_when_it_leaves_is_given_up_and_counted(
    connect: Connect, grav: Grav, gate: threading.Event
) -> None:
    pod, sender = connect(), connect()
    collected = Collector(then=lambda message: gate.wait(LIMIT))
    pod.on(collected)
    before = grav.stats()["given_up"]
    for number in range(10):
        sender.publish("n", number)
    sender.flush(LIMIT)
    collected.wait(1)
    leaving = in_thread(pod.disconnect)
    # The bus has forgotten the pod before its handler ends: senders need not wait for it.
    settle(sender)
    gate.set()
    leaving()
    assert collected.data == [0]
    assert before + 9 <= grav.stats()["given_up"] <= before + 10


def test_pod_may_disconnect_inside_its_callback(grav: Grav, connect: Connect) -> None:
    pod, sender = grav.connect(), connect()
    collected = Collector(then=lambda message: pod.disconnect())
    pod.on(collected)
    for number in range(10):
        sender.publish("n", number)
    settle(sender)
    assert collected.data == [0]
    assert not pod.is_connected
    pod.disconnect()


@pytest.mark.parametrize(
    "options",
    [
        {"prefetch": 0}, {"prefetch": -1}, {"prefetch": "4"}, {"mailbox_limit": 0}, {"mailbox_limit": 1.5},
        {"overflow": "explode"}, {"stuck_after": 0}, {"stuck_after": -1.0}, {"max_deliver": 0}, {"max_deliver": None},
        {"prefetsch": 4}, {"group": "g"},
    ],
    ids=str,
)  # fmt: skip
def test_bad_option_of_connect_is_named(grav: Grav, options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(ConfigError, match=option):
        grav.connect(**options)
    with pytest.raises(ConfigError, match=option):
        grav.connect_with_replay(**options)


def test_unknown_option_of_connect_is_told_with_the_nearest(grav: Grav) -> None:
    with pytest.raises(ConfigError) as caught:
        grav.connect(overflow="block", max_deliveries=3)
    assert str(caught.value) == (
        "connect has no option max_deliveries; it takes prefetch, mailbox_limit, overflow, stuck_after, max_deliver;"
        ' did you mean "max_deliver"?'
    )


@pytest.mark.parametrize("name", ["", "with space", "x" * 65, "ü", 7])
def test_bad_name_is_refused(grav: Grav, name: Any) -> None:
    with pytest.raises(ConfigError, match="name"):
        grav.connect(name)


@dataclass
class Reading:
    site: str
    celsius: float


def test_received_data_becomes_an_object(connect: Connect) -> None:
    receiver, sender = connect(), connect()
    collected = Collector()
    receiver.on(collected)
    sender.publish("reading", {"site": "roof", "celsius": 21.5})
    (message,) = collected.wait(1)
    assert message.unmarshal_data(Reading) == Reading("roof", 21.5)


# Replay


def test_replay_comes_once_with_the_first_handler_and_then_live(grav: Grav, connect: Connect) -> None:
    sender = connect()
    for number in range(200):
        sender.publish("replayed.this", number)
        sender.publish("replayed.other", number)
    with grav.connect_with_replay() as pod:
        collected = Collector()
        pod.on_type("replayed.this", collected)
        sender.publish("replayed.this", 200)
        collected.wait(65)
        pod.on_type("replayed.>", collected)
        sender.publish("replayed.this", 201)
        settle(sender)
    assert collected.data == list(range(136, 202))
    assert not any(message.redelivered for message in collected.messages)


def test_replay_has_no_gap_and_no_repeat_while_others_send(grav: Grav, connect: Connect) -> None:
    sender = connect()
    stop = threading.Event()

    def stream() -> int:
        number = 0
        while not stop.is_set():
            sender.publish("stream", number)
            number += 1
            if number % 64 == 0:
                sender.flush(LIMIT)
        return number

    streaming = in_thread(stream)
    seen: list[list[int]] = []
    for _ in range(10):
        with grav.connect_with_replay() as pod:
            collected = Collector()
            pod.on_type("stream", collected)
            collected.wait(300)
            seen.append(collected.data)
    stop.set()
    assert streaming() > 0
    for numbers in seen:
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_pod_does_not_replay_what_it_sent_itself(grav: Grav) -> None:
    with grav.connect_with_replay() as pod, grav.connect() as other:
        pod.publish("own", 1)
        other.publish("own", 2)
        settle(pod, other)
        collected = Collector()
        pod.on_type("own", collected)
        collected.wait(1)
        settle(pod, other)
        assert collected.data == [2]


# asyncio


def test_async_for_handles_a_message_when_the_next_is_asked_for(connect: Connect) -> None:
    pod, sender = connect(), connect()

    async def run() -> list[int]:
        seen: list[int] = []
        first = asyncio.ensure_future(anext(stream := pod.messages("n")))
        await asyncio.to_thread(_wait_for, lambda: pod._core.filters.listening)
        await asyncio.to_thread(lambda: [sender.publish("n", n) for n in range(5)])
        seen.append((await first).data)
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(sender.flush, 0.05, settled=True)
        async for message in stream:
            seen.append(message.data)
            if message.data == 4:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.to_thread(settle, sender)
        return seen

    assert asyncio.run(run()) == [0, 1, 2, 3, 4]


def _wait_for(condition: Callable[[], object]) -> None:
    changed = threading.Condition()
    with changed:
        for _ in range(10_000):
            if condition():
                return
            changed.wait(0.001)
    raise AssertionError("it never came true")


def test_messages_may_be_taken_up_again_after_break(connect: Connect, grav: Grav) -> None:
    pod, sender = connect(), connect()

    async def run() -> list[int]:
        seen: list[int] = []
        sending = asyncio.ensure_future(asyncio.to_thread(_send_when_heard, grav, sender, 10))
        async for message in pod.messages("n"):
            seen.append(message.data)
            if message.data == 3:
                break
        async for message in pod.messages("n"):
            seen.append(message.data)
            if message.data == 6:
                break
        collected = Collector()
        await asyncio.to_thread(pod.on, collected)
        await asyncio.to_thread(settle, sender)
        await sending
        return seen + collected.data

    assert asyncio.run(asyncio.wait_for(run(), LIMIT)) == list(range(10))


def _send_when_heard(grav: Grav, sender: Pod, count: int) -> None:
    from support.collecting import wait_for_receivers

    wait_for_receivers(grav, "n")
    for number in range(count):
        sender.publish("n", number)


def test_async_for_ends_when_the_pod_disconnects(grav: Grav, connect: Connect) -> None:
    pod, sender = grav.connect(), connect()

    async def run() -> list[int]:
        sending = asyncio.ensure_future(asyncio.to_thread(_send_when_heard, grav, sender, 3))
        seen: list[int] = []
        leaving: asyncio.Future[None] = sending
        async for message in pod.messages("n"):
            seen.append(message.data)
            if len(seen) == 3:
                leaving = asyncio.ensure_future(asyncio.to_thread(pod.disconnect))
        await asyncio.gather(sending, leaving)
        return seen

    assert asyncio.run(asyncio.wait_for(run(), LIMIT)) == [0, 1, 2]


def test_async_for_of_all_types_in_order(grav: Grav, connect: Connect) -> None:
    pod, sender = connect(), connect()

    async def run() -> list[int]:
        sending = asyncio.ensure_future(asyncio.to_thread(_send_when_heard, grav, sender, 1000))
        seen: list[int] = []
        async for message in pod.messages():
            seen.append(message.data)
            if message.data == 999:
                break
        await sending
        return seen

    assert asyncio.run(run()) == list(range(1000))
