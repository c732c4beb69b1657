"""The gateway: what the bus tells it of the pods here, and what it is given for actors of other nodes."""

from typing import Any

from grav_actors.bus.gateway import LocalNews
from grav_actors.message import Message
from grav_actors.pod.core import State
from grav_actors.pod.inbound import Inbound
from grav_actors.protocol import (
    FLAG_RECEIPT,
    FLAG_RELAYED,
    GATEWAY_NAME,
    KIND_ANSWER,
    KIND_ASK,
    KIND_ASK_ANY,
    KIND_PUBLISH,
    KIND_REPLY,
    KIND_TELL,
    MAX_GATEWAY_ITEMS,
    unpack_header,
)
from support.busnet import Net, TestPod

NODE, OTHER = b"n" * 16, b"o" * 16


class Gateway:
    """The pod that stands for other nodes, as a test drives it: it keeps what it is given."""

    def __init__(self, net: Net, *patterns: str) -> None:
        self.net = net
        self.pod = net.pod(GATEWAY_NAME, *patterns)
        self.pod.paused = True
        self.wants: set[str] = set()
        self.groups: set[tuple[str, str]] = set()
        self.names: set[str] = set()
        self.ended: list[tuple[str, str, str]] = []
        self.frames = 0
        self.stand_for()

    def stand_for(self, *names: str, node: bytes = NODE, ended: list[tuple[str, str, str]] | None = None) -> None:
        self.pod.core.stand_for([(name, node) for name in names], ended or [])
        self.settle()

    def settle(self) -> None:
        self.net.settle()
        local, self.pod.core.local = self.pod.core.local, []
        for stage, wants, groups, names in local:
            self.frames += 1
            if stage & 1:
                self.wants, self.groups, self.names = set(), set(), set()
            for pattern, is_wanted in wants:
                (self.wants.add if is_wanted else self.wants.remove)(pattern)
            for *key, is_wanted in groups:
                (self.groups.add if is_wanted else self.groups.remove)(tuple(key))
            for name, reason, error in names:
                if reason is None:
                    self.names.add(name)
                else:
                    self.names.remove(name)
                    self.ended.append((name, reason, error))

    @property
    def given(self) -> list[tuple[int, str, Any]]:
        """Kind, type, and for whom or where already, of each run."""
        return [
            (inbound.kind, inbound.type, inbound.relayed if inbound.flags & FLAG_RELAYED else None)
            for inbound in self.pod.waiting
        ]

    def take(self) -> Inbound:
        inbound = self.pod.waiting.popleft()
        inbound.finish_all()
        return inbound


def test_gateway_is_told_all_that_pods_want_and_later_what_changes() -> None:
    net = Net()
    net.pod("", "a.*", "b")
    everything = net.pod()
    everything.listen()
    net.pod("", "grav.sys.dead")
    net.pod("")
    gateway = Gateway(net, "z")
    assert gateway.wants == {"a.*", "b", ">"}

    late = net.pod("", "c")
    gateway.settle()
    assert gateway.wants == {"a.*", "b", ">", "c"}
    late.listen("d")
    everything.leave()
    gateway.settle()
    assert gateway.wants == {"a.*", "b", "d"}


def test_what_another_pod_wants_already_is_no_news() -> None:
    net = Net()
    net.pod("", "a")
    gateway = Gateway(net)
    frames = gateway.frames
    second = net.pod("", "a")
    gateway.settle()
    second.leave()
    gateway.settle()
    assert (gateway.frames, gateway.wants) == (frames, {"a"})


def test_wants_of_groups_are_told_apart() -> None:
    net = Net()
    net.actor("w-1", "job", group="w")
    gateway = Gateway(net)
    second = net.actor("w-2", "job", "rush", group="w")
    gateway.settle()
    assert (gateway.wants, gateway.groups) == (set(), {("w", "job"), ("w", "rush")})
    second.leave("stopping")
    net.advance(6)
    gateway.settle()
    assert gateway.groups == {("w", "job")}


