"""Watching: an actor is told once when another is gone for good."""

import os
import signal

import pytest

from grav_actors import Actor, Backoff, Child, Grav, HandlerError
from support import actors, watchers
from support.collecting import LIMIT
from support.nodes import collect, wait_gone, wait_restarts


@pytest.mark.parametrize("watcher_class", [watchers.Watcher, watchers.AsyncWatcher])
def test_an_end_that_was_asked_for_is_told(grav: Grav, kind: str, watcher_class: type[Actor]) -> None:
    notices = collect(grav, "notice")
    watcher = grav.spawn(watcher_class, kind=kind)
    watched = grav.spawn(actors.Plain, kind=kind)
    watcher.ask("watch", watched, timeout=LIMIT)
    watched.stop()
    assert notices.wait(1)[0].data == [{"name": "plain", "reason": "stopped", "error": ""}, 1]


def test_a_restart_is_no_end_and_giving_up_a_name_is(grav: Grav, kind: str) -> None:
    notices = collect(grav, "notice")
    watcher = grav.spawn(watchers.Watcher, kind="thread")
    lasting = grav.spawn(watchers.Brief, name="lasting", kind=kind)
    brief = grav.spawn(Child(watchers.Brief, kind=kind, restart="temporary"))
    watcher.ask("watch", lasting, timeout=LIMIT)
    watcher.ask("watch", brief, timeout=LIMIT)
    lasting.tell("end", "crash")
    wait_restarts(grav, lasting, 1)
    brief.tell("end", "crash")
    (notice,) = notices.wait(1)
    assert notice.data[0]["name"] == "brief"
    assert notice.data[0]["reason"] == "crashed"
    assert "told to" in notice.data[0]["error"]
    lasting.stop()
    assert notices.wait(2)[1].data[0] == {"name": "lasting", "reason": "stopped", "error": ""}


def test_a_killed_process_that_is_not_started_again_is_told_with_its_signal(grav: Grav) -> None:
    notices = collect(grav, "notice")
    watcher = grav.spawn(watchers.Watcher, kind="thread")
    brief = grav.spawn(Child(watchers.Brief, restart="temporary"))
    watcher.ask("watch", brief, timeout=LIMIT)
    brief.tell("end", "kill")
    assert notices.wait(1)[0].data[0] == {"name": "brief", "reason": "crashed", "error": "signal SIGKILL (9)"}


def test_who_is_gone_already_is_told_at_once(grav: Grav, kind: str) -> None:
    notices = collect(grav, "notice")
    watcher = grav.spawn(watchers.Watcher, kind=kind)
    gone = grav.spawn(actors.Plain, kind="thread")
    gone.stop()
    wait_gone(grav, gone)
    watcher.tell("watch", gone)
    watcher.tell("watch", "nobody")
    assert [message.data[0]["reason"] for message in notices.wait(2)] == ["stopped", "unknown"]


def test_a_notice_whose_handler_fails_comes_again(grav: Grav) -> None:
    notices = collect(grav, "notice")
    watcher = grav.spawn(watchers.FailsFirst, kind="thread")
    watcher.ask("watch", "nobody", timeout=LIMIT)
    watcher.ask("unwatch", "nobody", timeout=LIMIT)  # a success, after which what failed is delivered again
    watcher.tell("unwatch", "nobody")
    assert notices.wait(1)[0].data == [{"name": "nobody", "reason": "unknown", "error": ""}, 2]


def test_a_restarted_watcher_watches_anew_and_is_told_once(grav: Grav, kind: str) -> None:
    notices = collect(grav, "notice")
    watched = grav.spawn(actors.Plain, kind="thread")
    watcher = grav.spawn(watchers.WatchesAtStart, watched.name, kind=kind)
    watcher.tell("crash")
    wait_restarts(grav, watcher, 1)
    watched.stop()
    notices.wait(1)
    watcher.ask("unwatch", "nobody", timeout=LIMIT)
    assert [message.data[0]["name"] for message in notices.messages] == ["plain"]


def test_a_watch_outlives_the_bus() -> None:
    with Grav(max_restarts=1000, backoff=Backoff(first=0, max=0)) as grav:
        notices = collect(grav, "notice")
        watched = grav.spawn(actors.Plain, kind="thread")
        watcher = grav.spawn(watchers.Watcher, kind="thread")
        watcher.ask("watch", watched, timeout=LIMIT)
        assert grav._bus is not None
        assert grav._bus.pid is not None
        epoch = grav.stats()["epoch"]
        os.kill(grav._bus.pid, signal.SIGKILL)
        assert grav.stats()["epoch"] != epoch
        watched.stop()
        assert notices.wait(1)[0].data[0] == {"name": "plain", "reason": "stopped", "error": ""}


def test_what_is_not_watched_any_more_is_not_told(grav: Grav) -> None:
    notices = collect(grav, "notice")
    watcher = grav.spawn(watchers.Watcher, kind="thread")
    first, second = (grav.spawn(actors.Plain, kind="thread") for _ in range(2))
    for ref in (first, second):
        watcher.ask("watch", ref, timeout=LIMIT)
    watcher.ask("unwatch", first, timeout=LIMIT)
    first.stop()
    wait_gone(grav, first)
    second.stop()
    assert [message.data[0]["name"] for message in notices.wait(1)] == [second.name]


def test_watching_without_a_handler_is_refused_where_it_is_called(grav: Grav) -> None:
    blind = grav.spawn(watchers.Blind, kind="thread")
    with pytest.raises(HandlerError, match="no handler that could be told"):
        blind.ask("watch", "nobody", timeout=LIMIT)
