"""Watches: each end of a name is told once to whoever watches it, over lost connections and new buses."""

import pytest

from grav_actors.bus import watches
from grav_actors.errors import ConfigError
from grav_actors.protocol import MAX_WATCHES, VERB_HANDLED, WATCHES_LIMIT, Verb, pack
from support.busnet import Net, TestPod


def watching(net: Net, *names: str) -> TestPod:
    watcher = net.pod()
    for name in names:
        watcher.core.watch(name)
    net.settle()
    return watcher


def release(net: Net, supervisor: TestPod, name: str, incarnation: int, reason: str, error: str = "") -> None:
    supervisor.ask("grav.bus", "grav.sys.bus.release", [name, incarnation, reason, error, []])
    net.settle()


def test_an_end_that_was_asked_for_is_told_once() -> None:
    net = Net()
    actor = net.actor("a")
    watcher, other = watching(net, "a"), net.pod()
    assert watcher.downs == []
    actor.leave("stopping")
    net.settle()
    net.advance(10)
    assert watcher.downs == [("a", "stopped", "")]
    assert other.downs == []
    net.check_quiet()


def test_a_name_that_is_gone_already_is_told_at_once_with_its_reason() -> None:
    net = Net()
    supervisor = net.pod("node")
    net.actor("a", supervisor=supervisor.uuid)
    release(net, supervisor, "a", 0, "pod_lost", "ValueError: 7")
    assert watching(net, "a", "b").downs == [("a", "crashed", "ValueError: 7"), ("b", "unknown", "")]


def test_a_name_that_is_taken_again_is_not_gone() -> None:
    net = Net()
    net.actor("a").leave("stopping")
    net.settle()
    net.actor("a")
    assert watching(net, "a").downs == []


def test_a_death_with_a_next_incarnation_is_no_end() -> None:
    net = Net()
    supervisor = net.pod("node")
    actor = net.actor("a", supervisor=supervisor.uuid)
    watcher = watching(net, "a")
    net.kill(actor)
    release(net, supervisor, "a", 0, "crashed", "killed")
    heir = net.actor("a", supervisor=supervisor.uuid, incarnation=1)
    net.advance(20)
    assert watcher.downs == []
    heir.leave("stopping")
    net.settle()
    assert watcher.downs == [("a", "stopped", "")]


def test_giving_up_on_an_actor_is_told_with_its_error() -> None:
    net = Net()
    supervisor = net.pod("node")
    net.actor("a", supervisor=supervisor.uuid, incarnation=3)
    watcher = watching(net, "a")
    release(net, supervisor, "a", 3, "stopping", "exit code 1")
    assert watcher.downs == [("a", "crashed", "exit code 1")]


def test_an_actor_whose_process_and_supervisor_are_gone_is_lost() -> None:
    net = Net()
    supervisor = net.pod("node")
    actor = net.actor("a", supervisor=supervisor.uuid)
    watcher = watching(net, "a")
    net.kill(actor)
    net.kill(supervisor)
    net.advance(10)
    assert watcher.downs == [("a", "lost", "")]


def test_an_unhealthy_actor_without_supervisor_has_crashed() -> None:
    net = Net()

    def fail(got: object) -> None:
        raise ValueError(got)

    net.actor("a", "x", supervisor=b"", handler=fail)
    watcher, sender = watching(net, "a"), net.pod()
    sender.publish("x", *range(64))
    net.settle()
    assert watcher.downs == [("a", "crashed", "64 messages failed")]


def test_one_name_watched_twice_is_told_once_and_may_be_watched_anew() -> None:
    net = Net()
    actor = net.actor("a")
    watcher = watching(net, "a", "a")
    actor.leave("stopping")
    net.settle()
    net.actor("a")
    watcher.core.watch("a")
    net.settle()
    assert watcher.downs == [("a", "stopped", "")]
    assert len(net.bus.watches) == 1


def test_what_is_not_watched_any_more_is_not_told() -> None:
    net = Net()
    actor = net.actor("a")
    watcher = watching(net, "a")
    watcher.core.unwatch("a")
    watcher.core.unwatch("b")
    net.settle()
    assert len(net.bus.watches) == 0
    actor.leave("stopping")
    net.settle()
    assert watcher.downs == []


def test_a_notice_that_crosses_the_end_of_its_watch_is_dropped() -> None:
    net = Net()
    actor = net.actor("a")
    watcher = watching(net, "a")
    actor.leave("stopping")
    actor.push()
    net.up(actor.wire)
    net.route()
    watcher.core.unwatch("a")
    net.settle()
    assert watcher.downs == []


def test_the_instances_behind_a_name_are_gone_with_the_last() -> None:
    net = Net()
    first, second = net.actor("a-1", service="a"), net.actor("a-2", service="a")
    watcher = watching(net, "a", "a-1")
    first.leave("stopping")
    net.settle()
    assert watcher.downs == [("a-1", "stopped", "")]
    second.leave("stopping")
    net.settle()
    assert watcher.downs == [("a-1", "stopped", ""), ("a", "stopped", "")]


def test_an_end_while_the_watcher_is_away_is_told_when_it_is_back() -> None:
    net = Net()
    actor = net.actor("a")
    watcher = watching(net, "a")
    net.cut(watcher.wire)
    net.bus.unreachable(net.receiver(watcher).route, net.now)
    actor.leave("stopping")
    net.settle()
    net.advance(3)
    assert watcher.downs == [("a", "stopped", "")]


