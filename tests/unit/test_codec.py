"""Records, bodies and plain data: what arrives is what was sent, and hostile bytes are only refused."""

import collections
import contextlib
import enum
import math
import threading
import time
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grav_actors import decoding
from grav_actors.codec import (
    EXT_ACTOR_REF,
    MAX_DEPTH,
    array_header,
    check_body,
    cut_records,
    join_body,
    pack_columns,
    pack_each,
    pack_fields,
    pack_record,
    pack_records,
    pack_value,
    record_ids,
    record_offsets,
    slice_body,
    unpack_body,
    unpack_value,
)
from grav_actors.encoding import COLUMNS_FROM
from grav_actors.errors import MessageDecodeError, MessageEncodeError, MessageTooLargeError
from grav_actors.message import Message
from grav_actors.reference import ActorRef

CAP = 1 << 20


def record(**changes: Any) -> list[Any]:
    fields: dict[str, Any] = {
        "uuid": bytes(16),
        "reply_to": b"",
        "parent_id": b"",
        "timestamp": 1,
        "data": None,
        "headers": None,
    }
    return list({**fields, **changes}.values())


def carry(data: Any) -> Any:
    """Send data through a body, as the second of two records."""
    body = join_body([pack_record(Message("a", b""), CAP), pack_record(Message("a", data), CAP)])
    return unpack_body(body, 2, ActorRef)[1][4]


def nested(levels: int, inner: Any = 0) -> Any:
    for _ in range(levels):
        inner = [inner]
    return inner


# Zones with whole-second offsets, as every real one has.
zones = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones)  # noqa: DTZ001
keys = st.text(max_size=8) | st.binary(max_size=8) | st.integers(-(2**63), 2**64 - 1)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | moments
    | st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).map(ActorRef)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


# ---- what arrives


@given(values)
@example(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC))
@example(datetime.min.replace(tzinfo=UTC))
@example({1: 1, b"1": 2, "1": 3})
def test_data_arrives_equal(data: Any) -> None:
    assert carry(data) == data
    assert unpack_value(pack_value(data)) == data


def test_nan_arrives_as_nan() -> None:
    assert math.isnan(carry(float("nan")))


def test_datetimes_arrive_as_utc() -> None:
    sent = datetime(2024, 1, 1, 12, 0, 0, 7, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert carry([sent])[0].isoformat() == "2024-01-01T06:30:00.000007+00:00"


class Colour(enum.IntEnum):
    RED = 3


class Text(str):
    __slots__ = ()


class Stamp(datetime):
    pass


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024  (a plain one is what is tested)


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ((1, (2,)), [1, [2]]),
        (bytearray(b"x"), b"x"),
        (memoryview(b"abcd")[::2], b"ac"),
        (Colour.RED, 3),
        ({Colour.RED: Colour.RED}, {3: 3}),
        ([Text("a"), {Text("k"): Text("v")}], ["a", {"k": "v"}]),
        (collections.OrderedDict(b=1, a=[Colour.RED]), {"b": 1, "a": [3]}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, {"a": (2,)}), [1, {"a": [2]}]),
        ({"when": [Stamp(2024, 1, 1, tzinfo=UTC)]}, {"when": [datetime(2024, 1, 1, tzinfo=UTC)]}),
    ],
)
def test_tuples_buffers_and_subclasses_arrive_as_their_base(sent: Any, got: Any) -> None:
    arrived = carry(sent)
    assert arrived == got
    assert type(arrived) is type(got)


def test_the_order_of_a_dict_is_kept_when_a_value_is_converted() -> None:
    assert list(carry({"a": 1, "b": ActorRef("x"), "c": 2})) == ["a", "b", "c"]


def test_sending_does_not_change_the_data() -> None:
    data = {"ref": ActorRef("a"), "list": [(1, ActorRef("b"))]}
    carry(data)
    assert data == {"ref": ActorRef("a"), "list": [(1, ActorRef("b"))]}


