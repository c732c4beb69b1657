"""The core of the mesh, event by event: links, states, leaving, tunnels."""

import random
from dataclasses import replace
from typing import Any

import pytest

from grav_actors.mesh import congestion
from grav_actors.mesh.core import MeshCore
from grav_actors.mesh.effects import (
    ActorsChanged,
    Ask,
    Close,
    Deliver,
    Dial,
    DialRefused,
    GapFound,
    InterestAgreed,
    Open,
    PeerChanged,
    Publish,
    Reply,
    Subscribe,
    TooLarge,
)
from grav_actors.mesh.frames import Beat, Interest, InterestDone, Leave, Pulse, Repair, Run, Tunnel
from grav_actors.mesh.handshake import Identity
from grav_actors.mesh.inflow import Arrival
from grav_actors.mesh.membership import FORGET_AFTER
from grav_actors.mesh.relay_frames import NEWS_TYPE, TOO_LARGE_TYPE, News, encode_news
from grav_actors.protocol import MAX_OVERHEAD
from support.meshsim.history import Lost, MeshHistory
from support.meshsim.network import Network
from support.meshsim.node import SimNode

ONE, TWO, THREE = (f"00000000-0000-8000-8000-00000000000{n}" for n in (1, 2, 3))
LIFE, PEER_LIFE = b"l" * 8, b"p" * 8
PEER = Identity(TWO, PEER_LIFE, "peer", endpoints=("tcp://peer",))


def make(uuid: str = ONE, **fields: Any) -> MeshCore:
    return MeshCore(Identity(uuid, LIFE, "me", **fields), lambda: 0.5)


def taken(core: MeshCore) -> list[Any]:
    effects = list(core.out)
    core.out.clear()
    return effects


