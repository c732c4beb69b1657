"""Hang detection: a handler that does not return in time ends its process, and is reported in a thread."""

import time

import pytest

from grav_actors import Actor, Child, Grav
from support import actors, hanging
from support.collecting import LIMIT, settle
from support.nodes import collect, wait_restarts


@pytest.mark.parametrize("actor_class", [hanging.Hanging, hanging.HangingAsync, hanging.HangingPool])
def test_process_with_a_hung_handler_is_killed_and_its_message_charged(
    grav: Grav, actor_class: type[Actor], caplog: pytest.LogCaptureFixture
) -> None:
    done = collect(grav, "done")
    ref = grav.spawn(Child(actor_class, name="worker", handler_timeout=0.5))
    sender = grav.connect()
    for data in (1, "hang", 2, 3):
        sender.publish("work", data)
    wait_restarts(grav, ref, 1)
    settle(sender)
    attempts = {message.data[0]: message.data[1] for message in done.wait(4)}
    assert attempts["hang"] == 2
    assert {1, 2, 3} <= attempts.keys()
    assert all(attempts[data] == 1 for data in (1, 2, 3))
    assert "its handler of work" in caplog.text
    assert "has not returned within 0.5 s; restart 1 at once" in caplog.text


def test_handlers_that_return_in_time_are_left_alone_however_many(grav: Grav) -> None:
    done = collect(grav, "done")
    ref = grav.spawn(Child(hanging.Hanging, handler_timeout=5.0))
    sender = grav.connect()
    for number in range(1000):
        sender.publish("work", number)
    settle(sender)
    assert len(done.wait(1000)) == 1000
    assert [row["restarts"] for row in grav._runner.rows() if row["name"] == ref.name] == [0]


def test_thread_with_a_hung_handler_is_reported_and_goes_on(grav: Grav, caplog: pytest.LogCaptureFixture) -> None:
    done = collect(grav, "done")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(Child(hanging.Overrunning, kind="thread", handler_timeout=0.1))
    ref.tell("work", 1)
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    deadline = time.monotonic() + LIMIT
    while "actor overrunning hangs: its handler of work" not in caplog.text:
        assert time.monotonic() < deadline
        grav.stats()
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert done.wait(1)[0].data == [1, 1]
