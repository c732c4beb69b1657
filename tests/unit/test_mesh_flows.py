"""Outflow and inflow: numbers without holes, repair from what is kept, order, gaps of the right count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.mesh.frames import Repaired
from grav_actors.mesh.inflow import GAP_PATIENCE, HELD_OVERHEAD, MAX_HOLES, REPAIR_PATIENCE, Arrival, Gap, Inflow
from grav_actors.mesh.outflow import ENTRY_OVERHEAD, REPAIR_BYTES, Entry, Outflow

ME, A, B = b"m" * 8, b"a" * 8, b"b" * 8
ALL = (b"t",)


def entry(body: bytes = b"body", count: int = 1) -> Entry:
    return Entry("x", count, b"", body, len(body))


def put(outflow: Outflow, each: Entry) -> tuple[tuple[bytes, int, int], ...]:
    return outflow.put(outflow.wanted_by(b"tx\0"), each)


# Outflow


def test_tracks_number_what_each_peer_wants_without_holes() -> None:
    outflow = Outflow()
    outflow.open(A, ALL)
    outflow.open(B, (b"ty\0",))

    numbers = [outflow.put(outflow.wanted_by(topic), entry(count=3)) for topic in (b"tx\0", b"ty\0", b"tx\0")]

    assert numbers == [((A, 1, 1),), ((A, 1, 4), (B, 2, 1)), ((A, 1, 7),)]


def test_change_of_interest_keeps_the_track() -> None:
    outflow = Outflow()
    track = outflow.open(A, ALL)
    put(outflow, entry())

    assert outflow.open(A, (b"ty\0",)) is track
    assert outflow.wanted_by(b"tx\0") == ()
    assert outflow.wanted_by(b"ty\0") == (track,)


def test_closed_track_is_never_opened_again() -> None:
    outflow = Outflow()
    first = outflow.open(A, ALL)
    put(outflow, entry(count=5))

    assert outflow.close(A) == 5
    assert outflow.close(A) == 0
    assert outflow.open(A, ALL).number > first.number
    assert outflow.size == 0


def test_run_is_kept_until_every_track_has_it() -> None:
    outflow = Outflow()
    one, other = outflow.open(A, ALL), outflow.open(B, ALL)
    put(outflow, entry(count=2))

    outflow.acknowledge(one, 2)
    assert outflow.size == len(b"body") + ENTRY_OVERHEAD
    outflow.acknowledge(other, 1)
    assert outflow.size
    outflow.acknowledge(other, 2)
    assert outflow.size == 0


def test_acknowledgement_of_what_was_never_sent_is_cut() -> None:
    outflow = Outflow()
    track = outflow.open(A, ALL)
    put(outflow, entry())

    outflow.acknowledge(track, 100)

    assert (track.acked, track.floor) == (1, 2)


def test_past_the_limit_the_oldest_go_and_the_floor_rises() -> None:
    outflow = Outflow(limit=2 * (10 + ENTRY_OVERHEAD))
    track = outflow.open(A, ALL)
    for _ in range(4):
        put(outflow, entry(b"x" * 10, count=3))

    answer, body = outflow.repair(track, ME, [(1, 12)])

    assert (outflow.evicted, track.floor, answer.floor) == (6, 7, 7)
    assert [run[0] for run in answer.runs] == [7, 10]
    assert body == b"x" * 20


def test_one_run_over_the_limit_can_be_repaired() -> None:
    outflow = Outflow(limit=10)
    track = outflow.open(A, ALL)
    put(outflow, entry(b"x" * 100))

    assert outflow.repair(track, ME, [(1, 1)])[1] == b"x" * 100


def test_repair_begins_where_it_was_asked_and_ends_when_it_is_full() -> None:
    outflow = Outflow()
    track = outflow.open(A, ALL)
    for _ in range(5):
        put(outflow, entry(b"x" * (REPAIR_BYTES // 2), count=2))

    assert [run[0] for run in outflow.repair(track, ME, [(3, 10)])[0].runs] == [3, 5]
    assert [run[0] for run in outflow.repair(track, ME, [(9, 9)])[0].runs] == [9]
    assert outflow.repair(track, ME, [(11, 20)])[0].runs == ()
    assert [run[0] for run in outflow.repair(track, ME, [(1, 1), (2, 2), (7, 7)])[0].runs] == [1, 7]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 4)),
            st.tuples(st.just("ack a"), st.integers(0, 60)),
            st.tuples(st.just("ack b"), st.integers(0, 60)),
            st.tuples(st.just("close b"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_what_is_kept_is_bounded_and_what_lies_above_the_floor_is_there(actions: list[tuple[str, int]]) -> None:
    limit = 4 * (4 + ENTRY_OVERHEAD)
    outflow = Outflow(limit)
    tracks = {"a": outflow.open(A, ALL), "b": outflow.open(B, ALL)}
    for action, value in actions:
        match action.split():
            case ["put"]:
                put(outflow, entry(count=value))
            case ["ack", name]:
                outflow.acknowledge(tracks[name], value)
            case _:
                outflow.close(B)
                tracks["b"] = outflow.open(B, ALL)
        assert outflow.size <= limit
        for track in tracks.values():
            runs = outflow.repair(track, ME, [(1, 10_000)])[0].runs
            following = track.floor
            for tseq, _, count, _, _ in runs:
                assert tseq == following
                following += count
            assert following == track.sent + 1


# Inflow


def run(tseq: int, count: int = 1, body: bytes = b"") -> Arrival:
    return Arrival(tseq, "x", count, b"", body)


def shown(inflow: Inflow) -> list[object]:
    return [item if isinstance(item, Gap) else (item.tseq, item.count) for item in inflow.out]


def test_order_is_restored_and_repetition_dropped() -> None:
    inflow = Inflow()
    for arrival in (run(4, 2), run(1, 3), run(1, 3), run(9), run(4, 2), run(6, 3)):
        inflow.receive(1, arrival)

    assert shown(inflow) == [(1, 3), (4, 2), (6, 3), (9, 1)]
    assert (inflow.got, inflow.duplicates) == (9, 5)
    assert inflow.is_whole()


def test_hole_is_asked_for_at_once_and_again_after_a_while() -> None:
    inflow = Inflow()
    inflow.receive(1, run(5))

    assert inflow.repair(0.0) == ((1, 4),)
    assert inflow.repair(REPAIR_PATIENCE - 0.1) == ()
    assert inflow.repair(REPAIR_PATIENCE) == ((1, 4),)
    inflow.forget_repair()
    assert inflow.repair(REPAIR_PATIENCE) == ((1, 4),)


def test_lost_end_is_known_from_a_beat() -> None:
    inflow = Inflow()
    inflow.receive(1, run(1))
    inflow.enter(1, 7)

    assert inflow.repair(0.0) == ((2, 7),)


def test_several_holes_are_asked_for_together_and_not_without_bound() -> None:
    inflow = Inflow()
    for tseq in (3, 4, 7):
        inflow.receive(1, run(tseq))
    inflow.enter(1, 9)
    assert inflow.repair(0.0) == ((1, 2), (5, 6), (8, 9))

    for tseq in range(10, 400, 2):
        inflow.receive(1, run(tseq))
    assert len(inflow.repair(1.0)) == MAX_HOLES


def test_repair_fills_the_hole() -> None:
    inflow = Inflow()
    inflow.receive(1, run(4))

    inflow.repaired(Repaired(A, ME, 1, 1, ((1, "x", 2, 1, b""), (3, "x", 1, 1, b""))), b"ab")

    assert shown(inflow) == [(1, 2), (3, 1), (4, 1)]
    assert [item.body for item in inflow.out if isinstance(item, Arrival)] == [b"a", b"b", b""]


def test_answer_that_brings_nothing_is_no_reason_to_ask_again_at_once() -> None:
    inflow = Inflow()
    inflow.receive(1, run(4))
    assert inflow.repair(0.0)
    inflow.repaired(Repaired(A, ME, 1, 1, ()), b"")
    assert not inflow.repair(0.1)

    inflow.repaired(Repaired(A, ME, 1, 1, ((1, "x", 1, 0, b""),)), b"")
    assert inflow.repair(0.1) == ((2, 3),)


def test_what_lies_below_the_floor_is_announced_around_what_is_held() -> None:
    inflow = Inflow()
    inflow.receive(1, run(3))
    inflow.receive(1, run(9))

    inflow.repaired(Repaired(A, ME, 1, 7, ((7, "x", 2, 0, b""),)), b"")

    assert shown(inflow) == [Gap(2), (3, 1), Gap(3), (7, 2), (9, 1)]


def test_answer_of_an_earlier_track_is_dropped() -> None:
    inflow = Inflow()
    inflow.receive(2, run(4))

    inflow.repaired(Repaired(A, ME, 1, 4, ()), b"")

    assert inflow.out == []


@pytest.mark.parametrize(("is_up", "expected"), [(True, [Gap(3), (4, 1)]), (False, [])])
def test_only_time_of_a_working_link_turns_a_hole_into_a_gap(is_up: bool, expected: list[object]) -> None:
    inflow = Inflow()
    inflow.receive(1, run(4))

    for _ in range(10):
        inflow.pass_time(GAP_PATIENCE / 10, is_up=is_up)

    assert shown(inflow) == expected


def test_progress_gives_the_next_hole_its_own_time() -> None:
    inflow = Inflow()
    inflow.receive(1, run(4))
    inflow.receive(1, run(8))
    inflow.pass_time(GAP_PATIENCE - 1, is_up=True)
    for tseq in (1, 2, 3):
        inflow.receive(1, run(tseq))
    inflow.pass_time(GAP_PATIENCE - 1, is_up=True)

    assert Gap(3) not in shown(inflow)
    inflow.pass_time(1.0, is_up=True)
    assert shown(inflow)[-2:] == [Gap(3), (8, 1)]


def test_what_does_not_fit_behind_a_gap_is_fetched_later() -> None:
    inflow = Inflow(limit=2 * (10 + HELD_OVERHEAD))
    for tseq in (2, 3, 4):
        inflow.receive(1, run(tseq, body=b"x" * 10))
    inflow.receive(1, run(1))

    assert shown(inflow) == [(1, 1), (2, 1), (3, 1)]
    assert inflow.refetched == 1
    assert inflow.repair(0.0) == ((4, 4),)


def test_new_track_announces_that_nobody_knows_what_was_between() -> None:
    inflow = Inflow()
    inflow.receive(1, run(1))
    inflow.receive(1, run(4))
    inflow.receive(2, run(1, 5))
    inflow.receive(1, run(2))

    assert shown(inflow) == [(1, 1), Gap(2), (4, 1), Gap(-1), (1, 5)]
    assert inflow.duplicates == 1


@pytest.mark.parametrize(("knows_all", "last"), [(True, []), (False, [Gap(-1)])])
def test_end_delivers_what_is_held_and_announces_what_is_missing(knows_all: bool, last: list[object]) -> None:
    inflow = Inflow()
    inflow.receive(1, run(3))
    inflow.enter(1, 6)

    inflow.end(knows_all=knows_all)

    assert shown(inflow) == [Gap(2), (3, 1), Gap(3), *last]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12), st.data())
def test_whatever_comes_in_whatever_order_all_is_delivered_once_or_announced(
    counts: list[int], data: st.DataObject
) -> None:
    runs: list[Arrival] = []
    following = 1
    for count in counts:
        runs.append(run(following, count))
        following += count
    came = data.draw(st.lists(st.sampled_from(runs), max_size=30))
    inflow = Inflow()
    for arrival in came:
        inflow.receive(1, arrival)
    inflow.enter(1, following - 1)
    inflow.end(knows_all=True)

    position = 0
    for item in inflow.out:
        if isinstance(item, Gap):
            position += item.count
        else:
            assert item.tseq == position + 1
            position = item.end
    assert position == following - 1
    delivered = [item.tseq for item in inflow.out if isinstance(item, Arrival)]
    assert delivered == sorted({arrival.tseq for arrival in came})
