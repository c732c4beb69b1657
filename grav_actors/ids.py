"""Ids: version 8 UUIDs made of a process prefix and a counter, as 16 raw bytes.

The high 8 bytes name the process: random, with the version nibble 8, new after a fork. The low 8 bytes
are the variant bits 10 and a 62-bit counter that starts at a random offset. Ten times as fast as
`uuid.uuid4`, unique without a lock, and the process that made an id can be read from it.
"""

import os
from collections.abc import Callable
from itertools import count

ID_BYTES = 16
PREFIX_BYTES = 8

_VARIANT = 0b10 << 62
# The counter starts in the lower half of its range, so it never runs into the variant bits.
_START_MASK = (1 << 61) - 1

_prefix: bytes
next_number: Callable[[], int]
"""Returns the low half of a new id, as a number; safe to call from any thread. To be taken from this module at each
call: it is another one after a fork."""


def new_id() -> bytes:
    """Return a new id, 16 bytes; safe to call from any thread."""
    return _prefix + next_number().to_bytes(8, "big")


def number_of(raw: bytes) -> int:
    """Return the low half of an id as a number."""
    return int.from_bytes(raw[PREFIX_BYTES:], "big")


def process_prefix() -> bytes:
    """Return the 8 bytes that begin every id of this process."""
    return _prefix


def id_text(raw: bytes) -> str:
    """Return the canonical UUID text (36 characters, lower case) of a 16-byte id."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_bytes(text: str) -> bytes:
    """Return the 16 bytes of a canonical UUID text, of any version.

    Raises:
        ValueError: Not 36 characters of lower-case hexadecimal with dashes after 8, 12, 16 and 20 digits.
    """
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except (ValueError, AttributeError, TypeError):
        raw = b""
    # Formatting it again is the exact test: fromhex and replace forgive blanks, case and stray dashes.
    if len(raw) == ID_BYTES and id_text(raw) == text:
        return raw
    raise ValueError(f"not an id: {text!r:.80}; expected UUID text such as '0190b8f2-5c3a-8d1e-9f00-3a5b7c9d1e2f'")


def _renew() -> None:
    global _prefix, next_number
    random = bytearray(os.urandom(PREFIX_BYTES))
    random[6] = 0x80 | (random[6] & 0x0F)
    _prefix = bytes(random)
    start = int.from_bytes(os.urandom(8), "big") & _START_MASK
    next_number = count(_VARIANT | start).__next__


_renew()
os.register_at_fork(after_in_child=_renew)
