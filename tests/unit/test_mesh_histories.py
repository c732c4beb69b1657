"""Random histories of a mesh: each message once, in its origin's order, or in an announced gap of the right count."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from grav_actors.mesh.actors import Actors
from grav_actors.mesh.inflow import Arrival, Gap, Inflow
from grav_actors.mesh.liveness import Vitals
from grav_actors.mesh.outflow import Outflow, Track
from grav_actors.mesh.switchboard import Switchboard
from support.meshsim.history import Lost, MeshHistory
from support.meshsim.network import Weather
from support.meshsim.world import Script, World

pytestmark = pytest.mark.no_cover  # random histories would take three times as long when they are traced

BLOCK = 10
"""Seeds of one test."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", range(0, 60, BLOCK))
def test_random_histories_hold_what_is_promised(first: int) -> None:
    for seed in range(first, first + BLOCK):
        violations = World(seed).run()
        assert not violations, f"seed {seed}: {violations[:5]}"


def test_a_seed_replays_exactly() -> None:
    def live(seed: int) -> tuple[Any, ...]:
        world = World(seed)
        world.run()
        return world.network.now, world.history.states, dict(world.history.got)

    assert live(7) == live(7)


def test_histories_do_not_depend_on_hash_seeds() -> None:
    program = (
        "from support.meshsim.world import World\n"
        "world = World(7)\nworld.run()\nprint(len(world.history.states), world.history.delivered())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT / "tests",
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "tests")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1


# Scripts of their own for single rules.


def test_whole_network_loses_and_repeats_nothing_and_calls_nobody_down() -> None:
    world = World(1, Script(nodes=5, changes=0.5))

    assert not world.run()
    assert (world.history.lost(), world.history.unknown()) == (0, 0)
    assert all(state in ("joining", "up") for _, _, _, state in world.history.states)


def test_loss_repetition_and_disorder_alone_cost_nothing() -> None:
    world = World(1, Script(nodes=3, weather=Weather((0.001, 0.05), loss=0.05, twice=0.2, is_ordered=False)))

    assert not world.run()
    assert world.history.lost() == 0
    assert world.history.delivered() == sum(len(owed) for owed in world.history.owed.values()) > 1000
    # While both dial each other, the farewell of the link that gives way may overtake the proof of the one that stands.
    assert not [state for state in world.history.states if state[0] > 1.0 and state[3] in ("suspect", "down")]


def cut_world(seconds: float, retransmit: int) -> World:
    world = World(3, Script(nodes=3, seconds=seconds + 10, retransmit=retransmit))
    for node in world.nodes:
        node.want(">")
    hosts = [node.host for node in world.nodes]

    def cut() -> None:
        for other in hosts[1:]:
            world.network.cut(hosts[0], other)
            world.network.cut(other, hosts[0])

    world.network.at(5.0, cut)
    world.network.at(5.0 + seconds, world.network.heal)
    return world


def test_cut_within_the_retransmit_buffer_loses_nothing() -> None:
    world = cut_world(20.0, 64 * 1024 * 1024)

    assert not world.run()
    assert world.history.lost() == 0
    downs = [state for state in world.history.states if state[3] == "down"]
    assert len(downs) == 4, "each of two pairs calls the other down once"


def test_cut_beyond_the_retransmit_buffer_announces_exactly_what_is_lost() -> None:
    world = cut_world(20.0, 8_000)

    assert not world.run()
    owed = sum(len(owed) for owed in world.history.owed.values())
    assert world.history.lost() > 0
    assert world.history.delivered() + world.history.lost() == owed
    assert world.history.unknown() == 0


def test_one_way_cut_is_seen_on_both_sides_and_costs_one_down_and_up() -> None:
    world = World(4, Script(nodes=2, seconds=40.0))
    world.network.at(10.0, lambda: world.network.cut("h0", "h1"))
    world.network.at(30.0, world.network.heal)

    assert not world.run()
    for host in ("h0", "h1"):
        states = [state for _, at, _, state in world.history.states if at == host]
        assert states == ["up", "suspect", "down", "up"]
    assert world.history.lost() == 0


def test_node_that_is_busy_for_five_seconds_is_not_down_and_calls_nobody_down() -> None:
    world = World(5, Script(nodes=3, seconds=30.0))
    world.network.at(10.0, lambda: world.stall(world.nodes[0], 5.0))

    assert not world.run()
    assert "down" not in [state for _, _, _, state in world.history.states]


# The checkers are checked: each of these faults must be seen within some seeds.


def hear_once(self: Outflow, incarnation: bytes, prefixes: tuple[bytes, ...], max_message: int) -> Track:
    # A change of interest is lost.
    return self.track(incarnation) or ORIGINAL_OPEN(self, incarnation, prefixes, max_message)


