"""Frames: what is written can be read, and what cannot be read raises ProtocolError and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors import protocol
from grav_actors.bus.core import BusCore
from grav_actors.errors import ProtocolError
from grav_actors.filters import FilterSet
from grav_actors.ids import new_id
from grav_actors.pod.core import PodCore, State
from grav_actors.protocol import (
    FAIL_ERROR,
    FLAG_RELAYED,
    KIND_ANSWER,
    KIND_PUBLISH,
    MAX_FAILURES,
    MAX_HEADER,
    MAX_ITEMS,
    MAX_NUMBER,
    MAX_OPEN_RANGES,
    Hello,
    PodSettings,
    Verb,
    pack,
    unpack_header,
)

FRAMES: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "frames.json").read_text(encoding="utf-8")
)["frames"]

numbers = st.integers(0, MAX_NUMBER)
ids = st.binary(min_size=16, max_size=16)
names = st.text(max_size=64)
pairs = st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))
ranges = st.lists(pairs, max_size=5).map(tuple)
filters = st.tuples(
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.text(max_size=20), st.booleans()), max_size=4).map(tuple),
    st.lists(st.tuples(ids, st.booleans()), max_size=4).map(tuple),
)
settings = st.builds(
    PodSettings,
    supervisor=st.one_of(st.just(b""), ids),
    incarnation=numbers,
    service=names,
    group=names,
    replay=st.booleans(),
    prefetch=st.integers(1, 10_000),
    mailbox_limit=st.integers(1, 10_000),
    overflow=st.sampled_from(protocol.OVERFLOW_POLICIES),
    stuck_after=st.one_of(st.none(), st.floats(0.001, 1e6)),
    max_deliver=st.integers(1, 100),
)
hellos = st.builds(
    Hello,
    request=numbers,
    uuid=ids,
    name=names,
    settings=settings,
    filters=filters,
    epoch=st.sampled_from((b"", b"12345678")),
    received=numbers,
    floor=st.just(0),
    sent=numbers,
    claims=st.lists(st.tuples(ids, ranges), max_size=3).map(tuple),
)

HELLO = Hello(1, new_id(), "pod", PodSettings(), FilterSet().to_wire(), b"", 0, 0, 0)


def check(header: bytes, body: bytes) -> None:
    """Read a frame as far as protocol.py does."""
    fields = unpack_header(header)
    if fields[0] == Verb.HELLO:
        protocol.read_hello(fields)
    elif fields[0] == Verb.SEND:
        protocol.check_send(fields, len(body))
    elif fields[0] == Verb.DELIVER:
        protocol.check_deliver(fields, len(body))
    else:
        protocol.check_control(fields)


# Round trips


@given(hellos, st.integers(1, 2**31 - 1))
def test_a_hello_comes_back_as_it_was(hello: Hello, slot: int) -> None:
    header = protocol.pack_hello(slot, hello)
    fields = unpack_header(header)
    assert fields[:4] == (Verb.HELLO, slot, protocol.VERSION, hello.request)
    assert protocol.read_hello(fields) == hello


@given(settings)
def test_settings_come_back_as_they_were(wanted: PodSettings) -> None:
    assert PodSettings.from_wire(wanted.to_wire()) == wanted


@given(filters)
def test_a_filter_comes_back_as_it_was(wanted: Any) -> None:
    assert protocol.read_filters(wanted) == wanted


def test_a_watermark_may_be_a_floor_alone() -> None:
    assert protocol.read_handled(7) == 7
    assert protocol.read_ack((7, 5)) == (7, 5)


# What does not raise ProtocolError raises nothing


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_random_bytes_raise_only_protocol_errors(header: bytes, body: bytes) -> None:
    try:
        check(header, body)
    except ProtocolError:
        pass


junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=5),
        st.binary(max_size=17),
    ),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
)


@given(st.sampled_from([*Verb, 0, 99]), st.lists(junk, max_size=10), st.binary(max_size=10))
def test_random_fields_raise_only_protocol_errors(verb: int, fields: list[Any], body: bytes) -> None:
    try:
        check(msgpack.packb([int(verb), 1, *fields]), body)
    except ProtocolError:
        pass


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A frame of the test vectors with some bytes changed, put in or left out."""
    entry = draw(st.sampled_from(FRAMES))
    header, body = bytearray.fromhex(entry["header"]), bytearray.fromhex(entry["body"])
    for _ in range(draw(st.integers(1, 4))):
        part = header if not body or draw(st.booleans()) else body
        at = draw(st.integers(0, max(0, len(part) - 1)))
        part[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(header), bytes(body)


@given(mutated())
def test_mutated_frames_raise_only_protocol_errors(frame: tuple[bytes, bytes]) -> None:
    try:
        check(*frame)
    except ProtocolError:
        pass


@given(st.lists(mutated(), max_size=8))
def test_mutated_frames_never_raise_out_of_a_bus(frames: list[tuple[bytes, bytes]]) -> None:
    bus = BusCore(b"\x02" * 8)
    bus.tick(1.0)
    hello = replace(HELLO, uuid=bytes.fromhex("0190b8f25c3a8d1e9f003a5b7c9d1e20"), filters=(True, False, (), ()))
    bus.receive(b"good", protocol.pack_hello(1, hello), b"", 1.0)
    bus.receive(b"bad", bytes.fromhex(FRAMES[0]["header"]), b"", 1.0)
    for header, body in frames:
        bus.receive(b"bad", header, body, 1.0)
        bus.tick(1.0)
    bus.tick(20.0)
    bus.out.clear()
    bus.receive(b"good", pack(Verb.FILTER, 1, 5, (False, False, (), ())), b"", 20.0)
    assert [unpack_header(header)[:3] for route, header, _ in bus.out if route == b"good"] == [(Verb.OK, 1, 5)]


@given(st.lists(mutated(), max_size=8))
def test_mutated_frames_raise_only_protocol_errors_out_of_a_pod(frames: list[tuple[bytes, bytes]]) -> None:
    pod = PodCore(new_id(), "", PodSettings(), 1)
    pod.hello(1.0)
    welcome = pack(Verb.WELCOME, 1, 1, 1, b"\x02" * 8, new_id(), 0, False, (1, 1, 1))
    pod.receive(unpack_header(welcome), b"", 1.0)
    assert pod.state is State.JOINED
    for header, body in frames:
        try:
            pod.receive(unpack_header(header), body, 1.0)
        except ProtocolError:
            pass
        pod.flush(1.0, force=True)


def test_a_header_nested_out_of_all_bounds_is_refused() -> None:
    for depth in (10, 500, 1000, 5000, 100_000):
        with pytest.raises(ProtocolError):
            check(b"\x93\x03\x01" + b"\x91" * depth + b"\x90", b"")


# Limits


def test_a_header_over_256_kib_is_refused() -> None:
    with pytest.raises(ProtocolError, match="allowed are 262144"):
        unpack_header(b"\x93\x05\x00" + bytes(MAX_HEADER))


def test_an_array_of_more_than_8192_is_refused_before_it_is_made() -> None:
    assert len(unpack_header(pack(5, 0, (0,) * MAX_ITEMS))[2]) == MAX_ITEMS
    with pytest.raises(ProtocolError):
        unpack_header(pack(5, 0, (0,) * (MAX_ITEMS + 1)))
    with pytest.raises(ProtocolError):
        unpack_header(b"\x93\x05\x00\xdd\xff\xff\xff\xff")


@pytest.mark.parametrize("number", [-1, 2**53, 2**64 - 1])
def test_a_number_beyond_what_every_language_counts_is_refused(number: int) -> None:
    for header in (
        pack(Verb.HANDLED, 1, number),
        pack(Verb.SEND, 1, number, None, ((0, "x", 1, 5, None),)),
        pack(Verb.FILTER, 1, number, (True, False, (), ())),
        protocol.pack_hello(1, replace(HELLO, sent=number)),
    ):
        with pytest.raises(ProtocolError):
            check(header, b"12345")


def run(**changes: Any) -> tuple[Any, ...]:
    fields = {"kind": KIND_PUBLISH, "type": "x", "count": 1, "size": 5, "dest": None} | changes
    return tuple(fields.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"type": ""}, {"type": "x" * 256}, {"type": "ü" * 128}, {"count": 0}, {"count": True}, {"count": 6},
        {"kind": 6}, {"kind": -1}, {"dest": "name"}, {"kind": 2, "dest": ""}, {"kind": 4, "dest": "x" * 256},
        {"kind": 1, "dest": b"123"}, {"kind": 5, "dest": None}, {"size": 4}, {"size": -5},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_run_is_refused(changes: dict[str, Any]) -> None:
    protocol.check_send((2, 1, 1, None, (run(),)), 5)
    with pytest.raises(ProtocolError):
        protocol.check_send((2, 1, 1, None, (run(**changes),)), 5)


DELIVERED = {
    "sender": b"s" * 16, "seq": 1, "floor": 0, "kind": KIND_ANSWER, "type": "ü" * 127, "count": 1, "size": 5,
    "flags": 0, "attempt": 1,
}  # fmt: skip


def delivered(**changes: Any) -> tuple[Any, ...]:
    return tuple((DELIVERED | changes).values())


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"seq": MAX_NUMBER, "floor": MAX_NUMBER, "flags": MAX_NUMBER, "attempt": MAX_NUMBER}, {"kind": 0},
        {"count": 5}, {"type": "x" * 255},
    ],
    ids=str,
)  # fmt: skip
def test_a_run_is_delivered_up_to_its_limits(changes: dict[str, Any]) -> None:
    for number in (1, MAX_NUMBER):
        protocol.check_deliver((17, 1, number, None, (delivered(**changes),)), 5)
        protocol.check_deliver((17, 1, number, (0, MAX_NUMBER), (delivered(**changes), delivered())), 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": b"s" * 15}, {"sender": "s" * 16}, {"kind": 6}, {"count": 0}, {"count": 6}, {"size": -5},
        {"type": ""}, {"type": "x" * 256}, {"type": "ü" * 128}, {"type": b"x"}, {"seq": 0}, {"attempt": 0},
        *({name: bad} for name in ("seq", "floor", "kind", "count", "flags", "attempt")
          for bad in (-1, 2**53, 2**64 - 1, True, None, 1.0)),
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_run_is_not_delivered(changes: dict[str, Any]) -> None:
    for runs in ((delivered(**changes),), (delivered(), delivered(**changes))):
        with pytest.raises(ProtocolError, match="malformed run"):
            protocol.check_deliver((17, 1, 1, None, runs), 5 * len(runs))


@pytest.mark.parametrize(
    "run",
    [delivered()[:8], (*delivered(), "more"), list(delivered()), dict.fromkeys(delivered(kind=2, count=3)), "x" * 9, 9],
    ids=repr,
)
def test_what_is_no_run_is_not_delivered(run: Any) -> None:
    with pytest.raises(ProtocolError, match="malformed run"):
        protocol.check_deliver((17, 1, 1, None, (run,)), 5)


@pytest.mark.parametrize(
    ("run", "is_allowed"),
    [
        ((*delivered(flags=FLAG_RELAYED), "name"), True),
        ((*delivered(flags=FLAG_RELAYED), b"12345678"), True),
        ((*delivered(flags=FLAG_RELAYED), ("group",)), True),
        ((*delivered(flags=FLAG_RELAYED, seq=-1), "name"), False),
        ((*delivered(flags=FLAG_RELAYED, count=True), "name"), False),
        ((*delivered(flags=FLAG_RELAYED), b"1"), False),
        ((*delivered(flags=FLAG_RELAYED), ""), False),
        ((*delivered(flags=0), "name"), False),
    ],
    ids=repr,
)
def test_what_the_gateway_is_told_besides_is_checked_like_the_rest(run: Any, *, is_allowed: bool) -> None:
    if is_allowed:
        protocol.check_deliver((17, 1, 1, None, (run,)), 5)
    else:
        with pytest.raises(ProtocolError, match="malformed run"):
            protocol.check_deliver((17, 1, 1, None, (run,)), 5)


@pytest.mark.parametrize(
    "fields",
    [
        (1, None), (1, None, (delivered(),), 0), (0, None, (delivered(),)), (-1, None, (delivered(),)),
        (2**53, None, (delivered(),)), (True, None, (delivered(),)), (1, None, ()), (1, None, [delivered()]),
        (1, 0, (delivered(),)), (1, (), (delivered(),)), (1, (0,), (delivered(),)), (1, (0, -1), (delivered(),)),
        (1, (2**53, 0), (delivered(),)), (1, (True, 0), (delivered(),)), (1, (0, 0, 0), (delivered(),)),
        (1, (0, 0, 0, ((2, 1),)), (delivered(),)),
    ],
    ids=repr,
)  # fmt: skip
def test_a_malformed_delivery_is_refused(fields: tuple[Any, ...]) -> None:
    with pytest.raises(ProtocolError):
        protocol.check_deliver((17, 1, *fields), 5)


def test_the_sizes_of_delivered_runs_must_add_up_to_the_body() -> None:
    for size in (11, 13):
        with pytest.raises(ProtocolError):
            protocol.check_deliver((17, 1, 1, None, (delivered(), delivered(size=7))), size)


def test_the_sizes_of_runs_must_add_up_to_the_body() -> None:
    protocol.check_send((2, 1, 1, None, (run(), run(size=7))), 12)
    for size in (11, 13):
        with pytest.raises(ProtocolError):
            protocol.check_send((2, 1, 1, None, (run(), run(size=7))), size)


def test_a_watermark_lists_at_most_64_ranges_and_16_failures() -> None:
    ranges = tuple((n, n) for n in range(2, 2 + 2 * MAX_OPEN_RANGES, 2))
    failures = tuple((n, FAIL_ERROR, "") for n in range(1, 1 + MAX_FAILURES))
    protocol.read_handled((0, ranges, failures))
    protocol.read_ack((0, 0, 500, ranges))
    for bad in ((0, (*ranges, (500, 500)), ()), (0, (), (*failures, (99, FAIL_ERROR, "")))):
        with pytest.raises(ProtocolError):
            protocol.read_handled(bad)
    with pytest.raises(ProtocolError):
        protocol.read_ack((0, 0, 500, (*ranges, (500, 500))))


@pytest.mark.parametrize("stuck_after", [0, -1.0, float("inf"), float("nan"), "5"])
def test_stuck_after_is_a_time_or_nil(stuck_after: Any) -> None:
    for good in (None, 0.5, 5):
        PodSettings.from_wire(replace(PodSettings(), stuck_after=good).to_wire())
    with pytest.raises(ProtocolError):
        PodSettings.from_wire(replace(PodSettings(), stuck_after=stuck_after).to_wire())


def test_a_hello_claims_at_most_2048_ranges() -> None:
    claims = tuple((new_id(), tuple((n, n) for n in range(1, 2049, 2))) for _ in range(2))
    assert protocol.read_hello(unpack_header(protocol.pack_hello(1, replace(HELLO, claims=claims)))).claims == claims
    with pytest.raises(ProtocolError):
        check(protocol.pack_hello(1, replace(HELLO, claims=(*claims, (new_id(), ((1, 1),))))), b"")


def test_an_error_names_what_was_seen() -> None:
    with pytest.raises(ProtocolError, match=r"BYE\[3\]: expected str, saw 7"):
        check(pack(Verb.BYE, 1, 2, 7), b"")
