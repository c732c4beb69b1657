"""Questions taken back: known to their handlers, whenever it is told."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from grav_actors.codec import Opened, open_body, pack_records
from grav_actors.ids import new_id
from grav_actors.message import Origin
from grav_actors.pod.cancellations import MAX_WAITING, Cancellations
from grav_actors.pod.inbound import Inbound
from grav_actors.protocol import KIND_ASK
from grav_actors.reference import ActorRef

SENDER = b"the pod that ask"


def run(seq: int, count: int, sender: bytes = SENDER) -> tuple[Inbound, Opened, Origin]:
    body = pack_records([[new_id(), b"", b"", 0, None, None] for _ in range(count)])
    inbound = Inbound(seq, (sender, seq, seq - 1, KIND_ASK, "q", count, len(body), 0, 1), body)
    return inbound, open_body(body, count, ActorRef), Origin(sender, KIND_ASK)


def ids(opened: Opened, *indexes: int) -> set[bytes]:
    return {opened.records()[index][0] for index in indexes}


def test_what_is_taken_back_before_and_while_it_is_handled() -> None:
    seen = Cancellations(threading.Lock())
    inbound, opened, origin = run(5, 4)
    seen.note(SENDER, 6)
    seen.note(SENDER, 9)  # of a later run
    seen.begin(inbound, opened, origin)
    assert origin.cancelled == ids(opened, 1)
    seen.note(SENDER, 8)
    assert origin.cancelled == ids(opened, 1, 3)
    following, opened, origin = run(9, 1)
    seen.begin(following, opened, origin)
    assert origin.cancelled == ids(opened, 0)
    assert seen._waiting == {}


def test_those_of_another_asker_are_not_meant() -> None:
    seen = Cancellations(threading.Lock())
    inbound, opened, origin = run(1, 2)
    seen.note(b"another pod here", 1)
    seen.begin(inbound, opened, origin)
    seen.note(b"another pod here", 2)
    assert origin.cancelled is None


def test_whoever_deferred_is_told_also_of_runs_before_the_last() -> None:
    seen = Cancellations(threading.Lock())
    told: list[bytes] = []
    seen.on_cancelled = told.append
    runs = [run(1, 1), run(2, 2), run(4, 1)]
    for one in runs:
        seen.begin(*one)
    runs[0][0].finish_all()
    assert seen.begun() == [runs[1][0], runs[2][0]]
    seen.note(SENDER, 3)
    assert told == [*ids(runs[1][1], 1)]
    for inbound, _, _ in runs:
        inbound.finish_all()
    seen.begin(*run(5, 1))
    assert [inbound.seq for inbound, _, _ in seen._asked] == [5]


def test_what_is_never_delivered_is_forgotten_at_last() -> None:
    seen = Cancellations(threading.Lock())
    for seq in range(MAX_WAITING + 10):
        seen.note(SENDER, seq)
    assert len(seen._waiting) == MAX_WAITING


class Crossing(dict[Any, None]):
    """Has something done right behind the entry of what waits, or right ahead of the look at it."""

    def __init__(self, when: str, what: Any) -> None:
        super().__init__()
        self._when, self._what = when, what

    def _do(self, when: str) -> None:
        if when == self._when:
            self._when = ""
            self._what()

    def __setitem__(self, key: Any, value: None) -> None:
        super().__setitem__(key, value)
        self._do("noted")

    def __bool__(self) -> bool:
        self._do("looked at")
        return len(self) > 0


@pytest.mark.parametrize("is_noted_first", [True, False])
def test_a_question_taken_back_at_the_moment_when_it_begins_is_known_to_be(is_noted_first: bool) -> None:
    seen = Cancellations(threading.Lock())
    inbound, opened, origin = run(1, 1)

    def begin() -> None:
        seen.begin(inbound, opened, origin)

    def note() -> None:
        seen.note(SENDER, 1)

    first, second, when = (note, begin, "noted") if is_noted_first else (begin, note, "looked at")
    seen._waiting = Crossing(when, second)
    first()
    assert origin.cancelled == ids(opened, 0)
    assert len(seen._waiting) == 0