def test_names_come_with_actors_and_go_with_their_reason() -> None:
    net = Net()
    net.actor("temp-1", service="temp", supervisor=b"")
    gateway = Gateway(net)
    net.actor("grav.node", supervisor=b"")
    late = net.actor("late", supervisor=b"")
    gateway.settle()
    assert gateway.names == {"temp-1", "temp", "late"}
    late.leave("stopping")
    gateway.settle()
    assert (gateway.names, gateway.ended) == ({"temp-1", "temp"}, [("late", "stopped", "")])


def test_many_names_are_told_in_parts() -> None:
    net = Net()
    wire = net.wire()
    names = {f"a{number}" for number in range(MAX_GATEWAY_ITEMS * 2 + 1)}
    for name in names:
        net.pod(name, wire=wire, actor=True, is_joined=False)
    net.settle()
    gateway = Gateway(net)
    assert gateway.names == names
    assert gateway.frames == 3


def test_bus_without_a_gateway_counts_nothing() -> None:
    net = Net()
    net.actor("a", "x")

    def news() -> LocalNews | None:
        return net.bus.directory.news

    assert news() is None
    gateway = Gateway(net)
    assert isinstance(news(), LocalNews)
    gateway.pod.leave()
    net.settle()
    assert news() is None


def test_there_is_one_gateway_at_most() -> None:
    net = Net()
    first = Gateway(net)
    second = net.pod(GATEWAY_NAME, is_joined=False)
    net.settle()
    assert second.core.closed_by is not None
    assert second.core.closed_by[0] == "name_taken"
    net.kill(first.pod)
    net.bus.unreachable(first.pod.wire.route, net.now)
    assert Gateway(net).pod.core.state is State.JOINED


def test_pod_of_another_name_is_no_gateway() -> None:
    net = Net()
    pod = net.pod("x")
    pod.core.stand_for([("a", NODE)], [])
    net.settle()
    assert net.bus.postman.counts.bad_frames == 1
    assert net.bus.directory.remote.node_of("a") is None


def test_message_for_an_actor_of_another_node_goes_to_the_gateway_with_its_name() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far")
    pod = net.pod()
    pod.tell("far", "x", 1)
    pod.ask("far", "y")
    net.settle()
    assert gateway.given == [(KIND_TELL, "x", "far"), (KIND_ASK, "y", "far")]


def test_who_has_the_name_here_goes_first() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("both")
    actor = net.actor("both", "x")
    net.pod().tell("both", "x", 1)
    net.settle()
    assert (actor.data, gateway.given) == ([1], [])


def test_name_that_nobody_has_is_known_at_once() -> None:
    net = Net()
    gateway = Gateway(net)
    pod = net.pod()
    question = pod.ask("nobody", "x")
    pod.tell("nobody", "y", 1)
    net.settle()
    assert pod.answers[question].data["code"] == "no_responders"
    assert net.dead() == [("no_responders", "nobody", 1)]
    assert gateway.given == []


def test_what_the_gateway_sends_never_comes_back_to_it() -> None:
    net = Net()
    gateway = Gateway(net, "x")
    gateway.stand_for("far")
    gateway.pod.tell("far", "x", 1)
    question = gateway.pod.ask("far", "x")
    gateway.pod.publish("x", 2)
    gateway.pod.send(KIND_ANSWER, "grav.reply", b"p" * 16, 3, reply_to=Message().uuid)
    net.settle()
    assert gateway.given == []
    assert gateway.pod.answers[question].data["code"] == "no_responders"
    assert net.dead() == [("no_responders", "far", 1)]


def test_names_of_the_framework_are_never_taken_for_those_of_other_nodes() -> None:
    net = Net()
    net.pod(GATEWAY_NAME)  # which has not said yet whom it stands for
    pod = net.pod()
    question = pod.ask("grav.node", "x")
    net.settle()
    assert pod.answers[question].data["code"] == "no_responders"


def test_message_waits_for_a_gateway_that_has_not_said_yet_whom_it_stands_for() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far")
    net.restart_bus()
    net.pod().tell("far", "x", 1)
    gateway.settle()
    net.advance(2)
    assert gateway.given == [(KIND_TELL, "x", "far")]
    assert net.dead() == []


