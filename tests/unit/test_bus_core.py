"""The bus's half of the protocol: who may join, who is gone, and what malformed and forged frames cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grav_actors.bus import membership
from grav_actors.bus.membership import BAD_FRAMES_LIMIT
from grav_actors.codec import join_body, pack_record
from grav_actors.filters import FilterSet
from grav_actors.ids import id_text, new_id
from grav_actors.message import Message
from grav_actors.pod.core import State
from grav_actors.protocol import (
    FAILED_LIMIT,
    KIND_PUBLISH,
    MAX_NUMBER,
    MAX_SLOT,
    Hello,
    PodSettings,
    Verb,
    pack,
    pack_hello,
    unpack_header,
)
from support.busnet import Died, Net, TestPod

BODY = join_body([pack_record(Message("x", 1), 1 << 20)])


def give(net: Net, route: bytes, *fields: Any, body: bytes = b"") -> list[tuple[Any, ...]]:
    """Give the bus a frame from a route; return what it answers there."""
    net.bus.receive(route, pack(*fields), body, net.now)
    net.bus.tick(net.now)
    answers = [unpack_header(header) for to, header, _ in net.bus.out if to == route]
    net.bus.out = [frame for frame in net.bus.out if frame[0] != route]
    return [fields for fields in answers if fields[0] != Verb.PING]


def spoil(net: Net, route: bytes, times: int = BAD_FRAMES_LIMIT) -> None:
    for _ in range(times):
        net.bus.receive(route, b"junk", b"", net.now)


def send(seq: int, count: int = 1) -> tuple[Any, ...]:
    return (Verb.SEND, 1, seq, None, ((KIND_PUBLISH, "x", count, len(BODY), None),))


def hello(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "request": 1, "uuid": new_id(), "name": "", "settings": PodSettings(), "filters": FilterSet().to_wire(),
        "epoch": b"", "received": 0, "floor": 0, "sent": 0,
    }  # fmt: skip
    return pack_hello(1, Hello(**(fields | changes)))


# Unknown routes and slots


@pytest.mark.parametrize(
    "fields",
    [
        send(1), (Verb.HANDLED, 1, 5), (Verb.FILTER, 1, 1, (True, False, (), ())), (Verb.BEAT, 0), (Verb.SYNC, 1),
        (Verb.CANCEL, 1, (1,)),
    ],
    ids=lambda fields: Verb(fields[0]).name,
)  # fmt: skip
def test_an_unknown_route_is_told_that_all_its_pods_must_join(fields: tuple[Any, ...]) -> None:
    net = Net()
    assert give(net, b"new", *fields, body=BODY if fields[0] == Verb.SEND else b"") == [(Verb.REJOIN, 0)]
    assert net.bus._routes == {}


@pytest.mark.parametrize(
    "fields",
    [
        (Verb.SEND, 9, 1, None, ((KIND_PUBLISH, "x", 1, len(BODY), None),)), (Verb.HANDLED, 9, 5),
        (Verb.FILTER, 9, 1, (True, False, (), ())), (Verb.SYNC, 9), (Verb.CANCEL, 9, (1,)),
    ],
    ids=lambda fields: Verb(fields[0]).name,
)  # fmt: skip
def test_an_unknown_slot_is_told_that_its_pod_must_join(fields: tuple[Any, ...]) -> None:
    net = Net()
    pod = net.pod()
    answer = give(net, pod.wire.route, *fields, body=BODY if fields[0] == Verb.SEND else b"")
    assert answer == [(Verb.REJOIN, 9)]


def test_who_is_unknown_and_leaves_is_gone_and_not_told_to_join() -> None:
    net = Net()
    pod = net.pod()
    assert give(net, b"new", Verb.BYE, 1, 7, "") == [(Verb.OK, 1, 7, "unknown")]
    assert give(net, pod.wire.route, Verb.BYE, 9, 7, "") == [(Verb.OK, 9, 7, "unknown")]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["connection", "bus"])
def test_what_a_leaving_pod_sent_arrives_although_it_was_lost_on_the_way(is_restarted: bool) -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x")
    sender.publish("x", 1)
    sender.leave()
    sender.push()
    bye = sender.wire.up.pop()
    if is_restarted:
        net.restart_bus()
    else:
        net.cut(sender.wire)
    sender.wire.up.append(bye)  # ZeroMQ keeps what had not left, and sends it on the new connection
    net.advance(2)
    assert pod.data == [1]
    assert sender.core.state is State.CLOSED
    net.check_quiet()


def test_a_supervised_actor_that_leaves_as_the_bus_dies_is_not_expected_by_the_next() -> None:
    net = Net()
    actor = net.actor("a", supervisor=net.pod("node").uuid)
    net.restart_bus()
    actor.leave("stopping")
    net.advance(2)
    assert net.bus.directory.named("a") is None


def test_a_beat_of_a_known_route_needs_no_answer() -> None:
    net = Net()
    assert give(net, net.pod().wire.route, Verb.BEAT, 0) == []


@pytest.mark.parametrize(
    "fields",
    [
        (Verb.WELCOME, 1, 1, 1, b"12345678", bytes(16), 0, False, (1, 1, 1)), (Verb.ACK, 1, (0, 0)),
        (Verb.OK, 1, 1, ""), (Verb.REJOIN, 1), (Verb.PING, 0), (Verb.REFUSED, 1, 1, "", ""), (Verb.CLOSE, 1, "", ""),
        (Verb.CANCELLED, 1, bytes(16), (1,)), (Verb.DELIVER, 1, 1, None, ((bytes(16), 1, 0, 0, "x", 1, 5, 0, 1),)),
    ],
    ids=lambda fields: Verb(fields[0]).name,
)  # fmt: skip
def test_a_frame_that_only_a_bus_sends_is_malformed(fields: tuple[Any, ...]) -> None:
    net = Net()
    pod = net.pod()
    assert give(net, pod.wire.route, *fields) == []
    assert net.bus.postman.counts.bad_frames == 1
    assert net.receiver(pod).route


# Joining


def test_pods_that_supervise_each_other_or_themselves_are_released_when_they_are_lost() -> None:
    net = Net()
    first, second, third = new_id(), new_id(), new_id()
    for route, uuid, supervisor in ((b"1", first, second), (b"2", second, first), (b"3", third, third)):
        net.bus.receive(route, hello(uuid=uuid, settings=PodSettings(supervisor=supervisor)), b"", net.now)
        net.bus.unreachable(route, net.now)
    net.advance(8)
    assert len(net.bus.directory) == 0


def test_a_pod_that_takes_the_only_slot_of_a_link_is_found_when_its_process_is_gone() -> None:
    net = Net()
    for uuid in (first := new_id(), second := new_id()):
        net.bus.receive(b"route", hello(uuid=uuid), b"", net.now)
    net.bus.tick(net.now)
    net.check()
    net.bus.unreachable(b"route", net.now)
    net.advance(6)
    assert first not in net.bus.directory.by_uuid
    assert second not in net.bus.directory.by_uuid


def test_a_pod_of_another_version_is_refused_before_anything_else_is_read() -> None:
    net = Net()
    ((verb, slot, request, code, text),) = give(net, b"new", Verb.HELLO, 3, 2, 77, "whatever", "follows")
    assert (verb, slot, request, code) == (Verb.REFUSED, 3, 77, "version")
    assert "version 2" in text
    assert net.bus.postman.counts.bad_frames == 0


def test_a_name_belongs_to_one_actor() -> None:
    net = Net()
    net.pod("temp", actor=True)
    other = net.pod("temp", actor=True, is_joined=False)
    net.settle()
    assert other.core.state is State.CLOSED
    assert other.core.closed_by is not None
    assert other.core.closed_by[0] == "name_taken"


def test_pods_that_are_no_actors_may_share_a_name() -> None:
    net = Net()
    net.pod("temp", actor=True)
    net.pod("temp")
    net.pod("temp")
    assert len(net.bus.directory) == 3


def test_a_bus_admits_only_so_many_pods_and_links(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net()
    pod = net.pod()
    monkeypatch.setattr(membership, "MAX_PODS", 1)
    assert give(net, pod.wire.route, *unpack_header(hello()))[0][3] == "full"
    monkeypatch.setattr(membership, "MAX_PODS", 9)
    monkeypatch.setattr(membership, "MAX_ROUTES", 1)
    assert give(net, b"new", *unpack_header(hello()))[0][3] == "full"
    spoil(net, b"other")
    assert set(net.bus._routes) == {pod.wire.route}, "what an unknown route costs is bounded too"


def test_a_confirmed_change_is_in_the_roster_before_the_confirmation_leaves() -> None:
    net = Net()
    pod = net.pod("a", actor=True)
    pod.listen("x")
    pod.push()
    net.up(pod.wire)
    assert len(net.bus.journal) == 1
    net.route()
    pod.leave()
    pod.push()
    net.up(pod.wire)
    assert len(net.bus.journal) == 1


def test_a_pod_may_say_hello_twice_before_it_hears_anything() -> None:
    net = Net()
    pod = net.pod("", ">", is_joined=False)
    other = net.pod()
    other.publish("x", 1)
    pod.push()
    net.up(pod.wire)
    net.settle()
    pod2 = net.pod("", ">", is_joined=False)
    pod2.push()
    net.up(pod2.wire)
    other.publish("x", 2)
    other.push()
    net.up(other.wire)
    net.route()
    pod2.core.hello(net.now)
    net.settle()
    assert pod2.data == [2]
    net.advance(1)
    net.check_quiet()


# Broken connections


def test_a_pod_that_comes_back_in_time_goes_on_where_it_was() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", ">")
    sender.publish("x", *range(10))
    sender.push()
    net.up(sender.wire)
    net.route()
    net.cut(pod.wire)
    net.cut(sender.wire)
    sender.publish("x", *range(10, 20))
    net.advance(4)
    assert pod.data == list(range(20))
    assert not any(got.redelivered for got in pod.got)
    assert net.bus.postman.counts.duplicates == 0
    net.check_quiet()


def test_all_pods_of_a_link_come_back_when_one_of_them_speaks() -> None:
    net = Net()
    wire = net.wire()
    busy, idle = net.pod(wire=wire), net.pod("", ">", wire=wire)
    other = net.pod()
    net.cut(wire)
    for number in range(20):
        busy.publish("y", number)
        net.settle()
    other.publish("x", 1)
    net.advance(1)
    assert idle.data[-1] == 1
    assert idle.data[:-1] == list(range(20))


def test_acknowledgements_that_were_lost_are_told_again() -> None:
    net = Net()
    pod = net.pod()
    net.pod("", ">")
    pod.publish("x", *range(3))
    pod.push()
    net.up(pod.wire)
    net.cut(pod.wire)
    net.settle()
    net.settle()
    net.cut(pod.wire)
    net.advance(3)
    assert pod.core.outbox.is_all_settled
    assert pod.core.outbox.accepted == 3


def test_a_pod_that_stays_away_is_released_after_5_seconds() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("gone", ">")
    pod.paused = True
    sender.publish("x", 1, 2, 3)
    net.settle()
    net.kill(pod)
    net.advance(4.9)
    assert len(net.bus.directory) == 2
    net.advance(2.5)
    assert len(net.bus.directory) == 1
    assert net.dead() == [("pod_lost", "gone", data) for data in (1, 2, 3)]
    assert sender.core.outbox.is_all_settled
    net.check_quiet()


def test_a_pod_that_comes_back_after_its_release_and_says_hello_often_gets_what_follows() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", "x")
    sender.publish("x", 1, 2, 3)
    net.settle()
    old = pod.wire.route
    net.cut(pod.wire)
    net.bus.unreachable(old, net.now)
    for _ in range(3):  # nobody takes these frames for so long
        pod.core.rejoin(net.now)
        net.now += 2
        pod.core.tick(net.now)
        pod.push()
    net.route()
    assert pod.uuid not in net.bus.directory.by_uuid
    assert len(pod.wire.up) > 1
    net.settle()
    sender.publish("x", 4, 5)
    net.settle()
    assert pod.data == [1, 2, 3, 4, 5]
    net.cut(pod.wire)
    pod.core.rejoin(net.now)
    net.settle()
    sender.publish("x", 6)
    net.settle()
    assert pod.data == [1, 2, 3, 4, 5, 6]
    net.check_quiet()


def test_a_pod_that_comes_back_after_its_release_sends_nothing_twice() -> None:
    net = Net()
    sender, slow = net.pod("sender"), net.pod("slow", ">")
    slow.paused = True
    sender.publish("x", *range(5))
    net.settle()
    # Frozen, and cut off: nothing of it comes for a while.
    wire = sender.wire
    net.wires.remove(wire)
    net.cut(wire)
    net.advance(8)
    assert len(net.bus.directory) == 1
    net.wires.append(wire)
    sender.publish("x", 5)
    slow.paused = False
    net.advance(4)
    assert slow.data == list(range(6))
    assert net.bus.postman.counts.messages == 6
    net.check_quiet()


def test_many_pods_that_came_and_went_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_DEPARTED", 10)
    net = Net()
    for _ in range(30):
        net.kill(net.pod(is_joined=True))
    net.advance(8)
    assert len(net.bus.directory) == 0
    assert len(net.bus._departed) == 10
    assert net.bus._routes == {}
    assert net.bus._away == {}


# Leaving


def test_what_a_pod_sent_before_it_left_is_taken() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", ">")
    sender.publish("x", 1, 2)
    sender.leave()
    net.settle()
    assert pod.data == [1, 2]
    assert len(net.bus.directory) == 1


def test_what_a_leaving_pod_has_not_handled_is_given_up_and_counted() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", ">")
    pod.paused = True
    sender.publish("x", *range(5))
    net.settle()
    pod.leave()
    net.settle()
    assert net.bus.postman.counts.given_up == 5
    assert net.dead() == []
    assert sender.core.outbox.is_all_settled


def test_what_a_stopping_actor_has_not_handled_goes_to_the_dead_letters() -> None:
    net = Net()
    sender, pod = net.pod(), net.actor("a", ">")
    pod.paused = True
    sender.publish("x", 1)
    net.settle()
    pod.leave("stopping")
    net.settle()
    assert net.dead() == [("stopping", "a", 1)]


def test_a_bus_that_stops_says_so_to_every_pod() -> None:
    net = Net()
    pods = [net.pod(), net.pod()]
    net.bus.stop(net.now)
    net._collect()
    for pod in pods:
        net.down(pod.wire)
        assert pod.core.closed_by == ("stopping", "")


# Closed by the bus


def overflow(net: Net) -> TestPod:
    sender, pod = net.pod(), net.pod("p", "x", mailbox_limit=1, overflow="disconnect")
    pod.paused = True
    sender.publish("x", 1, 2)
    return pod


def fail_too_often(net: Net, make: Callable[..., TestPod]) -> TestPod:
    sender, pod = net.pod(), make("p", "x", handler=lambda got: 1 / 0)
    pod.core.request_bye = lambda *_: 0  # type: ignore[method-assign]  # the bus is to be the first to find out
    sender.publish("x", *range(FAILED_LIMIT))
    return pod


def replace(net: Net) -> TestPod:
    actor = net.actor("a", "x")
    takeover(net, actor)
    return actor


def strike(net: Net) -> TestPod:
    supervisor = net.pod("node")
    actor = net.actor("a", "x", supervisor=supervisor.uuid)
    release(net, supervisor, "a", 0, "pod_lost")
    return actor


@pytest.mark.parametrize(
    ("close", "code"),
    [
        (overflow, "overflow"),
        (lambda net: fail_too_often(net, net.pod), "unhealthy"),
        (lambda net: fail_too_often(net, net.actor), "unhealthy"),
        (replace, "replaced"),
        (strike, "replaced"),
    ],
    ids=["overflow", "unhealthy", "unhealthy_actor", "replaced", "struck"],
)
@pytest.mark.parametrize("is_other_route", [False, True], ids=["same_route", "other_route"])
def test_a_hello_that_crosses_close_brings_no_pod_back(
    close: Callable[[Net], TestPod], code: str, is_other_route: bool
) -> None:
    net = Net()
    pod = close(net)
    net.settle()
    assert pod.core.state is State.CLOSED
    text = pod.core.closed_by[1] if pod.core.closed_by else ""
    settings = pod.core.settings
    said = hello(request=2, uuid=pod.uuid, name=pod.core.name, settings=settings, filters=pod.core.filters.to_wire())
    route = b"other" if is_other_route else pod.wire.route
    pods = len(net.bus.directory)
    for _ in range(2):
        assert give(net, route, *unpack_header(said)) == [(Verb.CLOSE, 1, code, text)]
    assert len(net.bus.directory) == pods
    assert all(not row["connected"] for row in net.bus.describe_pods() if row["uuid"] == id_text(pod.uuid))
    assert b"other" not in net.bus._routes


def test_a_pod_whose_first_hello_was_answered_late_and_that_is_closed_holds_nothing_up() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", is_joined=False, mailbox_limit=1, overflow="disconnect")
    pod.push()
    net.now += 1
    pod.core.tick(net.now)
    net.up(pod.wire)  # the first HELLO
    pod.push()
    sender.publish("x", 1, 2)
    sender.push()
    net.up(sender.wire)
    net.route()  # it is closed, and has yet to learn of it
    net.settle()
    assert pod.core.closed_by == ("overflow", "")
    assert pod.uuid not in net.bus.directory.by_uuid
    sender.publish("x", 3)
    net.settle()
    assert sender.core.outbox.is_all_settled
    net.check_quiet()


def test_a_pod_that_was_away_when_its_mailbox_overflowed_may_come_back() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("p", "x", mailbox_limit=1, overflow="disconnect")
    net.wires.remove(pod.wire)
    net.cut(pod.wire)
    net.advance(2)
    sender.publish("x", 1, 2)
    net.settle()
    assert pod.uuid not in net.bus.directory.by_uuid
    net.wires.append(pod.wire)
    net.advance(2)
    assert pod.core.state is State.JOINED
    sender.publish("x", 3)
    net.settle()
    assert pod.data == [3]


def test_a_pod_whose_route_was_closed_for_junk_may_come_back_by_another() -> None:
    net = Net()
    pod = net.pod("p", "x")
    spoil(net, pod.wire.route)
    net.route()
    net.cut(pod.wire)  # CLOSE is lost with it
    net.advance(2)
    assert pod.core.state is State.JOINED
    assert net.receiver(pod).route == pod.wire.route


def test_many_pods_that_were_closed_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_CLOSED", 10)
    net = Net()
    actor = net.actor("a")
    for _ in range(30):
        actor = takeover(net, actor)
    assert len(net.bus._closed) == 10


# Malformed and forged frames


def test_a_route_that_sends_junk_is_ignored_and_others_go_on() -> None:
    net = Net()
    bad, good, listener = net.pod(), net.pod(), net.pod("", ">")
    spoil(net, bad.wire.route, BAD_FRAMES_LIMIT - 1)
    bad.publish("x", "still heard")
    net.settle()
    spoil(net, bad.wire.route, 1)
    net.route()
    net.down(bad.wire)
    assert bad.core.closed_by is not None
    assert bad.core.closed_by[0] == "protocol"
    assert give(net, bad.wire.route, Verb.BEAT, 0) == []
    assert give(net, bad.wire.route, *unpack_header(hello())) == []
    assert net.bus.postman.counts.bad_frames == BAD_FRAMES_LIMIT + 2
    good.publish("x", "heard")
    net.advance(7)
    assert listener.data == ["still heard", "heard"]
    assert len(net.bus.directory) == 2


def test_an_ignored_route_is_forgotten_when_its_process_is_gone() -> None:
    net = Net()
    spoil(net, b"bad")
    assert set(net.bus._routes) == {b"bad"}
    net.advance(2)
    assert net.bus._routes == {}


@pytest.mark.parametrize(
    "handled",
    [1, 99, MAX_NUMBER, (0, ((1, 1),), ()), (0, ((5, MAX_NUMBER),), ()), (0, (), ((1, 0, ""),))],
    ids=str,
)
def test_an_acknowledgement_of_what_was_never_delivered_is_refused(handled: Any) -> None:
    net = Net()
    pod = net.pod()
    assert give(net, pod.wire.route, Verb.HANDLED, 1, handled) == []
    assert net.bus.postman.counts.bad_frames == 1


def test_an_acknowledgement_that_comes_again_changes_nothing() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", ">")
    sender.publish("x", *range(5))
    net.settle()
    for handled in (5, 3, 0, (2, ((4, 5), (3, 5)), ((4, 0, "e"), (1, 1, "e")))):
        give(net, pod.wire.route, Verb.HANDLED, pod.slot, handled)
        net.check()
    assert net.bus.postman.counts.handled == 5
    assert net.dead() == []


def test_overlapping_ranges_are_counted_once() -> None:
    net = Net()
    sender, pod = net.pod(), net.pod("", ">")
    pod.paused = True
    sender.publish("x", *range(10))
    net.settle()
    for handled in ((0, ((2, 5), (4, 8), (2, 2)), ((5, 0, "e"), (9, 0, "e"), (9, 0, "e"))), (3, ((1, 10),), ())):
        give(net, pod.wire.route, Verb.HANDLED, pod.slot, handled)
        net.check()
    receiver = net.receiver(pod)
    assert net.bus.postman.counts.handled + len(receiver.failed) + receiver.window_used == 10
    give(net, pod.wire.route, Verb.HANDLED, pod.slot, 10)
    net.check()


def test_a_failure_of_an_answer_is_passed_over() -> None:
    net = Net()
    asker, callee = net.pod(), net.actor("a")
    asker.ask("a", "q")
    for pod in (asker, callee):
        net.down(pod.wire)
        pod.handle()
        pod.push()
        net.up(pod.wire)
        net.route()
    assert net.receiver(asker).answers == 1
    give(net, asker.wire.route, Verb.HANDLED, asker.slot, (0, (), ((1, 0, "forged"),)))
    net.check()
    assert net.receiver(asker).failed == []
    assert net.receiver(asker).answers == 1


def test_messages_that_come_again_are_dropped() -> None:
    net = Net()
    pod, listener = net.pod(), net.pod("", ">")
    for _ in range(3):
        give(net, pod.wire.route, *send(1), body=BODY)
    net.settle()
    assert len(listener.got) <= 1
    assert net.bus.postman.counts.duplicates == 2
    assert net.bus.postman.counts.messages == 1


def test_a_jump_of_numbers_is_taken_and_counted() -> None:
    net = Net()
    pod = net.pod()
    give(net, pod.wire.route, *send(1), body=BODY)
    give(net, pod.wire.route, *send(5), body=BODY)
    assert net.bus.postman.counts.missing == 3
    assert net.sender(pod).received == 5
    assert net.sender(pod).accepted == 5


def test_the_highest_numbers_break_nothing() -> None:
    net = Net()
    pod = net.pod()
    give(net, pod.wire.route, *send(MAX_NUMBER, 1), body=BODY)
    give(net, pod.wire.route, *send(MAX_NUMBER + 1, 1), body=BODY)
    give(net, b"other", *unpack_header(hello(floor=MAX_NUMBER, sent=MAX_NUMBER)))
    give(net, b"third", *unpack_header(pack(Verb.BEAT, MAX_SLOT)))
    net.advance(3)
    assert net.bus.postman.counts.bad_frames == 1


def test_a_body_that_is_not_what_its_header_says_costs_only_itself() -> None:
    net = Net()
    pod = net.pod()
    listeners = [net.pod("", ">"), net.actor("a", ">", group="g"), net.actor("b", ">", group="g"), net.pod("", ">")]
    filters = FilterSet(listening=True)
    filters.set_uuid(new_id(), False)
    listeners[3].set_filters(filters)
    net.settle()
    junk = b"\x93junk"
    give(net, pod.wire.route, Verb.SEND, 1, 1, None, ((KIND_PUBLISH, "x", 3, len(junk), None),), body=junk)
    net.advance(0.5, handle=False)
    for listener in listeners:
        for inbound in listener.waiting:
            inbound.finish_all()
        listener.waiting.clear()
    pod.core.outbox.next_seq = 4
    pod.core.outbox.sent = 3
    pod.publish("x", "fine")
    net.advance(1)
    assert [listener.data for listener in (listeners[0], listeners[3])] == [["fine"], ["fine"]]
    net.check_quiet()


def test_a_body_over_the_limit_is_malformed() -> None:
    net = Net(max_message=600 * 1024)
    pod = net.pod()
    size = net.bus.max_body
    for size, bad in ((net.bus.max_body, 0), (net.bus.max_body + 1, 1)):
        give(
            net, pod.wire.route, Verb.SEND, 1, 1, None, ((KIND_PUBLISH, "x", 1, size, None),), body=bytes(size)
        )  # fmt: skip
        assert net.bus.postman.counts.bad_frames == bad


def test_the_largest_message_there_can_be_fits_a_body() -> None:
    net = Net(max_message=1 << 20)
    headers = {f"{number:x}": "" for number in range(2600)}
    message = Message("x", bytes(1 << 20), headers=headers, reply_to=id_text(new_id()), parent_id=id_text(new_id()))
    assert len(join_body([pack_record(message, 1 << 20)])) <= net.bus.max_body


# What a killed process leaves


def takeover(net: Net, old: TestPod, **settings: Any) -> TestPod:
    return net.actor(old.core.name, "x", "told", incarnation=old.core.settings.incarnation + 1, **settings)


def test_the_next_incarnation_takes_name_mailbox_and_what_was_in_flight() -> None:
    net = Net()
    sender, actor = net.pod(), net.actor("a", "x", prefetch=3)
    actor.paused = True
    sender.publish("x", *range(6))
    net.settle()
    net.kill(actor)
    net.advance(2)
    assert len(net.bus._away) == 1
    heir = takeover(net, actor)
    assert net.bus._away == {}
    net.settle()
    assert [(got.data, got.redelivered, got.attempt) for got in heir.got] == [
        (0, True, 2), (1, True, 1), (2, True, 1), (3, False, 1), (4, False, 1), (5, False, 1),
    ]  # fmt: skip
    assert len(net.bus.directory) == 2
    net.advance(10)
    net.check_quiet()
    assert net.bus._away == {}


def test_an_incarnation_that_still_runs_is_closed_by_the_next() -> None:
    net = Net()
    old = net.actor("a", "x")
    takeover(net, old)
    assert old.core.closed_by == ("replaced", "")


@pytest.mark.parametrize(("supervisor", "incarnation"), [(b"t" * 16, 5), (b"s" * 16, 0), (b"", 1)])
def test_a_running_actor_is_replaced_only_by_its_own_next_incarnation(supervisor: bytes, incarnation: int) -> None:
    net = Net()
    net.actor("a")
    other = net.pod("a", actor=True, supervisor=supervisor, incarnation=incarnation, is_joined=False)
    net.settle()
    assert other.core.closed_by is not None
    assert other.core.closed_by[0] == "name_taken"


def test_a_message_in_whose_handler_the_process_died_3_times_is_a_dead_letter() -> None:
    net = Net()
    sender, actor = net.pod(), net.actor("a", "x")
    sender.publish("x", "poison", "fine")
    attempts = []

    def handler(got: Any) -> None:
        if got.data == "poison":
            attempts.append(got.attempt)
            raise Died

    actor.handler = handler
    net.settle()
    while not actor.is_alive:
        actor = takeover(net, actor, handler=handler, is_joined=False)
        net.settle()
    assert attempts == [1, 2, 3]
    assert net.dead() == [("crashed", "a", "poison")]
    assert actor.data[-1] == "fine"


def test_questions_in_flight_to_a_process_that_died_end_with_an_error() -> None:
    net = Net()
    asker, actor = net.pod(), net.actor("a", prefetch=2)
    actor.paused = True
    questions = [asker.ask("a", "q", number) for number in range(3)]
    net.settle()
    net.kill(actor)
    heir = takeover(net, actor)
    net.settle()
    assert [asker.answers[question].data["code"] for question in questions[:2]] == ["stopped", "stopped"]
    assert heir.data == [2], "what waited is answered by the next incarnation"
    assert questions[2] in asker.answers


@pytest.mark.parametrize("is_noticed", [False, True])
def test_answers_for_a_dead_incarnation_hold_nobody_up(is_noticed: bool) -> None:
    net = Net()
    asker, callee = net.actor("asker", "x"), net.actor("callee")
    asker.ask("callee", "q")
    asker.push()
    net.up(asker.wire)
    net.route()
    net.down(callee.wire)
    net.kill(asker)
    if is_noticed:
        callee.paused = True
        net.advance(2)
        callee.paused = False
    callee.handle()
    callee.push()
    net.up(callee.wire)
    net.route()
    assert net.receiver(asker).answers == 1
    takeover(net, asker)
    net.advance(1)
    assert net.bus.postman.counts.late_answers == 1
    net.check_quiet()


def test_a_supervised_actor_is_kept_while_its_supervisor_is_there() -> None:
    net = Net()
    supervisor, sender = net.pod("node"), net.pod()
    actor = net.actor("a", "x", supervisor=supervisor.uuid)
    net.kill(actor)
    sender.publish("x", 1)
    net.advance(60)
    assert net.bus.directory.named("a") is not None
    heir = takeover(net, actor, supervisor=supervisor.uuid)
    net.settle()
    assert heir.data == [1]


def test_a_supervised_actor_goes_with_its_supervisor() -> None:
    net = Net()
    supervisor, sender = net.pod("node"), net.pod()
    actor = net.actor("a", "x", supervisor=supervisor.uuid)
    sender.publish("x", 1)
    actor.paused = True
    net.settle()
    net.kill(actor)
    net.kill(supervisor)
    net.advance(10)
    assert net.bus.directory.named("a") is None
    assert net.dead() == [("pod_lost", "a", 1)]


def release(
    net: Net, supervisor: TestPod, name: str, incarnation: int, reason: str, *handling: list[Any], error: str = ""
) -> Any:
    question = supervisor.ask("grav.bus", "grav.sys.bus.release", [name, incarnation, reason, error, list(handling)])
    net.settle()
    return supervisor.answers[question].data


def test_a_supervised_actor_that_is_not_coming_back_is_struck_when_its_supervisor_says_so() -> None:
    net = Net()
    supervisor, other = net.pod("node"), net.pod()
    actor = net.actor("a", "x", supervisor=supervisor.uuid, incarnation=2)
    actor.paused = True
    other.publish("x", 1)
    net.settle()
    assert release(net, other, "a", 2, "pod_lost") is False, "that is not its supervisor"
    assert release(net, supervisor, "a", 1, "pod_lost") is False, "that was an earlier incarnation"
    assert release(net, supervisor, "a", 2, "pod_lost") is True
    assert actor.core.closed_by == ("replaced", "pod_lost")
    assert net.dead() == [("pod_lost", "a", 1)]
    assert release(net, supervisor, "a", 2, "pod_lost") is False


def test_an_actor_is_struck_by_the_end_of_a_later_incarnation_that_never_joined() -> None:
    net = Net()
    supervisor, sender = net.pod("node"), net.pod()
    actor = net.actor("a", "x", supervisor=supervisor.uuid)
    net.kill(actor)
    sender.publish("x", 1)
    net.settle()
    assert release(net, supervisor, "a", 1, "pod_lost") is True
    net.settle()
    assert net.dead() == [("pod_lost", "a", 1)]
    net.check_quiet()


def test_what_an_actor_held_goes_back_at_once_when_its_supervisor_says_that_it_has_crashed() -> None:
    net = Net()
    supervisor, asker = net.pod("node"), net.pod()
    actor = net.actor("a", supervisor=supervisor.uuid)
    actor.paused = True
    question = asker.ask("a", "q")
    net.settle()
    net.kill(actor)
    assert release(net, supervisor, "a", 0, "crashed") is True
    net.settle()
    assert asker.answers[question].data["code"] == "stopped"
    assert net.bus.directory.named("a") is not None


def test_a_crashed_actor_keeps_its_mailbox_and_a_crashed_pod_does_not() -> None:
    net = Net()
    supervisor, sender = net.pod("node"), net.pod()
    for actor in (net.actor("a", "x", supervisor=supervisor.uuid), net.pod("p", "x")):
        actor.paused = True
        sender.publish("x", actor.core.name)
        net.settle()
        actor.leave("crashed")
        net.settle()
    assert net.dead() == [("pod_lost", "p", "p")]
    heir = net.actor("a", "x", supervisor=supervisor.uuid, incarnation=1)
    net.settle()
    assert [(got.data, got.redelivered) for got in heir.got] == [("a", True), ("p", False)]


# Inquiries


def ask_bus(net: Net, question: str, data: Any = None) -> Any:
    asker = net.pod("asker")
    uuid = asker.ask("grav.bus", question, data)
    net.settle()
    return asker.answers[uuid]


def test_the_bus_counts() -> None:
    net = Net()
    net.pod("", ">")
    stats = ask_bus(net, "grav.sys.bus.stats").data
    assert stats["pods"] == 2
    assert stats["bad_frames"] == 0
    assert stats["epoch"] == net.bus.epoch.hex()


def test_the_bus_names_its_pods() -> None:
    net = Net()
    pod = net.pod("one", ">")
    rows = ask_bus(net, "grav.sys.bus.pods").data
    assert [(row["name"], row["uuid"]) for row in rows][0] == ("one", id_text(pod.uuid))


def test_the_bus_says_how_many_receive_a_type() -> None:
    net = Net()
    net.pod("", "x")
    net.actor("a", "x", group="g")
    net.actor("b", "x", group="g")
    assert ask_bus(net, "grav.sys.bus.receivers", "x").data == 2
    assert ask_bus(net, "grav.sys.bus.receivers", "y").data == 0


def test_the_bus_says_whether_an_actor_can_be_reached() -> None:
    net = Net()
    net.actor("a", service="s")
    assert ask_bus(net, "grav.sys.bus.connected", "a").data is True
    assert ask_bus(net, "grav.sys.bus.connected", "s").data is True
    assert ask_bus(net, "grav.sys.bus.connected", "b").data is False


@pytest.mark.parametrize(("question", "data"), [("grav.sys.bus.unknown", None), ("grav.sys.bus.receivers", 5)])
def test_what_the_bus_does_not_understand_it_answers_with_an_error(question: str, data: Any) -> None:
    answer = ask_bus(Net(), question, data)
    assert answer.type == "grav.error"
    assert answer.data["code"] == "failed"


def test_what_waits_for_a_group_is_dead_when_its_last_member_comes_back_without_it() -> None:
    net = Net()
    supervisor, sender = net.pod("node"), net.pod()
    actor = net.actor("a", "x", supervisor=supervisor.uuid, group="g", prefetch=1)
    actor.paused = True
    sender.publish("x", 1, 2)
    net.settle()
    net.kill(actor)
    heir = net.actor("a", "x", supervisor=supervisor.uuid, incarnation=1)
    net.settle()
    assert "g" not in net.bus.directory.groups
    assert sorted([*heir.data, *(data for _, _, data in net.dead())]) == [1, 2]
    net.check_quiet()
