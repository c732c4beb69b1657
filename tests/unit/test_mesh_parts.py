"""Liveness, dialling, handshakes and tunnels of the mesh."""

from dataclasses import replace
from typing import Any

import pytest

from grav_actors.mesh.dialling import (
    FIRST_DELAY,
    FORGET_AFTER,
    MAX_DELAY,
    MAX_DIALS,
    MAX_HINTS,
    REFUSED_DELAY,
    Dialler,
    Hint,
)
from grav_actors.mesh.frames import Pulse
from grav_actors.mesh.handshake import Identity, check_fit, stands
from grav_actors.mesh.liveness import REMEMBERED_BEATS, Beats, Vitals
from grav_actors.mesh.tunnels import REMEMBERED, TRY_AFTER, Arrived, Tunnels

LIFE = b"l" * 8
ONE = "00000000-0000-8000-8000-000000000001"
TWO = "00000000-0000-8000-8000-000000000002"


def pulse(echo: int, held: int = 0) -> Pulse:
    return Pulse(LIFE, 0, 0, 0, 0, echo, held)


# Liveness


def test_silence_is_that_of_the_worse_direction() -> None:
    beats = Beats()
    vitals = Vitals(0.0)
    number = beats.next(4.0)
    vitals.hear_beat(1, 5.0)
    assert vitals.silence(6.0) == 5.0, "nothing echoes since 0 s, and an echo may be 1 s late"

    vitals.hear_echo(pulse(number), beats, 5.0)
    assert vitals.silence(6.0) == 1.0


def test_round_trip_leaves_out_what_the_peer_waited() -> None:
    beats, vitals = Beats(), Vitals(0.0)
    number = beats.next(1.0)

    vitals.hear_echo(pulse(number, held=400_000), beats, 1.5)

    assert vitals.rtt == pytest.approx(0.1)


def test_drift_is_known_with_the_round_trip_and_counts_half_of_it() -> None:
    beats, vitals = Beats(), Vitals(0.0)
    vitals.ahead = 2.0
    assert vitals.drift() is None
    vitals.hear_echo(pulse(beats.next(1.0)), beats, 1.5)
    assert vitals.drift() == pytest.approx(2.25)


@pytest.mark.parametrize("echo", [0, 2, 99])
def test_echo_of_no_beat_says_nothing(echo: int) -> None:
    beats, vitals = Beats(), Vitals(0.0)
    beats.next(1.0)

    vitals.hear_echo(pulse(echo), beats, 1.5)

    assert (vitals.rtt, vitals.echoed_at) == (None, 0.0)


def test_late_echo_of_an_early_beat_changes_nothing() -> None:
    beats, vitals = Beats(), Vitals(0.0)
    first, second = beats.next(1.0), beats.next(2.0)
    vitals.hear_echo(pulse(second), beats, 2.1)
    vitals.hear_echo(pulse(first), beats, 2.2)

    assert vitals.echoed_at == 2.0


def test_beats_too_long_ago_are_forgotten() -> None:
    beats = Beats()
    for second in range(REMEMBERED_BEATS + 1):
        beats.next(float(second))

    assert beats.sent_at(1) is None
    assert beats.sent_at(2) == 1.0


def test_time_in_which_this_node_did_not_listen_is_forgiven_but_never_more() -> None:
    vitals = Vitals(0.0)

    vitals.forgive(6.0, 8.0)
    assert vitals.silence(8.0) == 2.0
    vitals.forgive(60.0, 8.0)
    assert vitals.silence(8.0) == 0.0


# Dialling


def dialler() -> Dialler:
    return Dialler(lambda: 0.5)


def always(hint: Hint) -> bool:
    return True


def test_failed_dial_is_repeated_ever_more_slowly_and_a_hint_then_forgotten() -> None:
    dials = dialler()
    hint = dials.add("tcp://a", "", 0.0)
    assert hint is not None
    delays: list[float] = []
    for _ in range(FORGET_AFTER - 1):
        dials.failed(hint, 0.0)
        delays.append(hint.next_at)
    dials.failed(hint, 0.0)

    assert delays == [FIRST_DELAY * 2**n for n in range(5)] + [MAX_DELAY] * (FORGET_AFTER - 6)
    assert len(dials) == 0


def test_what_the_user_named_is_never_forgotten() -> None:
    dials = dialler()
    hint = dials.add("tcp://a", "", 0.0, is_lasting=True)
    assert hint is not None
    for _ in range(100):
        dials.failed(hint, 0.0)
    dials.refused(hint, 0.0)

    assert dials.due(REFUSED_DELAY - 1, always) == []
    assert dials.due(REFUSED_DELAY, always) == [hint]