def receive_anything(self: Inflow, track: int, arrival: Arrival) -> None:
    self.enter(track, arrival.end)
    self.out.append(arrival)  # neither order nor duplicates
    self.got = max(self.got, arrival.end)


def abandon_silently(self: Inflow, until: int) -> None:
    ORIGINAL_ABANDON(self, until)
    self.out = [item for item in self.out if not isinstance(item, Gap)]


def abandon_with_wrong_count(self: Inflow, until: int) -> None:
    ORIGINAL_ABANDON(self, until)
    self.out = [Gap(item.count + 1) if isinstance(item, Gap) else item for item in self.out]


def never_repair(self: Inflow, now: float) -> None:
    return None


def no_tail(self: Inflow, track: int, sent: int) -> bool:
    return ORIGINAL_ENTER(self, track, 0)  # what a beat says about the last number is not heard


def skip_a_number(self: Track, entry: Any) -> int:
    self.sent += 1
    return ORIGINAL_APPEND(self, entry)


def impatient(self: Vitals, now: float) -> float:
    return ORIGINAL_SILENCE(self, now) * 10


def deaf_to_gaps(self: Switchboard, gap: Any) -> None:
    return None  # a question or an answer in the gap is waited for


def deaf_to_ends(self: Switchboard, change: Any) -> None:
    return None  # what a peer that is gone had is waited for


def settle_silently(self: Switchboard, question: bytes, asked: Any, code: str) -> None:
    self._forget(question)  # and the node that asked never learns of it


def never_take_back(self: Switchboard, peer: str, ids: Any) -> None:
    return None  # what nobody waits for stays


def serve_again(self: Actors, message_type: str, served: tuple[str, ...]) -> dict[str, str]:
    return ORIGINAL_CHOOSE(self, message_type, ())  # a group that has it here gets it on a peer too


def remember_the_gone(self: Actors, uuid: str, label: str, *, is_here: bool, why: str = "") -> None:
    if is_here:
        ORIGINAL_PRESENT(self, uuid, label, is_here=True)


ORIGINAL_CHOOSE = Actors.choose
ORIGINAL_PRESENT = Actors.present
ORIGINAL_ABANDON = Inflow._abandon
ORIGINAL_OPEN = Outflow.open
ORIGINAL_ENTER = Inflow.enter
ORIGINAL_APPEND = Track.append
ORIGINAL_SILENCE = Vitals.silence


def violations(seeds: range) -> Iterator[str]:
    for seed in seeds:
        world = World(seed)
        yield from world.run()


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (Inflow, "receive", receive_anything),
        (Inflow, "_abandon", abandon_silently),
        (Inflow, "_abandon", abandon_with_wrong_count),
        (Inflow, "enter", no_tail),
        (Track, "append", skip_a_number),
        (Vitals, "silence", impatient),
        (Outflow, "open", hear_once),
        (Switchboard, "lost", deaf_to_gaps),
        (Switchboard, "changed", deaf_to_ends),
        (Switchboard, "_settled", settle_silently),
        (Switchboard, "_take_back", never_take_back),
        (Actors, "choose", serve_again),
        (Actors, "present", remember_the_gone),
    ],
)
def test_planted_fault_is_seen(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, fault: Callable[..., Any]
) -> None:
    monkeypatch.setattr(owner, name, fault)

    assert next(violations(range(40)), None) is not None


A, B = b"a" * 8, b"b" * 8


@pytest.mark.parametrize(
    ("owed", "got", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], []),
        ([1, 2, 3], [1, Lost(1), 3], []),
        ([1, 2, 3], [1, Lost(-1), 3], []),
        ([1, 2, 3], [1, Lost(2)], []),
        ([1, 2, 3], [1, 3], ["1 are missing before 3, announced were 0"]),
        ([1, 2, 3], [1, Lost(2), 3], ["1 are missing before 3, announced were 2"]),
        ([1, 2, 3], [1, 1, 2, 3], ["1 came again"]),
        ([1, 2, 3], [2, 1, 3], ["1 are missing before 2", "1 came again", ""]),
        ([1, 2], [1], ["1 of 2 are missing at the end, announced were 0"]),
        ([1], [1, 9], ["9 came and was never owed"]),
    ],
)
def test_checker_of_one_way(owed: list[int], got: list[int | Lost], expected: list[str]) -> None:
    history = MeshHistory(alive={A, B})
    history.owed[A, B] = owed
    history.got[A, B] = got

    found = history.violations()

    assert len(found) <= len(expected)
    assert all(text in line for line, text in zip(found, expected, strict=False))
    assert bool(found) == bool(expected)