def test_a_reference_arrives_with_what_the_receiver_makes_of_it() -> None:
    body = join_body([pack_record(Message("a", [ActorRef("temp")]), CAP)])
    assert unpack_body(body, 1, str.upper)[0][4] == ["TEMP"]


@pytest.mark.parametrize("kind", [list, dict])
def test_data_may_nest_32_deep_and_no_deeper(kind: type) -> None:
    def build(levels: int) -> Any:
        data: Any = 1
        for _ in range(levels):
            data = [data] if kind is list else {"a": data}
        return data

    assert carry(build(MAX_DEPTH)) == build(MAX_DEPTH)
    with pytest.raises(MessageEncodeError, match="nested more than 32 deep"):
        carry(build(MAX_DEPTH + 1))
    # A converted value does not open a back door.
    with pytest.raises(MessageEncodeError, match="nested more than 32 deep"):
        carry(collections.OrderedDict(a=build(MAX_DEPTH)))


# ---- what is refused at the sender

LOOP: list[Any] = []
LOOP.append(LOOP)
LOOPED_DICT: dict[str, Any] = {}
LOOPED_DICT["self"] = [LOOPED_DICT]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"a": [1, 2, 3, {1, 2}]}, r'^data\["a"\]\[3\]: set is not carried'),
        (object(), r"^data: object is not carried"),
        ([1, 2**64], r"^data\[1\]: int of 65 bits"),
        (-(2**63) - 1, r"^data: int of 64 bits"),
        ({"t": datetime(2024, 1, 1)}, r'^data\["t"\]: naive datetime'),  # noqa: DTZ001
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "outside the years"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "outside the years"),
        ({True: 1}, "^data: key True is bool"),
        ({"a": {None: 1}}, r'^data\["a"\]: key None is NoneType'),
        ({1.5: 1}, "^data: key 1.5 is float"),
        ({(1, 2): 1}, "^data: key .* is tuple"),
        ({2**64: 1}, "key 18446744073709551616: int of 65 bits"),
        ("\ud800", "^data: str is not valid Unicode"),
        ({"\ud800": 1}, "not valid Unicode"),
        (["a", {b"k": "\udfff"}], r"^data\[1\]\[b'k'\]: str is not valid Unicode"),
        ([msgpack.ExtType(5, b"")], r"^data\[0\]: ExtType is not carried"),
        ([msgpack.Timestamp(1)], r"^data\[0\]: Timestamp is not carried"),
        (1j, "complex is not carried"),
        (frozenset(), "frozenset is not carried"),
        (range(3), "range is not carried"),
        (timedelta(1), "timedelta is not carried"),
        (datetime(2024, 1, 1, tzinfo=UTC).date(), "date is not carried"),
        (LOOP, "holding itself"),
        (LOOPED_DICT, "holding itself"),
    ],
)
def test_what_cannot_be_carried_is_named_with_its_place(data: Any, text: str) -> None:
    for pack in (pack_value, lambda value: pack_record(Message("a", value), CAP)):
        with pytest.raises(MessageEncodeError, match=text):
            pack(data)


def test_data_whose_own_code_raises_is_refused() -> None:
    class Broken(dict[str, int]):
        def items(self) -> Any:
            raise ZeroDivisionError("no items")

    with pytest.raises(MessageEncodeError, match="ZeroDivisionError: no items"):
        pack_value([Broken(a=1)])


@pytest.mark.parametrize("bad", [[1, 2, 2**64], ["x" * 1000, "\ud800"], {"a": [b"y" * 1000, object()]}])
def test_a_failed_pack_leaves_nothing_behind(bad: Any) -> None:
    good = Message("a", {"a": 1})
    before = pack_record(good, CAP)
    for _ in range(3):
        with pytest.raises(MessageEncodeError):
            pack_record(Message("a", bad), CAP)
        assert pack_record(good, CAP) == before


def test_threads_pack_at_the_same_time() -> None:
    faults: list[Any] = []

    def work(number: int) -> None:
        data = {"n": number, "ref": ActorRef(f"a{number}"), "list": list(range(100))}
        faults.extend(data for _ in range(200) if carry(data) != data)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


