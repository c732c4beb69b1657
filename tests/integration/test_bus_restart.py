"""The bus process is killed: it comes back on the same endpoint, pods rejoin, and nothing is lost."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from grav_actors import (
    Backoff,
    BusBusyError,
    ConnectionClosedError,
    Grav,
    Message,
    MessageNotWanted,
    Pod,
)
from grav_actors.pod import link
from support.collecting import LIMIT, Collector, in_thread, settle, wait_for_receivers

pytestmark = pytest.mark.timeout(120)

AT_ONCE = Backoff(first=0, max=0)


@pytest.fixture
def grav() -> Iterator[Grav]:
    """A node whose bus may be killed often."""
    with Grav(max_restarts=100, backoff=AT_ONCE) as node:
        yield node


def bus_pid(grav: Grav) -> int:
    assert grav._bus is not None
    assert grav._bus.pid is not None
    return grav._bus.pid


def kill_bus(grav: Grav) -> int:
    """Kill the bus process with SIGKILL; return its process id."""
    pid = bus_pid(grav)
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_back(grav: Grav, killed: int) -> None:
    """Return when another bus process answers."""
    grav.ask("grav.sys.bus.stats", to="grav.bus", timeout=LIMIT)
    assert bus_pid(grav) != killed


def check_complete(messages: list[Message], count: int) -> None:
    """Each number came, first deliveries in order and once, all others flagged."""
    first = [message.data for message in messages if not message.redelivered]
    assert first == sorted(set(first)), "a first delivery out of order, or twice"
    numbers = Counter(message.data for message in messages)
    assert sorted(numbers) == list(range(count))
    twice = [number for number, times in numbers.items() if times > 1]
    flagged = {message.data for message in messages if message.redelivered}
    assert set(twice) <= flagged


@pytest.mark.parametrize("kills", [1, 4])
def test_what_is_sent_before_during_and_after_a_kill_arrives(grav: Grav, kills: int) -> None:
    receiver, sender = grav.connect(), grav.connect()
    collected = Collector()
    receiver.on(collected)
    count = 40_000
    endpoint = grav.bus_endpoint

    def send() -> None:
        for number in range(count):
            sender.publish("n", number)

    sending = in_thread(send)
    for kill in range(1, kills + 1):
        collected.wait(count * kill // (kills + 2))
        killed = kill_bus(grav)
        wait_back(grav, killed)
    sending()
    settle(sender)
    check_complete(collected.messages, count)
    assert grav.bus_endpoint == endpoint
    with Grav(bus=endpoint) as joined:
        joined.publish("n", count)
        collected.wait(count + 1)


def test_pods_that_talk_both_ways_lose_nothing(grav: Grav) -> None:
    count = 20_000
    left, right = grav.connect(), grav.connect()
    left_seen, right_seen = Collector(), Collector()
    left.on_type("to.left", left_seen)
    right.on_type("to.right", right_seen)
    joins = [
        in_thread(lambda: [left.publish("to.right", number) for number in range(count)]),
        in_thread(lambda: [right.publish("to.left", number) for number in range(count)]),
    ]
    left_seen.wait(count // 4)
    wait_back(grav, kill_bus(grav))
    for join in joins:
        join()
    settle(left, right)
    check_complete(left_seen.messages, count)
    check_complete(right_seen.messages, count)


def test_pods_of_other_links_rejoin_too(grav: Grav) -> None:
    count = 20_000
    with Grav(bus=grav.bus_endpoint) as there:
        receiver, sender = there.connect(), grav.connect()
        collected = Collector()
        receiver.on(collected)
        sending = in_thread(lambda: [sender.publish("n", number) for number in range(count)])
        collected.wait(count // 4)
        wait_back(grav, kill_bus(grav))
        sending()
        settle(sender)
        check_complete(collected.messages, count)


def test_idle_pods_come_back_with_their_filters(grav: Grav) -> None:
    pods = [grav.connect() for _ in range(20)]
    collected = [Collector() for _ in pods]
    refused = Message("type.0", "refused")
    for index, (pod, one) in enumerate(zip(pods, collected, strict=True)):
        if index % 3 == 0:
            pod.on_type(f"type.{index}", one)
        elif index % 3 == 1:
            pod.on(one)
            pod.filter_type("type.*", False)
            pod.filter_type(f"type.{index}", True)
        else:
            pod.on_type("type.>", one)
            for other in range(20):
                pod.filter_type(f"type.{other}", other == index)
    pods[0].filter_uuid(refused.uuid, False)
    silent = grav.connect()
    sender = grav.connect()
    for life in range(3):
        killed = kill_bus(grav)
        # At once: before anybody has rejoined, and while nobody listens.
        for index in range(20):
            sender.publish(f"type.{index}", life)
        sender.send(refused)
        wait_back(grav, killed)
        settle(sender)
    for index, one in enumerate(collected):
        assert one.types == [f"type.{index}"] * 3
        assert one.data == [0, 1, 2]
    assert all(pod.is_connected for pod in (*pods, silent))
    assert grav.stats()["pods"] == 22 + 2  # the node's own, and its control


def test_pods_that_say_nothing_notice_a_new_bus_by_the_connection(grav: Grav, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "BEAT_INTERVAL", 3600.0)
    with Grav(bus=grav.bus_endpoint) as there:
        pod = there.connect()
        collected = Collector()
        pod.on_type("n", collected)
        for number in range(3):
            wait_back(grav, kill_bus(grav))
            grav.publish("n", number)
            collected.wait(number + 1)
    assert collected.data == [0, 1, 2]


def test_change_of_a_filter_while_the_bus_is_away_holds_when_it_is_back(grav: Grav) -> None:
    pod, sender = grav.connect(), grav.connect()
    collected = Collector()
    pod.on_type("before", collected)
    for number in range(5):
        kill_bus(grav)
        pod.on_type(f"after.{number}", collected)  # waits for the new bus
        sender.publish("before")
        sender.publish(f"after.{number}")
        settle(sender)
    assert collected.types == [f"after.{number}" for number in range(5)]


def test_pod_connects_and_leaves_while_the_bus_is_away(grav: Grav) -> None:
    sender = grav.connect()
    for _ in range(5):
        leaver = grav.connect()
        kill_bus(grav)
        collected = Collector()
        with grav.connect() as pod:
            pod.on(collected)
            sender.publish("n")
            collected.wait(1)
        leaver.disconnect()
        assert not leaver.is_connected
        settle(sender)
    assert grav.stats()["pods"] == 3


def test_idle_pods_come_back_when_a_new_pod_is_the_first_to_speak(grav: Grav) -> None:
    idle, sender = grav.connect(), grav.connect()
    collected = Collector()
    idle.on(collected)
    for number in range(3):
        killed = kill_bus(grav)
        with grav.connect() as first:
            # It did so on the link of all of them, long before the idle ones say something by themselves.
            assert first.is_connected
        assert bus_pid(grav) != killed
        sender.publish("n", number)
        settle(sender)  # as well when the bus has given up those that did not come back
    assert collected.data == [0, 1, 2]


def test_pod_that_left_does_not_come_back_with_the_next_bus(grav: Grav) -> None:
    with grav.connect() as pod:
        pod.on(Collector())
    before = grav.stats()["pods"]
    wait_back(grav, kill_bus(grav))
    assert grav.stats()["pods"] == before


def test_waits_outlive_the_bus(grav: Grav) -> None:
    asker, responder, waiter = grav.connect(), grav.connect(), grav.connect()
    asked = Collector()
    responder.on_type("ping", asked)
    receipt = asker.publish("ping")
    waiting = in_thread(lambda: waiter.wait_on(lambda m: m.data if m.type == "news" else MessageNotWanted))
    wait_for_receivers(grav, "news")
    (question,) = asked.wait(1)
    wait_back(grav, kill_bus(grav))
    responder.reply_to(question, Message("pong", 1))
    responder.publish("news", 2)
    assert receipt.result(LIMIT).data == 1
    assert waiting() == 2


def test_what_a_handler_holds_is_handled_once(grav: Grav) -> None:
    release = threading.Event()
    receiver, sender = grav.connect(), grav.connect()
    collected = Collector(then=lambda message: release.wait(LIMIT))
    receiver.on(collected)
    for number in range(100):
        sender.publish("n", number)
    collected.wait(1)
    wait_back(grav, kill_bus(grav))
    wait_back_again = kill_bus(grav)
    wait_back(grav, wait_back_again)
    release.set()
    settle(sender)
    assert collected.data == list(range(100))
    assert not any(message.redelivered for message in collected.messages)


def test_failed_messages_come_again_from_the_next_bus(grav: Grav) -> None:
    receiver, sender = grav.connect(), grav.connect()
    healthy = threading.Event()

    def fail(message: Message) -> None:
        if not healthy.is_set():
            raise ValueError("not yet")

    collected = Collector(then=fail)
    receiver.on(collected)
    for number in range(5):
        sender.publish("n", number)
    collected.wait(5)
    wait_back(grav, kill_bus(grav))
    healthy.set()
    sender.publish("n", 5)
    settle(sender)
    check_complete(collected.messages, 6)
    numbers = Counter(collected.data)
    assert all(numbers[number] >= 2 for number in range(5))


def test_slow_receiver_and_waiting_sender_go_on_with_the_next_bus(grav: Grav) -> None:
    release = threading.Event()
    receiver, sender = grav.connect(mailbox_limit=100, stuck_after=None), grav.connect()
    collected = Collector(then=lambda message: release.wait(LIMIT))
    receiver.on(collected)
    sending = in_thread(lambda: [sender.publish("n", number) for number in range(20_000)])
    while not waits_for_room(sender):
        os.sched_yield()
    wait_back(grav, kill_bus(grav))
    release.set()
    sending()
    settle(sender)
    check_complete(collected.messages, 20_000)


def waits_for_room(pod: Pod) -> bool:
    with pod._link.lock:
        return pod._room_waiters > 0


def test_node_stops_well_while_its_bus_is_away() -> None:
    for _ in range(5):
        node = Grav(max_restarts=100, backoff=AT_ONCE)
        collected = Collector()
        node.connect().on(collected)
        sender = node.connect()
        for number in range(100):
            sender.publish("n", number)
        kill_bus(node)
        node.stop()
        check_complete(collected.messages, 100)


@pytest.mark.parametrize("restarts", [0, 1, 3])
def test_node_gives_up_after_too_many_kills(restarts: int, caplog: pytest.LogCaptureFixture) -> None:
    node = Grav(max_restarts=restarts, within=60, backoff=AT_ONCE)
    try:
        pod, other = node.connect(), node.connect()
        collected = Collector()
        other.on(collected)

        def unwanted(message: Message) -> None:
            raise MessageNotWanted

        receipt = pod.publish("n", 0)
        waits = [
            in_thread(lambda: node.connect().wait_on(unwanted)),
            in_thread(receipt.result),
            in_thread(lambda: pod.wait_until(LIMIT * 10, unwanted)),
        ]
        wait_for_receivers(node, "n", 3)
        for _ in range(restarts):
            wait_back(node, kill_bus(node))
        kill_bus(node)
        for wait in waits:
            with pytest.raises(ConnectionClosedError):
                wait()
        assert "giving up" in caplog.text
        for use in (
            lambda: pod.publish("n"),
            lambda: pod.on(None),
            lambda: pod.ask("n"),
            lambda: pod.flush(LIMIT),
            lambda: receipt.result(LIMIT),
            node.connect,
            node.stats,
        ):
            with pytest.raises(ConnectionClosedError):
                use()
        assert not pod.is_connected
    finally:
        node.stop()


def test_node_that_gives_up_is_stopped_within_moments() -> None:
    node = Grav(max_restarts=0)
    pod = node.connect()
    for number in range(100):
        pod.publish("n", number)
    assert node._guard is not None
    guard = node._guard._thread
    kill_bus(node)
    guard.join(3.0)
    assert not guard.is_alive()
    node.stop()


def test_stop_while_the_node_gives_up_does_not_hang() -> None:
    for _ in range(10):
        node = Grav(max_restarts=0)
        node.connect()
        kill_bus(node)
        in_thread(node.stop)()


def test_joined_node_waits_for_a_bus_that_comes_back_and_goes_on(grav: Grav) -> None:
    with Grav(bus=grav.bus_endpoint) as joined:
        pod = joined.connect()
        collected = Collector()
        pod.on(collected)
        for number in range(5):
            kill_bus(grav)
            grav.publish("n", number)
            collected.wait(number + 1)
    assert collected.data == list(range(5))


def test_bus_that_takes_nothing_is_reported_and_nothing_is_lost() -> None:
    with Grav(send_timeout=0.5) as node:
        receiver, sender = node.connect(), node.connect()
        collected = Collector()
        receiver.on(collected)
        sent = 0

        def flood() -> None:
            nonlocal sent
            for number in range(100_000):
                sender.publish("n", number)
                sent += 1

        os.kill(bus_pid(node), signal.SIGSTOP)
        try:
            with pytest.raises(BusBusyError, match=r"0\.5 s"):
                flood()
            with pytest.raises(BusBusyError):
                sender.flush()
        finally:
            os.kill(bus_pid(node), signal.SIGCONT)
        settle(sender)
        assert 0 < sent < 100_000
        assert collected.data == list(range(sent))  # what was refused was not taken


def test_nothing_joins_where_no_bus_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pod._join, "__defaults__", (0.5,))  # seconds, instead of 10
    node = Grav()
    endpoint = node.bus_endpoint
    node.stop()
    with pytest.raises(BusBusyError, match=endpoint):
        Grav(bus=endpoint).stop()
