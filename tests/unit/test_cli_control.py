"""What the commands show that control a running node: trees, rates, sizes, events, one actor whole."""

from __future__ import annotations

from typing import Any

import click
import pytest

from grav_actors.cli import events, inspect, order, ps, scale, top, tree
from grav_actors.cli.failure import FAILED, REFUSED, Failure


def make_row(name: str, supervisor: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "supervisor": supervisor,
        "kind": "process",
        "state": "ready",
        "pid": 10,
        "restarts": 0,
        "error": "",
        **fields,
    }


def test_tree_draws_each_actor_under_its_supervisor_in_the_order_of_their_start() -> None:
    rows = [
        make_row("first"),
        make_row("crew", pid=20),
        make_row("a", "crew", kind="thread", restarts=1),
        make_row("inner", "crew", pid=30, restarts=2),
        make_row("deep", "inner", state="backoff", pid=None, error="exit code 3"),
        make_row("b", "crew", kind="thread", state="stopped", error="it was asked to end"),
        make_row("last", state="failed", pid=None, error="ValueError:\n bad"),
    ]
    assert tree.draw({"name": "farm", "pid": 1}, rows) == [
        "farm  process 1",
        "├─ first  ready, process 10",
        "├─ crew  ready, process 20",
        "│  ├─ a  ready, thread, 1 restart",
        "│  ├─ inner  ready, process 30, 2 restarts",
        "│  │  └─ deep  backoff, process, exit code 3",
        "│  └─ b  stopped, thread",
        "└─ last  failed, process, ValueError: bad",
    ]


def test_tree_of_a_node_without_actors_is_its_own_line() -> None:
    assert tree.draw({"name": "farm", "pid": 1}, []) == ["farm  process 1"]


def pod(name: str, uuid: str, delivered: int, sent: int, *, actor: bool = True) -> dict[str, Any]:
    return {"name": name, "uuid": uuid, "delivered": delivered, "sent": sent, "actor": actor}


def test_rates_are_those_between_two_looks_at_the_same_incarnation() -> None:
    before = [pod("a", "1", 10, 4), pod("b", "2", 10, 10), pod("c", "3", 500, 7), pod("", "4", 0, 0, actor=False)]
    after = [pod("a", "1", 110, 4), pod("b", "9", 50, 50), pod("c", "3", 0, 9), pod("", "4", 99, 99, actor=False)]
    assert ps.rates(before, after, 0.5) == {"a": (200.0, 0.0), "c": (0.0, 4.0)}


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (26_214_400, "25 MiB"), (2**42, "4096 GiB")]
)
def test_size_is_shown_in_the_unit_that_suits_it(size: int, text: str) -> None:
    assert ps.size_text(size) == text


@pytest.mark.parametrize(
    ("event", "data", "text"),
    [
        (
            "actor.crashed",
            {"name": "temp", "pid": 4, "reason": "crash", "error": "exit\ncode 3", "next": "restart 1 at once"},
            "actor.crashed temp; crash; exit code 3; restart 1 at once",
        ),
        ("actor.started", {"name": "temp", "reason": "", "error": "", "next": ""}, "actor.started temp"),
        ("pod.slow", {"name": "temp", "raw": b"x"}, 'pod.slow {"name": "temp"}'),
        ("other", [1], "other [1]"),
    ],
)
def test_event_is_one_line(event: str, data: Any, text: str) -> None:
    assert events.line(event, data) == text


def test_long_event_is_cut() -> None:
    shown = events.line("actor.crashed", {"name": "x" * 1000})
    assert len(shown) == len("actor.crashed ") + events.TEXT_WIDTH
    assert shown.endswith("...")


def whole(**fields: Any) -> dict[str, Any]:
    return {
        **make_row("temp"),
        "pool": "",
        "memory": 1024,
        "mailbox": 3,
        "stuck": False,
        "pod": None,
        "class": "greenhouse:Thermometer",
        "group": "",
        "handles": ["a.b", "c.*"],
        "significant": False,
        "restart": "permanent",
        "start_timeout": 30.0,
        "shutdown": 5.0,
        "handler_timeout": 2.5,
        "options": {"concurrency": 1, "replay": True, "prefetch": None, "crash_on": ["OSError"]},
        "report": "",
        "reported_at": None,
        **fields,
    }