def of(kind: type, effects: list[Any]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def dial(core: MeshCore, now: float = 0.0, endpoint: str = "tcp://peer", uuid: str = "") -> int:
    core.hint(endpoint, uuid, now, is_lasting=True)
    (effect,) = of(Dial, taken(core))
    return int(effect.link)


def joined(core: MeshCore, peer: Identity = PEER, now: float = 0.0) -> int:
    """Make a link to a peer that has dialled; return its number."""
    link = core.accept()
    assert core.introduced(link, peer.handshake(), now).accept
    return link


def bring_up(core: MeshCore, peer: Identity = PEER, now: float = 0.0, link: int = 0) -> int:
    """Let a peer do its part until it is up."""
    link = link or joined(core, peer, now)
    asked = of(Ask, taken(core))[-1].frame
    core.receive(link, InterestDone(peer.incarnation, LIFE, asked.version, 1, 0), b"", now)
    core.subscribed(b"barrier" + peer.incarnation, now)
    interest = Interest(peer.incarnation, LIFE, 1, (b"ta\0",), b"barrier" + peer.incarnation)
    core.receive(link, interest, b"", now, ticket=1)
    tell_all(core, peer)
    core.tick(now)
    number = core.peers()[-1].vitals.beat + 1
    core.receive(link, beat(core, peer, number), b"", now)
    state = core.peer(peer.uuid)
    assert state is not None
    assert state.state.value == "up"
    core.tick(now + 0.05)  # the beat that tells the peer
    taken(core)
    return link


def tell_all(core: MeshCore, peer: Identity) -> None:
    """Have a peer say that it has no actors, past the numbers of its track."""
    known = core.peer(peer.uuid)
    assert known is not None
    core._on_own(known, Arrival(0, NEWS_TYPE, 1, b"", encode_news(News(3, (), ()))))


def beat(core: MeshCore, peer: Identity, number: int, sent: int = 0) -> Beat:
    return Beat(peer.incarnation, number, (Pulse(LIFE, 1, sent, 0, 0, core._state.beats.number, 0),))


def state_of(core: MeshCore, uuid: str = TWO) -> str:
    peer = core.peer(uuid)
    return peer.state.value if peer is not None else "unknown"


# Links


def test_hint_is_dialled_and_the_accepted_link_opened_and_asked() -> None:
    core = make()
    link = dial(core)
    core.greeted(link, PEER.accept(), 0.1)

    effects = taken(core)
    assert [type(effect) for effect in effects] == [Open, Subscribe, Ask]
    assert effects[1].prefixes[-1] == effects[2].frame.barrier


@pytest.mark.parametrize(("endpoint", "uuid"), [("tcp://me", ""), ("tcp://peer", ONE)])
def test_node_does_not_dial_itself(endpoint: str, uuid: str) -> None:
    core = make(endpoints=("tcp://me",))
    core.hint(endpoint, uuid, 0.0)

    assert not of(Dial, taken(core))


def test_node_that_finds_itself_forgets_the_endpoint() -> None:
    core = make()
    link = dial(core)
    core.greeted(link, core.me.accept(), 0.1)

    assert [effect.code for effect in of(DialRefused, taken(core))] == ["self"]
    core.tick(100.0)
    assert not of(Dial, taken(core))


def test_uuid_other_than_discovery_said_is_refused_and_whoever_is_there_dialled_again() -> None:
    core = make()
    link = dial(core, uuid=THREE)
    core.greeted(link, PEER.accept(), 0.1)

    effects = taken(core)
    assert Close(link) in effects
    assert [effect.code for effect in of(DialRefused, effects)] == ["uuid"]
    core.tick(1.0)
    (again,) = of(Dial, taken(core))
    core.greeted(again.link, PEER.accept(), 1.1)
    assert state_of(core) == "joining"


def test_hint_of_a_discovery_that_was_wrong_is_dropped() -> None:
    core = make()
    core.hint("tcp://peer", THREE, 0.0)
    (effect,) = of(Dial, taken(core))
    core.greeted(effect.link, PEER.accept(), 0.1)
    core.tick(100.0)

    assert not of(Dial, taken(core))
    assert core.peers() == []


def test_failed_dial_is_tried_again() -> None:
    core = make()
    core.dial_failed(dial(core), 0.0)
    core.tick(0.0)
    assert not of(Dial, taken(core))

    core.tick(0.2)
    assert of(Dial, taken(core))


def test_link_that_ends_during_its_handshake_is_a_failed_dial() -> None:
    core = make()
    core.link_down(dial(core), "reset", 0.0)
    core.tick(0.2)

    assert of(Dial, taken(core))


@pytest.mark.parametrize(("me", "peer", "is_kept"), [(ONE, TWO, True), (TWO, ONE, False)])
def test_of_two_links_the_one_that_the_lower_uuid_dialled_stands(me: str, peer: str, is_kept: bool) -> None:
    core = make(me)
    other = Identity(peer, PEER_LIFE)
    mine = dial(core)
    core.greeted(mine, other.accept(), 0.1)
    taken(core)
    theirs = core.accept()

    answer = core.introduced(theirs, other.handshake(), 0.2)

    assert answer.accept != is_kept
    assert answer.code == ("duplicate" if is_kept else "")
    assert Close(mine) not in core.out
    if not is_kept:
        bring_up(core, other, 0.3, link=theirs)
        assert core.peers()[0].link == theirs
        assert list(core._state.links) == [theirs]


@pytest.mark.parametrize(("me", "peer", "is_kept"), [(ONE, TWO, True), (TWO, ONE, False)])
def test_own_dial_that_crossed_with_the_peers_stands_if_own_uuid_is_lower(me: str, peer: str, is_kept: bool) -> None:
    core = make(me)
    other = Identity(peer, PEER_LIFE)
    mine = dial(core)
    theirs = joined(core, other)
    core.greeted(mine, other.accept(), 0.1)

    assert [effect.link for effect in of(Close, taken(core))] == [theirs if is_kept else mine]


def test_peer_that_dials_again_gets_a_new_link() -> None:
    core = make()
    bring_up(core)
    second = joined(core)

    assert core.peers()[0].link == second


def test_link_that_is_replaced_is_closed_when_the_new_one_is_proven_and_its_end_before_is_no_loss() -> None:
    core = make()
    first = bring_up(core)
    second = joined(core)
    assert Close(first) not in core.out  # its end could reach the peer before the answer to its dial
    third = joined(core)
    core.link_down(first, "the peer has closed it", 0.2)
    assert state_of(core) == "up"

    assert list(core._state.links) == [second, third]
    bring_up(core, now=0.3, link=third)
    assert list(core._state.links) == [third]
    assert core.peers()[0].link == third


def test_links_that_are_replaced_and_never_proven_do_not_pile_up() -> None:
    core = make()
    links = [joined(core) for _ in range(10)]

    assert list(core._state.links) == links[5:]
    for tenth in range(1, 120):
        core.tick(tenth / 10)
    assert state_of(core) == "down"
    assert [link for link in links if link in core._state.links] == links[-1:]


def test_other_life_of_a_peer_that_answers_is_refused_and_of_a_silent_one_taken() -> None:
    core = make()
    bring_up(core)
    again = Identity(TWO, b"q" * 8)

    assert core.introduced(core.accept(), again.handshake(), 0.1).code == "duplicate"
    for tenth in range(1, 40):
        core.tick(tenth / 10)
    assert state_of(core) == "suspect"
    assert core.introduced(core.accept(), again.handshake(), 4.0).accept
    assert GapFound(TWO, PEER_LIFE, -1) in taken(core)
    assert state_of(core) == "joining"


# States


def test_peer_is_up_when_everything_has_passed_both_ways() -> None:
    core = make()
    link = joined(core)
    asked = of(Ask, taken(core))[0].frame
    core.subscribed(b"barrier", 0.0)
    core.receive(link, Interest(PEER_LIFE, LIFE, 1, (), b"barrier"), b"", 0.0)
    core.tick(0.0)
    core.receive(link, beat(core, PEER, 1), b"", 0.0)
    core.receive(link, InterestDone(PEER_LIFE, LIFE, asked.version, 1, 0), b"", 0.1)
    assert state_of(core) == "joining"

    news = encode_news(News(3, (), (("far", None, ""),)))
    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 1),), NEWS_TYPE, 1, b""), news, 0.1)
    effects = taken(core)
    assert of(ActorsChanged, effects) == [ActorsChanged((("far", TWO),), ())]
    assert of(PeerChanged, effects) == [PeerChanged(TWO, "up")]
    assert effects.index(PeerChanged(TWO, "up")) > effects.index(of(ActorsChanged, effects)[0])


