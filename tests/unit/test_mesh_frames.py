"""Frames between nodes: what is written is read, and nothing else."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.errors import ProtocolError
from grav_actors.mesh.frames import (
    MAX_COUNT,
    MAX_HEADER,
    MAX_META,
    MAX_NUMBER,
    MAX_TOPIC,
    Beat,
    Frame,
    Interest,
    InterestDone,
    Leave,
    LeaveDone,
    Pulse,
    Repair,
    Repaired,
    Run,
    Tunnel,
    TunnelDone,
    decode_frame,
    encode_frame,
)

A, B = b"a" * 8, b"b" * 8
FRAMES: list[tuple[Frame, int]] = [
    (Run(A, ((B, 1, 7),), "sensor.temp", 3, b"meta"), 100),
    (Beat(A, 9, ()), 0),
    (Beat(A, 9, (Pulse(B, 1, 2, 3, 4, 5, 6),), 1_700_000_000_000_000), 0),
    (Interest(A, B, 1, (b"ta\0", b"tb."), b"x1"), 0),
    (InterestDone(A, B, 1, 1, 0), 0),
    (Repair(A, B, 1, ((5, 9), (11, 11))), 0),
    (Repaired(A, B, 1, 5, ((5, "a", 2, 10, b""), (7, "b", 1, 3, b""))), 13),
    (Leave(A, B, 0, 0), 0),
    (LeaveDone(A, B), 0),
    (Tunnel(A, B, 4, True, b"meta"), 50),
    (TunnelDone(A, B, 4), 0),
]


@pytest.mark.parametrize(("frame", "size"), FRAMES, ids=lambda value: type(value).__name__)
def test_what_is_written_is_read(frame: Frame, size: int) -> None:
    assert decode_frame(encode_frame(frame), size) == frame


def wire(frame: Frame, place: int, value: object) -> bytes:
    fields = list(msgpack.unpackb(encode_frame(frame), use_list=True))
    fields[place] = value
    return bytes(msgpack.packb(fields))


RUN = FRAMES[0][0]
REPAIRED = FRAMES[6][0]


@pytest.mark.parametrize(
    ("header", "size", "text"),
    [
        (b"", 0, "no MessagePack"),
        (b"\xc1", 0, "no MessagePack"),
        (msgpack.packb(7), 0, "begin with a kind"),
        (msgpack.packb([]), 0, "begin with a kind"),
        (msgpack.packb([99, A]), 0, "begin with a kind"),
        (msgpack.packb([True, A]), 0, "begin with a kind"),
        (b"\x91" * 5000, 0, "no MessagePack"),
        (b"x" * (MAX_HEADER + 1), 0, "header of"),
        (msgpack.packb([2, A, 1]), 0, "expected an array"),
        (wire(RUN, 1, b"short"), 1, "incarnation of 5 bytes"),
        (wire(FRAMES[8][0], 2, b"short"), 0, "incarnation of 5 bytes"),
        (wire(RUN, 2, []), 1, "0 tracks"),
        (wire(RUN, 2, [[B, 1, 0]]), 1, "numbered from 1"),
        (wire(RUN, 2, [[B, 1]]), 1, "expected an array"),
        (wire(RUN, 2, [[B, 1, -1]]), 1, "expected a number"),
        (wire(RUN, 2, [[B, 1, MAX_NUMBER + 1]]), 1, "expected a number"),
        (wire(RUN, 3, "x" * (MAX_TOPIC + 1)), 1, "run with a type"),
        (wire(RUN, 4, 0), 1, "0 messages"),
        (wire(RUN, 4, MAX_COUNT + 1), 1, "messages"),
        (wire(RUN, 4, 1.0), 1, "expected int"),
        (wire(RUN, 4, True), 1, "expected int"),
        (wire(RUN, 5, b"x" * (MAX_META + 1)), 1, "about it"),
        (encode_frame(Beat(A, 9, ())), 1, "must be empty"),
        (wire(FRAMES[3][0], 4, [b"x" * (MAX_TOPIC + 1)]), 0, "prefix over"),
        (wire(FRAMES[3][0], 5, b"x" * (MAX_TOPIC + 1)), 0, "prefix over"),
        (wire(FRAMES[5][0], 4, [[5, 4]]), 0, "from 5 to 4"),
        (wire(FRAMES[5][0], 4, [[0, 4]]), 0, "from 0 to 4"),
        (wire(FRAMES[5][0], 4, [[5, 9], [9, 10]]), 0, "expected at 10"),
        (encode_frame(REPAIRED), 12, "runs of 13 bytes in a body of 12"),
        (wire(REPAIRED, 5, [[5, "a", 2, 10, b""], [6, "b", 1, 3, b""]]), 13, "expected at 7"),
        (wire(REPAIRED, 5, [[5, "a", 0, 13, b""]]), 13, "run of 0"),
    ],
)
def test_malformed_frame_is_refused_and_says_why(header: bytes, size: int, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        decode_frame(header, size)


@given(st.binary(max_size=200), st.integers(0, 100))
def test_garbage_raises_nothing_but_a_protocol_error(header: bytes, size: int) -> None:
    with pytest.raises(ProtocolError):
        decode_frame(header, size)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=7),
)


@given(st.sampled_from([1, 2, 16, 17, 18, 19, 20, 21, 22, 23]), st.lists(json, max_size=7), st.integers(0, 50))
def test_any_fields_are_read_exactly_or_refused(kind: int, fields: list[object], size: int) -> None:
    header = msgpack.packb([kind, A, *fields])
    try:
        frame = decode_frame(header, size)
    except ProtocolError:
        return
    assert encode_frame(frame) == header
