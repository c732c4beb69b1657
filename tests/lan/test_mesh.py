"""What must hold between the hosts of a LAN, in a short form; `scripts/lan` runs the long one and prints figures."""

from collections.abc import Iterator

import pytest

from support.lanlab import Lan
from support.lanmesh import hostile, scenarios
from support.lanmesh.stage import Stage


@pytest.fixture
def stage(lan: Lan) -> Iterator[Stage]:
    with Stage(lan) as stage:
        yield stage


@pytest.mark.lan(hosts=3)
def test_three_hosts_are_a_mesh_within_two_seconds(stage: Stage) -> None:
    scenarios.discovery(stage, 3, 2.0)


@pytest.mark.lan(hosts=10)
def test_ten_hosts_are_a_mesh_within_five_seconds(stage: Stage) -> None:
    scenarios.discovery(stage, 10, 5.0)


@pytest.mark.lan(hosts=2)
def test_what_is_published_right_after_wait_for_peers_arrives(stage: Stage) -> None:
    scenarios.fresh_links(stage, 5)


@pytest.mark.lan(hosts=2)
def test_cut_loses_nothing_and_keeps_the_order(stage: Stage) -> None:
    scenarios.cut(stage, 6.0)


@pytest.mark.lan(hosts=2)
def test_cut_that_is_longer_than_the_buffer_is_announced_exactly(stage: Stage) -> None:
    scenarios.cut(stage, 6.0, retransmit=100_000)


@pytest.mark.lan(hosts=2)
def test_cut_in_one_direction_is_seen_by_both_and_heals(stage: Stage) -> None:
    scenarios.cut(stage, 6.0, one_way=True)


@pytest.mark.lan(hosts=2)
def test_power_cut_is_known_and_the_host_is_back_soon_after_it_boots(stage: Stage) -> None:
    scenarios.power_cut(stage)


@pytest.mark.lan(hosts=2)
def test_killed_node_is_known_and_another_takes_its_address(stage: Stage) -> None:
    scenarios.killed_node(stage)


@pytest.mark.lan(hosts=2)
def test_bad_network_loses_nothing_and_takes_nobody_for_down(stage: Stage) -> None:
    scenarios.loss(stage, 5.0)


@pytest.mark.lan(hosts=2)
def test_busy_node_is_not_down_and_takes_nobody_for_down(stage: Stage) -> None:
    scenarios.busy(stage, 5.0)


@pytest.mark.lan(hosts=3)
def test_strangers_get_nowhere_and_disturb_nobody(stage: Stage) -> None:
    hostile.strangers(stage)


@pytest.mark.lan(hosts=3)
def test_uuid_of_a_member_is_forged_in_vain(stage: Stage) -> None:
    hostile.forgery(stage)


@pytest.mark.lan(hosts=3)
def test_handshake_that_was_recorded_is_replayed_in_vain(stage: Stage) -> None:
    hostile.replay(stage)