def test_interest_is_answered_when_its_barrier_was_seen() -> None:
    core = make()
    link = joined(core)
    taken(core)
    core.receive(link, Interest(PEER_LIFE, LIFE, 1, (b"ta\0",), b"barrier"), b"", 0.0, ticket=7)
    assert not of(Reply, taken(core))
    assert core.publish("a", 1, b"", b"x") == 0

    core.subscribed(b"barrier", 0.1)
    assert of(Reply, taken(core)) == [Reply(link, 7, InterestDone(LIFE, PEER_LIFE, 1, 1, 0))]
    assert core.publish("a", 1, b"", b"x") == 1


def test_interest_that_is_repeated_is_answered_again_and_an_older_one_not() -> None:
    core = make()
    link = bring_up(core)
    core.publish("a", 3, b"", b"x")
    taken(core)
    core.receive(link, Interest(PEER_LIFE, LIFE, 1, (b"ta\0",), b"other"), b"", 0.1, ticket=2)
    core.receive(link, Interest(PEER_LIFE, LIFE, 0, (), b"other"), b"", 0.1, ticket=3)

    assert of(Reply, taken(core)) == [Reply(link, 2, InterestDone(LIFE, PEER_LIFE, 1, 1, 4))]


def test_silence_makes_suspect_then_down_and_a_beat_brings_it_back() -> None:
    core = make()
    link = bring_up(core)
    seen: list[tuple[float, str]] = []
    for tenth in range(1, 110):
        core.tick(tenth / 10)
        seen.extend((tenth / 10, effect.state) for effect in of(PeerChanged, taken(core)))
    assert seen == [(3.0, "suspect"), (10.0, "down")]

    core.receive(link, beat(core, PEER, 2), b"", 11.0)
    assert of(PeerChanged, taken(core)) == [PeerChanged(TWO, "up")]


