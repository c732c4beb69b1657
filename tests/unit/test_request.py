"""Messages out of HTTP requests, whatever the server hands over."""

import asyncio
import io
from collections.abc import AsyncIterator
from email.message import Message as Headers
from types import SimpleNamespace
from typing import Any

import pytest

from grav_actors.errors import MessageDecodeError, MessageTooLargeError
from grav_actors.message import Message
from grav_actors.request import MAX_BODY_BYTES

GRAV = "application/x-grav-message"
SENT = Message("sensor.temp", {"c": 1})
RAW = SENT.marshal()


class Stream:
    """A body that notes how much was read, and gives at most `step` bytes a time."""

    def __init__(self, body: bytes, step: int = 1 << 30) -> None:
        self._body = io.BytesIO(body)
        self._step = step
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        part = self._body.read(min(size, self._step) if size >= 0 else -1)
        self.taken += len(part)
        return part


class Endless:
    """A body that never ends."""

    taken = 0

    def read(self, size: int) -> bytes:
        self.taken += size
        return b"x" * size


def wsgi(body: bytes, content_type: str = "", **changes: Any) -> dict[str, Any]:
    environ = {"wsgi.input": Stream(body), "CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
    return {**environ, **changes}


def handler(body: bytes, content_type: str = "", **headers: str) -> Any:
    given = Headers()
    given["Content-Type"] = content_type
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        if value:
            given[name] = value
    return SimpleNamespace(rfile=io.BytesIO(body + b"next request"), headers=given)


def flask(body: bytes, content_type: str = "", *, length: bool = True) -> Any:
    headers = {"content-type": content_type, **({"content-length": str(len(body))} if length else {})}
    return SimpleNamespace(
        environ=wsgi(body),
        headers=headers,
        get_data=lambda: body,
        stream=Stream(body),
        content_type=content_type,
    )


def readable(body: bytes, content_type: str = "") -> Any:
    stream = Stream(body, step=7)
    return SimpleNamespace(read=stream.read, content_type=content_type)


FORMS = [wsgi, handler, flask, lambda b, c="": flask(b, c, length=False), readable]
FORM_IDS = ["wsgi", "http.server", "flask", "flask-chunked", "readable"]


@pytest.mark.parametrize("form", FORMS, ids=FORM_IDS)
@pytest.mark.parametrize("content_type", [GRAV, GRAV.upper() + "; charset=x", "", "text/plain"])
def test_a_marshalled_message_becomes_that_message(form: Any, content_type: str) -> None:
    assert Message.from_request(form(RAW, content_type)) == SENT


@pytest.mark.parametrize("form", FORMS, ids=FORM_IDS)
@pytest.mark.parametrize(
    "body", [b"", b'{"a": 1}', RAW[:-1], b"\x99\xa4grav\x01"], ids=["empty", "json", "cut", "magic"]
)
def test_any_other_body_becomes_raw_data(form: Any, body: bytes) -> None:
    message = Message.from_request(form(body, "application/json"))
    assert (message.type, message.data) == ("grav.default", body)


@pytest.mark.parametrize("form", FORMS, ids=FORM_IDS)
@pytest.mark.parametrize("body", [b"", b"{}", RAW[:-1], RAW + b"x"], ids=["empty", "json", "cut", "long"])
def test_a_body_declared_as_a_message_must_be_one(form: Any, body: bytes) -> None:
    with pytest.raises(MessageDecodeError):
        Message.from_request(form(body, GRAV))


def test_a_request_cannot_carry_the_frameworks_types() -> None:
    forged = Message._framework("grav.sys.dead").marshal()
    assert Message.from_request(wsgi(forged)).type == "grav.default"
    with pytest.raises(MessageDecodeError, match=r"framework's type 'grav\.sys\.dead'"):
        Message.from_request(wsgi(forged, GRAV))


@pytest.mark.parametrize("form", FORMS, ids=FORM_IDS)
def test_a_body_may_be_as_long_as_the_cap(form: Any) -> None:
    assert len(Message.from_request(form(b"x" * MAX_BODY_BYTES)).data) == MAX_BODY_BYTES


@pytest.mark.parametrize("form", FORMS, ids=FORM_IDS)
def test_a_longer_body_is_refused(form: Any) -> None:
    with pytest.raises(MessageTooLargeError, match="1048576"):
        Message.from_request(form(b"x" * (MAX_BODY_BYTES + 1)))


def test_a_declared_length_over_the_cap_is_refused_unread() -> None:
    environ = wsgi(b"x", CONTENT_LENGTH="9" * 5000)
    with pytest.raises(MessageTooLargeError):
        Message.from_request(environ)
    assert environ["wsgi.input"].taken == 0


def test_an_endless_body_is_read_up_to_the_cap_and_a_byte() -> None:
    for wrap in (lambda body: body, lambda body: {"wsgi.input": body, "wsgi.input_terminated": True}):
        body = Endless()
        with pytest.raises(MessageTooLargeError):
            Message.from_request(wrap(body))
        assert body.taken <= MAX_BODY_BYTES + 1


def test_a_server_without_a_length_has_no_body() -> None:
    assert Message.from_request(wsgi(b"waits", CONTENT_LENGTH="")).data == b""
    assert Message.from_request(handler(b"waits", **{"Content-Length": ""})).data == b""


def test_a_chunked_request_to_http_server_is_refused_with_a_hint() -> None:
    with pytest.raises(MessageDecodeError, match="send its length"):
        Message.from_request(handler(b"x", **{"Content-Length": "", "Transfer-Encoding": "chunked"}))


@pytest.mark.parametrize("length", ["-1", "1.5", "x", "0x10", "\u0661"])
def test_a_bad_length_is_refused(length: str) -> None:
    with pytest.raises(MessageDecodeError, match="Content-Length"):
        Message.from_request(wsgi(b"x", CONTENT_LENGTH=length))


def test_a_body_that_ends_early_is_refused() -> None:
    with pytest.raises(MessageDecodeError, match="ended after 2 bytes; 10 were declared"):
        Message.from_request(wsgi(b"xy", CONTENT_LENGTH="10"))
    short = flask(b"xy")
    short.headers["content-length"] = "10"
    with pytest.raises(MessageDecodeError, match="ended after 2 bytes; 10 were declared"):
        Message.from_request(short)


def test_a_read_that_takes_no_size_is_called_without() -> None:
    assert Message.from_request(SimpleNamespace(read=lambda: RAW)) == SENT
    with pytest.raises(MessageTooLargeError):
        Message.from_request(SimpleNamespace(read=lambda: bytes(MAX_BODY_BYTES + 1)))


def test_text_instead_of_bytes_is_refused() -> None:
    with pytest.raises(MessageDecodeError, match="str where bytes belong"):
        Message.from_request(io.StringIO("text"))


@pytest.mark.parametrize("request_", [None, 5, {}, {"a": 1}, object()])
def test_what_is_no_request_is_a_type_error(request_: Any) -> None:
    with pytest.raises(TypeError):
        Message.from_request(request_)


# ---- asynchronous


def asgi(body: bytes, content_type: str = "", step: int = 300_000) -> Any:
    chunks = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
    events = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
        for number, chunk in enumerate(chunks)
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    return {"type": "http", "headers": [(b"content-type", content_type.encode())]}, receive


def starlette(body: bytes, content_type: str = "") -> Any:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 300_000):
            yield body[start : start + 300_000]
        yield b""

    return SimpleNamespace(stream=stream, headers={"content-type": content_type})


