"""What must hold between the hosts of a LAN: each scenario has a short form for the tests, and a long one.

A scenario builds its nodes, asserts what must hold, and returns its figures. Times are seconds of the machine's clock.
"""

from __future__ import annotations

import time
from typing import Any, TypeAlias

from support.lanmesh.stage import LanNode, Stage

Figures: TypeAlias = dict[str, Any]


def sleep_until(when: float) -> None:
    """Let a fault last as long as it is to last."""
    time.sleep(max(0.0, when - time.monotonic()))


def is_exact(receiver: LanNode, sender: LanNode, sent: int, *, may_lose: bool = False) -> Figures:
    """Assert that everything has come, once and in order, or was announced as lost with its exact count."""
    came = receiver("collected", uuid=sender.uuid, last=sent)
    assert came["is_whole"], came
    assert (came["duplicates"], came["disorder"]) == (0, 0), came
    assert came["count"] + came["gap"] == sent, (came, sent)
    assert came["missing"] <= came["gap"], came
    if not may_lose:
        assert came["gap"] == 0, came
    return {"sent": sent, "came": came["count"], "gap": came["gap"], "duplicates": 0}


def both(one: LanNode, other: LanNode) -> tuple[tuple[LanNode, LanNode], tuple[LanNode, LanNode]]:
    """Return each of two nodes with its peer."""
    return (one, other), (other, one)


def start_two(stage: Stage, *, rate: int, **config: Any) -> tuple[LanNode, LanNode]:
    """Return two nodes that see each other, both of which publish."""
    one, other = stage.start_all(2, **config)
    stage.all([one, other], "wait_for_peers", count=1)
    if rate:
        stage.all([one, other], "publish", rate=rate)
    return one, other


def flow_both(stage: Stage, one: LanNode, other: LanNode) -> float:
    """Wait until something comes on both sides; return when it did."""
    flows = stage.together(lambda: one("flows", uuid=other.uuid), lambda: other("flows", uuid=one.uuid))
    return float(max(flow["at"] for flow in flows))


def settle(stage: Stage, one: LanNode, other: LanNode, *, may_lose: bool = False) -> Figures:
    """End publishing on both sides, and assert that all has come; return the sums of both directions."""
    sent = [answer["sent"] for answer in stage.all([one, other], "stop_publishing")]
    ways = [
        is_exact(other, one, sent[0], may_lose=may_lose),
        is_exact(one, other, sent[1], may_lose=may_lose),
    ]
    return {name: sum(way[name] for way in ways) for name in ways[0]}


def assert_changes(one: LanNode, other: LanNode, *expected: str) -> None:
    """Assert which ups and downs each has seen of the other."""
    for node, peer in both(one, other):
        seen = changes(node, peer.uuid)
        assert [kind for _, kind, _ in seen] == list(expected), seen


def changes(node: LanNode, peer: str) -> list[tuple[float, str, str]]:
    """Return when a node called a peer up and down, and why."""
    events = node("happened")["events"]
    return [
        (at, kind, data.get("reason", ""))
        for at, kind, data in events
        if data["uuid"] == peer and kind in ("up", "down")
    ]


def discovery(stage: Stage, hosts: int, limit: float) -> Figures:
    """Nodes find each other: a full mesh, counted from when the last one listens."""
    nodes = stage.start_all(hosts)
    ups = stage.all(nodes, "wait_for_peers", count=hosts - 1)
    elapsed = max(up["at"] for up in ups) - max(node.bound_at for node in nodes)
    assert elapsed <= limit, elapsed
    return {"hosts": hosts, "full mesh after s": round(elapsed, 2), "limit s": limit}