def test_peer_that_hears_nothing_of_this_node_is_suspect_too() -> None:
    core = make()
    link = bring_up(core)
    echo = core._state.beats.number
    for tenth in range(1, 42):
        core.tick(tenth / 10)
        core.receive(link, Beat(PEER_LIFE, 1 + tenth, (Pulse(LIFE, 1, 0, 0, 0, echo, 0),)), b"", tenth / 10)

    assert state_of(core) == "suspect"


def test_end_of_the_link_of_a_peer_that_is_up_is_down_at_once_and_dialled_again() -> None:
    core = make()
    link = bring_up(core)
    core.link_down(link, "reset by peer", 0.5)
    core.tick(0.6)

    effects = taken(core)
    assert PeerChanged(TWO, "down", "reset by peer") in effects
    assert [effect.endpoint for effect in of(Dial, effects)] == ["tcp://peer"]


def test_node_that_was_late_itself_calls_nobody_suspect() -> None:
    core = make()
    bring_up(core)
    core.tick(8.0)

    assert state_of(core) == "up"


def test_peer_that_never_comes_up_is_down_after_ten_seconds() -> None:
    core = make()
    joined(core)
    for tenth in range(101):
        core.tick(tenth / 10)

    assert state_of(core) == "down"


def test_going_back_to_an_earlier_link_gives_a_peer_that_never_comes_up_no_more_time() -> None:
    core = make()
    joined(core)
    newer = joined(core, now=1.0)
    taken(core)
    core.link_down(newer, "closed by the peer", 9.0)
    core.tick(10.9)
    assert state_of(core) == "joining"
    core.tick(11.0)

    assert state_of(core) == "down"


def test_peer_that_is_down_is_forgotten_in_the_end_and_its_position_remembered() -> None:
    core = make()
    link = bring_up(core)
    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 1),), "x", 5, b""), b"", 0.1)
    core.link_down(link, "", 0.2)
    core.tick(FORGET_AFTER + 1)
    assert core.peers() == []

    joined(core, now=FORGET_AFTER + 2)
    inflow = core.peers()[0].inflow
    assert (inflow.track, inflow.got) == (1, 5)


def test_what_is_published_for_a_peer_that_is_down_is_kept_for_it() -> None:
    core = make()
    link = bring_up(core)
    core.link_down(link, "", 0.2)
    assert core.publish("a", 2, b"m", b"body") == 1
    assert not of(Publish, taken(core))

    link = bring_up(core, now=1.0)
    core.receive(link, Repair(PEER_LIFE, LIFE, 1, ((2, 3),)), b"", 1.1, ticket=5)
    (reply,) = of(Reply, taken(core))
    assert (reply.ticket, reply.body) == (5, b"body")


# Frames


@pytest.mark.parametrize(
    "frame",
    [
        Run(b"x" * 8, ((LIFE, 1, 1),), "a", 1, b""),
        Repair(PEER_LIFE, b"x" * 8, 1, ((1, 1),)),
        Leave(PEER_LIFE, b"x" * 8, 0, 0),
    ],
)
def test_frame_of_or_for_another_life_is_counted_and_dropped(frame: Any) -> None:
    core = make()
    link = bring_up(core)
    core.receive(link, frame, b"", 0.1)
    core.receive(99, Leave(PEER_LIFE, LIFE, 0, 0), b"", 0.1)

    assert core.counts.strays == 2
    assert taken(core) == []


def test_run_that_was_not_asked_for_is_counted_and_dropped() -> None:
    core = make()
    link = bring_up(core)
    core.receive(link, Run(PEER_LIFE, ((b"x" * 8, 1, 1),), "a", 3, b""), b"", 0.1)

    assert core.counts.unwanted == 3
    assert taken(core) == []


