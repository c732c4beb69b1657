"""Who is on the bus, and who receives what."""

from __future__ import annotations

from typing import Any

import pytest

from grav_actors.bus.directory import CACHED_PLANS, REPLAYED_NAMES, Directory
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.run import Delivery, Run
from grav_actors.bus.sender import Sender
from grav_actors.filters import FilterSet
from grav_actors.ids import new_id
from grav_actors.protocol import PodSettings
from support.busnet import Net


def receiver(name: str = "", *patterns: str, uuid: bytes = b"", **settings: Any) -> Receiver:
    filters = FilterSet(listening=bool(patterns), exclusive=True)
    for pattern in patterns:
        filters.set_type(pattern, True)
    uuid = uuid or new_id()
    one = Receiver(uuid, name, PodSettings(actor=bool(name), **settings), filters, Sender(uuid))
    one.route = b"route"
    return one


def filled(*receivers: Receiver) -> Directory:
    directory = Directory()
    for one in receivers:
        directory.add(one)
    return directory


def test_a_plan_names_the_receivers_of_a_type() -> None:
    one, other, silent = receiver("", "a.*"), receiver("", "a.b", "c"), receiver()
    directory = filled(one, other, silent)
    assert directory.plan("a.b").receivers == (one, other)
    assert directory.plan("c").receivers == (other,)
    assert directory.plan("d").receivers == ()


def test_a_plan_is_remembered_until_something_changes() -> None:
    one = receiver("", "a")
    directory = filled(one)
    plan = directory.plan("a")
    assert directory.plan("a") is plan
    directory.filter(one, FilterSet())
    assert directory.plan("a").receivers == ()
    directory.add(receiver("", "a"))
    assert len(directory.plan("a").receivers) == 1


@pytest.mark.parametrize("patterns", [("b",), ("b", "c.*"), ()], ids=["exact", "pattern", "silent"])
def test_a_pod_that_comes_filters_or_leaves_changes_only_the_plans_of_types_it_wants(patterns: tuple[str, ...]) -> None:
    directory = filled(receiver("", "a", "b", "c.x"))
    before = {each: directory.plan(each) for each in ("a", "b", "c.x")}
    one = receiver("", *patterns)
    directory.add(one)
    directory.filter(one, FilterSet.from_wire(one.filters.to_wire()))
    assert directory.plan("a") is before["a"]
    assert (one in directory.plan("b").receivers) == ("b" in patterns)
    assert (one in directory.plan("c.x").receivers) == ("c.*" in patterns)
    directory.remove(one)
    assert directory.plan("a") is before["a"]
    assert {each: directory.plan(each) for each in before} == before


def test_a_member_of_a_group_changes_the_plans_of_the_types_it_wants() -> None:
    directory = filled(receiver("", "a"))
    unchanged = directory.plan("a")
    member = receiver("", "b", group="g")
    assert directory.plan("b").groups == ()
    directory.add(member)
    assert [group.name for group in directory.plan("b").groups] == ["g"]
    directory.filter(member, FilterSet(listening=True))
    assert [group.name for group in directory.plan("c").groups] == ["g"]
    assert [group.name for group in directory.plan("a").groups] == ["g"]
    directory.remove(member)
    assert directory.plan("a") == unchanged
    assert directory.plan("c").groups == ()


def test_remembered_plans_are_bounded() -> None:
    directory = filled(receiver("", ">"))
    for number in range(CACHED_PLANS + 5):
        directory.plan(f"t{number}")
    assert len(directory._plans) <= CACHED_PLANS


def test_remembered_plans_are_bounded_in_what_they_name_and_counted_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grav_actors.bus.directory.PLANNED_RECEIVERS", 100)
    pods = [receiver("", "t.*"), *(receiver(f"m{number}", "t.*", group="g") for number in range(6))]
    directory = filled(*pods)
    for number in range(60):
        directory.plan(f"t.{number}")
        if number % 7 == 0:
            directory.filter(pods[number % 3], pods[number % 3].filters.copy())
        assert directory._planned == sum(plan.size for plan in directory._plans.values()) <= 100
    assert directory._plans, "the last one is remembered"


def test_the_filters_of_the_bus_remember_no_verdicts() -> None:
    net = Net()
    sender = net.pod()
    pods = [net.pod(f"p{number}", "t.*", group=group) for number, group in enumerate(("", "", "g", "g"))]
    for number in range(50):
        sender.publish(f"t.{number}", number)
    net.settle()
    assert sorted(data for pod in pods[2:] for data in pod.data) == list(range(50))
    assert [len(net.receiver(pod).filters._verdicts) for pod in pods] == [0, 0, 0, 0]


