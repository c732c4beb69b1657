"""Everything that would differ from run to run, made to follow from a seed: ids, the time, and small limits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from unittest.mock import patch

from grav_actors import ids, message, protocol
from grav_actors.bus import (
    dead_letter_retry,
    directory,
    ledger,
    mailbox,
    mailroom,
    membership,
    postman,
    receiver,
    replay,
    sender,
    shelf,
)
from grav_actors.pod import core as pod_core
from grav_actors.pod import outbox

FIRST_COUNT = 0b10 << 62
"""What the lower half of an id begins with: its variant bits."""


@contextmanager
def seeded_ids(clock: Callable[[], float]) -> Generator[None]:
    """Make ids count from one, and messages take their time from `clock` (seconds)."""
    with (
        patch.object(ids, "_prefix", process_prefix(0)),
        patch.object(ids, "next_number", count(FIRST_COUNT).__next__),
        patch.object(message, "time_ns", lambda: int(clock() * 1e9)),
    ):
        yield


def process_prefix(number: int) -> bytes:
    """Return the first half of all ids of a simulated process."""
    return bytes((0, 0, 0, 0, 0, 0, 0x80, number & 0xFF)) if number < 256 else number.to_bytes(8, "big")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that no short history would reach, unless they are made smaller.

    Attributes:
        window: Messages that a sender may have sent and the bus not accepted.
        frame: Messages in one frame.
        retained: Messages that a sender keeps until they are settled.
        shelved: Dead letters that are kept.
        held_bytes: Unsettled bytes at which the bus gives no credit.
        window_bytes, run_bytes, retained_bytes, shelved_bytes: The same in bytes.
        mailbox_bytes, answer_bytes, ring_bytes: Bytes in a mailbox, of answers to a pod, and in the replay ring.
        listed: Ranges in a watermark.
        failures: Failures in one.
    """

    window: int = protocol.WINDOW_MESSAGES
    frame: int = protocol.MAX_RUN_MESSAGES
    retained: int = protocol.RETAIN_MESSAGES
    shelved: int = shelf.SHELF_MESSAGES
    held_bytes: int = ledger.HELD_BYTES
    window_bytes: int = protocol.WINDOW_BYTES
    run_bytes: int = protocol.MAX_RUN_BYTES
    retained_bytes: int = protocol.RETAIN_BYTES
    shelved_bytes: int = shelf.SHELF_BYTES
    mailbox_bytes: int = mailbox.MAILBOX_BYTES
    answer_bytes: int = receiver.ANSWERS_BYTES
    ring_bytes: int = replay.RING_BYTES
    listed: int = protocol.MAX_OPEN_RANGES
    failures: int = protocol.MAX_FAILURES

    @contextmanager
    def applied(self) -> Generator[None]:
        """Have the cores keep these limits."""
        values = {
            "WINDOW_MESSAGES": ((outbox, membership, sender), self.window),
            "MAX_RUN_MESSAGES": ((outbox, receiver, sender), self.frame),
            "RETAIN_MESSAGES": ((outbox, sender), self.retained),
            "SHELF_MESSAGES": ((shelf,), self.shelved),
            "HELD_BYTES": ((ledger,), self.held_bytes),
            "WINDOW_BYTES": ((outbox, membership, sender, receiver, directory), self.window_bytes),
            "MAX_RUN_BYTES": ((outbox, receiver, postman), self.run_bytes),
            "RETAIN_BYTES": ((outbox, sender), self.retained_bytes),
            "SHELF_BYTES": ((shelf,), self.shelved_bytes),
            "MAILBOX_BYTES": ((mailbox, mailroom, receiver, dead_letter_retry), self.mailbox_bytes),
            "ANSWERS_BYTES": ((postman, receiver), self.answer_bytes),
            "RING_BYTES": ((replay,), self.ring_bytes),
            "MAX_OPEN_RANGES": ((sender, pod_core), self.listed),
            "MAX_FAILURES": ((pod_core,), self.failures),
            "WINDOWS_TAKEN": ((sender,), 1),  # pods of this package need no second one
        }
        with ExitStack() as stack:
            for name, (modules, value) in values.items():
                for module in modules:
                    stack.enter_context(patch.object(module, name, value))
            yield
