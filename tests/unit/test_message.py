"""Message: what it refuses, what it shows, how it is decoded, marshalled and copied."""

import copy
import dataclasses
import enum
import json
import pickle
import subprocess
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgpack
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.codec import open_body, pack_columns
from grav_actors.errors import MessageDecodeError, MessageEncodeError
from grav_actors.ids import id_bytes, id_text, new_id
from grav_actors.message import MSG_TYPE_DEFAULT, Message, Origin, new_message
from grav_actors.reference import ActorRef

UUID = "0190b8f2-5c3a-8d1e-9f00-3a5b7c9d1e2f"


# ---- made


def test_a_message_made_of_nothing() -> None:
    message = Message()
    assert (message.type, message.data) == (MSG_TYPE_DEFAULT, b"") == ("grav.default", b"")
    assert (message.parent_id, message.reply_to, dict(message.headers)) == ("", "", {})
    assert (message.attempt, message.redelivered, message.cancelled) == (1, False, False)
    assert str(uuid.UUID(message.uuid)) == message.uuid
    assert message.uuid != Message().uuid


def test_what_was_given_is_shown() -> None:
    message = Message("sensor.temp", {"c": 1}, parent_id=UUID, reply_to=UUID, headers={"trace": "1"})
    assert (message.type, message.data, message.parent_id, message.reply_to) == (
        "sensor.temp",
        {"c": 1},
        UUID,
        UUID,
    )
    assert message.headers == {"trace": "1"}


def test_the_timestamp_is_aware_utc_and_now() -> None:
    before = datetime.now(UTC)
    stamp = Message().timestamp
    assert stamp.tzinfo is UTC
    assert before - timedelta(milliseconds=1) <= stamp <= datetime.now(UTC)


@pytest.mark.parametrize("type", ["", "a b", "a..b", "*", "a.>", "grav.sys.dead", "\ud800", None, 5, ["a"], b"a"])
def test_a_bad_type_is_refused_where_the_message_is_made(type: Any) -> None:
    with pytest.raises(MessageEncodeError):
        Message(type)


@pytest.mark.parametrize("field", ["parent_id", "reply_to"])
@pytest.mark.parametrize("value", ["x", UUID.upper(), UUID[:-1], None, 5, b"", bytes(16), Message()])
def test_an_id_is_uuid_text_or_empty(field: str, value: Any) -> None:
    with pytest.raises(MessageEncodeError, match=field):
        Message("a", **{field: value})


@pytest.mark.parametrize(
    "headers",
    [
        {"a": 1},
        {1: "a"},
        {"a": None},
        {"a": b"x"},
        {"a": "x" * 8192},
        {"é" * 4097: ""},
        {"a": "\ud800"},
        5,
        "text",
        ["a"],
    ],
)
def test_bad_headers_are_refused_where_the_message_is_made(headers: Any) -> None:
    with pytest.raises(MessageEncodeError, match="bad headers"):
        Message("a", headers=headers)


def test_headers_may_have_8_kib_in_all() -> None:
    assert len(Message("a", headers={"a": "x" * 8191}).headers["a"]) == 8191


def test_headers_are_a_copy_and_read_only() -> None:
    given = {"a": "1"}
    message = Message("a", headers=given)
    given["a"] = "2"
    assert message.headers == {"a": "1"}
    with pytest.raises(TypeError):
        message.headers["a"] = "3"  # type: ignore[index]


def test_the_framework_makes_its_own_types() -> None:
    message = Message._framework("grav.reply", 1, reply_to=UUID)
    assert (message.type, message.data, message.reply_to) == ("grav.reply", 1, UUID)
    with pytest.raises(MessageEncodeError):
        Message._framework("grav. reply")


# ---- a value