def test_a_name_is_one_actor_and_a_service_one_instance_after_the_other() -> None:
    temps = [receiver(f"temp-{n}", service="temp") for n in range(3)]
    directory = filled(*temps)
    assert directory.named("temp-1") is temps[1]
    assert [directory.named("temp") for _ in range(4)] == [*temps, temps[0]]
    assert directory.named("nobody") is None


def test_looking_whether_a_service_is_there_does_not_turn_it() -> None:
    temps = [receiver(f"temp-{n}", service="temp") for n in range(2)]
    directory = filled(*temps)
    assert directory.is_connected("temp")
    assert directory.is_connected("temp-1")
    assert not directory.is_connected("other")
    assert directory.named("temp") is temps[0]
    for one in temps:
        one.route = b""
    assert not directory.is_connected("temp")


def test_pods_of_a_process_are_found_by_the_first_half_of_their_ids() -> None:
    ours = [receiver(uuid=b"process1" + bytes([n] * 8)) for n in range(2)]
    directory = filled(*ours, receiver(uuid=b"process2" + b"x" * 8))
    assert directory.of_process(b"process1") == ours
    assert directory.of_process(b"process3") == []


def test_striking_a_pod_leaves_nothing_of_it() -> None:
    one = receiver("a", "x", service="s", group="g")
    directory = filled(one)
    assert directory.remove(one) is not None
    for table in (directory.by_uuid, directory.by_name, directory.groups, directory._by_service, directory._by_process):
        assert not table


def test_a_group_ends_with_its_last_member() -> None:
    members = [receiver(f"m{n}", "x", group="g") for n in range(2)]
    directory = filled(*members)
    group = directory.groups["g"]
    assert directory.plan("x").groups == (group,)
    assert directory.plan("x").receivers == ()
    assert directory.remove(members[0]) is None
    assert directory.remove(members[1]) is group
    assert directory.plan("x").groups == ()


def test_a_group_chooses_the_least_loaded_member_with_room() -> None:
    members = [receiver(f"m{n}", "x", group="g", prefetch=4) for n in range(3)]
    directory = filled(*members)
    group = directory.groups["g"]
    members[0].window_used = 2
    members[1].window_used = 1
    members[2].window_used = 4
    assert directory.choose(group, "x", b"") == (members[1], True)
    members[1].route = b""
    assert directory.choose(group, "x", b"") == (members[0], True)
    members[0].window_used = 4
    assert directory.choose(group, "x", b"") == (None, True)


def test_a_group_never_chooses_the_sender_or_who_does_not_want_it() -> None:
    one, other = receiver("one", "x", group="g"), receiver("other", "y", group="g")
    directory = filled(one, other)
    group = directory.groups["g"]
    assert directory.choose(group, "x", one.uuid) == (None, False)
    assert directory.choose(group, "x", other.uuid) == (one, True)
    assert directory.choose(group, "z", b"") == (None, False)


def test_what_a_member_had_from_an_earlier_bus_is_its_own() -> None:
    one, other = receiver("one", "x", group="g"), receiver("other", "x", group="g")
    group = filled(one, other).groups["g"]
    sender = Sender(b"s" * 16)
    one.claims = {sender.uuid: ((1, 3),)}
    other.claims = {sender.uuid: ((6, 20),)}
    run = Run(sender, 1, 0, "x", 10, b"", 10, None)
    assert group.claimant(Delivery(run, 0, 10)) == (one, 3)
    assert group.claimant(Delivery(run, 3, 10)) == (None, 2)
    assert group.claimant(Delivery(run, 5, 10)) == (other, 5)
    assert group.claimant(Delivery(Run(Sender(b"t" * 16), 1, 0, "x", 9, b"", 9, None), 0, 9)) == (None, 9)


def test_a_bounded_number_of_names_that_listened_is_remembered() -> None:
    directory = Directory()
    for number in range(REPLAYED_NAMES + 1):
        one = receiver(f"a{number}", "x")
        one.replayed = True
        directory.add(one)
        directory.remove(one)
    first, last = receiver("a0", "x"), receiver(f"a{REPLAYED_NAMES}", "x")
    directory.add(first)
    directory.add(last)
    assert (first.replayed, last.replayed) == (False, True)
    assert len(directory._replayed) == REPLAYED_NAMES
