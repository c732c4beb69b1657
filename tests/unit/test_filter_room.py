"""The filters of all pods of a bus have one limit: past it a filter is refused, and the one before holds."""

from __future__ import annotations

import pytest

from grav_actors.bus import directory
from grav_actors.filters import FILTERS_FULL, FilterSet
from grav_actors.pod.core import State
from support.busnet import Net, TestPod

LIMIT = 1000


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    monkeypatch.setattr(directory, "ALL_FILTERS_BYTES", LIMIT)
    return Net()


def filters(size: int) -> FilterSet:
    """Return a filter whose entries have so many bytes; it wants `x` alone."""
    made = FilterSet(listening=True, exclusive=True)
    made.set_type("x", True)
    made.set_type("y" * (size - 11), False)
    assert made.size == size
    return made


def pod_with(net: Net, size: int) -> TestPod:
    pod = net.pod()
    pod.set_filters(filters(size))
    net.settle()
    return pod


def held(net: Net) -> int:
    return sum(receiver.filters.size for receiver in net.bus.directory)


def test_a_filter_for_which_there_is_no_room_is_refused_and_the_one_before_holds(net: Net) -> None:
    sender = net.pod()
    pod_with(net, 900)
    pod = net.pod("", "a")
    pod.set_filters(filters(200))
    request = pod.core._request
    net.settle()
    assert pod.core.refused == {request}
    assert pod.core.filters.to_wire() == net.receiver(pod).filters.to_wire() == (True, True, (("a", True),), ())
    sender.publish("a", 1)
    sender.publish("x", 2)
    net.settle()
    assert pod.data == [1]
    assert net.bus.directory.filter_bytes == held(net) <= LIMIT


def test_a_later_filter_that_fits_holds_although_the_one_before_it_was_refused(net: Net) -> None:
    pod_with(net, 900)
    pod = net.pod()
    pod.set_filters(filters(200))
    pod.set_filters(filters(50))
    net.settle()
    assert len(pod.core.refused) == 1
    assert pod.core.filters.size == net.receiver(pod).filters.size == 50


def test_a_pod_may_always_make_its_filter_smaller(net: Net) -> None:
    pod_with(net, 500)
    pod = pod_with(net, 500)
    for size in (500, 400, 20):
        pod.set_filters(filters(size))
        net.settle()
        assert net.receiver(pod).filters.size == size
    assert not pod.core.refused


def test_who_joins_with_a_filter_for_which_there_is_no_room_is_refused(net: Net) -> None:
    pod_with(net, 990)
    pod = net.pod("", "a" * 20, is_joined=False)
    net.settle()
    assert pod.core.closed_by == ("full", FILTERS_FULL)
    assert net.pod("", "a").core.state is State.JOINED


def test_filters_of_pods_that_leave_make_room(net: Net) -> None:
    pods = [pod_with(net, 200) for _ in range(5)]
    assert net.bus.directory.filter_bytes == LIMIT
    pods[0].leave()
    net.settle()
    assert net.bus.directory.filter_bytes == 800
    assert not pod_with(net, 200).core.refused


def test_the_next_incarnation_takes_the_room_of_the_one_before(net: Net) -> None:
    pod_with(net, 900)
    first = net.actor("a", "x" * 80)
    net.kill(first)
    second = net.actor("a", "x" * 80, incarnation=1)
    assert second.core.state is State.JOINED
    assert net.bus.directory.filter_bytes == held(net)


def test_a_new_bus_counts_what_its_roster_has(net: Net) -> None:
    pod_with(net, 900)
    pod = pod_with(net, 100)
    net.restart_bus()
    net.advance(2)
    assert net.bus.directory.filter_bytes == held(net) == LIMIT
    pod.set_filters(filters(150))
    net.settle()
    assert pod.core.filters.size == 100