def test_run_is_published_once_with_the_numbers_of_all_who_want_it() -> None:
    core = make()
    bring_up(core)
    third = Identity(THREE, b"t" * 8)
    bring_up(core, third)
    core.publish("b", 1, b"", b"")
    core.publish("a", 4, b"meta", b"body")

    (effect,) = of(Publish, taken(core))
    assert effect.topic == b"ta\0"
    assert effect.frame == Run(LIFE, ((PEER_LIFE, 1, 2), (b"t" * 8, 2, 2)), "a", 4, b"meta")
    assert len(effect.links) == 2


def test_message_that_is_larger_than_a_peer_takes_is_told_to_it_in_its_place_and_carried_to_others() -> None:
    core = make()
    bring_up(core, replace(PEER, max_message=1000))
    bring_up(core, Identity(THREE, b"t" * 8))
    core.publish("a", 1, b"", bytes(MAX_OVERHEAD + 1001))
    core.publish("a", 1, b"", bytes(MAX_OVERHEAD + 1000))

    frames = [effect.frame for effect in of(Publish, taken(core)) if isinstance(effect.frame, Run)]
    carried = [({life: tseq for life, _, tseq in frame.tracks}, frame.type, frame.count) for frame in frames]
    assert carried == [
        ({PEER_LIFE: 2}, TOO_LARGE_TYPE, 1),
        ({b"t" * 8: 2}, "a", 1),
        ({PEER_LIFE: 3, b"t" * 8: 3}, "a", 1),
    ]


def test_message_of_a_peer_that_was_too_large_is_counted_and_announced_and_what_follows_delivered() -> None:
    core = make()
    link = bring_up(core)
    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 1),), TOO_LARGE_TYPE, 1, b""), b"", 0.1)
    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 2),), "a", 1, b"meta"), b"body", 0.1)

    effects = [effect for effect in taken(core) if isinstance(effect, (TooLarge, Deliver, GapFound))]
    assert effects == [TooLarge(TWO, 1), Deliver(TWO, PEER_LIFE, "a", 1, b"meta", b"body")]
    assert core.counts.too_large == 1


def test_tunnel_goes_to_nobody_who_does_not_take_so_much() -> None:
    core = make()
    bring_up(core, replace(PEER, max_message=1000, interests=("vision",)))
    assert core.tunnel("vision", b"", bytes(MAX_OVERHEAD + 1001), 1.0, 5.0) == 0
    assert core.tunnel("vision", b"", bytes(MAX_OVERHEAD + 1000), 1.0, 5.0) == 1


def test_directed_run_goes_to_one_peer_whatever_it_wants() -> None:
    core = make()
    bring_up(core)
    bring_up(core, Identity(THREE, b"t" * 8))

    assert core.direct(THREE, "grav.anything", 1, b"", b"body")
    assert not core.direct("nobody", "x", 1, b"", b"")
    (effect,) = of(Publish, taken(core))
    assert (effect.topic, effect.frame.tracks) == (b"d" + b"t" * 8, ((b"t" * 8, 2, 2),))


def test_missing_messages_are_asked_for_and_delivered_in_order() -> None:
    core = make()
    link = bring_up(core)
    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 3),), "b", 1, b""), b"b", 0.1)
    effects = taken(core)
    assert of(Ask, effects) == [Ask(link, Repair(LIFE, PEER_LIFE, 1, ((1, 2),)))]
    assert not of(Deliver, effects)

    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 1),), "a", 2, b""), b"a", 0.2)
    assert [effect.body for effect in of(Deliver, taken(core))] == [b"a", b"b"]


# Interest


def test_lag_is_what_has_not_come_and_what_is_not_acknowledged() -> None:
    core = make()
    core.want([">"], 0.0)
    link = bring_up(core)
    peer = core.peers()[0]
    assert core.lag(peer) == (0, 1), "it was told which actors there are"

    core.publish("a", 3, b"", b"body")
    core.receive(link, beat(core, PEER, 9, sent=5), b"", 1.0)
    assert core.lag(peer) == (5, 4)

    heard = Pulse(LIFE, 1, 5, 1, 4, core._state.beats.number, 0)
    core.receive(link, Beat(PEER_LIFE, 10, (heard,)), b"", 1.1)
    assert core.lag(peer) == (5, 0)


