"""The storm itself: load, kills, the calm after them, and what the record says."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grav_actors import Backoff, Child, Grav, Message, Pod
from support.simulation.checkers import violations
from support.simulation.history import (
    BusKilled,
    BusStarted,
    Delivered,
    Ended,
    Event,
    Handled,
    Quiet,
    Sent,
    Settled,
    line,
)
from support.simulation.ledger import Ledger, Story
from support.storm.actors import Listener, Relay, Worker, note_delivered, note_start, send
from support.storm.record import Recorder, process, read_history

SETTLE_LIMIT = 120.0
"""Seconds after the last kill within which everything must be settled."""
BUS_SHARE = 3
"""How often the bus is killed, compared with any one of the six process actors."""
BURST = 20
"""Messages that a sender sends in a row, before it pauses."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one storm.

    Attributes:
        seconds: Until the last kill.
        kills: By what was killed.
        problems: What must not be; none in a good storm.
    """

    seconds: float
    sent: int
    delivered: int
    redelivered: int
    kills: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{name} {count}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.seconds:.0f} s, {self.sent:,} sent, {self.delivered:,} deliveries ({self.redelivered:,} flagged), "
            f"{sum(self.kills.values())} kills ({kills}), {len(self.problems)} problems"
        )


class Storm:
    """A node with listeners, a group of workers and a relay, which two pods keep busy.

    Args:
        folder: For the record; empty.
        rate: Messages a second that each of the two senders sends.
        seed: Decides who is killed when.
    """

    def __init__(self, folder: Path, *, rate: float, seed: int) -> None:
        self._folder = folder
        self._rate = rate
        self._random = random.Random(seed)
        self._recorder = Recorder(folder, "main")
        self._is_over = threading.Event()
        self._kills: Counter[str] = Counter()
        self._errors: list[str] = []

    def run(self, seconds: float, interval: float = 1.0) -> Report:
        """Let it rage for so long, with a kill in each interval, wait for the calm, and look at the record."""
        with Grav(max_restarts=1000, backoff=Backoff(first=0, max=0)) as grav:
            self._start(grav)
            senders = [grav.connect(f"sender-{number}") for number in range(2)]
            for pod in senders:
                note_start(self._recorder, pod, pod.name)
            threads = [threading.Thread(target=self._send, args=(pod,), name=f"storm-{pod.name}") for pod in senders]
            for thread in threads:
                thread.start()
            begin = time.monotonic()
            try:
                end = begin + seconds
                while (left := end - time.monotonic()) > 0:
                    self._is_over.wait(min(left, interval * self._random.uniform(0.5, 1.5)))
                    self._kill(grav)
            finally:
                raged = time.monotonic() - begin
                self._is_over.set()
                for thread in threads:
                    thread.join()
            for pod in senders:
                pod.flush(SETTLE_LIMIT, settled=True)
            self._await_rest(grav)
            dead = grav.stats()["dead_letters"]
        self._recorder.close()
        return self._report(raged, {reason: count for reason, count in dead.items() if count})

    # Load

    def _start(self, grav: Grav) -> None:
        folder = str(self._folder)
        self._recorder.note(BusStarted)
        for number in range(2):
            grav.spawn(Child(Listener, name=f"listener-{number}", args=(folder,)))
        grav.spawn(Child(Worker, name="worker", args=(folder,), instances=3))
        grav.spawn(Child(Relay, name="relay", args=(folder,)))
        grav.spawn(Child(Listener, name="thread", args=(folder,), kind="thread"))
        pod = grav.connect("living")

        def take(message: Message) -> None:
            note_delivered(self._recorder, pod, message)
            self._recorder.note(Handled, pod.uuid, message.uuid)

        pod.on_type("storm.>", take)
        note_start(self._recorder, pod, pod.name)

    def _send(self, pod: Pod) -> None:
        uuids: list[str] = []
        number = 0
        try:
            due = time.monotonic()
            while not self._is_over.wait(max(0.0, due - time.monotonic())):
                due += BURST / self._rate
                for _ in range(BURST):
                    dest = "relay" if number % 4 == 3 else ""
                    message = Message(("storm.news", "storm.work", "storm.work", "told")[number % 4], number)
                    send(self._recorder, pod, message, dest=dest)
                    uuids.append(message.uuid)
                    number += 1
            pod.flush(SETTLE_LIMIT, settled=True)
        except Exception as exc:
            self._errors.append(f"{pod.name} could not go on after {number} messages: {exc!r}")
        else:
            for uuid in uuids:
                self._recorder.note(Settled, uuid)

    # Kills

    def _kill(self, grav: Grav) -> None:
        """Kill the bus or an actor, unless the one whose turn it is has not come back from the last time."""
        rows = {row["name"]: row for row in grav._runner.rows() if row["kind"] == "process"}
        target = self._random.choice(["bus"] * BUS_SHARE + sorted(rows))
        if target == "bus":
            pid = grav._bus.pid if grav._bus is not None and grav._bus.is_alive() else None
        else:
            pid = rows[target]["pid"] if rows[target]["state"] == "ready" else None
        if pid is None:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            os.kill(pid, signal.SIGKILL)
            select.select([descriptor], [], [])
        finally:
            os.close(descriptor)
        self._kills[target.partition("-")[0]] += 1
        if target == "bus":
            self._recorder.note(BusKilled)
        else:
            self._recorder.note(Ended, process(pid), "killed")

    def _await_rest(self, grav: Grav) -> None:
        """Return when nothing is under way: no mailbox holds anything, nor is anything open."""
        deadline = time.monotonic() + SETTLE_LIMIT
        while (stats := grav.stats())["mailboxes"] or stats["held_bytes"]:
            if time.monotonic() > deadline:
                self._errors.append(f"it does not come to rest: {stats}")
                return
        self._recorder.note(Quiet)

    # The record

    def _report(self, seconds: float, dead: dict[str, int]) -> Report:
        history = read_history(self._folder)
        problems = [*self._errors, *(str(violation) for violation in violations(history)), *effects(history)]
        if dead:
            problems.append(f"dead letters: {dead}")
        delivered = [event for event in history if isinstance(event, Delivered)]
        flagged = sum(event.redelivered for event in delivered)
        sent = sum(isinstance(event, Sent) for event in history)
        return Report(seconds, sent, len(delivered), flagged, self._kills, problems)


def effects(history: Sequence[Event]) -> Iterator[str]:
    """Yield what the relay was told and made nothing of that all have handled.

    It acknowledges nothing before what its handler has sent, and so a kill costs no effect. Excused, by the
    design: an effect whose relay is gone when the bus, too, is killed before all have handled it.
    """
    ledger = Ledger(history)
    audience = {account for account in ledger.names if account.startswith(("listener", "thread", "living"))}
    made: dict[str, list[Story]] = defaultdict(list)
    for story in ledger.stories.values():
        if story.sent.cause:
            made[story.sent.cause].append(story)
    for uuid, story in ledger.stories.items():
        if story.sent.kind == "tell" and not any(
            {ledger.account(handled.pod) for _, handled in effect.handled} >= audience or _is_excused(ledger, effect)
            for effect in made[uuid]
        ):
            yield f"effects: no effect that all have handled of {line(story.sent)}"


def _is_excused(ledger: Ledger, effect: Story) -> bool:
    return effect.sent.pod in ledger.ended and any(kill > effect.index for kill in ledger.kills)
