"""Failing messages, failing actors, timers, groups and replay."""

from collections import Counter
from queue import SimpleQueue

import pytest

from grav_actors import Actor, ActorRef, ActorStoppedError, Backoff, Child, ConnectionClosedError, Grav
from support import actors
from support.collecting import LIMIT, settle
from support.nodes import collect, wait_dead_letters, wait_gone, wait_restarts

# Messages that fail


def test_failed_message_comes_again_after_a_success(grav: Grav, kind: str) -> None:
    tried = collect(grav, "tried")
    ref = grav.spawn(actors.Failing, kind=kind)
    ref.tell("try", ["fail", 1])
    tried.wait(1)
    ref.tell("fine")
    attempts = [message.data[:3] for message in tried.wait(2)]
    assert attempts == [["fail", 1, False], ["fail", 2, True]]
    settle(grav._pod)
    assert grav.stats()["dead_letters"] == {}


def test_message_that_always_fails_is_a_dead_letter(grav: Grav, kind: str) -> None:
    tried = collect(grav, "tried")
    ref = grav.spawn(Child(actors.FailsThrice, kind=kind))
    ref.tell("try", ["fail", 9])
    for count in (1, 2):
        tried.wait(count)
        ref.tell("fine")
    tried.wait(3)
    assert wait_dead_letters(grav, 1) == {"max_deliver": 1}
    assert [message.data[1] for message in tried.messages] == [1, 2, 3]


def test_reject_is_a_dead_letter_at_once(grav: Grav, kind: str) -> None:
    tried = collect(grav, "tried")
    grav.spawn(actors.Failing, kind=kind).tell("try", ["reject", 9])
    assert wait_dead_letters(grav, 1) == {"rejected": 1}
    assert len(tried.wait(1)) == 1


def test_64_failed_messages_are_an_actor_failure(
    grav: Grav, kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    hooks = collect(grav, "hook")
    ref = grav.spawn(actors.Hopeless, kind=kind)
    for number in range(64):
        ref.tell("try", number)
    assert [message.data for message in hooks.wait(3)] == ["start", "restart 64 messages failed", "start"]
    assert wait_dead_letters(grav, 64) == {"pod_unhealthy": 64}
    assert ref.ask("fine", timeout=LIMIT) == "fine"
    # Its pod was gone by then; what it could still do was to log.
    assert "hopeless stops: crash" in (caplog.text if kind == "thread" else capfd.readouterr().err)


# Actors that fail


@pytest.mark.parametrize("how", ["crash", "special", "key"])
def test_crash_and_what_crash_on_lists(grav: Grav, kind: str, how: str) -> None:
    tried = collect(grav, "tried")
    ref = grav.spawn(actors.Failing, kind=kind)
    ref.tell("try", [how, 1])
    attempts = [message.data for message in tried.wait(2)]
    assert [data[:3] for data in attempts] == [[how, 1, False], [how, 2, True]]
    assert (attempts[0][3] == attempts[1][3]) == (kind == "thread")
    assert ref.ask("fine", timeout=LIMIT) == "fine"
    assert [row["restarts"] for row in grav._runner.rows()] == [1]


def test_message_whose_handler_crashes_three_times_is_a_dead_letter(grav: Grav, kind: str) -> None:
    tried = collect(grav, "tried")
    ref = grav.spawn(actors.Failing, kind=kind)
    ref.tell("try", ["crash", 9])
    ref.tell("try", ["fail", 0])
    assert wait_dead_letters(grav, 1) == {"crashed": 1}
    assert [message.data[0] for message in tried.wait(4)] == ["crash", "crash", "crash", "fail"]


def test_what_waits_behind_a_crash_is_handled_by_the_next_incarnation(grav: Grav, kind: str) -> None:
    tried = collect(grav, "tried")
    ref = grav.spawn(actors.Failing, kind=kind)
    ref.tell("try", ["crash", 1])
    for _ in range(50):
        ref.tell("try", ["fail", 0])
    messages = tried.wait(52)
    assert [message.data[0] for message in messages] == ["crash", "crash", *["fail"] * 50]
    assert all(data[1] == 1 for data in tried.data[2:])  # they are not charged
    settle(grav._pod)


@pytest.mark.parametrize("actor_class", [actors.CrashingPool, actors.CrashingTasks])
def test_crash_of_one_of_several_handlers(grav: Grav, kind: str, actor_class: type[Actor]) -> None:
    hooks = collect(grav, "hook")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actor_class, kind=kind)
    hooks.wait(1)
    ref.tell("wait")
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    ref.tell("end", "crash")
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    assert [message.data for message in hooks.wait(4)][1:] == ["waited", "stop crash", "start"]


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_restart_after_a_crash(grav: Grav, kind: str, restart: str) -> None:
    hooks = collect(grav, "hook")
    ref = grav.spawn(Child(actors.HookedAsync, kind=kind, restart=restart))
    ref.tell("end", "crash")
    if restart == "temporary":
        hooks.wait(2)
        wait_gone(grav, ref)
        assert hooks.data == ["start", "stop crash"]
        assert wait_dead_letters(grav, 1) == {"pod_lost": 1}
    else:
        assert [message.data for message in hooks.wait(4)][2:4] == ["restart Crash", "start"]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_process_that_ends_by_itself_without_an_error(grav: Grav, restart: str) -> None:
    ref = grav.spawn(Child(actors.Leaving, kind="process", restart=restart))
    before = ref.ask("pid", timeout=LIMIT)
    ref.tell("leave")
    if restart == "transient":
        wait_gone(grav, ref)
    else:
        wait_restarts(grav, ref, 1)
        assert ref.ask("pid", timeout=LIMIT) != before