def test_link_that_was_replaced_by_one_that_ends_unproven_is_used_again() -> None:
    core = make()
    first = joined(core)
    second = joined(core)  # as when the network brings a handshake twice
    assert core.peers()[0].link == second
    core.link_down(second, "closed by the peer", 0.1)
    assert core.peers()[0].link == first
    bring_up(core, link=first, now=0.2)


def test_endpoint_of_a_peer_that_is_there_by_another_way_is_not_missing() -> None:
    core = make()
    core.dial_failed(dial(core), 0.0)
    core.dial_failed(dial(core, 0.0, "tcp://other-name", TWO), 0.0)
    assert core.unanswered() == {"tcp://peer": 1, "tcp://other-name": 1}

    bring_up(core, link=joined(core))
    assert core.unanswered() == {}


def test_endpoint_where_nobody_answers_is_told_until_somebody_does() -> None:
    core = make()
    link = dial(core)
    assert core.unanswered() == {}
    core.dial_failed(link, 0.0)
    assert core.unanswered() == {"tcp://peer": 1}

    core.tick(1.0)
    (again,) = of(Dial, taken(core))
    core.greeted(again.link, PEER.accept(), 1.0)
    assert core.unanswered() == {}


def test_change_of_interest_is_agreed_when_all_that_are_up_have_answered() -> None:
    core = make()
    link = bring_up(core)
    version = core.want(["a", "b.>"], 1.0)
    (ask,) = of(Ask, taken(core))
    assert ask.frame.prefixes == (b"ta\0", b"tb.")

    core.receive(link, InterestDone(PEER_LIFE, LIFE, ask.frame.version, 1, 0), b"", 1.1)
    assert InterestAgreed(version) in taken(core)


def test_changes_while_one_is_under_way_go_together() -> None:
    core = make()
    link = bring_up(core)
    core.want(["a"], 1.0)
    core.want(["b"], 1.0)
    last = core.want(["c"], 1.0)
    (ask,) = of(Ask, taken(core))

    core.receive(link, InterestDone(PEER_LIFE, LIFE, ask.frame.version, 1, 0), b"", 1.1)
    (ask,) = of(Ask, taken(core))
    assert ask.frame.prefixes == (b"tc\0",)
    core.receive(link, InterestDone(PEER_LIFE, LIFE, ask.frame.version, 1, 0), b"", 1.2)
    assert of(InterestAgreed, taken(core)) == [InterestAgreed(last)]


def test_old_interest_stays_subscribed_until_the_new_one_is_answered() -> None:
    core = make()
    core.want(["a"], 0.0)
    link = bring_up(core)
    core.want(["b"], 1.0)
    effects = taken(core)
    assert of(Subscribe, effects)[0].prefixes[2:4] == (b"ta\0", b"tb\0")

    version = of(Ask, effects)[0].frame.version
    core.receive(link, InterestDone(PEER_LIFE, LIFE, version, 1, 0), b"", 1.1)
    assert of(Subscribe, taken(core))[0].prefixes[2:-1] == (b"tb\0",)


def test_interest_without_peers_is_agreed_at_once() -> None:
    core = make()

    assert core.want(["a"], 0.0) == 1
    assert taken(core) == [InterestAgreed(1)]


# Nodes that talk to each other, in virtual time


def mesh(count: int, **fields: Any) -> tuple[Network, list[SimNode]]:
    network = Network(random.Random(1))
    directory: dict[str, SimNode] = {}
    history = MeshHistory()
    nodes = [SimNode(f"h{n}", network, directory, history, n, **fields) for n in range(count)]
    for node in nodes:
        for other in nodes:
            if node is not other:
                node.hint(other)
    network.run(1.0)
    for node in nodes:
        assert list(node.states().values()) == ["up"] * (count - 1)
    return network, nodes


def test_nodes_that_dial_each_other_at_once_have_one_link() -> None:
    _, nodes = mesh(4)

    assert [len(node.ends) for node in nodes] == [3, 3, 3, 3]
    for node in nodes:
        for end in node.ends.values():
            assert end.other is not None
            link = node.core._state.links[end.link]
            assert link.is_dialled == (node.me.uuid < end.other.node.me.uuid)