def async_readable(body: bytes, content_type: str = "") -> Any:
    stream = Stream(body, step=300_000)

    async def read(size: int) -> bytes:
        return stream.read(size)

    return SimpleNamespace(read=read, content_type=content_type)


def aiohttp(body: bytes, content_type: str = "") -> Any:
    async def read() -> bytes:
        return body

    return SimpleNamespace(read=read, content=async_readable(body), headers={"Content-Type": content_type})


def take(request: Any) -> Message:
    return asyncio.run(Message.from_request_async(request))


ASYNC_FORMS = [asgi, starlette, async_readable, aiohttp]


@pytest.mark.parametrize("form", ASYNC_FORMS)
def test_asynchronous_requests_give_the_same(form: Any) -> None:
    assert take(form(RAW, GRAV)) == SENT
    assert take(form(b"{}")).data == b"{}"
    assert take(form(b"x" * MAX_BODY_BYTES)).data == b"x" * MAX_BODY_BYTES
    with pytest.raises(MessageDecodeError):
        take(form(b"{}", GRAV))
    with pytest.raises(MessageTooLargeError):
        take(form(b"x" * (MAX_BODY_BYTES + 1)))


def test_an_asynchronous_read_without_a_size_is_called_without() -> None:
    async def read() -> bytes:
        return RAW

    assert take(SimpleNamespace(read=read)) == SENT


def test_a_client_that_leaves_is_a_decode_error() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(MessageDecodeError, match="client left"):
        take(({"type": "http", "headers": []}, receive))


def test_an_asgi_length_over_the_cap_is_refused_unread() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("read")

    with pytest.raises(MessageTooLargeError):
        take(({"type": "http", "headers": [(b"content-length", b"2000000")]}, receive))


def test_what_is_no_asynchronous_request_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        take(object())
