"""Counts that must hold exactly, every time, at the defaults: what programs written for Grav rely on.

Each scenario gets a node of its own and says how many calls of handlers there are in all. The calls are
counted until the node has stopped, so that one too many is seen as well as one too few.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from grav_actors import Grav, Message, MessageNotWanted, Pod, WaitTimeoutError
from support.collecting import LIMIT, in_thread, settle, wait_for_receivers


def pause() -> None:
    """Let a second pass, as the scenarios say."""
    time.sleep(1.0)


class Tally:
    """Counts calls of handlers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.calls = 0

    def __call__(self, message: Message) -> None:
        self.count(1)

    def count(self, calls: int) -> None:
        """Note calls."""
        with self._changed:
            self.calls += calls
            self._changed.notify_all()

    def expect(self, calls: int, *senders: Pod) -> None:
        """Wait for so many calls in all; there must not be more when all that was sent is settled."""
        with self._changed:
            came = self._changed.wait_for(lambda: self.calls >= calls, LIMIT)
        assert came, f"{self.calls} of {calls} calls within {LIMIT} s"
        settle(*senders)
        assert self.calls == calls, f"{self.calls} calls, expected {calls}"

    def failing(self, message: Message) -> None:
        """Fail every message."""
        self.count(1)
        raise ValueError(message.type)

    def failing_on_bad(self, message: Message) -> None:
        """Fail messages of the type `bad`."""
        self.count(1)
        if message.type == "bad":
            raise ValueError(message.type)


def send(pod: Pod, count: int, message_type: str = "good") -> None:
    for number in range(count):
        assert pod.publish(message_type, number)


# Fan-out


def ten_to_ten(grav: Grav, tally: Tally) -> None:
    for _ in range(10):
        grav.connect().on(tally)
    sender = grav.connect()
    send(sender, 10)
    tally.expect(100, sender)


def a_million_in_order(grav: Grav, tally: Tally) -> None:
    count = 100_000
    done = threading.Barrier(11)

    def expecting() -> Callable[[Message], None]:
        expected = 0

        def handler(message: Message) -> None:
            nonlocal expected
            assert message.data == expected, f"{message.data} came where {expected} was due"
            expected += 1
            if expected == count:
                tally.count(count)
                done.wait(LIMIT)

        return handler

    for _ in range(10):
        grav.connect().on(expecting())
    sender = grav.connect()
    send(sender, count)
    done.wait(LIMIT)
    tally.expect(10 * count, sender)


def both_have_handlers(grav: Grav, tally: Tally) -> None:
    first, second = grav.connect(), grav.connect()
    first.on(tally)
    second.on(tally)
    send(first, 10)
    tally.expect(10, first)


# Failures


def one_of_ten_fails(grav: Grav, tally: Tally, place: int) -> None:
    pods = [grav.connect() for _ in range(10)]
    for index, pod in enumerate(pods):
        pod.on(tally.failing_on_bad if index == place else tally)
    sender = grav.connect()
    send(sender, 64, "bad")
    pause()
    send(sender, 10, "bad")
    tally.expect(730, sender)
    send(sender, 10)
    tally.expect(820, sender)
    assert [pod.is_connected for pod in pods] == [index != place for index in range(10)]


def the_first_fails(grav: Grav, tally: Tally) -> None:
    one_of_ten_fails(grav, tally, 0)


def the_fifth_fails(grav: Grav, tally: Tally) -> None:
    one_of_ten_fails(grav, tally, 4)


def handler_gets_better(grav: Grav, tally: Tally) -> None:
    receiver, sender = grav.connect(), grav.connect()
    receiver.on(tally.failing)
    send(sender, 5)
    pause()
    receiver.on(tally)
    send(sender, 9)
    pause()
    send(sender, 1)
    tally.expect(20, sender)


# Replay


def replay(grav: Grav, tally: Tally, before: int, after: int) -> None:
    early, sender = grav.connect(), grav.connect()
    early.on(tally)
    send(sender, before)
    tally.expect(before, sender)
    tally.count(-before)
    grav.connect_with_replay().on(tally)
    send(sender, 1)
    tally.expect(after, sender)


def replay_of_all(grav: Grav, tally: Tally) -> None:
    replay(grav, tally, 100, 102)


def replay_of_the_last(grav: Grav, tally: Tally) -> None:
    replay(grav, tally, 1000, 130)


# Replies


