"""Failed messages come again: soon after a success, and in order.

Part of the checkers; see `checkers.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from support.simulation.history import (
    BusKilled,
    Calmed,
    Dead,
    Delivered,
    Disturbed,
    Ended,
    Event,
    Failed,
    Handled,
    Leaving,
    Started,
    line,
)
from support.simulation.ledger import Ledger

IDLE_RETRY = 5.0
"""Seconds after which an idle pod is given its oldest failed message without a success."""


def flush(ledger: Ledger) -> Iterator[str]:
    """A success brings the failed messages back at once, not only when the pod has been idle for long.

    Needs Delivered, Failed, Handled, and Disturbed and Calmed for all that may delay a pod. A success counts if the
    message had not failed before; a failure, if the pod keeps it.
    """
    watches = {pod: _Watch(started) for pod, started in ledger.started.items() if started.concurrency == 1}
    by_account: dict[str, list[_Watch]] = defaultdict(list)
    for watch in watches.values():
        by_account[watch.started.account].append(watch)
    for index, event in enumerate(ledger.history):
        if isinstance(event, BusKilled):
            for watch in watches.values():
                watch.kept.clear()
        elif isinstance(event, Dead):
            for watch in by_account.get(event.target, ()):
                watch.kept.pop(event.uuid, None)
        else:
            watch_of_pod = watches.get(getattr(event, "pod", ""))
            late = watch_of_pod.note(event) if watch_of_pod is not None else 0.0
            if late:
                yield f"{index}: {line(event)} came {late:.1f} s after a success"


class _Watch:
    """What a pod has failed, each with the time of the success that brings it back."""

    def __init__(self, started: Started) -> None:
        self.started = started
        self.kept: dict[str, float] = {}
        self._attempt: dict[str, int] = {}
        self._disturbances: set[str] = set()
        self._busy_until = 0.0

    def note(self, event: Event) -> float:
        """Take an event of the pod; return how many seconds late it is, if it is too late."""
        if isinstance(event, Handled | Failed):
            self._busy_until = event.at
        match event:
            case Disturbed():
                self._disturbances.add(event.what)
            case Calmed():
                self._disturbances.discard(event.what)
                self.kept = dict.fromkeys(self.kept, float("inf"))
            case Delivered():
                self._attempt[event.uuid] = event.attempt
                due = max(self.kept.pop(event.uuid, float("inf")), self._busy_until)
                if event.at >= due + IDLE_RETRY and not self._disturbances:
                    return event.at - due
            case Failed():
                if not event.rejected and self._attempt.get(event.uuid, 1) < self.started.max_deliver:
                    self.kept[event.uuid] = float("inf")
            case Handled():
                if self._attempt.get(event.uuid, 1) == 1:
                    self.kept = {uuid: min(due, event.at) for uuid, due in self.kept.items()}
            case Ended() | Leaving():
                self.kept.clear()
            case _:
                pass
        return 0.0


def redelivery_order(ledger: Ledger) -> Iterator[str]:
    """Failed messages come again in the order in which they failed. Needs Delivered and Failed.

    Compared is what failed at one pod in one life of the bus, before its connection broke; with a concurrency of 1.
    Left out is what was sent to a second bus: a pod may fail it when that bus has not taken it yet.
    """
    failed_at: dict[str, dict[str, int]] = defaultdict(dict)
    newest: dict[str, int] = {}
    for index, event in ledger.of(BusKilled, Disturbed, Ended, Failed, Delivered):
        started = ledger.started.get(getattr(event, "pod", ""))
        if started is not None and started.concurrency > 1:
            continue
        match event:
            case BusKilled():
                failed_at.clear()
                newest.clear()
            case Disturbed() | Ended():
                failed_at.pop(event.pod, None)
                newest.pop(event.pod, None)
            case Failed():
                story = ledger.stories.get(event.uuid)
                if not event.rejected and (story is None or len(story.taken) <= 1):
                    failed_at[event.pod][event.uuid] = index
            case Delivered():
                before = failed_at[event.pod].pop(event.uuid, None)
                if before is None or not event.redelivered:
                    continue
                if before < newest.get(event.pod, 0):
                    yield f"{index}: {line(event)} failed at {before}, and a later failure came again before it"
                newest[event.pod] = max(newest.get(event.pod, 0), before)
            case _:
                pass
