"""Actors of a storm: each writes down what its handlers are given."""

from __future__ import annotations

import time
from typing import Any

from grav_actors import Actor, Message, on_type
from grav_actors.ids import id_text
from grav_actors.pod.pod import Pod
from support.simulation.history import Delivered, Handled, Joined, Sent, Settled, Started
from support.storm.record import Recorder

SETTLE_LIMIT = 4.0
"""Seconds that an actor which is stopped waits until what it sent is settled; all that handle it run yet."""


def note_start(recorder: Recorder, pod: Pod, account: str, *, at: float | None = None) -> None:
    """Write down that a pod has joined with the filter that it has now."""
    settings = pod._core.settings
    filters = pod._core.filters.to_wire()
    supervised = bool(settings.supervisor)
    fields = (pod.uuid, account, filters, settings.group, settings.service, supervised, settings.incarnation)
    recorder.note(Started, *fields, at=at)
    recorder.note(Joined, pod.uuid, at=at)


def note_delivered(recorder: Recorder, pod: Pod, message: Message) -> None:
    """Write down a call of a handler."""
    origin = message._origin
    assert origin is not None
    sender = id_text(origin.sender)
    recorder.note(Delivered, pod.uuid, message.uuid, sender, message.type, message.redelivered, message.attempt)


class Recording(Actor):
    """Writes down what it is given.

    Args:
        folder: Where the records of the storm are.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.sent: list[str] = []

    @property
    def pod(self) -> Pod:
        return self._runtime.pod

    def on_start(self) -> None:
        self.recorder = Recorder(self.folder, self.name)
        note_start(self.recorder, self.pod, self.name)

    def on_stop(self, reason: str) -> None:
        self.pod.flush(SETTLE_LIMIT, settled=True)
        for uuid in self.sent:
            self.recorder.note(Settled, uuid)
        self.recorder.close()

    def take(self, message: Message) -> None:
        note_delivered(self.recorder, self.pod, message)
        self.work(message)
        self.recorder.note(Handled, self.pod.uuid, message.uuid)

    def work(self, message: Message) -> None:
        """What subclasses do with a message."""


class Listener(Recording):
    """Takes everything that is published in the storm, and what relays make of it."""

    @on_type("storm.>")
    def on_message(self, msg: Message) -> None:
        self.take(msg)


class Worker(Recording):
    """One of a group, which shares the work; each piece takes a while."""

    group = "workers"
    prefetch = 8

    @on_type("storm.work")
    def on_message(self, msg: Message) -> None:
        self.take(msg)

    def work(self, message: Message) -> None:
        end = time.monotonic() + 0.0005
        while time.monotonic() < end:  # computing, as opposed to sleeping
            pass


class Relay(Recording):
    """Publishes an effect of everything that it is told."""

    @on_type("told")
    def on_message(self, msg: Message) -> None:
        self.take(msg)

    def work(self, message: Message) -> None:
        effect = Message("storm.effect", message.data, parent_id=message.uuid)
        send(self.recorder, self.pod, effect, cause=message.uuid)
        self.sent.append(effect.uuid)


def send(recorder: Recorder, pod: Pod, message: Message, *, dest: str = "", cause: str = "") -> Any:
    """Write down a message, and send it: what is killed between the two was not accepted."""
    kind = "tell" if dest else "publish"
    seq = pod._core.outbox.next_seq
    recorder.note(Sent, pod.uuid, seq, message.uuid, message.type, kind, dest, cause)
    return pod._tell(dest, message) if dest else pod.send(message)
