"""When beacons are sent, which of those that are heard are reported, and that nothing grows."""

import math
import random
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.discovery.beacon_core import (
    ANSWER_WITHIN,
    BRISK_UNTIL,
    FORGOTTEN_AFTER,
    JITTER,
    MOST_ENDPOINTS,
    MOST_OF_ADDRESS,
    QUICK,
    REPEAT_AFTER,
    SLOW,
    STEADY_AFTER,
    Bucket,
    Hint,
    Neighbours,
    Schedule,
)
from grav_actors.discovery.beacon_frame import BeaconFrame, Kind

OWN = bytes(16)
PEER = uuid.UUID(int=1)
OTHER = uuid.UUID(int=2)


def never(value: float = 0.5) -> Callable[[], float]:
    """Return a source of randomness that is none."""
    return lambda: value


def here(node: uuid.UUID = PEER, port: int = 7470, kind: Kind = Kind.HERE) -> BeaconFrame:
    return BeaconFrame(kind, node.bytes, port)


def neighbours(seed: int = 1) -> Neighbours:
    return Neighbours(OWN, 0.0, random.Random(seed).random)


def sendings(schedule: Schedule, until: float) -> list[float]:
    """Return when beacons are sent, by a driver that looks when it should."""
    found = []
    while (now := schedule.due) < until:
        assert schedule.advance(now)
        found.append(round(now, 6))
    return found


# The schedule


def test_beacons_are_quick_then_brisk_then_slow() -> None:
    found = sendings(Schedule(0.0, never()), 31)

    assert found[:4] == list(QUICK)
    assert found[4:14] == [1.7, 2.7, 3.7, 4.7, 5.7, 6.7, 7.7, 8.7, 9.7, 14.7]
    assert found[14:] == [19.7, 24.7, 29.7]


@given(st.floats(0, 1))
def test_slow_beacons_have_jitter(chance: float) -> None:
    late = sendings(Schedule(0.0, never(chance)), 200)

    gaps = [after - before for before, after in zip(late, late[1:], strict=False) if before > BRISK_UNTIL]
    assert all(SLOW * (1 - JITTER) - 1e-6 <= gap <= SLOW * (1 + JITTER) + 1e-6 for gap in gaps)


def test_change_of_interfaces_begins_anew() -> None:
    schedule = Schedule(0.0, never())
    sendings(schedule, 60)

    schedule.hurry(100.0)

    assert sendings(schedule, 101) == [100.0, 100.1, 100.3, 100.7]


def test_nothing_is_due_early() -> None:
    schedule = Schedule(5.0, never())

    assert not schedule.advance(4.9)
    assert schedule.advance(5.0)
    assert not schedule.advance(5.05)


def test_driver_that_is_late_sends_one_beacon_for_all_that_it_missed() -> None:
    schedule = Schedule(0.0, never())

    assert schedule.advance(9.0)
    assert schedule.due > 9.0


@given(st.floats(0, 1))
def test_answer_comes_soon_and_the_schedule_stays(chance: float) -> None:
    schedule = Schedule(0.0, never(chance))
    now = sendings(schedule, 60)[-1] + 1
    planned = schedule.due

    schedule.answer(now)

    assert schedule.due <= now + ANSWER_WITHIN
    assert schedule.advance(now + ANSWER_WITHIN)
    assert schedule.due == planned


def test_several_who_are_new_get_one_answer() -> None:
    schedule = Schedule(0.0, never())
    sendings(schedule, 60)
    for _ in range(10):
        schedule.answer(60.0)

    assert len([at for at in sendings(schedule, 62) if at < 60.1]) == 1


def test_flood_of_new_ones_makes_few_answers() -> None:
    schedule = Schedule(0.0, never())
    now, count = 60.0, 0
    sendings(schedule, now)
    while now < 70:
        schedule.answer(now)
        count += schedule.advance(now)
        now += 0.01

    assert count <= 5 + 2 * 10 + 3


# Hints


def test_first_beacon_of_a_node_is_reported_at_once_and_is_news() -> None:
    assert neighbours().heard(here(), "10.77.0.2", 1.0) == (True, Hint("tcp://10.77.0.2:7470", str(PEER)))


def test_own_beacons_are_not_reported() -> None:
    assert neighbours().heard(here(uuid.UUID(bytes=OWN)), "10.77.0.2", 1.0) == (False, None)


def test_same_node_is_reported_again_but_not_all_the_time() -> None:
    table = neighbours()
    table.heard(here(), "a", 1.0)

    assert table.heard(here(), "a", 1.9 * REPEAT_AFTER) == (False, None)
    assert table.heard(here(), "a", 1.0 + REPEAT_AFTER) == (False, Hint("tcp://a:7470", str(PEER)))


def test_nodes_of_one_host_are_told_apart_by_their_ports() -> None:
    table = neighbours()
    found = [table.heard(here(uuid.UUID(int=port), port), "a", 1.0)[1] for port in (1, 2, 3)]

    assert found == [Hint(f"tcp://a:{port}", str(uuid.UUID(int=port))) for port in (1, 2, 3)]


def test_new_uuid_on_an_old_endpoint_is_news_and_reported_at_once() -> None:
    table = neighbours()
    table.heard(here(PEER), "a", 1.0)

    assert table.heard(here(OTHER), "a", 1.01) == (True, Hint("tcp://a:7470", str(OTHER)))


