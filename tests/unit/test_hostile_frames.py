"""Whatever comes from a socket: nothing raises, the books stay in order, and others notice nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grav_actors.bus.membership import BAD_FRAMES_LIMIT
from grav_actors.codec import unpack_body
from grav_actors.errors import MessageDecodeError, ProtocolError
from grav_actors.ids import new_id
from grav_actors.message import Message
from grav_actors.pod.core import PodCore, State
from grav_actors.protocol import PodSettings, unpack_header
from grav_actors.reference import ActorRef
from support.busnet import Net, TestPod
from support.hostile import Hostile

STATES = ("unknown", "joined", "away", "restored", "released", "listening")


def living(net: Net) -> tuple[TestPod, TestPod, TestPod]:
    """Return a sender, a receiver and an actor that are none of the hostile one's business."""
    return net.pod("", wire=net.wire()), net.pod("", "live"), net.actor("living", "live.told")


def intruder(net: Net, state: str, uuid: bytes) -> bytes:
    """Return the route of a pod in this state, with something in flight to it where that is possible."""
    if state == "unknown":
        return b"intruder"
    pod = net.pod("", "h")
    pod.core.uuid = uuid
    pod.core.hello(net.now)
    net.settle()
    if state in ("listening", "away", "restored"):
        other = net.pod("", "h.b.c")
        pod.paused = True
        other.publish("h", *range(20))
        net.settle()
    if state == "away":
        net.bus.unreachable(pod.wire.route, net.now)
    elif state == "released":
        net.bus.unreachable(pod.wire.route, net.now)
        net.advance(6)
    elif state == "restored":
        for one in net.pods[:3]:
            net.cut(one.wire)
        net.bus = net._new_bus()
    return pod.wire.route


def give(net: Net, route: bytes, frames: list[bytes]) -> None:
    """Give the bus a message as its server does; the answers to the intruder are thrown away."""
    if len(frames) == 2:
        net.bus.receive(route, frames[0], frames[1], net.now)
    else:
        net.bus.bad_frame(route, net.now)


@pytest.mark.parametrize("state", STATES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_no_frame_disturbs_the_bus_or_its_other_pods(state: str, seed: int) -> None:
    source = random.Random(seed)
    net = Net()
    sender, receiver, actor = living(net)
    uuids = [new_id() for _ in range(4)]
    hostile = Hostile(source, uuids)
    routes = [intruder(net, state, uuids[0]), b"other"]
    for number in range(60):
        give(net, source.choice(routes), hostile.frames())
        if number % 10 == 0:
            sender.publish("live", number)
            sender.tell("living", "live.told", number)
            sender.push()
            net.up(sender.wire)
            net.route()
            net.check()
    net.advance(8)
    assert receiver.data == list(range(0, 60, 10))
    assert [got.data for got in actor.got if got.type == "live.told"] == list(range(0, 60, 10))
    assert {got.sender for got in receiver.got} == {sender.uuid}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_no_frame_from_a_bus_raises_out_of_a_pod(seed: int) -> None:
    source = random.Random(seed)
    core = PodCore(new_id(), "", PodSettings(), 1)
    hostile = Hostile(source, [core.uuid, new_id()])
    hostile.epochs.append(b"epoch..1")
    core.hello(0.0)
    now = 0.0
    for number in range(80):
        header, body = hostile.bus_frames()
        _give_pod(core, header, body, now)
        if source.random() < 0.2:
            # As the bus does that the pod expects: so that later frames meet a pod that has joined.
            fields = (16, 1, 1, core._hello_request, b"epoch..1", bytes(16), 0, source.random() < 0.5, (1 << 20, 9, 9))
            core.receive(fields, b"", now)
        if core.outbox.has_room():
            record = b"\x96" + bytes(5)
            core.outbox.add(0, "h", None, record, len(record))
        for inbound in (*core.inbox, *core.replies):
            _decode(inbound)
        for inbound in core.inbox:
            inbound.finish_all()
        core.inbox.clear()
        core.replies.clear()
        core.acks.clear()
        now += 0.01
        core.tick(now)
        core.flush(now, force=True)
        core.out.clear()
        if core.state is State.CLOSED and number < 60:
            core = PodCore(core.uuid, "", PodSettings(), 1)
            core.hello(now)


def _give_pod(core: PodCore, header: bytes, body: bytes, now: float) -> None:
    """As the link does."""
    try:
        fields = unpack_header(header)
        if fields[1] == core.slot:
            core.receive(fields, body, now)
    except ProtocolError:
        pass


def _decode(inbound: Any) -> None:
    """As the callback thread does."""
    try:
        records = unpack_body(inbound.body, inbound.count, ActorRef)
    except MessageDecodeError:
        return
    for record in records:
        message = Message._received(record, inbound.type, None)
        assert (message.uuid, message.timestamp, message.data, message.headers, message.reply_to) is not None


@pytest.mark.parametrize("state", STATES)
def test_a_route_with_several_malformed_frames_is_ignored_from_then_on(state: str) -> None:
    net = Net()
    uuid = new_id()
    route = intruder(net, state, uuid)
    for _ in range(BAD_FRAMES_LIMIT):
        give(net, route, [b"junk", b""])
    net.bus.tick(net.now)
    net.bus.out.clear()
    hostile = Hostile(random.Random(1), [uuid])
    before = net.bus.postman.counts.messages
    for _ in range(50):
        give(net, route, hostile._hello())
    net.bus.tick(net.now)
    assert [frame for frame in net.bus.out if frame[0] == route] == []
    assert net.bus.postman.counts.messages == before
    assert net.bus.postman.counts.bad_frames == BAD_FRAMES_LIMIT + 50