def fresh_links(stage: Stage, links: int, burst: int = 20) -> Figures:
    """What is published right after `wait_for_peers` arrives, in both directions, on every new link."""
    one, other = stage.start_all(2, discovery=None)
    for number in range(links):
        if number:
            other.reopen()
        other("connect", endpoint=f"tcp://{one.host.ip}:7470")
        stage.together(
            lambda: one("burst", uuid=other.uuid, count=burst),
            lambda: other("burst", uuid=one.uuid, count=burst),
        )
        first = one("collected", uuid=other.uuid, last=burst)
        second = other("collected", uuid=one.uuid, last=burst)
        assert (first["count"], first["missing"], first["gap"]) == (burst, 0, 0), (number, first)
        assert (second["count"], second["missing"], second["gap"]) == (burst, 0, 0), (number, second)
    return {"links": links, "sent": 2 * links * burst, "lost": 0}


def cut(stage: Stage, seconds: float, *, rate: int = 1000, retransmit: int = 0, one_way: bool = False) -> Figures:
    """A cut while both sides publish: nothing lost, or exactly what was announced; flowing again soon after."""
    one, other = start_two(stage, rate=rate, retransmit=retransmit)
    flow_both(stage, one, other)

    began = time.monotonic()
    stage.lan.partition(0, 1, one_way=one_way)
    downs = stage.together(
        lambda: one("wait_for", uuid=other.uuid, state="down"), lambda: other("wait_for", uuid=one.uuid, state="down")
    )
    sleep_until(began + seconds)
    healed = time.monotonic()
    stage.lan.heal()
    after = flow_both(stage, one, other) - healed
    assert after <= 3.0, after

    time.sleep(1.0)
    sums = settle(stage, one, other, may_lose=bool(retransmit))
    assert_changes(one, other, "up", "down", "up")
    assert bool(sums["gap"]) == bool(retransmit), "the buffer was not small enough for this cut"
    down_after = max(down["at"] for down in downs) - began
    return {"cut s": seconds, "down after s": round(down_after, 1), "flows after s": round(after, 2), **sums}


def power_cut(stage: Stage) -> Figures:
    """The power of a host fails: its peers know soon; after it boots it is soon in the mesh again."""
    stays, dies = stage.start_all(2)
    stage.all([stays, dies], "wait_for_peers", count=1)
    died = time.monotonic()
    stage.lan.host(1).kill()
    known = stays("wait_for", uuid=dies.uuid, state="down")["at"] - died
    assert known <= 5.0, known

    stage.lan.host(1).boot()
    back = stage.start(1)
    back.wait_ready()
    up = stays("wait_for", uuid=back.uuid, state="up")["at"] - back.bound_at
    assert up <= 3.0, up
    return {"known after s": round(known, 1), "back after s": round(up, 2)}


def killed_node(stage: Stage) -> Figures:
    """A node is killed and another starts at its address: its peers know at once, and take the new one."""
    stays, dies = stage.start_all(2)
    stage.all([stays, dies], "wait_for_peers", count=1)
    died = time.monotonic()
    stage.lan.host(1).signal(9)
    known = stays("wait_for", uuid=dies.uuid, state="down")["at"] - died
    back = stage.start(1)
    back.wait_ready()
    up = stays("wait_for", uuid=back.uuid, state="up")["at"] - back.bound_at
    assert up <= 3.0, up
    return {"known after s": round(known, 2), "back after s": round(up, 2)}


def loss(stage: Stage, seconds: float, *, rate: int = 200) -> Figures:
    """A bad network: nothing is lost, and nobody is taken for down."""
    one, other = start_two(stage, rate=0)
    stage.lan.netem([0, 1], loss="5%", delay="20ms", jitter="5ms")
    stage.all([one, other], "publish", rate=rate)
    time.sleep(seconds)
    sums = settle(stage, one, other)
    assert_changes(one, other, "up")
    return {"for s": seconds, "false downs": 0, **sums}


def busy(stage: Stage, seconds: float, *, rate: int = 200) -> Figures:
    """A node whose Python is busy is not declared down, and declares nobody down."""
    works, waits = start_two(stage, rate=rate)
    works("busy", seconds=seconds)
    flow_both(stage, works, waits)
    sums = settle(stage, works, waits)
    assert_changes(works, waits, "up")
    return {"for s": seconds, "false downs": 0, **sums}