def responding(grav: Grav, tally: Tally, *, late: bool = False) -> Pod:
    responder = grav.connect_with_replay() if late else grav.connect()

    def respond(message: Message) -> None:
        tally.count(1)
        responder.reply_to(message, Message("pong", message.data))

    responder.on(respond)
    return responder


def a_thousand_replies(grav: Grav, tally: Tally) -> None:
    responding(grav, tally)
    asker = grav.connect()
    for number in range(1000):
        reply = asker.publish("ping", number).wait_until(LIMIT, lambda message: message)
        assert (reply.type, reply.data) == ("pong", number)
    tally.expect(1000, asker)


def replies_in_the_background(grav: Grav, tally: Tally) -> None:
    responding(grav, tally)
    asker = grav.connect()
    for number in range(100):
        asker.publish("ping", number).on_reply(tally)
    tally.expect(200, asker)


def no_reply_within_the_limit(grav: Grav, tally: Tally) -> None:
    grav.connect().on(tally)
    asker = grav.connect()
    receipt = asker.publish("ping")
    with pytest.raises(WaitTimeoutError):
        receipt.wait_until(1.0, tally)
    tally.expect(1, asker)


def responder_comes_later(grav: Grav, tally: Tally) -> None:
    asker = grav.connect()
    receipt = asker.publish("ping", 7)
    asker.flush(LIMIT, settled=True)
    responding(grav, tally, late=True)
    assert receipt.wait_until(LIMIT, lambda message: message.data) == 7
    tally.expect(1, asker)


# Waiting


def wait_skips_unwanted(grav: Grav, tally: Tally) -> None:
    waiter, sender = grav.connect(), grav.connect()

    def wanted(message: Message) -> int:
        tally.count(1)
        if message.data != 9:
            raise MessageNotWanted
        return -9

    waiting = in_thread(lambda: waiter.wait_on(wanted))
    wait_for_receivers(grav, "good")
    send(sender, 10)
    assert waiting() == -9
    send(sender, 10)
    tally.expect(10, sender)


def wait_passes_exceptions_on(grav: Grav, tally: Tally) -> None:
    waiter, sender = grav.connect(), grav.connect()
    waiting = in_thread(lambda: waiter.wait_on(tally.failing))
    wait_for_receivers(grav, "good")
    send(sender, 1)
    with pytest.raises(ValueError, match="^good$"):
        waiting()
    tally.expect(1, sender)


def only_who_stays(grav: Grav, tally: Tally) -> None:
    leaver, stayer, sender = grav.connect(), grav.connect(), grav.connect()
    leaver.on(tally)
    stayer.on(tally)
    send(sender, 5)
    tally.expect(10, sender)
    leaver.disconnect()
    send(sender, 5)
    tally.expect(15, sender)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A course of events and the calls of handlers in it."""

    name: str
    play: Callable[[Grav, Tally], None]
    calls: int
    is_long: bool = False

    def run(self) -> None:
        """Play it on a node of its own; AssertionError when a count is wrong."""
        tally = Tally()
        with Grav() as grav:
            self.play(grav, tally)
        assert tally.calls == self.calls, f"{tally.calls} calls when the node had stopped, expected {self.calls}"


SCENARIOS = (
    Scenario("ten messages to ten pods", ten_to_ten, 100),
    Scenario("100,000 messages to ten pods, in order", a_million_in_order, 1_000_000, is_long=True),
    Scenario("two pods with handlers, one sends ten", both_have_handlers, 10),
    Scenario("the first of ten pods fails 64 and is disconnected", the_first_fails, 820),
    Scenario("the fifth of ten pods fails 64 and is disconnected", the_fifth_fails, 820),
    Scenario("five failed, then a good handler", handler_gets_better, 20),
    Scenario("100 messages, then a pod with replay, then one", replay_of_all, 102),
    Scenario("1,000 messages, then a pod with replay, then one", replay_of_the_last, 130),
    Scenario("request and reply, 1,000 times", a_thousand_replies, 1000),
    Scenario("100 replies in the background", replies_in_the_background, 200),
    Scenario("no reply within one second", no_reply_within_the_limit, 1),
    Scenario("the responder comes later, with replay", responder_comes_later, 1),
    Scenario("wait_on skips what is not wanted", wait_skips_unwanted, 10),
    Scenario("wait_on passes exceptions on", wait_passes_exceptions_on, 1),
    Scenario("after disconnect only who stays", only_who_stays, 15),
)