PUBLIC = [name for name, one in vars(Message).items() if isinstance(one, property) and not name.startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_message_does_not_change(name: str) -> None:
    message = Message()
    before = getattr(message, name)
    with pytest.raises(AttributeError, match="a message does not change"):
        setattr(message, name, "x")
    with pytest.raises(AttributeError, match="a message does not change"):
        delattr(message, name)
    assert getattr(message, name) == before


@pytest.mark.parametrize("name", ["x", "marshal", "set_reply_to"])
def test_a_message_takes_no_further_attributes(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Message(), name, "x")


def test_set_reply_to_is_the_exception() -> None:
    message = Message()
    message.set_reply_to(UUID)
    assert message.reply_to == UUID
    message.set_reply_to("")
    assert message.reply_to == ""
    with pytest.raises(MessageEncodeError, match="reply_to"):
        message.set_reply_to("nobody")


class Reading(Message):
    """A subclass with attributes and a constructor of its own."""

    def __init__(self, celsius: float) -> None:
        super().__init__("sensor.temp", {"celsius": celsius})
        self.celsius = celsius


def test_a_subclass_may_add_attributes_but_not_change_the_message() -> None:
    reading = Reading(21.5)
    reading.celsius = 22.0
    assert (reading.celsius, reading.type, reading.data) == (22.0, "sensor.temp", {"celsius": 21.5})
    with pytest.raises(AttributeError):
        reading.data = 1  # type: ignore[misc]
    del reading.celsius


def test_messages_are_equal_when_uuid_and_content_are() -> None:
    message = Message("a", [1])
    same = Message.unmarshal(message.marshal())
    assert message == same
    assert hash(message) == hash(same)
    same.set_reply_to(UUID)
    assert message != same
    assert message != Message("a", [1])
    assert message != "a"
    assert message == Message._received(message._record, "a", Origin(b"", 0, attempt=3))


def test_a_message_of_which_only_the_stem_is_known_is_as_any_other() -> None:
    numbers, parent = [*range(2**62, 2**62 + 8)], id_bytes(UUID)
    body = pack_columns(b"prefix.8", numbers, [2**60 + 1] * 8, ["data"] * 8, [parent] * 8)
    opened = open_body(body, 8, ActorRef)
    source, number, stamp, data = list(zip(opened.sources, opened.numbers, opened.stamps, opened.data, strict=False))[7]
    assert isinstance(source, tuple)
    message = new_message(Message)
    message._source, message._number, message._stamp, message._data = source, number, stamp, data
    message._type, message._origin = "a", None
    whole = Message._received(opened.records()[7], "a", None)
    for name in PUBLIC:
        assert getattr(message, name) == getattr(whole, name)
    assert message.parent_id == UUID
    assert message.uuid == id_text(b"prefix.8" + (2**62 + 7).to_bytes(8, "big"))
    assert message == whole
    assert hash(message) == hash(whole)
    assert Message.unmarshal(message.marshal()) == message
    assert pickle.loads(pickle.dumps(message)) == copy.copy(message) == message
    message.set_reply_to(UUID)
    assert message.reply_to == UUID
    assert message != whole


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_equal_and_apart(duplicate: Any) -> None:
    message = Message._received(
        Message("a", {"b": [ActorRef("x")]}, headers={"h": "1"})._record, "a", Origin(b"", 0, 3)
    )
    twin = duplicate(message)
    assert twin == message
    assert (message.attempt, twin.attempt) == (3, 1)
    twin.set_reply_to(UUID)
    assert message.reply_to == ""


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_subclass_keeps_its_attributes(duplicate: Any) -> None:
    twin = duplicate(Reading(21.5))
    assert (type(twin), twin.celsius, twin.data) == (Reading, 21.5, {"celsius": 21.5})


def test_repr_is_short() -> None:
    message = Message("a.b", [1])
    assert repr(message) == f"<Message a.b {message.uuid} data=[1]>"
    assert len(repr(Message("a", b"x" * 10_000, reply_to=UUID))) < 300


# ---- received


def test_the_receivers_side_comes_from_the_origin() -> None:
    message = Message("a")
    cancelled: set[bytes] = set()
    received = Message._received(message._record, "a", Origin(new_id(), 2, 3, True, cancelled))
    assert (received.attempt, received.redelivered, received.cancelled) == (3, True, False)
    cancelled.add(message._record[0])
    assert received.cancelled
    assert received == message


# ---- data as a class


@dataclasses.dataclass
class Place:
    name: str
    floor: int = 0


class Mood(enum.Enum):
    GOOD = "good"


@dataclasses.dataclass(frozen=True)
class Sample:
    place: Place
    celsius: float
    tags: list[str] = dataclasses.field(default_factory=list)
    note: str | None = None
    pair: tuple[int, str] = (0, "")
    mood: Mood = Mood.GOOD
    unit: Literal["C", "F"] = "C"
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    when: datetime | None = None
    anything: Any = None
    made: int = dataclasses.field(default=7, init=False)


class PlaceStruct(msgspec.Struct):
    name: str
    floor: int = 0


class PlaceModel(pydantic.BaseModel):
    name: str
    floor: int = 0


PLAIN = {"name": "roof", "floor": 3}


@pytest.mark.parametrize(
    "data", [PLAIN, json.dumps(PLAIN).encode(), msgpack.packb(PLAIN), bytearray(msgpack.packb(PLAIN))]
)
@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (None, PLAIN),
        (dict, PLAIN),
        (dict[str, str | int], PLAIN),
        (Any, PLAIN),
        (Place, Place("roof", 3)),
        (PlaceStruct, PlaceStruct("roof", 3)),
        (PlaceModel, PlaceModel(name="roof", floor=3)),
    ],
)
def test_data_or_bytes_become_the_class(data: Any, cls: Any, expected: Any) -> None:
    assert Message("a", data).unmarshal_data(cls) == expected


