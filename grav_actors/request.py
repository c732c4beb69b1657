"""Bodies of HTTP requests, from whatever a server hands to its handlers.

Known forms: a WSGI environ (dict), a Werkzeug or Flask request, a handler of `http.server`, anything with
`.read()`; asynchronous: a Starlette or FastAPI request, anything with an async `.read()`, and the pair
`(scope, receive)` of ASGI. Never reads more than the limit, and one byte more to see that the body ends.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from grav_actors.errors import MessageDecodeError, MessageTooLargeError

MESSAGE_CONTENT_TYPE = "application/x-grav-message"
"""Content type of a body that is a marshalled message."""

MAX_BODY_BYTES = 1 << 20
"""Most bytes of a body; the cap of a message."""


def read_request(request: Any, limit: int = MAX_BODY_BYTES) -> tuple[bytes, str]:
    """Return the body and the content type (lower case, without parameters; "" when unknown).

    Raises:
        MessageTooLargeError: The body is longer than `limit` bytes.
        MessageDecodeError: The body ends before its declared length, or cannot be delimited.
        TypeError: The object is no request known here.
    """
    if isinstance(request, Mapping):
        return _read_wsgi(request, limit)
    content_type = _content_type(request)
    length = _content_length(request, limit)
    if hasattr(request, "rfile"):
        if length is None:
            # Without a length the socket of a kept connection has no end to read to.
            if "chunked" in _header(request, "Transfer-Encoding").lower():
                raise MessageDecodeError("a chunked request cannot be read from http.server; send its length")
            return b"", content_type
        return _read_exactly(request.rfile, length), content_type
    if isinstance(getattr(request, "environ", None), Mapping):
        # Flask may have read the body before; get_data() has it then, and it cannot exceed its length.
        if length is not None and hasattr(request, "get_data"):
            return _complete(_as_bytes(request.get_data()), length, limit), content_type
        if hasattr(request, "stream"):
            return _read_to_end(request.stream, limit), content_type
        body, _ = _read_wsgi(request.environ, limit)
        return body, content_type
    if hasattr(request, "read"):
        return _read_to_end(request, limit), content_type
    raise TypeError(
        f"{type(request).__name__} is no HTTP request known here; give a WSGI environ, a Flask or Werkzeug"
        " request, an http.server handler, or anything with .read()"
    )


async def read_request_async(request: Any, limit: int = MAX_BODY_BYTES) -> tuple[bytes, str]:
    """Do what `read_request` does for a Starlette request, `(scope, receive)` or an async `.read()`."""
    if isinstance(request, tuple | list) and len(request) >= 2 and isinstance(request[0], Mapping):
        scope, receive = request[0], request[1]
        headers = {bytes(key).lower(): bytes(value) for key, value in scope.get("headers", ())}
        _parse_length(headers.get(b"content-length", b"").decode("latin-1"), limit)
        body = await _join(_asgi_chunks(receive), limit)
        return body, _media_type(headers.get(b"content-type", b"").decode("latin-1"))
    content_type = _content_type(request)
    _content_length(request, limit)
    stream: Callable[[], Any] | None = getattr(request, "stream", None)
    if callable(stream):
        return await _join(stream(), limit), content_type
    if hasattr(request, "read"):
        # aiohttp's request reads all of it at once; its content is the stream.
        source = getattr(request, "content", request)
        return await _read_to_end_async(source if hasattr(source, "read") else request, limit), content_type
    raise TypeError(
        f"{type(request).__name__} is no asynchronous HTTP request known here; give a Starlette request,"
        " the pair (scope, receive), or anything with an async .read()"
    )


def _read_wsgi(environ: Mapping[str, Any], limit: int) -> tuple[bytes, str]:
    if "wsgi.input" not in environ:
        raise TypeError("a mapping that is no WSGI environ: it has no 'wsgi.input'")
    content_type = _media_type(str(environ.get("CONTENT_TYPE") or ""))
    length = _parse_length(str(environ.get("CONTENT_LENGTH") or ""), limit)
    stream = environ["wsgi.input"]
    if length is not None:
        return _read_exactly(stream, length), content_type
    # PEP 3333: an application must not read past the length, and none means there is no body, unless the
    # server says that the stream ends by itself.
    if environ.get("wsgi.input_terminated"):
        return _read_to_end(stream, limit), content_type
    return b"", content_type


def _read_exactly(stream: Any, length: int) -> bytes:
    parts = []
    left = length
    while left:
        part = _as_bytes(stream.read(left))
        if not part:
            raise MessageDecodeError(f"the request ended after {length - left} bytes; {length} were declared")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _read_to_end(stream: Any, limit: int) -> bytes:
    try:
        part = stream.read(limit)
    except TypeError:
        part = stream.read()  # a read() without a size gives all there is
        return _within(_as_bytes(part), limit)
    parts = []
    left = limit
    while part := _as_bytes(part):
        if len(part) > left:
            raise _too_large(limit)
        parts.append(part)
        left -= len(part)
        part = stream.read(left or 1)
    return b"".join(parts)


async def _read_to_end_async(stream: Any, limit: int) -> bytes:
    async def read(size: int) -> Any:
        part = stream.read(size)
        return await part if hasattr(part, "__await__") else part

    try:
        part = await read(limit)
    except TypeError:
        whole = stream.read()
        return _within(_as_bytes(await whole if hasattr(whole, "__await__") else whole), limit)
    parts = []
    left = limit
    while part := _as_bytes(part):
        if len(part) > left:
            raise _too_large(limit)
        parts.append(part)
        left -= len(part)
        part = await read(left or 1)
    return b"".join(parts)


async def _asgi_chunks(receive: Any) -> AsyncIterator[bytes]:
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise MessageDecodeError("the client left before its request was complete")
        yield event.get("body", b"")
        if not event.get("more_body", False):
            return


async def _join(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    parts = []
    size = 0
    async for chunk in chunks:
        part = _as_bytes(chunk)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _header(request: Any, name: str) -> str:
    get = getattr(getattr(request, "headers", None), "get", None)
    if get is None:
        return ""
    value = get(name)
    if value is None:
        value = get(name.lower())  # a plain dict of headers does not fold case
    return "" if value is None else str(value)


def _content_type(request: Any) -> str:
    text = _header(request, "Content-Type")
    if not text:
        given = getattr(request, "content_type", None)
        text = given if isinstance(given, str) else ""
    return _media_type(text)


def _content_length(request: Any, limit: int) -> int | None:
    return _parse_length(_header(request, "Content-Length"), limit)


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _parse_length(text: str, limit: int) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise MessageDecodeError(f"the request declares a Content-Length of {text!r:.40}, which is no number")
    if len(text) > 18 or int(text) > limit:
        raise MessageTooLargeError(f"the request declares {text:.40} bytes, {limit} are allowed")
    return int(text)


def _complete(body: bytes, length: int, limit: int) -> bytes:
    if len(body) < length:
        raise MessageDecodeError(f"the request ended after {len(body)} bytes; {length} were declared")
    return _within(body, limit)


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> MessageTooLargeError:
    return MessageTooLargeError(f"the request has more than {limit} bytes, which are allowed")


def _as_bytes(part: Any) -> bytes:
    if part is None:
        return b""
    if isinstance(part, bytes):
        return part
    if isinstance(part, bytearray | memoryview):
        return bytes(part)
    raise MessageDecodeError(f"the request gave {type(part).__name__} where bytes belong; open it as binary")