# ---- the size


@pytest.mark.parametrize("data", [b"x" * 100, bytearray(100), memoryview(bytes(100)), "x" * 100, "é" * 50])
def test_bytes_and_text_may_be_as_long_as_the_cap(data: Any) -> None:
    pack_record(Message("a", data, headers={"h": "x" * 500}), 100)
    with pytest.raises(MessageTooLargeError, match="the data has 100 bytes, 99 are allowed"):
        pack_record(Message("a", data), 99)


@pytest.mark.parametrize("data", [[1] * 97, {"a": b"x" * 94}, [ActorRef("x" * 96)]])
def test_other_data_counts_as_encoded(data: Any) -> None:
    size = len(pack_value(data))
    pack_record(Message("a", data, headers={"h": "x" * 500}), size)
    with pytest.raises(MessageTooLargeError, match=f"has {size} bytes, {size - 1} are allowed"):
        pack_record(Message("a", data), size - 1)


def test_text_that_is_too_long_and_broken_is_refused_either_way() -> None:
    with pytest.raises(MessageTooLargeError):
        pack_record(Message("a", "\ud800" * 100), 100)


# ---- bodies


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_the_array_header_is_that_of_messagepack(count: int) -> None:
    assert array_header(count) == msgpack.Packer().pack_array_header(count)


@given(st.lists(st.binary(max_size=40) | st.lists(st.integers(0, 9), max_size=3), max_size=40), st.data())
def test_a_body_can_be_sliced_and_its_ids_read_without_decoding(datas: list[Any], data: st.DataObject) -> None:
    messages = [Message("a", one) for one in datas]
    body = join_body([pack_record(message, CAP) for message in messages])
    offsets = record_offsets(body, len(messages))
    assert offsets[-1] == len(body)
    assert record_ids(body, len(messages)) == [message._record[0] for message in messages]
    low = data.draw(st.integers(0, len(messages)))
    high = data.draw(st.integers(low, len(messages)))
    for source in (body, memoryview(body)):
        part = slice_body(source, offsets, low, high)
        assert unpack_body(part, high - low, ActorRef) == [one._record for one in messages[low:high]]


def test_records_with_links_and_headers_arrive() -> None:
    plain = Message("a", {"b": [1]})
    linked = Message("a", b"", parent_id=plain.uuid, reply_to=plain.uuid, headers={"trace": "é"})
    body = join_body([pack_record(message, CAP) for message in (plain, linked)])
    assert unpack_body(memoryview(body), 2, ActorRef) == [plain._record, linked._record]


