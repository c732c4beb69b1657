"""This framework's side, by its public names only: a node, and pods in processes that join its bus."""

import asyncio
import contextlib
import threading
import time
import typing

from benchmarks import worker
from benchmarks.workload import (
    DATA,
    END,
    PAYLOAD,
    QUESTION,
    WARM_UP,
    Load,
    Pace,
    Received,
    Sent,
    asked,
    is_enough,
    to_json,
)
from grav_actors import Actor, ActorRef, Grav, Message, Pod, on_type

ANSWERER = "answerer"
MAX_MESSAGE = 1024 * 1024
CROWD_LINKS = 10
"""Connections over which idle pods are spread."""


class Answerer(Actor):
    """Answers each question with its own data."""

    @on_type(QUESTION)
    def answer(self, msg: Message) -> bytes:
        """Return what was sent."""
        return typing.cast("bytes", msg.data)


def bus(settings: dict[str, typing.Any]) -> None:
    """Be the node whose bus the others join, and say which process that bus is."""
    with Grav(max_message=settings.get("max_message", MAX_MESSAGE)) as grav:
        worker.announce({"endpoint": grav.bus_endpoint, "pid": grav._bus.pid if grav._bus is not None else None})
        worker.wait_for_end()


def receiver(settings: dict[str, typing.Any]) -> None:
    """Count messages until the end marker."""
    with Grav(bus=settings["endpoint"]) as grav:
        counters = [Counter() for _ in range(settings.get("pods", 1))]
        for counter in counters:
            pod = grav.connect()
            pod.on_type("bench.*", counter.take)
            for index in range(settings.get("patterns", 0)):
                pod.filter_type(f"other.{index}.*", allow=False)
        worker.announce({"pods": len(counters)})
        worker.wait_for_go()
        reports = [counter.wait() for counter in counters]
        report = Received(
            sum(one.messages for one in reports),
            sum(one.size for one in reports),
            max(one.finished for one in reports),
        )
        worker.announce(to_json(report))
        worker.wait_for_end()


class Counter:
    """Counts the messages of one pod until the end marker."""

    def __init__(self) -> None:
        self._messages = self._size = 0
        self._finished = 0.0
        self._is_done = threading.Event()

    def take(self, msg: Message) -> None:
        """Take one message."""
        if msg.type == END:
            self._finished = time.monotonic()
            self._is_done.set()
        else:
            self._messages += 1
            self._size += len(msg.data)

    def wait(self) -> Received:
        """Return what came, when the end marker has come."""
        self._is_done.wait()
        return Received(self._messages, self._size, self._finished)


def crowd(settings: dict[str, typing.Any]) -> None:
    """Be pods that want other types, each its own and so many patterns besides; over a few connections."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(Grav(bus=settings["endpoint"])) for _ in range(CROWD_LINKS)]
        for index in range(settings["idle"]):
            pod = nodes[index % CROWD_LINKS].connect()
            pod.on_type(f"idle.{index}", _ignore)
            for other in range(settings.get("patterns", 0)):
                pod.filter_type(f"other.{index}.{other}.*", allow=True)
        worker.announce({})
        worker.wait_for_end()


def _ignore(message: Message) -> None:
    """Take a message that never comes."""


def throughput(settings: dict[str, typing.Any]) -> None:
    """Send from the main thread of a process to a pod of the same process, over the bus."""
    counter = Counter()
    with Grav() as grav:
        grav.connect().on_type("bench.*", counter.take)
        pod = grav.connect()
        worker.announce({})
        worker.wait_for_go()
        sent = publish(pod, settings)
        worker.announce({"sent": to_json(sent), "received": [to_json(counter.wait())]})
        worker.wait_for_end()


def publish(pod: Pod, settings: dict[str, typing.Any]) -> Sent:
    """Publish as fast as the pod takes it, then the end marker."""
    send = pod.publish
    data = b"x" * settings["size"]
    names = [f"bench.t{index}" for index in range(settings.get("types", 0))] or [DATA]
    stretch = settings.get("stretch", 1)
    sent = 0
    pace = Pace(Load(**settings["load"]), settings["size"])
    while batch := pace.next_batch(sent):
        if len(names) == 1:
            for _ in range(batch):
                send(DATA, data)
        else:
            for number in range(sent, sent + batch):
                send(names[number // stretch % len(names)], data)
        sent += batch
    send(END, sent)
    return Sent(sent, pace.started)


def sender(settings: dict[str, typing.Any]) -> None:
    """Publish as fast as the pod takes it."""
    with Grav(bus=settings["endpoint"]) as grav:
        pod = grav.connect()
        worker.announce({})
        worker.wait_for_go()
        worker.announce(to_json(publish(pod, settings)))
        worker.wait_for_end()


def answerer(settings: dict[str, typing.Any]) -> None:
    """Host the actor that answers."""
    with Grav(bus=settings["endpoint"]) as grav:
        grav.spawn(Answerer, name=ANSWERER, kind="thread")
        worker.announce({})
        worker.wait_for_go()
        worker.wait_for_end()


def asker(settings: dict[str, typing.Any]) -> None:
    """Ask one at a time with the blocking call, or many at once with the one for asyncio."""
    outstanding: int = settings["outstanding"]
    load = Load(**settings["load"])
    with Grav(bus=settings["endpoint"]) as grav:
        target = grav.actor(ANSWERER)
        worker.announce({})
        worker.wait_for_go()
        if outstanding == 1:
            times, elapsed = _ask_one_by_one(target, load)
        else:
            times, elapsed = asyncio.run(_ask_together(target, load, outstanding))
        worker.announce(to_json(asked(times, elapsed)))
        worker.wait_for_end()


def _ask_one_by_one(target: ActorRef, load: Load) -> tuple[list[int], float]:
    """Return what each question took, in nanoseconds, and the time of all."""
    clock = time.perf_counter_ns
    for _ in range(WARM_UP):
        target.ask(QUESTION, PAYLOAD)
    times: list[int] = []
    started = time.monotonic()
    while not is_enough(load, len(times), started):
        asked_at = clock()
        if target.ask(QUESTION, PAYLOAD) != PAYLOAD:
            raise RuntimeError("the answer is not what was asked")
        times.append(clock() - asked_at)
    return times, time.monotonic() - started


async def _ask_together(target: ActorRef, load: Load, outstanding: int) -> tuple[list[int], float]:
    """Do the same with so many tasks, each asking one question after the other."""
    clock = time.perf_counter_ns
    times: list[int] = []

    async def ask_on(started: float, load: Load) -> None:
        while not is_enough(load, len(times), started):
            asked_at = clock()
            if await target.ask_async(QUESTION, PAYLOAD) != PAYLOAD:
                raise RuntimeError("the answer is not what was asked")
            times.append(clock() - asked_at)

    async def ask_all(load: Load) -> float:
        started = time.monotonic()
        await asyncio.gather(*(ask_on(started, load) for _ in range(outstanding)))
        return time.monotonic() - started

    await ask_all(Load(messages=WARM_UP))
    times.clear()
    return times, await ask_all(load)


if __name__ == "__main__":
    worker.main(
        {
            "bus": bus,
            "receiver": receiver,
            "crowd": crowd,
            "sender": sender,
            "throughput": throughput,
            "answerer": answerer,
            "asker": asker,
        }
    )
