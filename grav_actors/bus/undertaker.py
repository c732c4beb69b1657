"""Deliveries that nobody will handle: dead letters, errors for questions, or counted."""

from __future__ import annotations

from collections.abc import Iterable

from grav_actors.bus.counts import Counts
from grav_actors.bus.herald import Herald
from grav_actors.bus.ledger import Ledger
from grav_actors.bus.run import Delivery
from grav_actors.bus.shelf import DeadLetter, Shelf
from grav_actors.protocol import KIND_ANSWER, QUESTION_KINDS

DEAD = "grav.sys.dead"
"""The event that tells of a dead letter."""


class Undertaker:
    """Ends deliveries. Whoever calls it has taken them out of their mailbox or window."""

    def __init__(self, ledger: Ledger, herald: Herald, counts: Counts) -> None:
        self.shelf = Shelf()
        self._ledger = ledger
        self._herald = herald
        self._counts = counts

    def bury(
        self, delivery: Delivery, reason: str, target: str, now: float, attempts: int = 0, error: str = ""
    ) -> None:
        """End a delivery as a dead letter; a question ends in an error for its asker instead."""
        run = delivery.run
        count = delivery.count
        if run.kind in QUESTION_KINDS:
            code = "overflow" if reason == "overflow" else "stopped"
            self._herald.answer_error(delivery, code, f"{target}: {reason}")
        elif run.kind == KIND_ANSWER:
            self._counts.late_answers += count
        elif run.type.startswith("grav.sys."):
            self._counts.given_up += count  # never a dead letter of a dead letter
        else:
            self.shelf.add(DeadLetter(delivery.piece(delivery.lo, delivery.hi), reason, target, attempts, error))
            data = {
                "reason": reason, "target": target, "attempts": attempts, "error": error, "type": run.type,
                "count": count,
            }  # fmt: skip
            self._herald.announce(DEAD, data)
        self._ledger.settle(run, count)

    def abandon(self, deliveries: Iterable[Delivery], reason: str, target: str, now: float) -> None:
        """End deliveries that nobody will handle; with the reason "" they are only counted."""
        for delivery in deliveries:
            if reason or delivery.run.kind in QUESTION_KINDS:
                self.bury(delivery, reason or "stopping", target, now, delivery.attempt - 1)
            else:
                self._counts.given_up += delivery.count
                self._ledger.settle(delivery.run, delivery.count)
