"""What `nodes` shows of the peers of a node."""

from typing import Any

import pytest

from grav_actors.cli import nodes

ONE, TWO = "11111111-0000-8000-8000-000000000000", "22222222-0000-8000-8000-000000000000"


def row(name: str, uuid: str = ONE, state: str = "up", **fields: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "endpoint": "tcp://10.0.0.2:7470",
        "state": state,
        "rtt": 0.00042,
        "last_seen": 0.3,
        "version": 1,
        "lag_in": 0,
        "lag_out": 12,
        **fields,
    }


def mesh(**fields: Any) -> dict[str, Any]:
    return {"listens": "tcp://0.0.0.0:7470", "peers": [], "unreached": {}, "discoveries": [], **fields}


def test_all_are_chosen_when_none_is_asked_for() -> None:
    rows = [row("cellar"), row("roof", TWO)]
    assert nodes.choose(rows, ()) == (rows, [])


@pytest.mark.parametrize("asked", ["roof", TWO, TWO[:8]])
def test_node_is_chosen_by_name_uuid_or_the_beginning_of_one(asked: str) -> None:
    rows = [row("cellar"), row("roof", TWO)]
    assert nodes.choose(rows, [asked]) == (rows[1:], [])


def test_of_several_lives_of_a_node_the_one_that_is_up_is_chosen() -> None:
    rows = [row("roof", state="down"), row("roof", TWO)]
    assert nodes.choose(rows, ["roof"]) == (rows[1:], [])


def test_node_that_is_asked_for_twice_is_listed_once() -> None:
    assert nodes.choose([row("roof")], ["roof", ONE]) == ([row("roof")], [])


def test_unknown_node_is_told_with_the_nearest_name() -> None:
    _, missing = nodes.choose([row("cellar")], ["celar", "attic"])
    assert missing == [
        'there is no node celar; did you mean "cellar"?',
        "there is no node attic; `grav-actors nodes` lists them",
    ]


def test_row_is_shown_with_units_and_the_beginning_of_the_uuid() -> None:
    shown = nodes.shown(row("cellar"))
    assert [shown[column] for column in nodes.COLUMNS] == [
        "cellar",
        "tcp://10.0.0.2:7470",
        "up",
        "0.4 ms",
        0,
        12,
        "300 ms",
        1,
        "11111111",
    ]
    assert nodes.shown(row("cellar", rtt=None))["rtt"] is None


def test_endpoints_without_a_node_are_told_with_the_reason() -> None:
    answer = mesh(unreached={"tcp://b:1": "nobody answers (3 times)", "tcp://a:1": "another group"})
    assert nodes.notes(answer, [row("cellar")]) == [
        "no node at tcp://a:1: another group",
        "no node at tcp://b:1: nobody answers (3 times)",
    ]


def test_lonely_node_says_where_it_listens_and_what_to_do() -> None:
    (line,) = nodes.notes(mesh(), [])
    assert "listens on tcp://0.0.0.0:7470" in line
    assert "grav-actors doctor" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00004, "0.0 ms"), (0.0099, "9.9 ms"), (0.25, "250 ms"), (1.0, "1.0 s"), (9.94, "9.9 s"), (75.0, "75 s")],
)
def test_duration_is_shown_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert nodes.duration_text(seconds) == text