def test_endpoint_that_many_uuids_claim_is_reported_without_one_and_seldom() -> None:
    table = neighbours()
    hints = [table.heard(here(uuid.UUID(int=1 + number % 2)), "a", 1 + number / 100)[1] for number in range(300)]

    found = [hint for hint in hints if hint is not None]
    assert len(found) <= 8
    assert all(hint.uuid == "" for hint in found[4:])
    assert table.heard(here(PEER), "a", 300.0)[1] == Hint("tcp://a:7470", str(PEER))


def test_bye_makes_the_next_beacon_news_again() -> None:
    table = neighbours()
    table.heard(here(), "a", 1.0)

    assert table.heard(here(kind=Kind.BYE), "a", 1.1) == (False, None)
    assert len(table) == 0
    assert table.heard(here(), "a", 1.2) == (True, Hint("tcp://a:7470", str(PEER)))


def test_bye_of_another_node_is_not_believed() -> None:
    table = neighbours()
    table.heard(here(PEER), "a", 1.0)
    table.heard(here(OTHER, kind=Kind.BYE), "a", 1.1)
    table.heard(here(PEER, kind=Kind.BYE), "b", 1.1)

    assert len(table) == 1


def test_silent_node_is_forgotten_and_is_news_when_it_is_back() -> None:
    table = neighbours()
    table.heard(here(), "a", 1.0)

    assert table.heard(here(), "a", 1.1 + FORGOTTEN_AFTER) == (True, Hint("tcp://a:7470", str(PEER)))
    table.heard(here(OTHER), "b", 100.0)
    assert len(table) == 1


def test_ipv6_is_for_nodes_that_ipv4_does_not_bring() -> None:
    table = neighbours()
    six = "fe80::1%eth0"

    assert table.heard(here(PEER), six, 1.0) == (True, None)
    assert table.heard(here(PEER), six, 1.1) == (False, None)
    assert table.heard(here(PEER), six, 1.0 + STEADY_AFTER)[1] == Hint("tcp://[fe80::1%eth0]:7470", str(PEER))

    table.heard(here(OTHER), six, 2.0)
    table.heard(here(OTHER), "a", 2.1)
    assert table.heard(here(OTHER), six, 2.0 + STEADY_AFTER)[1] is None


# Floods


def test_flood_from_one_host_is_bounded_and_leaves_the_others_alone() -> None:
    table, chance = neighbours(), random.Random(7)
    hints: list[Hint] = []
    for number in range(20_000):
        now = number / 10_000
        port = chance.randint(1, 65535)
        found = table.heard(here(uuid.UUID(int=number + 10), port), "flood", now)[1]
        hints += [found] if found else []
    assert len(table) <= MOST_OF_ADDRESS
    assert len(hints) <= 64 + 8 * 3

    assert table.heard(here(), "a", 2.0) == (True, Hint("tcp://a:7470", str(PEER)))


def test_flood_for_one_endpoint_takes_one_place() -> None:
    table = neighbours()
    hints = [table.heard(here(uuid.UUID(int=number + 10)), "flood", number / 10_000)[1] for number in range(20_000)]

    assert len(table) == 1
    assert len([hint for hint in hints if hint]) <= 8


def test_flood_from_invented_addresses_is_bounded_and_pushes_no_steady_node_out() -> None:
    table = neighbours()
    table.heard(here(), "a", 0.0)
    table.heard(here(), "a", STEADY_AFTER)
    hints = 0
    for number in range(20_000):
        now = 0.3 + number / 10_000
        frame = here(uuid.UUID(int=number + 10))
        hints += table.heard(frame, f"10.1.{number % 250}.{number // 250}", now)[1] is not None

    assert len(table) <= MOST_ENDPOINTS
    assert hints <= 512 + 64 * 3
    assert table.heard(here(), "a", 2.5) == (False, Hint("tcp://a:7470", str(PEER)))


def test_table_full_of_steady_nodes_takes_no_more() -> None:
    table = neighbours()
    for now in (0.0, 0.5):
        for number in range(MOST_ENDPOINTS):
            table.heard(here(uuid.UUID(int=number + 10)), f"10.1.{number % 250}.{number // 250}", now)

    assert len(table) == MOST_ENDPOINTS
    assert table.heard(here(), "a", 1.0) == (False, None)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.sampled_from("abc"), st.sampled_from(Kind))))
def test_any_history_keeps_the_books(history: list[tuple[int, int, str, Kind]]) -> None:
    table, now = neighbours(), 0.0
    for node, port, address, kind in history:
        now += 0.37
        _, hint = table.heard(BeaconFrame(kind, uuid.UUID(int=node).bytes, port), address, now)
        assert hint is None or (hint.endpoint == f"tcp://{address}:{port}" and kind is Kind.HERE)
        assert len(table) == sum(len(source.endpoints) for source in table._sources.values())


def test_bucket_gives_so_many_at_once_and_so_many_a_second() -> None:
    bucket = Bucket(3, 2, 0.0)

    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert not math.isinf(bucket._tokens)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_real_node_beside_a_flood_from_its_own_host_is_found_when_the_flood_ends(seed: int) -> None:
    table, chance = neighbours(seed), random.Random(seed)
    for number in range(5_000):
        table.heard(here(uuid.UUID(int=number + 10), chance.randint(1, 65535)), "a", number / 2_500)

    found = [table.heard(here(), "a", 2.0 + second)[1] for second in range(3)]

    assert Hint("tcp://a:7470", str(PEER)) in found
