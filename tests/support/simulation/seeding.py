"""Everything that would differ from run to run, made to follow from a seed: ids, the time, and small limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from unittest.mock import patch

from grav_actors import ids, message
from grav_actors.bus import core as bus_core
from grav_actors.bus import postman, receiver, sender, shelf
from grav_actors.pod import core as pod_core
from grav_actors.pod import outbox

FIRST_COUNT = 0b10 << 62
"""What the lower half of an id begins with: its variant bits."""


@contextmanager
def seeded_ids(clock: Callable[[], float]) -> Iterator[None]:
    """Make ids count from one, and messages take their time from `clock` (seconds)."""
    with (
        patch.object(ids, "_prefix", process_prefix(0)),
        patch.object(ids, "_next_count", count(FIRST_COUNT).__next__),
        patch.object(message, "time_ns", lambda: int(clock() * 1e9)),
    ):
        yield


def process_prefix(number: int) -> bytes:
    """Return the first half of all ids of a simulated process."""
    return bytes((0, 0, 0, 0, 0, 0, 0x80, number & 0xFF)) if number < 256 else number.to_bytes(8, "big")


@contextmanager
def small_limits(*, window: int, frame: int, shelved: int, held_bytes: int) -> Iterator[None]:
    """Shrink limits that no short history would reach.

    Args:
        window: Messages that a sender may have sent and the bus not accepted.
        frame: Messages in one frame.
        shelved: Dead letters that are kept.
        held_bytes: Unsettled bytes at which the bus gives no credit.
    """
    with ExitStack() as stack:
        for module in (outbox, bus_core, sender):
            stack.enter_context(patch.object(module, "WINDOW_MESSAGES", window))
        for module in (outbox, receiver):
            stack.enter_context(patch.object(module, "MAX_RUN_MESSAGES", frame))
        stack.enter_context(patch.object(outbox, "RETAIN_MESSAGES", window * 4))
        stack.enter_context(patch.object(sender, "MAX_OPEN_RANGES", 3))
        stack.enter_context(patch.object(pod_core, "MAX_OPEN_RANGES", 3))
        stack.enter_context(patch.object(pod_core, "MAX_FAILURES", 2))
        stack.enter_context(patch.object(sender, "SCANNED_RUNS", 8))
        stack.enter_context(patch.object(shelf, "SHELF_MESSAGES", shelved))
        stack.enter_context(patch.object(postman, "HELD_BYTES", held_bytes))
        yield