@pytest.mark.parametrize("size", [65_000, 70_000, 1 << 20])
@pytest.mark.parametrize("linked", [False, True])
def test_large_data_arrives(size: int, linked: bool) -> None:
    ids = dict.fromkeys(("parent_id", "reply_to"), Message().uuid) if linked else {}
    for data in (b"\xdd" * size, "x" * size, [b"\xdd" * size], list(range(size // 3))):
        message = Message("a", data, headers={"h": "v" * 2000}, **ids)
        body = join_body([pack_record(message, 4 * CAP)])
        for raw in (body, memoryview(body)):
            assert unpack_body(raw, 1, ActorRef) == [message._record]


BAD_RECORDS = [
    record()[:5],
    [*record(), None],
    "abcdef",
    dict.fromkeys(range(6)),
    {bytes(16): 1, b"": 2, "c": 3, 1: 4, 5: 6, 7: None},
    {b"u" * 16: 1, b"r" * 16: 2, b"p" * 16: 3, 4: 5, 6: 7, None: 8},
    record(reply_to=b"r" * 16, parent_id=bytes(15)),
    record(reply_to=b"r" * 16, parent_id=b"p" * 16, headers=0),
    None,
    7,
    record(uuid=bytes(15)),
    record(uuid=b""),
    record(uuid="x" * 16),
    record(uuid=[0] * 16),
    record(reply_to=bytes(15)),
    record(reply_to=""),
    record(reply_to=None),
    record(parent_id=bytes(17)),
    record(parent_id="x" * 16),
    record(timestamp=1.5),
    record(timestamp=None),
    record(timestamp=True),
    record(headers={"a": 1}),
    record(headers={1: "a"}),
    record(headers=[]),
    record(headers=False),
    record(headers={"a": "x" * 8192}),
    record(data=msgpack.ExtType(9, b"x")),
    record(data=msgpack.ExtType(1, b"\xff")),
    record(data=msgpack.ExtType(1, b"")),
    record(data=msgpack.Timestamp(2**60)),
    record(data=nested(33)),
    record(data={"a": nested(32)}),
    record(data=nested(400)),
]


@pytest.mark.parametrize("bad", BAD_RECORDS, ids=lambda bad: repr(bad)[:50])
@pytest.mark.parametrize("place", [0, 1])
def test_a_body_with_a_bad_record_is_refused(bad: Any, place: int) -> None:
    records = [record(), record()]
    records[place] = bad
    with pytest.raises(MessageDecodeError):
        unpack_body(msgpack.packb(records), 2, ActorRef)


def quick_and_close(body: bytes, count: int) -> bool:
    """Return whether a body has one outcome, whether or not it is seen at a glance that its records are in order."""

    def outcome() -> str:
        try:
            return repr(unpack_body(body, count, ActorRef))
        except MessageDecodeError as exc:
            return str(exc)

    at_a_glance = outcome()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_begins_as_record", "_are_simple"):
            patch.setattr(decoding, name, lambda _: False)
        return outcome() == at_a_glance


field_of_a_record = st.one_of(
    st.none(), st.integers(-2, 2), st.sampled_from([b"", b"a" * 16, b"b" * 16, "c" * 16]), st.just({"a": "b"})
)
near_records = st.lists(
    st.one_of(
        st.tuples(st.just(b"u" * 16), st.sampled_from([b"", b"r" * 16]), st.sampled_from([b"", b"p" * 16]),
                  st.just(5), values, st.none()),
        st.lists(field_of_a_record, min_size=5, max_size=7),
        # A map is no record, also when its keys could be those of one.
        st.just({b"u" * 16: 1, b"r" * 16: 2, b"": 3, 5: 4, "data": 5, None: 6}),
        st.just([b"u" * 16, b"r" * 16, b"", 5, nested(33), None]),
        field_of_a_record,
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip


@given(near_records)
def test_records_are_unpacked_or_refused_as_a_close_look_at_each_says(records: list[Any]) -> None:
    body = msgpack.packb(records, default=lambda one: msgpack.ExtType(EXT_ACTOR_REF, one.name.encode()), datetime=True)
    assert quick_and_close(body, len(records))


ID_OR_NOT: st.SearchStrategy[Any] = st.sampled_from(
    [b"", b"i" * 16, b"j" * 16, bytes(15), bytes(17), "", "i" * 16, None, 0, [0] * 16, {}]
)
RECORD_OR_NOT = st.one_of(
    st.tuples(
        st.just(b"u" * 16), st.sampled_from([b"", b"i" * 16]), st.sampled_from([b"", b"i" * 16]),
        st.sampled_from([0, -7, 1 << 60]),
        st.sampled_from([None, 1, "text", b"bytes", [1, [2]], {"a": {}}, nested(33)]),
        st.sampled_from([None, {"a": "b"}]),
    ).map(list),
    st.lists(ID_OR_NOT, min_size=5, max_size=7),
    st.tuples(
        ID_OR_NOT, ID_OR_NOT, ID_OR_NOT, st.sampled_from([1, -1, True, 1.5, None, "1"]),
        st.sampled_from([None, [], "x"]), st.sampled_from([None, {}, {"a": 1}, 0, False, b""]),
    ).map(list),
)  # fmt: skip


def is_record(one: list[Any]) -> bool:
    if len(one) != 6:
        return False
    uuid, reply_to, parent_id, stamp, data, headers = one
    return (
        all(isinstance(raw, bytes) and len(raw) in (0, 16) for raw in (uuid, reply_to, parent_id))
        and uuid != b""
        and type(stamp) is int
        and (headers is None or headers in ({}, {"a": "b"}))
        and data != nested(33)
    )


@given(st.lists(RECORD_OR_NOT, min_size=1, max_size=5))
def test_a_body_is_taken_as_it_is_or_refused_when_any_record_is_none(records: list[Any]) -> None:
    body = msgpack.packb(records)
    if all(is_record(one) for one in records):
        assert unpack_body(body, len(records), ActorRef) == records
    else:
        with pytest.raises(MessageDecodeError):
            unpack_body(body, len(records), ActorRef)


links = st.sampled_from([{}, {"parent_id": Message().uuid, "reply_to": Message().uuid}, {"reply_to": Message().uuid}])


@given(links, st.sampled_from([None, b"data", [1], {"a": 2}, nested(33)]), st.booleans(), st.data())
def test_a_message_that_comes_alone_is_looked_at_as_those_that_come_together(
    links: dict[str, str], data: Any, has_headers: bool, draw: st.DataObject
) -> None:
    message = Message("a", b"", headers={"h": "v"} if has_headers else None, **links)
    raw = bytearray(msgpack.packb([*message._record[:4], data, message._record[5]]))
    for _ in range(draw.draw(st.integers(0, 2))):
        raw[draw.draw(st.integers(0, min(len(raw), 70) - 1))] = draw.draw(
            st.sampled_from([0, 1, 0x10, 0x90, 0x91, 0x96, 0xA0, 0xB0, 0xC0, 0xC4, 0xCF, 0xD9, 0x86])
        )
    assert quick_and_close(b"\x91" + raw, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc7\x05\xff12345",  # a timestamp of 5 bytes
        b"\xd7\xff" + b"\xff" * 8,  # a timestamp with 4 billion nanoseconds
        b"\x81\x90\x01",  # a list as the key of a map
        b"\x81\x80\x01",
        b"\xa2\xff\xff",  # no UTF-8
        b"\xa3\xed\xa0\x80",  # a surrogate in UTF-8
        b"\xc1",  # never used by MessagePack
    ],
)
def test_a_body_with_malformed_data_is_refused(data: bytes) -> None:
    body = b"\x91\x96\xc4\x10" + bytes(16) + b"\xc4\x00\xc4\x00\x01" + data + b"\xc0"
    with pytest.raises(MessageDecodeError):
        unpack_body(body, 1, ActorRef)


def test_a_body_of_another_count_is_refused() -> None:
    body = msgpack.packb([record()] * 3)
    for count in (0, 2, 4, 300):
        for read in (lambda n: unpack_body(body, n, ActorRef), lambda n: record_ids(body, n)):
            with pytest.raises(MessageDecodeError):
                read(count)


@pytest.mark.parametrize(
    "read", [lambda b: unpack_body(b, 1, ActorRef), lambda b: record_ids(b, 1), lambda b: check_body(b, 1)]
)
def test_every_shortened_or_lengthened_body_is_refused(read: Any) -> None:
    body = msgpack.packb([record(data={"a": "text"}, headers={"h": "v"})])
    read(body)
    for end in range(len(body)):
        with pytest.raises(MessageDecodeError):
            read(body[:end])
    with pytest.raises(MessageDecodeError):
        read(body + b"\xc0")


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_bytes_are_decoded_or_refused(raw: bytes, count: int) -> None:
    for read in (
        lambda: unpack_body(raw, count, ActorRef),
        lambda: unpack_body(array_header(count) + raw, count, ActorRef),
        lambda: record_offsets(raw, count),
        lambda: check_body(raw, count),
        lambda: check_body(array_header(count) + raw, count),
        lambda: record_ids(memoryview(raw), count),
        lambda: unpack_value(raw),
        lambda: Message.unmarshal(raw),
        lambda: Message.unmarshal(b"\x99\xa4grav\x01" + raw),
    ):
        with contextlib.suppress(MessageDecodeError):
            read()


@pytest.mark.parametrize("changed", [{}, {3: 5}, {4: "text"}, {4: None}, {5: {"a": "b"}}, {4: bytes(70_000)}])
def test_records_packed_together_are_as_each_alone(changed: dict[int, Any]) -> None:
    sizes = (0, 1, 255, 256, 65_000)
    records: list[list[Any]] = [
        [b"u" * 16, b"r" * (index % 2 * 16), b"p" * (index % 3 // 2 * 16), 2**60, bytes(size), None]
        for index, size in enumerate(sizes)
    ]
    for field, value in changed.items():
        records[2][field] = value
    assert pack_each(records) == [msgpack.packb([record]) for record in records]
    assert pack_each([]) == []


@given(st.lists(values, min_size=COLUMNS_FROM, max_size=8), st.booleans())
def test_any_data_comes_back_from_columns(data: list[Any], with_parents: bool) -> None:
    count = len(data)
    parents = [b"p" * 16 if with_parents and index % 2 else b"" for index in range(count)]
    packed = [(pack_value(one),) for one in data]
    body = pack_columns(b"prefix.8", [*range(count)], [2**60] * count, packed, parents)
    wanted = [
        [b"prefix.8" + index.to_bytes(8, "big"), b"", parents[index], 2**60, unpack_value(pack_value(one)), None]
        for index, one in enumerate(data)
    ]
    assert repr([list(one) for one in unpack_body(body, count, ActorRef)]) == repr(wanted)
    assert repr(unpack_body(join_body(cut_records(body, count)), count, ActorRef)) == repr(wanted)


@given(st.lists(values, min_size=COLUMNS_FROM, max_size=6), st.data())
def test_columns_with_a_flipped_byte_are_decoded_or_refused(data: list[Any], draw: st.DataObject) -> None:
    count = len(data)
    parents = [b"p" * 16, b""] * (count // 2) + [b""] * (count % 2)
    packed = [(pack_value(one),) for one in data]
    body = bytearray(pack_columns(b"prefix.8", [*range(count)], [2**60] * count, packed, parents))
    body[draw.draw(st.integers(0, len(body) - 1))] ^= draw.draw(st.integers(1, 255))
    for read in (
        lambda: unpack_body(bytes(body), count, ActorRef),
        lambda: cut_records(bytes(body), count),
        lambda: record_ids(bytes(body), count),
    ):
        with contextlib.suppress(MessageDecodeError):
            assert len(read()) == count


@pytest.mark.parametrize("size", [0, 100, 255, 256, 2000, 70_000])
@pytest.mark.parametrize("count", [1, 2, COLUMNS_FROM, 16, 40])
def test_columns_of_bytes_of_any_length_are_packed_and_cut(size: int, count: int) -> None:
    data = [bytes([index]) * size for index in range(count)]
    body = pack_columns(b"prefix.8", [*range(count)], [2**60] * count, data, [b""] * count)
    wanted = [[b"prefix.8" + index.to_bytes(8, "big"), b"", b"", 2**60, data[index], None] for index in range(count)]
    for view in (body, memoryview(body)):
        assert [list(record) for record in unpack_body(view, count, ActorRef)] == wanted
        offsets = record_offsets(view, count)
        cut = slice_body(view, offsets, count // 2, count)
        assert [list(record) for record in unpack_body(cut, count - count // 2, ActorRef)] == wanted[count // 2 :]
        assert cut_records(view, count) == [msgpack.packb(record) for record in wanted]


@given(values, st.data())
def test_a_body_with_a_flipped_byte_is_decoded_or_refused(data: Any, draw: st.DataObject) -> None:
    body = bytearray(join_body([pack_record(Message("a", data, headers={"h": "v"}), CAP)] * 2))
    body[draw.draw(st.integers(0, len(body) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        records = unpack_body(bytes(body), 2, ActorRef)
    except MessageDecodeError:
        return
    for one in records:
        message = Message._received(one, "a", None)
        assert message.timestamp.tzinfo is UTC
        assert len(message.uuid) == 36


# ---- bombs

COLUMNS_OF_ONE = b"\x94\xc4\x10" + bytes(16) + b"\xc4\x00\xc4\x08" + bytes(8)
BOMBS = {
    "columns: a million claimed and not there": COLUMNS_OF_ONE + b"\x91" + b"\xdd\x00\x10\x00\x00" * 1000,
    "columns: nested claims in a large body": COLUMNS_OF_ONE + b"\x91" + b"\xdd\x00\x01\x00\x00" * 40_000,
    "columns: ten million empty maps": COLUMNS_OF_ONE + b"\x91\xdd\x00\x98\x96\x80" + b"\x80" * 10_000_000,
    "columns: a blob with nested claims behind it": (
        COLUMNS_OF_ONE + b"\x91\xc6\x00\x01\x00\x00" + bytes(1 << 16) + b"\xdd\x00\x01\x00\x00" * 1000
    ),
    "columns: uuids that are not there": b"\x94\xc6\xff\xff\xff\xff",
    "a million claimed and not there": b"\x91\x96" + b"\xdd\x00\x10\x00\x00" * 1000,
    "nested claims in a large body": b"\x91\x96" + b"\xdd\x00\x01\x00\x00" * 40_000,
    "nested claims of the body's own length": b"\x91\x96" + b"\xdc\xff\xff" * 1000,
    "four billion items": b"\x91\x96\xdd\xff\xff\xff\xff" + b"\x80" * 10_000_000,
    "ten million empty maps": b"\x91\x96\xdd\x00\x98\x96\x80" + b"\x80" * 10_000_000,
    "four gigabytes of text": b"\x91\x96\xdb\xff\xff\xff\xff",
    "a long key chain": b"\x91\x96" + b"\x81" * 10_000,
    "deep arrays": b"\x91\x96" + b"\x91" * 100_000,
    "a large blob with nested claims behind it": (
        b"\x91\x96\xc4\x10"
        + bytes(16)
        + b"\xc4\x00\xc4\x00\xcf"
        + bytes(8)
        + b"\xc6\x00\x01\x00\x00"
        + bytes(1 << 16)
        + b"\xdd\x00\x01\x00\x00" * 1000
    ),
    "a large blob that is not there": (
        b"\x91\x96\xc4\x10" + bytes(16) + b"\xc4\x00\xc4\x00\xcf" + bytes(8) + b"\xc6\xff\xff\xff\xff" + bytes(1 << 20)
    ),
    "deep extensions": b"\x91\x96\xc9\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_cheaply(bomb: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(MessageDecodeError):
            unpack_body(bomb, 1, ActorRef)
        spent, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert spent < 0.5
    assert peak < 2 * len(bomb) + (1 << 20)


def test_the_most_expensive_data_costs_a_bounded_multiple() -> None:
    worst = msgpack.packb(bytes(16))  # the record's head
    body = b"\x91\x96" + worst + b"\xc4\x00\xc4\x00\x01\xdd" + (1 << 19).to_bytes(4, "big")
    body += b"\x80" * (1 << 19) + b"\xc0"
    tracemalloc.start()
    try:
        unpack_body(body, 1, ActorRef)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 90 * len(body)


@pytest.mark.parametrize("size", [2**16 - 1, 2**16, 2**16 + 1, 2**20])
@pytest.mark.parametrize("headers", [None, {"a": "b"}])
def test_large_bytes_are_packed_as_any_others(size: int, headers: dict[str, str] | None) -> None:
    large = [b"u" * 16, b"", b"p" * 16, 2**60, bytes(size), headers]
    assert pack_fields(large, 2**20) == msgpack.packb(large)
    assert pack_records([large]) == msgpack.packb([large])
    assert pack_records([large, large]) == msgpack.packb([large, large])
    with pytest.raises(MessageTooLargeError, match=f"{size} bytes"):
        pack_fields(large, size - 1)
