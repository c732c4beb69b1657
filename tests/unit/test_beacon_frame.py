"""Beacons as bytes: the vectors of tests/vectors/beacons.json both ways, and that nothing else is taken."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.discovery.beacon_frame import (
    LONGEST,
    LONGEST_FORM,
    REASONS,
    TCP,
    BeaconError,
    BeaconFrame,
    Kind,
    decode,
    encode,
    is_form,
)

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "beacons.json").read_text(encoding="utf-8")
)
SECRET = b"a secret of some length"
FRAME = BeaconFrame(Kind.HERE, bytes(range(16)), 7470)


def named(entries: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(entry, id=entry["name"].replace(" ", "_")) for entry in entries]


@pytest.mark.parametrize("entry", named(VECTORS["beacons"]))
def test_beacon_of_the_vectors_is_written_and_read(entry: dict[str, Any]) -> None:
    secret = bytes.fromhex(entry["secret"])
    frame = BeaconFrame(Kind[entry["kind"]], bytes.fromhex(entry["uuid"]), entry["port"], entry["form"])

    assert encode(frame, secret).hex() == entry["bytes"]
    assert decode(bytes.fromhex(entry["bytes"]), secret) == frame
    assert frame.endpoint(entry["from"]) == entry["endpoint"]


@pytest.mark.parametrize("entry", named(VECTORS["refused"]))
def test_refused_bytes_of_the_vectors_say_why(entry: dict[str, Any]) -> None:
    with pytest.raises(BeaconError) as refused:
        decode(bytes.fromhex(entry["bytes"]), bytes.fromhex(entry["secret"]))

    assert refused.value.reason == entry["reason"]


def test_every_reason_has_a_vector() -> None:
    assert {entry["reason"] for entry in VECTORS["refused"]} == set(REASONS)


forms = st.just(TCP) | st.builds(
    "{}://{}".format,
    st.from_regex(r"[a-z][a-z0-9+-]{0,15}", fullmatch=True),
    st.just("") | st.from_regex(r"/[!-~]{0,60}", fullmatch=True),
)
frames = st.builds(
    BeaconFrame, st.sampled_from(Kind), st.binary(min_size=16, max_size=16), st.integers(1, 65535), forms
)


@given(frames, st.just(b"") | st.binary(min_size=16, max_size=40))
def test_every_beacon_fits_and_comes_back_the_same(frame: BeaconFrame, secret: bytes) -> None:
    raw = encode(frame, secret)

    assert len(raw) <= LONGEST
    assert decode(raw, secret) == frame


@given(st.binary(max_size=200), st.sampled_from([b"", SECRET]))
def test_any_bytes_are_read_or_refused(raw: bytes, secret: bytes) -> None:
    reason = ""
    again = b""
    try:
        again = encode(decode(b"GRAV" + raw, secret), secret)
    except BeaconError as exc:
        reason = exc.reason

    assert reason in REASONS or again == b"GRAV" + raw


@given(st.integers(0, 41), st.integers(1, 255))
def test_any_change_of_a_signed_beacon_is_seen(place: int, change: int) -> None:
    raw = bytearray(encode(FRAME, SECRET))
    raw[place] ^= change

    with pytest.raises(BeaconError):
        decode(bytes(raw), SECRET)


@pytest.mark.parametrize("text", ["", "tcp", "TCP://", "tcp://host", "ws:///a b", "ws:///ä", "ws:///" + "x" * 81])
def test_what_is_no_form_is_known(text: str) -> None:
    assert not is_form(text)


def test_longest_form_fits_with_a_signature() -> None:
    form = "ws:///".ljust(LONGEST_FORM, "x")

    assert is_form(form)
    assert len(encode(BeaconFrame(Kind.HERE, bytes(16), 1, form), SECRET)) == LONGEST
