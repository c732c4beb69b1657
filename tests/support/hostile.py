"""Frames that nobody should send: random bytes, mutations of valid frames, forged numbers, bombs.

What is valid by chance, or in a way that only its author suffers from, is among them too. Nothing here names a pod,
a name or a type that the tests' own pods use.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack

from grav_actors.codec import join_body, pack_record
from grav_actors.message import Message
from grav_actors.protocol import MAX_NUMBER, MAX_SLOT, Hello, PodSettings, Verb, pack, pack_hello

MESSAGES = [Message("h", data) for data in (None, 1, b"bytes", "text", [1, [2]], {"k": 1.5})]
RECORDS = [pack_record(message, 1 << 20) for message in MESSAGES]
BODIES = [join_body(RECORDS[:count]) for count in range(1, 7)]
BOMB = b"\xdd\x00\xa0\x00\x00" + b"\x80" * (10 << 20)
"""10 MB of empty maps."""
DEEP = b"\x91" * 100_000 + b"\x90"
LIES = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff\x00",
    b"\xc9\xff\xff\xff\xff\x01", b"\x93\x02\x01", b"\xc1", b"",
)  # fmt: skip
"""Headers that promise more than follows."""
NUMBERS = (
    0,
    1,
    2,
    3,
    5,
    64,
    4096,
    MAX_SLOT,
    MAX_SLOT + 1,
    2**32,
    MAX_NUMBER - 1,
    MAX_NUMBER,
    MAX_NUMBER + 1,
    2**64 - 1,
    -1,
)
ODD: tuple[Any, ...] = (
    None, True, False, 0.5, float("nan"), b"", b"x", b"12345678", bytes(16), bytes(17), "", "h", "\x00", "*", ">",
    "grav.bus", "x" * 300, (), ((),), ((0, 0),), ((1, 2), (0, 9)), [[[[[[]]]]]], {}, {"a": 1},
)  # fmt: skip
TYPES = ("h", "h.a", "h.b.c", "grav.default", "grav.sys.dead", "", " ", "h..a", "*", ">", "\ud7ff")
FILTERS = (
    (True, False, (("live", False), ("live.>", False)), ()),
    (True, True, (("h.>", True),), ()),
    (False, False, (), ((bytes(16), False),)),
)


class Hostile:
    """Makes messages of one to a few frames; the same random numbers make the same ones.

    Args:
        source: Where the random numbers come from.
        uuids: Uuids of pods that it may say it is.
        is_heavy: Bombs and other large ones are among them.
    """

    def __init__(self, source: random.Random, uuids: list[bytes], *, is_heavy: bool = True) -> None:
        self.random = source
        self.uuids = uuids
        self.epochs = [b"", b"stale..1", bytes(8)]
        self._valid: list[Callable[[], tuple[Any, ...]]] = [
            self._send, self._send, self._send, self._handled, self._handled, self._filter, self._beat, self._bye,
            self._sync, self._cancel, self._watch, self._gateway, self._from_bus,
        ]  # fmt: skip
        self._makers: list[Callable[[], list[bytes]]] = [
            self._noise, self._plain, self._plain, self._plain, self._mutated, self._mutated, self._mutated,
            self._replaced, self._replaced, self._replaced, self._hello, self._hello, self._counted, self._lying,
        ]  # fmt: skip
        self._is_heavy = is_heavy

    def frames(self) -> list[bytes]:
        """Return the frames of one message."""
        if self._is_heavy and self.random.random() < 0.0005:
            return self._large()
        return self.random.choice(self._makers)()

    def number(self) -> int:
        source = self.random
        return source.choice(NUMBERS) if source.random() < 0.3 else source.randrange(0, 50)

    def slot(self) -> int:
        return self.random.choice((0, 1, 1, 1, 2, 3, MAX_SLOT))

    # Kinds of messages

    def _noise(self) -> list[bytes]:
        source = self.random
        return [source.randbytes(source.randrange(60)), source.randbytes(source.randrange(60))]

    def _plain(self) -> list[bytes]:
        fields = self.random.choice(self._valid)()
        return _packed(fields)

    def _mutated(self) -> list[bytes]:
        """Flip, cut, double or insert bytes of header or body."""
        source = self.random
        frames = self._hello() if source.random() < 0.3 else self._plain()
        which = source.randrange(2)
        raw = bytearray(frames[which])
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(raw) + 1)
            how = source.randrange(4)
            if how == 0 and at < len(raw):
                raw[at] ^= 1 << source.randrange(8)
            elif how == 1:
                del raw[at:]
            elif how == 2:
                raw[at:at] = raw[at : at + 8]
            else:
                raw[at:at] = source.randbytes(source.randrange(5))
        frames[which] = bytes(raw)
        return frames

    def _replaced(self) -> list[bytes]:
        """Put another value in the place of one, at any depth; or add or remove one."""
        source = self.random
        if source.random() < 0.3:
            fields = msgpack.unpackb(self._hello()[0], use_list=False, strict_map_key=False)
        else:
            fields = source.choice(self._valid)()
        body = b""
        if fields[-1].__class__ is bytes and fields[0] in (Verb.SEND, Verb.DELIVER):
            fields, body = fields[:-1], fields[-1]
        return [_packb(self._replace(fields)), body]

    def _replace(self, value: Any) -> Any:
        source = self.random
        if isinstance(value, tuple | list) and value and source.random() < 0.8:
            items = list(value)
            at = source.randrange(len(items))
            how = source.random()
            if how < 0.1:
                del items[at]
            elif how < 0.2:
                items.insert(at, source.choice(ODD))
            else:
                items[at] = self._replace(items[at])
            return items
        return source.choice(ODD) if source.random() < 0.6 else source.choice(NUMBERS)

    def _hello(self) -> list[bytes]:
        source = self.random
        floor = source.choice((0, 0, 0, 5, MAX_NUMBER))
        settings = PodSettings(
            group=source.choice(("", "", "", "hg")), prefetch=source.choice((1, 4, 4096, MAX_NUMBER)),
            mailbox_limit=source.choice((1, 10, 65_536, MAX_NUMBER)), replay=source.random() < 0.2,
            overflow=source.choice(("block", "drop_oldest", "drop_newest", "disconnect")), stuck_after=0.5,
            actor=source.random() < 0.2, incarnation=source.randrange(3), supervisor=source.choice((b"", bytes(16))),
        )  # fmt: skip
        hello = Hello(
            request=self.number() % MAX_NUMBER, uuid=source.choice(self.uuids),
            name=source.choice(("h1", "h2", "h" * 64, "grav.mesh")), settings=settings,
            filters=source.choice(FILTERS), epoch=source.choice(self.epochs),
            received=self.number() % MAX_NUMBER, floor=floor, sent=max(floor, self.number() % MAX_NUMBER),
            claims=source.choice(((), ((bytes(16), ((1, 9), (3, MAX_NUMBER))),))),
        )  # fmt: skip
        return [pack_hello(self.slot(), hello), b""]

    def _counted(self) -> list[bytes]:
        """A wrong number of frames."""
        count = self.random.choice((1, 3, 4, 40))
        return [self._plain()[0]] + [b"x"] * (count - 1)

    def _lying(self) -> list[bytes]:
        return [self.random.choice(LIES), self.random.choice(BODIES)]

    def _large(self) -> list[bytes]:
        source = self.random
        large = source.choice((BOMB[: 200 * 1024], DEEP, bytes(300 * 1024), _packb([[]] * 8000)))
        if source.random() < 0.5:
            return [large, b""]
        # A bomb as the body of a valid header goes to whoever wants it.
        body = BOMB[: source.choice((1000, 500_000, 1_000_000))]
        count = source.choice((1, 500, 8192))
        return [pack(Verb.SEND, 1, self.number(), None, ((0, "h", count, len(body), None),)), body]

    # Valid shapes, with the body of a SEND or DELIVER as last element

    def _send(self) -> tuple[Any, ...]:
        source = self.random
        runs: list[tuple[Any, ...]] = []
        bodies = b""
        for _ in range(source.choice((1, 1, 1, 2, 5))):
            count = source.randrange(1, 7)
            body = BODIES[count - 1]
            kind = source.randrange(6)
            dest: Any = None
            if kind in (1, 5):
                dest = source.choice((bytes(8), bytes(16), source.choice(self.uuids), source.choice(self.uuids)[:8]))
            elif kind in (2, 4):
                dest = source.choice(("h1", "h2", "nobody", "grav.bus", "grav.node"))
            elif kind in (0, 3) and source.random() < 0.2:
                dest = source.choice(((0, None), (1, ("hg",)), (0, ("hg", "nobody")), (2, None), (0, (7,))))
            message_type = source.choice(TYPES) if source.random() < 0.2 else "h"
            if dest == "grav.bus":
                message_type = source.choice(
                    ("grav.sys.bus.stats", "grav.sys.bus.release", "grav.sys.bus.connected", "h")
                )
            said = count if source.random() < 0.9 else source.choice((1, 8192, 8193))
            runs.append((kind, message_type, said, len(body), dest))
            bodies += body
        handled = None if source.random() < 0.6 else self._watermark()
        return (Verb.SEND.value, self.slot(), self.number(), handled, tuple(runs), bodies)

    def _watermark(self) -> Any:
        source = self.random
        if source.random() < 0.5:
            return self.number()
        ranges = tuple((self.number(), self.number()) for _ in range(source.choice((0, 1, 3, 65))))
        failures = tuple((self.number(), source.randrange(3), "why") for _ in range(source.choice((0, 1, 17))))
        return (self.number(), ranges, failures)

    def _handled(self) -> tuple[Any, ...]:
        return (Verb.HANDLED.value, self.slot(), self._watermark())

    def _filter(self) -> tuple[Any, ...]:
        return (Verb.FILTER.value, self.slot(), self.number(), self.random.choice(FILTERS))

    def _beat(self) -> tuple[Any, ...]:
        return (Verb.BEAT.value, 0)

    def _bye(self) -> tuple[Any, ...]:
        reason = self.random.choice(("", "stopping", "crashed", "unhealthy", "whatever"))
        return (Verb.BYE.value, self.slot(), self.number(), reason)

    def _sync(self) -> tuple[Any, ...]:
        return (Verb.SYNC.value, self.slot())

    def _cancel(self) -> tuple[Any, ...]:
        return (Verb.CANCEL.value, self.slot(), tuple(self.number() for _ in range(self.random.choice((0, 1, 5, 513)))))

    def _watch(self) -> tuple[Any, ...]:
        begun = tuple(
            (self.number(), self.random.choice(("h1", "nobody", ""))) for _ in range(self.random.randrange(3))
        )
        return (Verb.WATCH.value, self.slot(), begun, (self.number(),))

    def _gateway(self) -> tuple[Any, ...]:
        source = self.random
        names = ("h1", "h9", "nobody", "")
        begun = tuple((source.choice(names), bytes(16)) for _ in range(source.randrange(3)))
        ended = tuple((source.choice(names), "lost", "why") for _ in range(source.randrange(2)))
        return (Verb.GATEWAY.value, self.slot(), source.randrange(5), begun, ended)

    def _from_bus(self) -> tuple[Any, ...]:
        return self.bus_frame()

    # What a garbled or hostile bus sends

    def bus_frame(self) -> tuple[Any, ...]:
        """Return the fields of a frame from a bus, with the body of a DELIVER as last element."""
        source = self.random
        verb = source.choice([verb for verb in Verb if verb >= Verb.WELCOME])
        slot, number = self.slot(), self.number
        if verb == Verb.DELIVER:
            count = source.randrange(1, 7)
            body = BODIES[count - 1]
            run = (
                source.choice(self.uuids), number(), number(), source.randrange(6), source.choice(TYPES), count,
                len(body), source.randrange(16), number(),
            )  # fmt: skip
            return (verb.value, slot, number(), None if source.random() < 0.5 else self._ack(), (run,), body)
        shapes: dict[Verb, tuple[Any, ...]] = {
            Verb.WELCOME: (
                1, number(), source.choice(self.epochs), bytes(16), number(), source.random() < 0.5,
                (number(), number(), number()),
            ),
            Verb.ACK: (self._ack(),),
            Verb.OK: (number(), "h"),
            Verb.REJOIN: (),
            Verb.PING: (),
            Verb.REFUSED: (number(), source.choice(("name_taken", "full", "h")), "h"),
            Verb.CLOSE: (source.choice(("unhealthy", "overflow", "stopping", "h")), "h"),
            Verb.CANCELLED: (source.choice(self.uuids), (number(), number())),
            Verb.DOWN: (number(), source.choice(("crashed", "stopping")), "h"),
            Verb.LOCAL: (source.randrange(5), (("h.*", True),), (("hg", ">", False),), (("h1", None, ""),)),
        }  # fmt: skip
        return (verb.value, slot, *shapes[verb])

    def _ack(self) -> Any:
        source = self.random
        if source.random() < 0.5:
            return (self.number(), self.number())
        ranges = tuple((self.number(), self.number()) for _ in range(source.choice((0, 1, 3, 65))))
        return (self.number(), self.number(), self.number(), ranges)

    def bus_frames(self) -> list[bytes]:
        """Return the two frames of a message to a pod, valid or spoilt."""
        source = self.random
        if source.random() < 0.3:
            return self._noise() if source.random() < 0.5 else self._lying()
        fields = self.bus_frame()
        frames = _packed(fields)
        if source.random() < 0.3:
            frames[0] = _packb(self._replace(msgpack.unpackb(frames[0], strict_map_key=False)))
        if source.random() < 0.2 and frames[1]:
            raw = bytearray(frames[1])
            raw[source.randrange(len(raw))] ^= 1 << source.randrange(8)
            frames[1] = bytes(raw)
        return frames


def _packed(fields: tuple[Any, ...]) -> list[bytes]:
    if fields[0] in (Verb.SEND, Verb.DELIVER) and fields[-1].__class__ is bytes:
        return [_packb(fields[:-1]), fields[-1]]
    return [_packb(fields), b""]


def _packb(value: Any) -> bytes:
    return bytes(msgpack.packb(value, default=str) or b"")
