"""The bytes of a beacon, as docs/mesh-discovery.md specifies them: written and read, without a socket.

A reader takes nothing on trust: whatever is not exactly a beacon of this version is a `BeaconError`, with the
reason in one word, to be counted by.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

LONGEST: Final = 128
"""Bytes of the longest beacon."""

SHORTEST_SECRET: Final = 16
"""Bytes of the shortest shared secret."""

LONGEST_FORM: Final = 86
"""Bytes of the longest form."""

TCP: Final = "tcp://"
"""The form of an endpoint that an empty one stands for."""

_MAGIC: Final = b"GRAV"
_VERSION: Final = 1
_HEAD: Final = 26
_MAC: Final = 16
_SIGNED: Final = 1
_FORM = re.compile(r"[a-z][a-z0-9+-]{0,15}://(?:/[!-~]*)?")


class BeaconError(ValueError):
    """Bytes are no beacon that this node takes.

    Attributes:
        reason: One of `REASONS`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


REASONS: Final = ("malformed", "version", "unsigned", "signed", "forged")
"""Why bytes are refused: no beacon at all; of another version of this format; without a signature where a
secret is set; with one where none is; signed with another secret."""


class Kind(IntEnum):
    """What a beacon says."""

    HERE = 1
    BYE = 2


@dataclass(frozen=True, slots=True)
class BeaconFrame:
    """What a node says about itself.

    Attributes:
        kind: That it is there, or that it leaves.
        uuid: 16 bytes.
        port: Where its transport listens, 1 to 65535.
        form: What its endpoint looks like without address and port, such as `ws:///mesh`; `tcp://` is usual.
    """

    kind: Kind
    uuid: bytes
    port: int
    form: str = TCP

    def endpoint(self, address: str) -> str:
        """Return the endpoint to dial, with the address from which the beacon came."""
        scheme, _, path = self.form.partition("://")
        host = f"[{address}]" if ":" in address else address
        return f"{scheme}://{host}:{self.port}{path}"


def is_form(text: str) -> bool:
    """Tell whether a text can stand in a beacon as the form of an endpoint."""
    return _FORM.fullmatch(text) is not None and len(text) <= LONGEST_FORM


def encode(frame: BeaconFrame, secret: bytes = b"") -> bytes:
    """Write a beacon, signed when there is a secret; at most `LONGEST` bytes."""
    form = b"" if frame.form == TCP else frame.form.encode("ascii")
    flags = _SIGNED if secret else 0
    head = bytes((_VERSION, frame.kind, flags, len(form)))
    raw = _MAGIC + head + frame.uuid + frame.port.to_bytes(2, "big") + form
    return raw + _sign(raw, secret) if secret else raw


def decode(raw: bytes, secret: bytes = b"") -> BeaconFrame:
    """Read a beacon.

    Args:
        raw: A whole datagram.
        secret: What it has to be signed with; empty: it has to be unsigned.

    Raises:
        BeaconError: It is none, or not one of those that share the secret.
    """
    if not _HEAD <= len(raw) <= LONGEST or raw[:4] != _MAGIC:
        raise BeaconError("malformed")
    version, kind, flags, length = raw[4:8]
    if version != _VERSION:
        raise BeaconError("version")
    is_signed = flags == _SIGNED
    if (flags and not is_signed) or len(raw) != _HEAD + length + is_signed * _MAC:
        raise BeaconError("malformed")
    if is_signed != bool(secret):
        raise BeaconError("signed" if is_signed else "unsigned")
    if secret:
        raw, signature = raw[:-_MAC], raw[-_MAC:]
        if not hmac.compare_digest(signature, _sign(raw, secret)):
            raise BeaconError("forged")
    return _content(raw, kind)


def _content(raw: bytes, kind: int) -> BeaconFrame:
    port = int.from_bytes(raw[24:26], "big")
    written = raw[_HEAD:].decode("ascii", "replace")
    form = written or TCP
    # One way to write each beacon: the usual form is written as nothing.
    if kind not in (Kind.HERE, Kind.BYE) or not port or not is_form(form) or written == TCP:
        raise BeaconError("malformed")
    return BeaconFrame(Kind(kind), raw[8:24], port, form)


def _sign(raw: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, raw, hashlib.sha256).digest()[:_MAC]
