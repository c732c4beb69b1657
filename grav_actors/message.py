"""Message: what users send and receive."""

import builtins
import types
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from time import time_ns
from typing import (
    Any,
    Self,
    TypeVar,
    overload,
)

from grav_actors import codec
from grav_actors.conversion import convert, decode_bytes
from grav_actors.errors import MessageDecodeError, MessageEncodeError
from grav_actors.ids import id_bytes, id_text, new_id
from grav_actors.pattern import FRAMEWORK_PREFIX, MSG_TYPE_DEFAULT, VALID_TYPES, check_type
from grav_actors.request import MESSAGE_CONTENT_TYPE, read_request, read_request_async

__all__ = ["MSG_TYPE_DEFAULT", "Message", "Origin"]

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_HEADERS: Mapping[str, str] = types.MappingProxyType({})


class Origin:
    """Where a received message came from and how often it came; shared by the messages of a run.

    Attributes:
        sender: Raw uuid of the pod that sent it.
        kind: Number of the delivery's kind, as the protocol has it.
        attempt: 1 + the failures charged to the message.
        redelivered: False promises that it was never delivered here before.
        cancelled: Raw uuids of messages whose asker no longer waits; None when there are none.
    """

    __slots__ = ("attempt", "cancelled", "kind", "redelivered", "sender")

    def __init__(
        self,
        sender: bytes,
        kind: int,
        attempt: int = 1,
        redelivered: bool = False,
        cancelled: set[bytes] | None = None,
    ) -> None:
        self.sender = sender
        self.kind = kind
        self.attempt = attempt
        self.redelivered = redelivered
        self.cancelled = cancelled