def test_flood_of_hints_is_bounded_and_does_not_push_out_what_the_user_named() -> None:
    dials = dialler()
    dials.add("tcp://mine", "", 0.0, is_lasting=True)
    for number in range(100_000):
        dials.add(f"tcp://{number}", "", 0.0)

    assert len(dials) == MAX_HINTS
    assert "tcp://mine" in [hint.endpoint for hint in dials._hints.values()]
    due = dials.due(0.0, always)
    assert len(due) == MAX_DIALS
    for number, hint in enumerate(due, 1):
        hint.link = number
    assert dials.due(0.0, always) == []


def test_flood_of_uuids_for_one_address_does_not_speed_up_its_dials() -> None:
    dials = dialler()
    hint = dials.add("tcp://a", "u0", 0.0)
    assert hint is not None
    dials.failed(hint, 0.0)
    for number in range(1000):
        dials.add("tcp://a", f"u{number}", 0.0)

    assert (hint.next_at, hint.uuid) == (FIRST_DELAY, "u999")


def test_full_of_named_endpoints_takes_no_hint() -> None:
    dials = dialler()
    for number in range(MAX_HINTS):
        dials.add(f"tcp://{number}", "", 0.0, is_lasting=True)

    assert dials.add("tcp://one-more", "", 0.0) is None


# Handshakes

ME = Identity(ONE, LIFE, belongs_to="farm")
OTHER = Identity(TWO, b"o" * 8, belongs_to="farm").handshake()


@pytest.mark.parametrize(
    ("mine", "theirs", "fits"),
    [("farm", "farm", True), ("*", "farm", True), ("farm", "*", True), ("*", "*", True), ("farm", "barn", False)],
)
def test_groups_fit_when_they_are_one_or_either_says_any(mine: str, theirs: str, fits: bool) -> None:
    me, other = replace(ME, belongs_to=mine), replace(OTHER, belongs_to=theirs)
    refusal = check_fit(me, other)

    assert (refusal is None) == fits
    assert refusal is None or (refusal.code == "belongs_to" and "'barn'" in refusal.reason)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 2}, "version"),
        ({"uuid": ONE}, "self"),
        ({"uuid": "x"}, "malformed"),
        ({"incarnation": "zz"}, "malformed"),
        ({"incarnation": "00"}, "malformed"),
        ({"name": "n" * 65}, "malformed"),
        ({"interests": ("x",) * 65}, "malformed"),
        ({"endpoints": ("x" * 256,)}, "malformed"),
    ],
)
def test_who_does_not_fit_is_refused_with_a_code(changes: dict[str, Any], code: str) -> None:
    refusal = check_fit(ME, replace(OTHER, **changes))

    assert refusal is not None
    assert refusal.code == code


def test_uuid_must_be_the_one_that_discovery_said() -> None:
    assert check_fit(ME, OTHER, TWO) is None
    refusal = check_fit(ME, OTHER, "00000000-0000-8000-8000-000000000003")
    assert refusal is not None
    assert refusal.code == "uuid"


def test_both_sides_keep_the_same_one_of_two_links() -> None:
    for dialled_by_lower in (True, False):
        at_lower = stands(ONE, TWO, is_dialled=dialled_by_lower)
        at_higher = stands(TWO, ONE, is_dialled=not dialled_by_lower)
        assert at_lower == at_higher == dialled_by_lower


# Tunnels


def test_candidates_take_turns() -> None:
    tunnels = Tunnels()
    chosen = [tunnels.choose(tunnels.begin("vision", b"", b"", 9.0), ["a", "b", "c"], 0.0) for _ in range(4)]

    assert chosen == ["a", "b", "c", "a"]


def test_each_is_asked_once_for_one_message() -> None:
    tunnels = Tunnels()
    attempt = tunnels.begin("vision", b"", b"", 9.0)

    assert [tunnels.choose(attempt, ["a", "b"], 0.0) for _ in range(3)] == ["a", "b", None]


def test_next_is_tried_after_a_second_and_all_end_at_the_deadline() -> None:
    tunnels = Tunnels()
    attempt = tunnels.begin("vision", b"", b"", 5.0)
    tunnels.choose(attempt, ["a"], 1.0)

    assert tunnels.impatient(1.0 + TRY_AFTER - 0.01) == []
    assert tunnels.impatient(1.0 + TRY_AFTER) == [attempt]
    assert tunnels.waiting_for("a") == [attempt]
    assert tunnels.expired(4.9) == []
    assert tunnels.expired(5.0) == [attempt]
    assert tunnels.acknowledged(attempt.number) is None


def test_tunnel_that_comes_twice_is_new_once_within_what_is_remembered() -> None:
    arrived = Arrived()

    assert [arrived.is_new(1), arrived.is_new(1), arrived.is_new(2)] == [True, False, True]
    for number in range(3, REMEMBERED + 3):
        arrived.is_new(number)
    assert len(arrived._numbers) == REMEMBERED
