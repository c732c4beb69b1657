"""The files of tests/vectors, which readers in other languages use too, in both directions."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest

from grav_actors import protocol
from grav_actors.bus import roster
from grav_actors.codec import (
    cut_records,
    is_fixed,
    join_body,
    pack_columns,
    pack_message,
    pack_record,
    pack_value,
    record_ids,
    record_offsets,
    slice_body,
    unpack_body,
    unpack_message,
    unpack_value,
)
from grav_actors.encoding import COLUMNS_FROM
from grav_actors.errors import MessageDecodeError, ProtocolError
from grav_actors.ids import number_of
from grav_actors.protocol import Hello, PodSettings, Verb
from grav_actors.reference import ActorRef

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def load(name: str) -> dict[str, list[dict[str, Any]]]:
    content: dict[str, list[dict[str, Any]]] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return content


def named(entries: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(entry, id=entry["name"].replace(" ", "_")) for entry in entries]


DATA, RECORDS, BODIES, MESSAGES, FRAMES, REFUSED, ROSTER = (
    load(f"{name}.json") for name in ("data", "records", "bodies", "messages", "frames", "refused", "roster")
)


def value(tagged: Any, sequence: type = list) -> Any:
    """Return the value that stands in a file in tagged form."""
    if isinstance(tagged, list):
        return sequence(value(item, sequence) for item in tagged)
    if not isinstance(tagged, dict):
        return tagged
    ((kind, content),) = tagged.items()
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "timestamp":
        return EPOCH + timedelta(seconds=content[0], microseconds=content[1] // 1000)
    if kind == "map":
        return {value(key): value(item) for key, item in content}
    return {"int": int, "float": float, "actor": ActorRef}[kind](content)


def record(entry: dict[str, Any]) -> list[Any]:
    ids = [bytes.fromhex(entry[name]) for name in ("uuid", "reply_to", "parent_id")]
    return [*ids, value(entry["timestamp_ns"]), value(entry["data"]), entry["headers"]]


class Holder:
    """What `pack_record` takes."""

    def __init__(self, content: list[Any]) -> None:
        self._record = content


def packed(content: list[Any]) -> bytes:
    return pack_record(Holder(content), 1 << 20)


# Data, records, bodies, messages


@pytest.mark.parametrize("entry", named(DATA["values"]))
def test_a_value_is_these_bytes_and_these_bytes_are_the_value(entry: dict[str, Any]) -> None:
    wanted, raw = value(entry["value"]), bytes.fromhex(entry["hex"])
    read = unpack_value(raw)
    assert read == wanted
    assert type(read) is type(wanted)
    assert repr(read) == repr(wanted)
    assert pack_value(wanted).hex() == entry["hex"]


@pytest.mark.parametrize("entry", named(DATA["refused"]))
def test_bytes_that_are_no_value_are_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(MessageDecodeError):
        unpack_value(bytes.fromhex(entry["hex"]))


@pytest.mark.parametrize("entry", named(RECORDS["records"]))
def test_a_record_is_these_bytes(entry: dict[str, Any]) -> None:
    raw = bytes.fromhex(entry["hex"])
    assert packed(record(entry["record"])) == raw
    assert unpack_body(join_body([raw]), 1, ActorRef) == [record(entry["record"])]


@pytest.mark.parametrize("entry", named(BODIES["bodies"]))
def test_a_body_is_its_records(entry: dict[str, Any]) -> None:
    raw, count = bytes.fromhex(entry["hex"]), entry["count"]
    records = [record(one) for one in entry["records"]]
    assert unpack_body(raw, count, ActorRef) == records
    assert join_body([packed(one) for one in records]) == raw
    assert record_ids(raw, count) == [one[0] for one in records]


@pytest.mark.parametrize("entry", named(BODIES["bodies"]))
def test_a_body_can_be_cut_without_decoding(entry: dict[str, Any]) -> None:
    raw, count = bytes.fromhex(entry["hex"]), entry["count"]
    offsets = record_offsets(raw, count)
    assert offsets == entry["offsets"]
    for low in range(count):
        cut = slice_body(raw, offsets, low, count)
        assert unpack_body(cut, count - low, ActorRef) == [record(one) for one in entry["records"][low:]]


@pytest.mark.parametrize("entry", named(BODIES["columns"]))
def test_a_body_in_columns_is_its_records(entry: dict[str, Any]) -> None:
    raw, count = bytes.fromhex(entry["hex"]), entry["count"]
    records = [record(one) for one in entry["records"]]
    for view in (raw, memoryview(raw)):
        assert [list(one) for one in unpack_body(view, count, ActorRef)] == records
        assert record_ids(view, count) == [one[0] for one in records]
        assert record_offsets(view, count) == entry["offsets"]
        assert cut_records(view, count) == [packed(one) for one in records]
    if count >= COLUMNS_FROM:
        numbers, parents = [number_of(one[0]) for one in records], [one[2] for one in records]
        data = [one[4] if is_fixed(one[4], 100) else (pack_value(one[4]),) for one in records]
        assert pack_columns(records[0][0][:8], numbers, [one[3] for one in records], data, parents) == raw


@pytest.mark.parametrize("entry", named(BODIES["columns"]))
def test_a_body_in_columns_can_be_cut_without_decoding(entry: dict[str, Any]) -> None:
    raw, count = bytes.fromhex(entry["hex"]), entry["count"]
    for low, high in itertools.combinations(range(count + 1), 2):
        cut = slice_body(raw, entry["offsets"], low, high)
        wanted = [record(one) for one in entry["records"][low:high]]
        assert [list(one) for one in unpack_body(cut, high - low, ActorRef)] == wanted
        again = slice_body(cut, record_offsets(cut, high - low), 0, 1)
        assert cut_records(again, 1) == [packed(wanted[0])]


@pytest.mark.parametrize("entry", named(BODIES["refused"]))
def test_a_body_that_is_not_what_was_announced_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(MessageDecodeError):
        unpack_body(bytes.fromhex(entry["hex"]), entry["count"], ActorRef)


@pytest.mark.parametrize("entry", named(MESSAGES["messages"]))
def test_a_marshalled_message_is_these_bytes(entry: dict[str, Any]) -> None:
    raw = bytes.fromhex(entry["hex"])
    assert unpack_message(raw) == (entry["type"], record(entry["record"]))
    assert pack_message(entry["type"], record(entry["record"])) == raw


@pytest.mark.parametrize("entry", named(MESSAGES["refused"]))
def test_bytes_that_are_no_marshalled_message_are_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(MessageDecodeError):
        unpack_message(bytes.fromhex(entry["hex"]))


# Frames


def check(fields: tuple[Any, ...], body: bytes) -> None:
    if fields[0] == Verb.HELLO:
        protocol.read_hello(fields)
    elif fields[0] == Verb.SEND:
        protocol.check_send(fields, len(body))
    elif fields[0] == Verb.DELIVER:
        protocol.check_deliver(fields, len(body))
    else:
        protocol.check_control(fields)


@pytest.mark.parametrize("entry", named(FRAMES["frames"]))
def test_a_frame_is_these_fields_and_these_fields_are_the_frame(entry: dict[str, Any]) -> None:
    header, body = bytes.fromhex(entry["header"]), bytes.fromhex(entry["body"])
    fields = protocol.unpack_header(header)
    check(fields, body)
    assert fields == value(entry["fields"], tuple)
    assert fields[0] == Verb[entry["verb"]]
    assert protocol.pack(*fields) == header


def test_every_verb_has_a_vector() -> None:
    assert {entry["verb"] for entry in FRAMES["frames"]} == set(Verb.__members__)
    sides = {entry["verb"]: entry["from"] for entry in FRAMES["frames"]}
    assert all((sides[verb.name] == "pod") == (verb < Verb.WELCOME) for verb in Verb)


@pytest.mark.parametrize("entry", named([entry for entry in FRAMES["frames"] if entry["verb"] in ("SEND", "DELIVER")]))
def test_bodies_in_frames_are_bodies(entry: dict[str, Any]) -> None:
    offset = 0
    body = bytes.fromhex(entry["body"])
    count_at, size_at = (2, 3) if entry["verb"] == "SEND" else (5, 6)
    for run in value(entry["fields"])[4]:
        part = body[offset : offset + run[size_at]]
        offset += len(part)
        assert len(unpack_body(part, run[count_at], ActorRef)) == run[count_at]
    assert offset == len(body)


@pytest.mark.parametrize("entry", named([entry for entry in FRAMES["frames"] if entry["verb"] == "HELLO"]))
def test_a_hello_says_what_its_fields_say(entry: dict[str, Any]) -> None:
    _, slot, _, request, uuid, name, settings, filters, position = value(entry["fields"], tuple)
    read = protocol.read_hello(protocol.unpack_header(bytes.fromhex(entry["header"])))
    assert read == Hello(request, uuid, name, PodSettings(*settings), filters, *position)
    assert protocol.pack_hello(slot, read).hex() == entry["header"]


@pytest.mark.parametrize("entry", named(REFUSED["frames"]))
def test_a_malformed_frame_is_refused(entry: dict[str, Any]) -> None:
    body = bytes.fromhex(entry["body"])
    with pytest.raises(ProtocolError):
        check(protocol.unpack_header(bytes.fromhex(entry["header"])), body)


# The roster


def test_a_roster_is_read_as_written() -> None:
    raw = b"".join(bytes.fromhex(entry["hex"]) for entry in ROSTER["records"])
    left = [
        {"uuid": entry.uuid.hex(), "name": entry.name, "filters": entry.filters} for entry in roster.read_roster(raw)
    ]
    assert left == [{**entry, "filters": value(entry["filters"], tuple)} for entry in ROSTER["left"]]


def test_roster_records_are_their_fields() -> None:
    for entry in ROSTER["records"]:
        fields = value(entry["fields"], tuple)
        assert msgpack.unpackb(bytes.fromhex(entry["hex"]), use_list=False) == fields
        assert protocol.pack(*fields).hex() == entry["hex"]
