"""What the main thread of an actor's process waits for."""

import signal
import threading
from collections.abc import Iterator

import pytest

from grav_actors.actor.process import Events
from grav_actors.actor.spec import Ending

LIMIT = 30.0


@pytest.fixture
def events() -> Iterator[Events]:
    before = signal.getsignal(signal.SIGUSR1)
    events = Events()
    events.catch(signal.SIGUSR1, "stop")
    yield events
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR1, before)
    events.close()


def test_events_come_in_their_order(events: Events) -> None:
    events.put("stop")
    events.put(Ending("stop"))
    assert [events.get(), events.get()] == ["stop", Ending("stop")]


def test_signal_that_another_thread_is_given_is_noticed_by_the_main_thread_that_waits(events: Events) -> None:
    has_noticed = threading.Event()

    def work() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        if not has_noticed.wait(LIMIT):
            events.put("in vain")

    thread = threading.Thread(target=work)
    thread.start()
    noticed = events.get()
    has_noticed.set()
    thread.join()
    assert noticed == "stop"
