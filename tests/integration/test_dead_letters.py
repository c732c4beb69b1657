"""Dead letters of a node: seen, retried, purged and logged from programs."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from grav_actors import Actor, ConfigError, DeadLetterNotFoundError, Grav, Message, Reject, Retried, on_type
from support.collecting import LIMIT, Collector, settle
from support.nodes import wait_dead_letters


class Moody(Actor):
    """Rejects until it is told otherwise; a thread of the test's own process."""

    def on_start(self) -> None:
        self.is_willing = False

    @on_type("moody.cheer")
    def cheer(self, msg: Message) -> bool:
        self.is_willing = True
        return True

    @on_type("moody.do")
    def do(self, msg: Message) -> None:
        if not self.is_willing:
            raise Reject("not today")
        self.publish("moody.done", [msg.data, msg.redelivered, msg.attempt])


def test_letters_are_listed_shown_retried_and_purged(grav: Grav) -> None:
    done = Collector()
    grav.connect().on_type("moody.done", done)
    ref = grav.spawn(Moody, kind="thread")
    for number in range(3):
        ref.tell("moody.do", number)
    grav.actor("ghost").tell("boo", {"a": b"raw"})
    wait_dead_letters(grav, 4)

    rejected = grav.dead_letters(reason="rejected")
    assert [(one.type, one.target, one.attempts, one.error) for one in rejected] == [
        ("moody.do", "moody", 1, "Reject: not today")
    ] * 3
    (told,) = grav.dead_letters(type="boo", with_messages=True)
    assert (told.reason, told.target) == ("no_responders", "ghost")
    assert told.message is not None
    assert (told.message.uuid, told.message.data) == (told.uuid, {"a": b"raw"})

    ref.ask("moody.cheer", timeout=LIMIT)
    assert grav.retry_dead(all=True) == Retried(3, {"ghost is not on the bus": 1})
    done.wait(3)
    assert done.data == [[number, True, 1] for number in range(3)]
    assert [one.uuid for one in grav.dead_letters()] == [told.uuid]

    assert grav.purge_dead(told.uuid) == 1
    assert grav.dead_letters() == []
    with pytest.raises(DeadLetterNotFoundError):
        grav.retry_dead(told.uuid)
    with pytest.raises(ConfigError, match="rejected"):
        grav.dead_letters(reason="rejcted")


def test_every_dead_letter_has_its_event_with_the_message(grav: Grav) -> None:
    letters = Collector()
    grav.connect().on_type("grav.sys.dead", letters)
    sender = grav.connect()
    uuids = [grav.publish("unwanted").uuid]
    for number in range(1000):
        grav.actor("ghost").tell("boo", number)
    letters.wait(1000)
    settle(sender)
    assert [letter.data["message"]["data"] for letter in letters.messages] == list(range(1000))
    assert {letter.data["target"] for letter in letters.messages} == {"ghost"}
    assert uuids[0] not in {letter.data["message"]["uuid"] for letter in letters.messages}, "nobody wanted it: no loss"


def test_a_flood_is_counted_to_the_last_message_and_holds_nobody_up(grav: Grav) -> None:
    letters = Collector()
    grav.connect().on_type("grav.sys.dead", letters)
    ref = grav.spawn(Moody, kind="thread")
    sender = grav.connect()
    total = 100_000
    for number in range(total):
        sender._tell("ghost", Message("boo", number))
        if number % 10_000 == 0:
            assert ref.ask("moody.cheer", timeout=LIMIT)
    settle(sender)
    stats = grav.stats()
    assert stats["dead_letters"] == {"no_responders": total}
    assert stats["shelf"] == 1000
    assert [letter.number for letter in grav.dead_letters()] == list(range(total - 999, total + 1))
    # Each has its event, or is counted as having none.
    letters.wait(total - stats["untold"] - stats["given_up"])
    assert grav.stats()["untold"] + grav.stats()["given_up"] + len(letters.messages) == total


class Lines(logging.Handler):
    """Keeps what is logged, and lets a test wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: SimpleQueue[str] = SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.queue.put(record.getMessage())


@pytest.fixture
def lines() -> Iterator[SimpleQueue[str]]:
    handler = Lines()
    logger = logging.getLogger("grav_actors.node")
    logger.addHandler(handler)
    yield handler.queue
    logger.removeHandler(handler)


def test_the_node_logs_the_first_ten_and_says_that_it_logs_no_more(grav: Grav, lines: SimpleQueue[str]) -> None:
    for number in range(15):
        grav.actor(f"ghost-{number}").tell("boo")
    logged = [lines.get(timeout=LIMIT) for _ in range(11)]
    assert logged[0] == "dead letter: a message of type boo for ghost-0: no_responders"
    assert logged[9] == "dead letter: a message of type boo for ghost-9: no_responders"
    assert "further ones are summed up" in logged[10]
    wait_dead_letters(grav, 15)
    assert lines.empty()


def test_a_bus_that_was_started_again_logs_as_the_one_before(grav: Grav, lines: SimpleQueue[str]) -> None:
    assert grav._bus is not None
    assert grav._bus.pid is not None
    os.kill(grav._bus.pid, signal.SIGKILL)
    assert "starting it again" in lines.get(timeout=LIMIT)
    grav.actor("ghost").tell("boo")
    assert lines.get(timeout=LIMIT) == "dead letter: a message of type boo for ghost: no_responders"
