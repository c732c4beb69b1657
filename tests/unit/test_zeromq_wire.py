"""What ZeroMQ transports say to each other: it comes back as it was, and what is malformed is refused."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.errors import ProtocolError
from grav_actors.transports.base import Handshake, HandshakeAck
from grav_actors.transports.zeromq_wire import (
    MAX_INTRODUCTION,
    TOKEN_BYTES,
    Acceptance,
    Introduction,
    Kind,
    envelope,
    open_envelope,
    pack_withdrawal,
    read_subscribed_prefix,
    subscribed_prefix,
    unpack_withdrawal,
)

TOKEN = b"t" * TOKEN_BYTES
HANDSHAKE = Handshake("uuid", "farm", ("vision",), "ab" * 8, "name", ("tcp://a:1", "tcp://b:2"), max_message=7)
ACK = HandshakeAck(False, "uuid", "farm", ("vision",), "reason", "ab" * 8, "name", ("tcp://a:1",), "code")
INTRODUCTION = Introduction(HANDSHAKE, "", 7470, 17470, 2_000_000)
ACCEPTANCE = Acceptance(ACK, TOKEN, 17470, 2_000_000)


def test_introduction_and_answer_come_back_as_they_were() -> None:
    assert Introduction.unpack(INTRODUCTION.pack()) == INTRODUCTION
    assert Acceptance.unpack(ACCEPTANCE.pack()) == ACCEPTANCE
    assert unpack_withdrawal(pack_withdrawal("uuid", "why")) == ("uuid", "why")


@pytest.mark.parametrize("kind", Kind)
def test_envelope_comes_back_as_it_was(kind: Kind) -> None:
    assert open_envelope(envelope(kind, TOKEN)) == (kind, TOKEN)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        envelope(Kind.ASK, TOKEN)[:-1],
        envelope(Kind.ASK, TOKEN) + b"x",
        b"GZ\x02\x05" + TOKEN,
        b"GZ\x01\x63" + TOKEN,
    ],
)
def test_what_is_no_envelope_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_envelope(raw)


def changed(content: tuple[Any, ...], index: int, value: Any) -> bytes:
    fields = list(content)
    fields[index] = value
    return bytes(msgpack.packb(fields))


def shake(**fields: Any) -> dict[str, Any]:
    return {"uuid": "u", "belongs_to": "*", **fields}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage",
        msgpack.packb([]),
        msgpack.packb({"uuid": "u"}),
        msgpack.packb([shake(), "", 1, 1]),
        msgpack.packb([shake(), "", 0, 1, 1]),
        msgpack.packb([shake(), "", 1, 65_536, 1]),
        msgpack.packb([shake(), b"", 1, 1, 1]),
        msgpack.packb([shake(), "", True, 1, 1]),
        msgpack.packb([{}, "", 1, 1, 1]),
        msgpack.packb([shake(uuid=7), "", 1, 1, 1]),
        msgpack.packb([shake(version="1"), "", 1, 1, 1]),
        msgpack.packb([shake(interests="vision"), "", 1, 1, 1]),
        msgpack.packb([shake(interests=[7]), "", 1, 1, 1]),
        msgpack.packb([shake(interests=["x"] * 300), "", 1, 1, 1]),
        msgpack.packb([shake(name="x" * MAX_INTRODUCTION), "", 1, 1, 1]),
    ],
)
def test_what_is_no_introduction_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        Introduction.unpack(raw)


def test_what_a_later_version_says_besides_is_left_aside() -> None:
    content = msgpack.packb([shake(mood="good"), "", 1, 2, 3, "more"])

    assert Introduction.unpack(content) == Introduction(Handshake("u"), "", 1, 2, 3)


def test_answer_needs_a_whole_token() -> None:
    content = msgpack.packb([{"accept": True, "uuid": "u"}, b"short", 1, 1])

    with pytest.raises(ProtocolError, match="a token of 5 bytes"):
        Acceptance.unpack(content)


@given(st.binary(max_size=400))
def test_nothing_but_a_protocol_error_comes_of_any_bytes(raw: bytes) -> None:
    for read in (Introduction.unpack, Acceptance.unpack, unpack_withdrawal, open_envelope):
        try:
            read(raw)
        except ProtocolError:
            pass
    read_subscribed_prefix(raw)


def test_prefix_that_tells_of_subscriptions_names_link_and_last_prefix() -> None:
    assert read_subscribed_prefix(subscribed_prefix(TOKEN, 7, b"x1")) == (TOKEN, b"x1")
    assert subscribed_prefix(TOKEN, 7, b"x1") != subscribed_prefix(TOKEN, 8, b"x1")
    assert read_subscribed_prefix(b"ta\0") is None
    assert read_subscribed_prefix(b"\xff" + TOKEN) is None
