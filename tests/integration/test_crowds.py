"""Many actors on one bus: each is reached, all hear what is published, and nothing is left of them."""

from __future__ import annotations

import os
import threading

import pytest

from grav_actors import Grav
from support.collecting import LIMIT, Collector
from support.crowd import Member

CROWDS = {"process": 10, "thread": 200}


@pytest.mark.parametrize("kind", sorted(CROWDS))
def test_each_of_a_crowd_is_reached_hears_what_is_published_and_is_stopped(kind: str) -> None:
    count = CROWDS[kind]
    threads = threading.active_count()
    names = [f"member-{number}" for number in range(count)]
    heard = Collector()
    with Grav() as grav:
        crowd = [grav.spawn(Member, name=name, kind=kind) for name in names]
        answers = [member.ask("crowd.ask", timeout=LIMIT) for member in crowd]
        pids = {pid for _, pid in answers}
        assert [name for name, _ in answers] == names
        assert len(pids) == (1 if kind == "thread" else count)

        grav.connect().on_type("crowd.here", heard)
        grav.publish("crowd.call")
        assert sorted(message.data for message in heard.wait(count)) == sorted(names)
        grav.stop(timeout=LIMIT)
    assert threading.active_count() <= threads
    for pid in pids - {os.getpid()}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