def test_dataclasses_nest_and_follow_their_annotations() -> None:
    when = datetime(2024, 1, 1, tzinfo=UTC)
    data = {
        "place": {"name": "roof"},
        "celsius": 21,
        "tags": ["a"],
        "note": None,
        "pair": [1, "x"],
        "mood": "good",
        "unit": "F",
        "counts": {"a": 1},
        "when": when,
        "anything": [1],
    }
    sample = Message("a", data).unmarshal_data(Sample)
    assert sample == Sample(Place("roof"), 21.0, ["a"], None, (1, "x"), Mood.GOOD, "F", {"a": 1}, when, [1])
    assert type(sample.celsius) is float


@pytest.mark.parametrize(
    ("data", "cls", "text"),
    [
        ({"place": {"name": 5}, "celsius": 1.0}, Sample, r"^data\.place\.name: expected str, got int 5"),
        ({"celsius": 1.0}, Sample, r"^data\.place: missing; Sample requires it"),
        ({"place": PLAIN, "celsius": "warm"}, Sample, r"^data\.celsius: expected float, got str 'warm'"),
        ({"place": PLAIN, "celsius": True}, Sample, r"^data\.celsius: expected float, got bool"),
        ({"place": PLAIN, "celsius": 1.0, "tags": ["a", 2]}, Sample, r"^data\.tags\[1\]: expected str"),
        ({"place": PLAIN, "celsius": 1.0, "pair": [1]}, Sample, r"^data\.pair: expected 2 items, got 1"),
        ({"place": PLAIN, "celsius": 1.0, "mood": "bad"}, Sample, r"^data\.mood: 'bad' is not a valid Mood"),
        ({"place": PLAIN, "celsius": 1.0, "unit": "K"}, Sample, r"^data\.unit: expected one of"),
        (
            {"place": PLAIN, "celsius": 1.0, "counts": {"a": "b"}},
            Sample,
            r"^data\.counts\['a'\]: expected int",
        ),
        ({"place": PLAIN, "celsius": 1.0, "note": 5}, Sample, r"^data\.note: expected str \| None"),
        ([1], Place, "^data: expected a dict for Place, got list"),
        ({"name": 5}, PlaceStruct, r"^data\.name: Expected `str`, got `int`"),
        ({}, PlaceStruct, "^data: Object missing required field `name`"),
        ({"name": "a", "floor": "x"}, PlaceModel, r"^data\.floor: Input should be a valid integer"),
        ("a", int, "^data: expected int, got str 'a'"),
        (True, int, "^data: expected int, got bool True"),
        (None, str, "^data: expected str, got NoneType"),
        (b"\xc1", None, "^data: 1 bytes that are neither JSON .* nor MessagePack"),
        (b"", dict, "^data: 0 bytes that are neither"),
        (b"[" * 100_000, list, "^data: "),
        (b"NaN", float, "^data: "),
        (b"9" * 5000, int, "^data: "),
    ],
)
def test_what_does_not_fit_is_named_with_its_field_and_reason(data: Any, cls: Any, text: str) -> None:
    with pytest.raises(MessageDecodeError, match=text):
        Message("a", data).unmarshal_data(cls)


@pytest.mark.parametrize(
    ("data", "cls", "expected"),
    [
        (5, int, 5),
        (5, float, 5.0),
        (True, bool, True),
        (None, None, None),
        (None, type(None), None),
        ("a", str, "a"),
        (b"raw", bytes, b"raw"),
        (b'"text"', str, "text"),
        (b"\xa4text", str, "text"),
        ([1, 2], list[int], [1, 2]),
        ([1, 2], tuple, (1, 2)),
        ([1, 2], Sequence[int], [1, 2]),
        (5, Annotated[int, "metres"], 5),
        (None, str | None, None),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2, 1], set[int], {1, 2}),
        ({"a": PLAIN}, dict[str, Place], {"a": Place("roof", 3)}),
        ([PLAIN], list[PlaceModel], [PlaceModel(name="roof", floor=3)]),
        (ActorRef("x"), ActorRef, ActorRef("x")),
    ],
)
def test_builtins_and_annotations(data: Any, cls: Any, expected: Any) -> None:
    got = Message("a", data).unmarshal_data(cls)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize("cls", [float | int, int | float, float | int | None, str | float | int])