def test_a_notice_that_was_lost_with_the_connection_comes_again_though_the_name_is_taken_anew() -> None:
    net = Net()
    actor = net.actor("a")
    watcher = watching(net, "a")
    actor.leave("stopping")
    actor.push()
    net.up(actor.wire)
    net.route()
    net.cut(watcher.wire)
    net.actor("a", is_joined=False)
    net.advance(3)
    assert [name for name, _, _ in watcher.downs] == ["a"]


def test_a_new_bus_knows_the_watches_and_tells_what_ended_meanwhile() -> None:
    net = Net()
    stays, goes = net.actor("stays", supervisor=b""), net.actor("goes", supervisor=b"")
    watcher = watching(net, "stays", "goes")
    net.kill(goes)
    net.restart_bus()
    net.advance(3)
    assert watcher.downs == []
    net.advance(10)
    assert watcher.downs == [("goes", "lost", "")]
    stays.leave("stopping")
    net.settle()
    assert watcher.downs == [("goes", "lost", ""), ("stays", "stopped", "")]


def test_watches_end_with_their_pod_and_with_its_incarnation() -> None:
    net = Net()
    net.actor("a")
    leaves = watching(net, "a")
    supervisor = net.pod("node")
    dies = net.actor("w", supervisor=supervisor.uuid)
    dies.core.watch("a")
    net.settle()
    assert len(net.bus.watches) == 2
    leaves.leave()
    net.settle()
    assert len(net.bus.watches) == 1
    net.kill(dies)
    net.actor("w", supervisor=supervisor.uuid, incarnation=1)
    assert len(net.bus.watches) == 0
    assert not net.bus.watches._highest


def test_more_watches_than_a_frame_takes_travel_in_several() -> None:
    net = Net()
    net.actor("a")
    count = MAX_WATCHES * 2 + 1
    watcher = net.pod()
    net.cut(watcher.wire)
    for number in range(count):
        watcher.core.watch(f"n{number}")
    net.advance(3)
    assert sorted(name for name, _, _ in watcher.downs) == sorted(f"n{number}" for number in range(count))
    assert net.bus.postman.counts.bad_frames == 0


def test_a_pod_has_a_bounded_number_of_watches_and_may_repeat_them_and_put_others_in_their_place() -> None:
    net = Net()
    net.actor("a")
    watcher = net.pod()

    def watch(begun: list[int], ended: list[int]) -> int:
        frame = pack(Verb.WATCH.value, watcher.slot, [(number, "a") for number in begun], ended)
        net.bus.receive(watcher.wire.route, frame, b"", net.now)
        return len(net.bus.watches)

    for first in range(1, WATCHES_LIMIT, MAX_WATCHES):
        watch(list(range(first, first + MAX_WATCHES)), [])
    assert watch([], []) == WATCHES_LIMIT
    assert watch([1, 2, WATCHES_LIMIT], []) == WATCHES_LIMIT
    assert watch([WATCHES_LIMIT + 1], [1]) == WATCHES_LIMIT
    assert net.bus.postman.counts.bad_frames == 0
    assert watch([WATCHES_LIMIT + 2], []) == WATCHES_LIMIT
    assert net.bus.postman.counts.bad_frames == 1


def test_a_pod_that_watches_too_many_is_told_where_it_watches() -> None:
    core = Net().pod().core
    for number in range(WATCHES_LIMIT):
        core.watch(f"n{number}")
    core.watch("n0")
    with pytest.raises(ConfigError, match="8192"):
        core.watch("one more")
    core.unwatch("n0")
    core.watch("one more")


def test_reasons_are_remembered_for_a_bounded_number_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "ENDED_LIMIT", 2)
    net = Net()
    for name in ("a", "b", "c"):
        net.actor(name).leave("stopping")
        net.settle()
    downs = watching(net, "a", "b", "c").downs
    assert [reason for _, reason, _ in downs] == ["unknown", "stopped", "stopped"]


@pytest.mark.parametrize(
    "fields",
    [
        ([[0, "a", "b"]], []),
        ([[1, ""]], []),
        ([["1", "a"]], []),
        ([], ["a"]),
        ([[number, "a"] for number in range(MAX_WATCHES + 1)], []),
        ([], list(range(MAX_WATCHES + 1))),
    ],
    ids=["three", "no-name", "no-number", "ended-no-number", "too-many", "too-many-ended"],
)
def test_a_malformed_watch_is_counted_and_does_nothing(fields: tuple[list[object], list[object]]) -> None:
    net = Net()
    pod = net.pod()
    net.bus.receive(pod.wire.route, pack(Verb.WATCH.value, pod.slot, *fields), b"", net.now)
    assert net.bus.postman.counts.bad_frames == 1
    assert len(net.bus.watches) == 0
    net.bus.receive(pod.wire.route, pack(VERB_HANDLED, pod.slot, 0), b"", net.now)
    assert net.bus.postman.counts.bad_frames == 1


def test_a_pod_may_watch_one_name_under_several_numbers() -> None:
    net = Net()
    actor, watcher = net.actor("a"), net.pod()
    for number, name in ((1, "a"), (2, "a"), (3, "a")):
        watcher.core.out.append((pack(Verb.WATCH.value, watcher.slot, [(number, name)], []), b""))
    watcher.core.out.append((pack(Verb.WATCH.value, watcher.slot, [], [2]), b""))
    net.settle()
    receiver = net.receiver(watcher)
    told = net.bus.watches
    assert len(told) == 2
    actor.leave("stopping")
    watcher.leave()
    net.settle()
    net.advance(6)
    assert len(told) == 0
    assert receiver not in told._by_receiver