def test_inspected_actor_is_shown_label_by_label_without_what_is_empty() -> None:
    lines = dict(line.split(":", 1) for line in inspect.describe(whole()))
    shown = {label: value.strip() for label, value in lines.items()}
    assert shown["runs in"] == "process 10"
    assert shown["supervisor"] == "the node"
    assert shown["class"] == "greenhouse:Thermometer"
    assert shown["mailbox"] == "3 waiting"
    assert shown["memory"] == "1 KiB"
    assert shown["handles"] == "a.b, c.*"
    assert shown["replay"] == "true"
    assert shown["hung after"] == "2.5 s"
    assert shown["crash_on"] == "OSError"
    assert not {"group", "pool", "prefetch", "last end", "failed"} & shown.keys()


def test_inspected_actor_has_its_last_crash_report_whole() -> None:
    report = "actor temp crashed: exit code 3\nit was handling x\n  a traceback"
    lines = inspect.describe(whole(report=report, reported_at=1_700_000_000.0))
    assert lines[-4].startswith("last crash, 2023-11-")
    assert lines[-3:] == ["  actor temp crashed: exit code 3", "  it was handling x", "    a traceback"]


@pytest.mark.parametrize("size", ["temp", "=3", "temp=", "temp=-1", "temp=x", "temp=²"])
def test_scale_refuses_what_is_no_name_and_number(size: str) -> None:
    with pytest.raises(click.UsageError, match="NAME=N"):
        scale._read(size)


def test_scale_takes_0() -> None:
    assert scale._read("temp=0") == ("temp", 0)


@pytest.mark.parametrize(("status", "code"), [("refused", REFUSED), ("failed", FAILED)])
def test_order_that_was_not_carried_out_ends_with_its_code(status: str, code: int) -> None:
    with pytest.raises(Failure, match="no such actor") as caught:
        order.check({"status": status, "text": "no such actor", "traceback": "lines"})
    assert (caught.value.code, caught.value.detail) == (code, "lines")


def test_order_that_was_carried_out_is_no_failure() -> None:
    order.check({"status": "done", "text": "", "traceback": ""})


class TestTop:
    def rows(self, count: int) -> list[dict[str, Any]]:
        return [
            make_row(f"temp-{number}", mailbox=number, memory=None, rate_in=1.0, rate_out=None)
            for number in range(count)
        ]

    def test_begins_with_how_many_are_in_which_state_and_what_waits(self) -> None:
        rows = [*self.rows(3), make_row("bad", state="failed", mailbox=0, memory=None, rate_in=None, rate_out=None)]
        head, _, columns, *lines = top.screen(rows, None)
        assert head.partition("  ")[2] == "4 actors: 1 failed, 3 ready; 3 messages wait"
        assert columns.split() == [
            "NAME",
            "KIND",
            "STATE",
            "PID",
            "RESTARTS",
            "MAILBOX",
            "IN/S",
            "OUT/S",
            "MEMORY",
            "ERROR",
        ]
        assert [line.split(" ")[0] for line in lines] == ["temp-0", "temp-1", "temp-2", "bad", ""]

    def test_shows_what_a_terminal_has_room_for_and_how_many_more_there_are(self) -> None:
        lines = top.screen(self.rows(20), (30, 10))
        assert len(lines) == 9
        assert max(map(len, lines)) <= 30
        assert lines[-2].startswith("temp-4")
        assert lines[-1] == "and 15 more"

    @pytest.mark.parametrize(("sort", "first"), [("name", "temp-0"), ("mailbox", "temp-4"), ("memory", "temp-0")])
    def test_sorts_by_the_largest(self, sort: str, first: str) -> None:
        rows = sorted(self.rows(5), key=top.ORDERS[sort])
        assert rows[0]["name"] == first
