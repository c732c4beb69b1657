"""What is done while work is counted: each scene has a unit, for which its work is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grav_actors.message import Message
from grav_actors.pod.pod import Pod
from grav_actors.protocol import MAX_RUN_MESSAGES, REPLY_TYPE
from support.work.rig import CROWD, Member, Rig, Script

TYPE = "work.data"
DATA = b"x" * 100
RUNS = 2
"""Full runs of a scene that are counted; one more goes before, uncounted, and fills the caches."""
WARM_UP = 10
SINGLE = 40
"""Messages that travel alone."""
FANOUT = 10
IDLE = 300
"""Pods that want something else, each with patterns."""
PATTERNS = 10
TYPES = 10


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene.

    Attributes:
        units: For each part that matters here, what its work is divided by, and how many of them there are.
    """

    name: str
    units: dict[str, tuple[str, int]]
    script: Callable[[Rig], Script]


def _ignore(pod: Pod, message: Message) -> None:
    """Handle a message."""


def _publish(rig: Rig, sender: Member, count: int, types: list[str]) -> None:
    names = [types[index % len(types)] for index in range(count)]
    with rig.meter.part("sender"):
        publish = sender.pod.publish
        for name in names:
            publish(name, DATA)
        rig.flush(sender)


def _stream(rig: Rig, receivers: int, crowd: int = 0, types: int = 1) -> Script:
    """Full runs from one pod to others; of several types, each message has another one than the one before."""
    names = [f"{TYPE}{index or ''}" for index in range(types)]
    sender = rig.join("sender")
    for _ in range(receivers):
        rig.join("receiver", "work.*", handler=_ignore)
    for index in range(crowd):
        rig.join(CROWD, f"idle.{index}", *(f"other.{index}.{other}.*" for other in range(PATTERNS)))
    yield
    for turn in range(1 + RUNS):
        if turn > 0:
            rig.begin()
        _publish(rig, sender, MAX_RUN_MESSAGES, names)
        yield


def _single(rig: Rig) -> Script:
    """Messages that travel alone, one after the other."""
    sender = rig.join("sender")
    rig.join("receiver", "work.*", handler=_ignore)
    yield
    for turn in range(WARM_UP + SINGLE):
        if turn >= WARM_UP:
            rig.begin()
        _publish(rig, sender, 1, [TYPE])
        yield


def _question(rig: Rig) -> Script:
    """Questions that are published, one after the other, each answered."""
    asker = rig.join("sender")
    rig.join("receiver", TYPE, handler=lambda pod, message: pod.reply_to(message, Message(TYPE, message.data)))
    yield from _ask(rig, asker, None)


def _ask_actor(rig: Rig) -> Script:
    """Questions to an actor, one after the other, each answered."""
    asker = rig.join("sender")
    rig.join("receiver", handler=lambda pod, message: pod._answer(message, REPLY_TYPE, message.data), actor="answerer")
    yield from _ask(rig, asker, "answerer")


def _ask(rig: Rig, asker: Member, to: str | None) -> Script:
    yield
    for turn in range(WARM_UP + SINGLE):
        if turn >= WARM_UP:
            rig.begin()
        with rig.meter.part("sender"):
            question = asker.pod._ask(TYPE, DATA, to, b"")
        yield
        if question.waiter.result() != DATA:
            raise AssertionError("the answer is not what was asked")


def scenes() -> list[Scene]:
    """Return all scenes."""
    messages = ("message", RUNS * MAX_RUN_MESSAGES)
    runs = ("run", RUNS)
    single = ("message", SINGLE)
    question = ("question", SINGLE)
    return [
        Scene("stream", {"sender": messages, "bus": runs, "receiver": messages}, lambda rig: _stream(rig, 1)),
        Scene("fanout", {"bus": ("run and receiver", RUNS * FANOUT)}, lambda rig: _stream(rig, FANOUT)),
        Scene("crowd", {"bus": runs}, lambda rig: _stream(rig, 1, IDLE)),
        Scene(
            "types",
            {"sender": messages, "bus": messages, "receiver": messages},
            lambda rig: _stream(rig, 1, types=TYPES),
        ),
        Scene("single", {"sender": single, "bus": single, "receiver": single}, _single),
        Scene("question", {"sender": question, "bus": question, "receiver": question}, _question),
        Scene("ask", {"sender": question, "bus": question, "receiver": question}, _ask_actor),
    ]