def test_end_of_a_significant_actor_ends_its_node(kind: str) -> None:
    ended: SimpleQueue[str] = SimpleQueue()
    with Grav() as grav:
        grav._on_end = ended.put
        grav.spawn(Child(actors.HookedAsync, kind=kind, restart="transient", significant=True)).stop()
        text = ended.get(timeout=LIMIT)
    assert text == "actor hookedasync has ended, which its supervisor depends on"


def test_too_many_restarts_end_the_node(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with Grav(backoff=Backoff(first=0), max_restarts=2) as grav:
        hooks = collect(grav, "hook")
        ref = grav.spawn(actors.HookedAsync, kind=kind)
        ref.tell("end", "crash")  # three times: it comes again after each restart
        hooks.wait(7)
        assert grav._control is not None
        assert grav._control.wait(LIMIT)
        with pytest.raises(ConnectionClosedError, match="failed once more after 2 restarts"):
            ref.ask("end", timeout=LIMIT)
        with pytest.raises(ConnectionClosedError, match="failed once more after 2 restarts"):
            grav.stats()
    assert "actor hookedasync failed once more after 2 restarts within 30 s (last: Crash: told to" in caplog.text


# Timers


def test_timer_that_fires_once(grav: Grav, kind: str) -> None:
    ticked = collect(grav, "ticked")
    ref = grav.spawn(actors.Timed, kind=kind)
    ref.tell("timer.after", 0.01)
    ref.tell("timer.after", 0)
    assert [message.data for message in ticked.wait(2)] == [["after", 1], ["after", 2]]


def test_timer_that_repeats_and_is_cancelled(grav: Grav, kind: str) -> None:
    ticked = collect(grav, "ticked")
    ref = grav.spawn(actors.Timed, kind=kind)
    ref.tell("timer.every", 0.001)
    ticked.wait(5)
    first = ref.ask("timer.cancel", timeout=LIMIT)
    # One may be under way at the cancel; none comes after that.
    settle(grav._pod)
    last = ref.ask("timer.cancel", timeout=LIMIT)
    assert last - first <= 1
    ref.ask("timer.after", 0.05, timeout=LIMIT)
    assert ticked.wait(last + 1)[-1].data == ["after", last + 1]


def test_timers_are_gone_at_a_restart(grav: Grav, kind: str) -> None:
    ticked = collect(grav, "ticked")
    ref = grav.spawn(actors.Timed, kind=kind)
    ref.ask("timer.after", 0.2, timeout=LIMIT)
    ref.tell("timer.every", 0.3)
    with pytest.raises(ActorStoppedError):
        ref.ask("end", "crash", timeout=LIMIT)
    ref.ask("timer.after", 0.5, timeout=LIMIT)
    assert [message.data for message in ticked.wait(1)] == [["after", 1]]


def test_timer_goes_on_after_its_message_found_no_room(grav: Grav, kind: str) -> None:
    ticked = collect(grav, "ticked")
    grav.spawn(actors.Gate, kind="thread")
    ref = grav.spawn(actors.TimedInNarrowMailbox, kind=kind)
    ticked.wait(1)
    ref.tell("wait")
    grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)
    for _ in range(5):
        ref.tell("fill")  # one finds room, and then the tick finds none
    assert wait_dead_letters(grav, 5) == {"overflow": 5}
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    ticked.wait(len(ticked.messages) + 2)