def test_gateway_learns_which_groups_have_a_published_message_here() -> None:
    net = Net()
    gateway = Gateway(net, "job")
    net.actor("w-1", "job", group="w")
    net.actor("v-1", "other", group="v")
    net.pod().publish("job", 1)
    net.settle()
    assert gateway.given == [(KIND_PUBLISH, "job", ("w",))]


def test_group_with_no_member_but_the_sender_does_not_have_the_message() -> None:
    net = Net()
    gateway = Gateway(net, "job")
    member = net.actor("w-1", "job", group="w")
    member.publish("job", 1)
    net.settle()
    assert gateway.given == [(KIND_PUBLISH, "job", ())]


def test_relayed_message_goes_to_filters_and_to_the_groups_it_is_meant_for() -> None:
    net = Net()
    gateway = Gateway(net)
    plain = net.pod("", "job")
    chosen, other = net.actor("w-1", "job", group="w"), net.actor("v-1", "job", group="v")
    gateway.pod.send(KIND_PUBLISH, "job", (0, ("w",)), 1)
    gateway.pod.send(KIND_PUBLISH, "job", (1, None), 2)
    net.settle()
    assert (plain.data, chosen.data, other.data) == ([1, 2], [1, 2], [2])
    assert [got.redelivered for got in plain.got] == [False, True]
    assert net.dead() == []


def test_relayed_message_for_a_group_that_is_gone_is_a_dead_letter_of_the_group() -> None:
    net = Net()
    gateway = Gateway(net)
    net.actor("v-1", "other", group="v")
    gateway.pod.send(KIND_PUBLISH, "job", (0, ("v", "w")), 1)
    gateway.pod.send(KIND_ASK_ANY, "job", (0, ("w",)), 2)
    net.settle()
    assert sorted(net.dead()) == [("no_responders", "v", 1), ("no_responders", "w", 1)]


def test_relayed_reply_reaches_filters_and_no_receipts() -> None:
    net = Net()
    gateway = Gateway(net)
    asker, curious = net.pod(), net.pod("", "reply")
    question = Message("question", 1)
    asker.expect_reply(question)
    answer = Message("reply", 2)
    answer._record[1] = question._record[0]
    gateway.pod.send_message(KIND_REPLY, answer, (0, ()))
    net.settle()
    assert (curious.data, asker.answers) == ([2], {})


def test_reply_to_somebody_who_is_not_here_goes_to_the_gateway() -> None:
    net = Net()
    gateway = Gateway(net)
    pod = net.pod()
    pod.send(KIND_REPLY, "answer", b"far-away", 1, reply_to=Message().uuid)
    pod.send(KIND_ANSWER, "grav.reply", b"f" * 16, 2, reply_to=Message().uuid)
    for wire in net.wires:
        for one in wire.pods.values():
            one.push()
        net.up(wire)
    net.route()
    replies: list[Inbound] = []
    for header, body in list(gateway.pod.wire.down):
        gateway.pod.core.receive(unpack_header(header), body, net.now)
        replies += gateway.pod.core.replies
        gateway.pod.core.replies = []
    assert [(inbound.flags, inbound.relayed) for inbound in replies] == [
        (FLAG_RECEIPT | FLAG_RELAYED, b"far-away"),
        (FLAG_RECEIPT | FLAG_RELAYED, b"f" * 16),
    ]


def test_watched_actor_of_another_node_is_told_when_it_ends_once() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far", "farther")
    watcher = net.pod()
    for name in ("far", "farther", "nobody"):
        watcher.core.watch(name)
    net.settle()
    assert watcher.downs == [("nobody", "unknown", "")]
    gateway.stand_for(ended=[("far", "crashed", "ValueError: 7")])
    gateway.stand_for("far")
    gateway.stand_for(ended=[("far", "stopped", "")])
    assert watcher.downs[1:] == [("far", "crashed", "ValueError: 7")]
    late = net.pod()
    late.core.watch("far")
    net.settle()
    assert late.downs == [("far", "stopped", "")]