def test_idle_mesh_beats_once_a_second_and_says_nothing_else() -> None:
    network, nodes = mesh(3)
    before = [node.core._state.beats.number for node in nodes]
    count = network._count
    network.run(11.0)

    beats = [node.core._state.beats.number - number for node, number in zip(nodes, before, strict=True)]
    assert all(number in (9, 10) for number in beats), "a beat leaves with the tick that follows its second"
    assert network._count - count == pytest.approx(3 * 100 + 2 * sum(beats), abs=3), "ticks, and beats to two peers"


def test_withdrawal_is_acknowledged_by_all_when_everything_has_come() -> None:
    network, nodes = mesh(3)
    for node in nodes[1:]:
        node.want(">")
    network.run(2.0)
    network.weather = type(network.weather)((0.001, 0.05), loss=0.3)
    for _ in range(100):
        nodes[0].publish("a", 5)
    nodes[0].withdraw()
    network.run(10.0)

    history = nodes[0].history
    assert nodes[0].has_withdrawn
    assert [node.states()["h0"] for node in nodes[1:]] == ["withdrawn", "withdrawn"]
    assert [history.published((nodes[0].life, node.life)) for node in nodes[1:]] == [list(range(500))] * 2
    nodes[0].die(is_loud=True)
    history.withdrawn.add(nodes[0].life)
    network.run(12.0)
    assert not history.violations()


def test_withdrawal_waits_for_nobody_that_is_gone_and_node_then_refuses_new_peers() -> None:
    network, nodes = mesh(3)
    nodes[2].die(is_loud=True)
    network.run(1.5)
    nodes[0].withdraw()
    network.run(2.5)

    assert nodes[0].has_withdrawn
    assert nodes[0].core.introduced(nodes[0].core.accept(), PEER.handshake(), 2.5).code == "withdrawn"
    assert nodes[0].core.publish("a", 1, b"", b"") == 0


def test_node_alone_withdraws_at_once() -> None:
    _, nodes = mesh(1)
    nodes[0].withdraw()

    assert nodes[0].has_withdrawn


def test_tunnel_goes_to_those_who_offer_the_capability_in_turn() -> None:
    network, nodes = mesh(4, interests=("vision",))
    keys = [nodes[0].tunnel("vision", number) for number in range(6)]
    network.run(1.5)

    assert sorted(nodes[0].tunnels_ended) == sorted(keys)
    assert [len(node.tunnelled) for node in nodes[1:]] == [2, 2, 2]
    assert {redelivered for node in nodes for _, redelivered in node.tunnelled} == {False}
    assert nodes[0].tunnel("hearing", 7) == 0


def test_tunnel_goes_to_the_next_marked_when_the_first_does_not_answer() -> None:
    network, nodes = mesh(3, interests=("vision",))
    hosts = sorted(nodes[1:], key=lambda node: node.me.uuid)
    network.cut("h0", hosts[0].host)
    key = nodes[0].tunnel("vision", 1)
    network.run(1.9)
    assert nodes[0].tunnels_ended == {}
    network.run(2.2)

    assert nodes[0].tunnels_ended == {key: hosts[1].me.uuid}
    assert hosts[1].tunnelled == [(1, True)]


def test_tunnel_that_nobody_answers_ends_at_its_deadline() -> None:
    network, nodes = mesh(2, interests=("vision",))
    network.cut("h0", "h1")
    key = nodes[0].tunnel("vision", 1, timeout=2.0)
    network.run(3.2)

    assert nodes[0].tunnels_ended == {key: ""}


def test_tunnel_frame_that_comes_twice_is_published_once() -> None:
    core = make()
    link = bring_up(core)
    for ticket in (5, 6):
        core.receive(link, Tunnel(PEER_LIFE, LIFE, 1, False, b""), b"body", 0.1, ticket)

    assert [type(effect).__name__ for effect in taken(core)] == ["DeliverTunnelled", "Reply", "Reply"]


