"""What happened on the bus, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What happened on the bus since it started, in messages (but for `bad_frames`, `cut` and `runs`).

    Attributes:
        bad_frames: Frames that were malformed, or came from a route that is ignored.
        cut: Connections that were ended by the bus, as a message without an end came by them.
        deliveries: Sent to pods, once for each; a repetition after a broken connection is not counted.
        duplicates: Came again although the bus had them.
        garbled: Could not be delivered, as the body was not what its header said.
        given_up: Held by a pod that left, or the bus's own to a pod that takes nothing.
        handled: Reported as handled, once for each receiver.
        late_answers: Answers to a pod that is gone.
        messages: Taken from pods.
        missing: Jumped over by the numbers of a sender, which no pod of this package does.
        redeliveries: Given again, after a failure or the death of a pod.
        runs: Taken from pods.
        untold: Dead letters that became too many for an event each.
    """

    bad_frames: int = 0
    cut: int = 0
    deliveries: int = 0
    duplicates: int = 0
    garbled: int = 0
    given_up: int = 0
    handled: int = 0
    late_answers: int = 0
    messages: int = 0
    missing: int = 0
    redeliveries: int = 0
    runs: int = 0
    untold: int = 0