def test_watch_is_of_whoever_had_the_name_when_it_began() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far", "near")
    near = net.actor("near", supervisor=b"")
    watcher = net.pod()
    watcher.core.watch("far")
    watcher.core.watch("near")
    net.settle()
    net.actor("far", supervisor=b"")
    gateway.stand_for(ended=[("near", "lost", "")])
    assert watcher.downs == []
    gateway.stand_for(ended=[("far", "lost", "")])
    near.leave("stopping")
    net.settle()
    assert watcher.downs == [("far", "lost", ""), ("near", "stopped", "")]


def test_name_that_moves_to_another_node_ends_the_watch_of_the_first() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far")
    watcher = net.pod()
    watcher.core.watch("far")
    net.settle()
    gateway.stand_for("far", node=OTHER)
    assert watcher.downs == [("far", "lost", "")]


def test_gateway_that_is_gone_takes_its_actors_with_it() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far")
    watcher = net.pod()
    watcher.core.watch("far")
    question = watcher.ask("far", "x")
    net.settle()
    net.kill(gateway.pod)
    net.advance(8)
    assert watcher.downs == [("far", "lost", "this node has left the mesh")]
    assert watcher.answers[question].data["code"] == "stopped"
    late = watcher.ask("far", "x")
    net.settle()
    assert watcher.answers[late].data["code"] == "no_responders"


def test_broken_connection_and_new_bus_cost_neither_names_nor_watches() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far", "gone")
    watcher = net.pod()
    watcher.core.watch("far")
    watcher.core.watch("gone")
    net.settle()
    net.cut(gateway.pod.wire)
    gateway.pod.core.stand_for([("more", NODE)], [("gone", "stopped", "")])
    gateway.settle()
    net.advance(3)
    assert watcher.downs == [("gone", "lost", "")], "the reason was lost with the connection"
    net.restart_bus()
    net.actor("new", "n", supervisor=b"")
    net.advance(3)
    gateway.settle()
    assert watcher.downs == [("gone", "lost", "")]
    assert {name for name in ("far", "more", "gone") if net.bus.directory.remote.node_of(name)} == {"far", "more"}
    assert gateway.names == {"new"}


def test_question_to_another_node_is_open_until_the_gateway_has_finished_it_and_can_be_taken_back() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far")
    pod = net.pod()
    first, second = pod.ask("far", "x"), pod.ask("far", "x")
    net.settle()
    assert not pod.unanswered
    pod.core.cancel([2], net.now)
    net.settle()
    assert gateway.pod.core.cancelled == [(pod.uuid, (2,))]
    inbound = gateway.take()
    gateway.pod.send(KIND_ANSWER, "grav.reply", inbound.sender, 7, reply_to=Message().uuid)
    net.settle()
    assert pod.unanswered == {first, second}


def test_rejected_message_is_a_dead_letter_of_the_name_and_can_be_retried() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far")
    pod = net.pod()
    pod.tell("far", "x", 1)
    net.settle()
    inbound = gateway.pod.waiting.popleft()
    gateway.pod.core.failed(inbound, 0, 1, "gone")
    inbound.finish(0)
    net.settle()
    assert net.dead() == [("rejected", "far", 1)]
    pod.ask("grav.bus", "grav.sys.bus.dead.retry", {})
    net.settle()
    assert gateway.given == [(KIND_TELL, "x", "far")]


def test_is_connected_counts_actors_of_other_nodes() -> None:
    net = Net()
    gateway = Gateway(net)
    gateway.stand_for("far")
    assert net.bus.directory.is_connected("far")
    assert not net.bus.directory.is_connected("nobody")


def test_large_questions_to_other_nodes_do_not_fill_the_window_of_the_gateway_soon() -> None:
    net = Net()
    gateway = Gateway(net, "news")
    gateway.stand_for("far")
    wires = [net.pod() for _ in range(3)]
    for pod in wires:
        for _ in range(4):
            pod.ask("far", "x", b"x" * 1_000_000)
    net.settle()
    source: TestPod = net.pod()
    source.publish("news", 1)
    net.settle()
    assert gateway.given[-1][:2] == (KIND_PUBLISH, "news")
