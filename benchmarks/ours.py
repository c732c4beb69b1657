"""This framework's side, by its public names only: a node, and pods in processes that join its bus."""

import asyncio
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
from grav_actors import Actor, ActorRef, Grav, Message, on_type

ANSWERER = "answerer"


class Answerer(Actor):
    """Answers each question with its own data."""

    @on_type(QUESTION)
    def answer(self, msg: Message) -> bytes:
        """Return what was sent."""
        return typing.cast("bytes", msg.data)


def bus(_settings: dict[str, typing.Any]) -> None:
    """Be the node whose bus the others join."""
    with Grav() as grav:
        worker.announce({"endpoint": grav.bus_endpoint})
        worker.wait_for_end()


def receiver(settings: dict[str, typing.Any]) -> None:
    """Count messages until the end marker."""
    messages = size = 0
    finished = 0.0
    is_done = threading.Event()

    def receive(msg: Message) -> None:
        nonlocal messages, size, finished
        if msg.type == DATA:
            messages += 1
            size += len(msg.data)
        else:
            finished = time.monotonic()
            is_done.set()

    with Grav(bus=settings["endpoint"]) as grav:
        pod = grav.connect()
        pod.on_type("bench.*", receive)
        worker.announce({})
        worker.wait_for_go()
        is_done.wait()
        worker.announce(to_json(Received(messages, size, finished)))
        worker.wait_for_end()


def sender(settings: dict[str, typing.Any]) -> None:
    """Publish as fast as the pod takes it."""
    with Grav(bus=settings["endpoint"]) as grav:
        pod = grav.connect()
        publish = pod.publish
        worker.announce({})
        worker.wait_for_go()
        sent = 0
        pace = Pace(Load(**settings["load"]))
        while batch := pace.next_batch(sent):
            for _ in range(batch):
                publish(DATA, PAYLOAD)
            sent += batch
        publish(END, sent)
        worker.announce(to_json(Sent(sent, pace.started)))
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
    worker.main({"bus": bus, "receiver": receiver, "sender": sender, "answerer": answerer, "asker": asker})