# Groups


def test_one_copy_for_each_group_besides_plain_subscribers(grav: Grav, kind: str) -> None:
    worked = collect(grav, "worked")
    plain = collect(grav, "work")
    for name in ("a", "b"):
        grav.spawn(actors.Member, name=name, kind=kind)
    grav.spawn(Child(actors.Member, name="c", group="others", kind=kind))
    sender = grav.connect()
    for number in range(20):
        sender.publish("work", number)
    settle(sender)
    assert sorted(plain.data) == list(range(20))
    done = [(message.data[0] in "ab", message.data[1]) for message in worked.wait(40)]
    assert sorted(done) == sorted((is_first, number) for is_first in (True, False) for number in range(20))


def test_work_is_spread_over_the_members(grav: Grav, kind: str) -> None:
    worked = collect(grav, "worked")
    ref = grav.spawn(Child(actors.Member, name="m", kind=kind, instances=3))
    sender = grav.connect()
    for number in range(30):
        sender.publish("work", number)
        if number % 3 == 2:
            settle(sender)
    counts = Counter(message.data[0] for message in worked.wait(30))
    assert set(counts) == {"m-1", "m-2", "m-3"}
    assert ref.ask("work", 0, timeout=LIMIT) in counts


def test_slow_member_gets_less(grav: Grav, kind: str) -> None:
    worked = collect(grav, "worked")
    grav.spawn(actors.Gate, kind="thread")
    grav.spawn(Child(actors.Member, name="m", kind=kind, instances=2))
    sender = grav.connect()
    sender.publish("work", "wait")
    slow = grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)[0]
    for number in range(100):
        sender.publish("work", number)
    worked.wait(97)  # all but those that wait behind the slow one: prefetch is 4
    assert {message.data[0] for message in worked.messages} == {"m-1", "m-2"} - {slow}
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    settle(sender)
    counts = Counter(message.data[0] for message in worked.wait(101))
    assert 1 <= counts[slow] <= 4


def test_what_a_killed_member_leaves_is_handled_by_others(grav: Grav) -> None:
    worked = collect(grav, "worked")
    grav.spawn(actors.Gate, kind="thread")
    for name in ("a", "b"):
        grav.spawn(Child(actors.Member, name=name, kind="process", restart="temporary"))
    sender = grav.connect()
    sender.publish("work", "wait")
    slow = grav.ask("gate.arrived", 1, to="gate", timeout=LIMIT)[0]
    for number in range(20):
        sender.publish("work", number)
    worked.wait(17)
    member = grav._runner._members[slow].life
    assert member is not None
    assert member.vessel is not None
    member.vessel.kill()
    grav.ask("gate.arrived", 2, to="gate", timeout=LIMIT)  # the other one has the first message now
    grav.ask("gate.open", to="gate", timeout=LIMIT)
    done = {message.data[1]: message.data for message in worked.wait(21)}
    assert sorted(done, key=str) == sorted([*range(20), "wait"], key=str)
    assert done["wait"][0] != slow
    assert done["wait"][2] is True


# Replay


def replayed(grav: Grav, ref: ActorRef) -> list[int]:
    seen: list[int] = ref.ask("seen", timeout=LIMIT)
    return seen


def test_replay_gives_what_was_sent_before_once(grav: Grav, kind: str) -> None:
    sender = grav.connect()
    for number in range(5):
        sender.publish("news", number)
    settle(sender)
    ref = grav.spawn(actors.Replayed, kind=kind)
    sender.publish("news", 5)
    settle(sender)
    assert replayed(grav, ref) == list(range(6))
    with pytest.raises(ActorStoppedError):
        ref.ask("end", "crash", timeout=LIMIT)
    sender.publish("news", 6)
    settle(sender)
    assert replayed(grav, ref) == [6]