def test_hub_that_starts_anew_is_a_new_peer_and_what_nobody_can_know_is_announced() -> None:
    network, nodes = mesh(2)
    nodes[1].want(">")
    network.run(2.0)
    nodes[0].publish("a", 3)
    network.run(3.0)
    old = nodes[0]
    old.die(is_loud=True)
    network.run(3.5)
    new = SimNode("h0", network, old.directory, old.history, 99, uuid=old.raw_uuid)
    new.hint(nodes[1])
    network.run(6.0)
    new.publish("a", 2)
    network.run(7.0)

    assert old.history.published((old.life, nodes[1].life)) == [0, 1, 2, Lost(-1)]
    assert old.history.published((new.life, nodes[1].life)) == [0, 1]
    assert nodes[1].states() == {"h0": "up"}


# How fast


def acknowledge(core: MeshCore, link: int, got: int, now: float) -> None:
    peer = core.peer(TWO)
    assert peer is not None
    pulse = Pulse(LIFE, 1, 0, 1, got, core._state.beats.number, 0)
    core.receive(link, Beat(PEER_LIFE, peer.vitals.beat + 1, (pulse,)), b"", now)


def bring_up_acquainted(core: MeshCore) -> int:
    """Link a peer that has also taken what it is told of the actors here."""
    link = bring_up(core)
    acknowledge(core, link, sent(core), 0.0)
    return link


def sent(core: MeshCore) -> int:
    track = core._state.outflow.track(PEER_LIFE)
    assert track is not None
    return track.sent


MANY = congestion.WINDOW_BYTES // 100_000 + 1


def test_node_waits_for_a_peer_that_is_behind_until_it_has_acknowledged() -> None:
    core = make()
    link = bring_up_acquainted(core)
    for _ in range(MANY - 1):
        core.publish("a", 1, b"", bytes(100_000))
    assert not core.is_congested(0.1)
    core.publish("a", 1, b"", bytes(100_000))
    assert core.is_congested(0.1)

    acknowledge(core, link, sent(core) - MANY + 1, 0.2)
    assert not core.is_congested(0.2)


def test_many_small_runs_are_too_far_ahead_too() -> None:
    core = make()
    bring_up_acquainted(core)
    for _ in range(congestion.WINDOW_RUNS):
        core.publish("a", 1, b"", b"x")
    assert not core.is_congested(0.1)
    core.publish("a", 1, b"", b"x")

    assert core.is_congested(0.1)


def test_peer_that_acknowledges_nothing_for_long_holds_up_nobody() -> None:
    core = make()
    link = bring_up_acquainted(core)
    for _ in range(2 * MANY):
        core.publish("a", 1, b"", bytes(100_000))
    assert core.is_congested(0.1)
    acknowledge(core, link, sent(core) - 2 * MANY + 1, 1.0)
    assert core.is_congested(1.0)
    assert core.is_congested(0.9 + congestion.STALL)

    assert not core.is_congested(1.0 + congestion.STALL)


def test_peer_that_is_not_up_holds_up_nobody() -> None:
    core = make()
    link = bring_up_acquainted(core)
    for _ in range(MANY):
        core.publish("a", 1, b"", bytes(100_000))
    assert core.is_congested(0.1)
    core.link_down(link, "gone", 0.2)

    assert not core.is_congested(0.2)


def test_node_whose_bus_is_behind_acknowledges_nothing_more_until_it_has_caught_up() -> None:
    core = make()
    link = bring_up_acquainted(core)

    def told(now: float) -> int:
        core.tick(now)
        pulses = [pulse for effect in of(Publish, taken(core)) for pulse in getattr(effect.frame, "pulses", ())]
        return int(pulses[-1].got)

    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 1),), "a", 1, b""), b"", 0.1)
    assert told(2.0) == 1
    core.hold_back(2.1, is_full=True)
    core.receive(link, Run(PEER_LIFE, ((LIFE, 1, 2),), "a", 1, b""), b"", 2.2)
    assert told(4.0) == 1

    core.hold_back(4.1, is_full=False)
    assert told(4.2) == 2