class Message:
    """One message: immutable but for `set_reply_to`. A subclass travels as a Message.

    Args:
        type: Application type, tokens separated by dots, 1 to 255 bytes of UTF-8. Types under `grav.`
            are the framework's, but for the default.
        data: bytes, or None, bool, int, float, str, list, dict, aware datetime, ActorRef, nested up to 32
            deep. It is checked and encoded where the message is sent.
        parent_id: Uuid of the message that caused this one, or "".
        reply_to: Uuid of the message that this one answers, or "".
        headers: Small text headers, at most 8 KiB of UTF-8 in all.

    Raises:
        MessageEncodeError: Type, ids or headers cannot be carried.
    """

    # Nothing stands between these and who sets them, since a receiver makes millions of messages. The source is the
    # record, or the stem of one that is made of it, the number and the time when somebody asks for it.
    __slots__ = ("_data", "_number", "_origin", "_source", "_stamp", "_type")

    _source: list[Any] | codec.Stem
    _number: int
    _stamp: int
    _data: Any
    _type: str
    _origin: Origin | None

    def __init__(
        self,
        type: str = MSG_TYPE_DEFAULT,
        data: Any = b"",
        *,
        parent_id: str = "",
        reply_to: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        try:
            self._type = VALID_TYPES[type]
        except (KeyError, TypeError):
            self._type = check_type(type)
        self._source = [
            new_id(),
            _link("reply_to", reply_to) if reply_to != "" else b"",
            _link("parent_id", parent_id) if parent_id != "" else b"",
            time_ns(),
            data,
            None if headers is None else _plain_headers(headers),
        ]
        self._number = self._stamp = 0
        self._data = data
        self._origin = None

    @classmethod
    def _framework(
        cls,
        type: str,
        data: Any = b"",
        *,
        parent_id: str = "",
        reply_to: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Make a message of any type, also under `grav.`; for the framework itself."""
        message = cls(MSG_TYPE_DEFAULT, data, parent_id=parent_id, reply_to=reply_to, headers=headers)
        message._type = check_type(type, framework=True)
        return message

    @staticmethod
    def _received(record: list[Any], type: str, origin: Origin | None) -> "Message":
        """Make a message of a decoded record, without any check."""
        message = new_message(Message)
        message._source = record
        message._number = message._stamp = 0
        message._data = record[4]
        message._type = type
        message._origin = origin
        return message

    @property
    def _record(self) -> list[Any]:
        """What travels: [uuid, reply_to, parent_id, timestamp_ns, data, headers].

        Ids are 16 bytes or b"", headers a dict or None.
        """
        source = self._source
        return source if isinstance(source, list) else codec.stem_record(source, self._number, self._stamp, self._data)

    @property
    def _id(self) -> bytes:
        source = self._source
        return source[0] if isinstance(source, list) else codec.stem_uuid(source, self._number)

    @property
    def uuid(self) -> str:
        """Unique id, canonical UUID text."""
        return id_text(self._id)

    @property
    def type(self) -> str:
        """Application type."""
        return self._type

    @property
    def data(self) -> Any:
        """What the message carries; at a receiver its own copy."""
        return self._data

    @property
    def parent_id(self) -> str:
        """Uuid of the message that caused this one, or ""."""
        raw = self._record[2]
        return id_text(raw) if raw else ""

    @property
    def reply_to(self) -> str:
        """Uuid of the message that this one answers, or ""."""
        raw = self._record[1]
        return id_text(raw) if raw else ""

    @property
    def timestamp(self) -> datetime:
        """When the message was made; aware, UTC, to the microsecond."""
        return _EPOCH + timedelta(microseconds=self._record[3] // 1000)

    @property
    def headers(self) -> Mapping[str, str]:
        """Text headers; a read-only view."""
        headers = self._record[5]
        return types.MappingProxyType(headers) if headers else _NO_HEADERS

    @property
    def attempt(self) -> int:
        """1 + the failures charged to this message at this receiver."""
        origin = self._origin
        return 1 if origin is None else origin.attempt

    @property
    def redelivered(self) -> bool:
        """False promises that it was never delivered to this receiver before; True means perhaps."""
        origin = self._origin
        return False if origin is None else origin.redelivered

    @property
    def cancelled(self) -> bool:
        """True once the asker of this message no longer waits for the answer."""
        origin = self._origin
        return origin is not None and origin.cancelled is not None and self._id in origin.cancelled

    def set_reply_to(self, uuid: str) -> None:
        """Make this message an answer to the message `uuid`, or to none with ""."""
        record = list(self._record)
        record[1] = _link("reply_to", uuid) if uuid != "" else b""
        self._source = record

    @overload
    def unmarshal_data(self) -> Any: ...
    @overload
    def unmarshal_data(self, cls: builtins.type[T]) -> T: ...
    @overload
    def unmarshal_data(self, cls: Any) -> Any: ...
    def unmarshal_data(self, cls: Any = None) -> Any:
        """Return the data as an object of `cls`.

        Data that is bytes is decoded first: as JSON when it is JSON, else as MessagePack (but bytes stay
        bytes when bytes are asked for).

        Args:
            cls: A dataclass, `msgspec.Struct`, pydantic model, builtin or annotation as `list[int]`; None
                takes the data as it is.

        Raises:
            MessageDecodeError: The data is not that; names the field and the reason.
        """
        data = self._data
        if isinstance(data, bytes | bytearray) and cls not in (bytes, bytearray):
            data = decode_bytes(bytes(data))
        return data if cls is None else convert(data, cls)

    def marshal(self) -> bytes:
        """Return the whole message as MessagePack.

        The array `["grav", 1, type, uuid, reply_to, parent_id, timestamp_ns, data, headers]`, ids as 16
        bytes or none, readable from any language.

        Raises:
            MessageEncodeError: The data cannot be carried.
        """
        return codec.pack_message(self._type, self._record)

    @classmethod
    def unmarshal(cls, raw: bytes) -> "Message":
        """Return the message that `marshal` was called on, with the same uuid.

        Raises:
            MessageDecodeError: The bytes are no marshalled message.
        """
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise MessageDecodeError(f"a marshalled message is bytes, not {type(raw).__name__}")
        message_type, record = codec.unpack_message(bytes(raw))
        try:
            check_type(message_type, framework=True)
        except MessageEncodeError as exc:
            raise MessageDecodeError(f"a marshalled message of a bad type: {exc}") from exc
        return Message._received(record, message_type, None)

    @classmethod
    def from_request(cls, request: Any) -> "Message":
        """Return the message in the body of an HTTP request; at most 1 MiB is read.

        A body that is a marshalled message becomes that message. Any other becomes the data of a new
        `grav.default`, unless it was declared to be one. Nobody outside can make types under `grav.`.

        Args:
            request: WSGI environ, Werkzeug or Flask request, `http.server` handler, anything with `.read()`.

        Raises:
            MessageDecodeError: Declared `application/x-grav-message`, but it does not decode.
            MessageTooLargeError: The body is longer than 1 MiB.
        """
        return _from_body(*read_request(request))

    @classmethod
    async def from_request_async(cls, request: Any) -> "Message":
        """Do what `from_request` does for Starlette, ASGI's `(scope, receive)`, or an async `.read()`."""
        return _from_body(*await read_request_async(request))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self._type == other._type and self._record == other._record

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        data = repr(self._data)
        if len(data) > 80:
            data = f"{data[:64]}... ({len(data)} characters)"
        reply = f", reply_to={self.reply_to!r}" if self._record[1] else ""
        return f"<{type(self).__name__} {self._type} {self.uuid}{reply} data={data}>"

    def __getstate__(self) -> object:
        # The origin belongs to this delivery and process; a copy is as if it had just been made.
        state: Any = object.__getstate__(self)
        return dict(state[0] or {}), {**state[1], "_origin": None, "_source": list(self._record)}

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        for fields in state:
            for name, value in fields.items():
                object.__setattr__(self, name, value)


new_message: Callable[[builtins.type[Message]], Message] = object.__new__
"""Makes one without its constructor, of which all slots are to be set."""


def _refuse_change(name: str) -> Callable[..., None]:
    def refuse(message: Message, *value: object) -> None:
        raise AttributeError(f"a message does not change; {name!r} cannot be set or deleted")

    return refuse


# So that each says why, and the most used ones cost no call of a function in Python.
for _name, _property in [item for item in vars(Message).items() if isinstance(item[1], property) and item[0][0] != "_"]:
    _read = attrgetter(f"_{_name}") if _name in ("type", "data") else _property.fget
    setattr(Message, _name, property(_read, _refuse_change(_name), _refuse_change(_name), _property.__doc__))


def _link(field: str, uuid: str) -> bytes:
    try:
        return id_bytes(uuid)
    except ValueError as exc:
        raise MessageEncodeError(f'{field}: {exc}, or ""') from exc


def _plain_headers(headers: Mapping[str, str]) -> dict[str, str] | None:
    try:
        plain = dict(headers)
        codec.check_headers(plain)
    except (MessageDecodeError, UnicodeEncodeError, TypeError, ValueError) as exc:
        raise MessageEncodeError(f"bad headers: {exc}") from exc
    return plain or None


def _from_body(body: bytes, content_type: str) -> Message:
    is_declared = content_type == MESSAGE_CONTENT_TYPE
    if is_declared or body.startswith(codec.MARSHAL_MAGIC):
        try:
            message = Message.unmarshal(body)
        except MessageDecodeError:
            if is_declared:
                raise
        else:
            if not message.type.startswith(FRAMEWORK_PREFIX) or message.type == MSG_TYPE_DEFAULT:
                return message
            if is_declared:
                raise MessageDecodeError(f"a request must not carry the framework's type {message.type!r}")
    return Message(MSG_TYPE_DEFAULT, body)