def test_a_union_takes_the_datas_own_class_first(cls: Any) -> None:
    assert type(Message("a", 5).unmarshal_data(cls)) is int
    assert type(Message("a", 5.0).unmarshal_data(cls)) is float


def test_keys_that_are_no_field_are_passed_over_as_by_msgspec_and_pydantic() -> None:
    message = Message("a", {"name": "roof", "colour": "red"})
    assert message.unmarshal_data(Place) == Place("roof")
    assert message.unmarshal_data(PlaceStruct) == PlaceStruct("roof")
    assert message.unmarshal_data(PlaceModel) == PlaceModel(name="roof")
    sample = Message("a", {"place": PLAIN, "celsius": 1.0, "made": 5}).unmarshal_data(Sample)
    assert sample.made == 7


def test_asking_for_what_is_no_class_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="is no class"):
        Message("a", 5).unmarshal_data("int")


def test_a_dataclass_that_refuses_its_values_is_a_decode_error() -> None:
    @dataclasses.dataclass
    class Picky:
        size: int

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError("size is negative")

    with pytest.raises(MessageDecodeError, match="^data: Picky refused it: size is negative"):
        Message("a", {"size": -1}).unmarshal_data(Picky)


# ---- marshalled


@given(
    st.none() | st.binary() | st.dictionaries(st.text(), st.integers(0, 9) | st.lists(st.text())),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
    st.booleans(),
)
def test_a_marshalled_message_comes_back(data: Any, headers: dict[str, str], linked: bool) -> None:
    ids = {"parent_id": UUID, "reply_to": UUID} if linked else {}
    message = Message("sensor.temp", data, headers=headers, **ids)
    back = Message.unmarshal(message.marshal())
    assert back == message
    assert (back.uuid, back.timestamp, back.headers) == (message.uuid, message.timestamp, message.headers)


def test_the_marshalled_form_is_messagepack_that_any_language_reads() -> None:
    message = Message("a", {"b": 1}, reply_to=UUID, headers={"h": "v"})
    raw = message.marshal()
    assert raw.startswith(b"\x99\xa4grav\x01")
    assert msgpack.unpackb(raw) == [
        "grav",
        1,
        "a",
        uuid.UUID(message.uuid).bytes,
        uuid.UUID(UUID).bytes,
        b"",
        message._record[3],
        {"b": 1},
        {"h": "v"},
    ]


def test_a_message_of_the_framework_can_be_marshalled_and_read() -> None:
    message = Message._framework("grav.sys.dead", {"reason": "expired"})
    assert Message.unmarshal(message.marshal()) == message


def test_a_subclass_travels_as_a_message() -> None:
    assert type(Reading.unmarshal(Reading(1.0).marshal())) is Message


def test_what_cannot_be_carried_cannot_be_marshalled() -> None:
    with pytest.raises(MessageEncodeError, match=r'^data\["a"\]: set'):
        Message("a", {"a": set()}).marshal()


GOOD = ["grav", 1, "a", bytes(16), b"", b"", 1, None, None]


@pytest.mark.parametrize(
    "parts",
    [
        GOOD[:-1],
        [*GOOD, None],
        ["GRAV", *GOOD[1:]],
        ["grav", 2, *GOOD[2:]],
        ["grav", True, *GOOD[2:]],
        ["grav", 1, "a b", *GOOD[3:]],
        ["grav", 1, "", *GOOD[3:]],
        ["grav", 1, b"a", *GOOD[3:]],
        ["grav", 1, "a", UUID, *GOOD[4:]],
        ["grav", 1, "a", bytes(16), "", *GOOD[5:]],
        ["grav", 1, "a", bytes(16), b"", bytes(3), *GOOD[6:]],
        [*GOOD[:6], 1.0, *GOOD[7:]],
        [*GOOD[:8], {"a": 1}],
        dict(enumerate(GOOD)),
        None,
    ],
)
def test_anything_else_is_no_marshalled_message(parts: Any) -> None:
    with pytest.raises(MessageDecodeError):
        Message.unmarshal(msgpack.packb(parts))


@pytest.mark.parametrize("raw", [b"", b"x", None, "text", 5, [1]])
def test_a_marshalled_message_is_bytes(raw: Any) -> None:
    with pytest.raises(MessageDecodeError):
        Message.unmarshal(raw)


# ---- import


def test_importing_a_message_imports_nothing_heavy() -> None:
    heavy = {
        "asyncio",
        "http",
        "http.server",
        "dataclasses",
        "inspect",
        "uuid",
        "zmq",
        "msgspec",
        "pydantic",
    }
    code = "import sys; before = set(sys.modules); import grav_actors.message, grav_actors.buffer; "
    code += "print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not heavy & set(loaded.split())
