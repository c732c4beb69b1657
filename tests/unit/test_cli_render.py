"""What commands print."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from grav_actors import ActorRef, Message
from grav_actors.cli.render import message_row, table, to_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (21.5, "21.5"),
        (None, "null"),
        ({"sold": True, "left": 70}, '{"sold": true, "left": 70}'),
        (b"\x00\xff", '"AP8="'),
        ([b"hi", {"raw": b"hi"}], '["aGk=", {"raw": "aGk="}]'),
        (datetime(2024, 5, 1, 12, 0, 0, 250, tzinfo=UTC), '"2024-05-01T12:00:00.000250+00:00"'),
        (ActorRef("till"), '"till"'),
        ({1: "a", b"k": "b"}, '{"1": "a", "aw==": "b"}'),
        ([float("nan"), float("inf"), float("-inf")], '["NaN", "Infinity", "-Infinity"]'),
        ((1, 2), "[1, 2]"),
        ("two\nlines \x1b[31m", '"two\\nlines \\u001b[31m"'),
    ],
)
def test_whatever_a_message_carries_is_one_line_of_json(value: Any, text: str) -> None:
    assert to_json(value) == text
    json.loads(text)


def test_letters_stay_letters_where_the_output_can_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        encoding = "utf-8"

    monkeypatch.setattr("sys.stdout", Stream())
    assert to_json("ä") == '"ä"'
    monkeypatch.setattr(Stream, "encoding", "ascii")
    assert to_json("ä") == '"\\u00e4"'


def test_message_row_has_the_promised_keys() -> None:
    message = Message("sensor.temp", {"celsius": 21.5})
    row = message_row(message, "somebody")
    assert list(row) == [
        "uuid", "type", "data", "parent_id", "reply_to", "timestamp", "sender", "redelivered",
    ]  # fmt: skip
    assert row["sender"] == "somebody"
    assert json.loads(to_json(row))["timestamp"] == message.timestamp.isoformat()


def test_table_aligns_its_columns() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "temp-1", "pid": 17, "kind": "process"},
        {"name": "a", "pid": None, "kind": ""},
    ]
    assert table(rows, ("name", "pid", "kind")) == [
        "NAME    PID  KIND",
        "temp-1   17  process",
        "a         -  -",
    ]


def test_table_without_rows_is_its_header() -> None:
    assert table([], ("name", "pid")) == ["NAME  PID"]
