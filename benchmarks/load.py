"""Parts of the memory and neighbour measurements, each in a process of its own; see `benchmarks.memory`."""

import threading
import time
import typing

from benchmarks import worker
from benchmarks.workload import CHECK_EVERY
from grav_actors import Grav, Message


def bus(_settings: dict[str, typing.Any]) -> None:
    """Be the node; say which process its bus is, and its counters when it ends."""
    with Grav() as grav:
        pid = grav._bus.pid if grav._bus is not None else 0
        worker.announce({"endpoint": grav.bus_endpoint, "pid": pid})
        worker.wait_for_go()
        worker.announce(grav.stats())
        worker.wait_for_end()


def listener(settings: dict[str, typing.Any]) -> None:
    """Count the messages of a type; with `hangs` never come back from the first."""
    count = 0
    latencies: list[int] = []
    is_over = threading.Event()

    def receive(msg: Message) -> None:
        nonlocal count
        count += 1
        if settings.get("hangs"):
            is_over.wait()
        if settings.get("is_timed"):
            latencies.append(time.monotonic_ns() - msg.data)

    with Grav(bus=settings["endpoint"]) as grav:
        pod = grav.connect()
        pod.on_type(settings["type"], receive)
        worker.announce({})
        worker.wait_for_go()
        is_over.set()
        latencies.sort()
        p50, p99 = (latencies[len(latencies) * part // 100] / 1000 if latencies else 0.0 for part in (50, 99))
        worker.announce({"messages": count, "p50": p50, "p99": p99})
        worker.wait_for_end()


def flooder(settings: dict[str, typing.Any]) -> None:
    """Publish as fast as the pod takes it, for a time or a number of messages; `first` is sent before."""
    data = bytes(settings["size"])
    with Grav(bus=settings["endpoint"]) as grav:
        pod = grav.connect()
        worker.announce({})
        worker.wait_for_go()
        if settings.get("first"):
            pod.publish(settings["first"])
        publish, message_type = pod.publish, settings["type"]
        begin = time.monotonic()
        sent = 0
        while (
            (sent < settings["messages"]) if settings["messages"] else (time.monotonic() - begin < settings["seconds"])
        ):
            for _ in range(CHECK_EVERY):
                publish(message_type, data)
            sent += CHECK_EVERY
        seconds = time.monotonic() - begin
        if not settings.get("first"):
            pod.flush(60.0, settled=True)
        outbox = pod._core.outbox
        kept = {"kept_messages": outbox.retained_messages, "kept_bytes": outbox.retained_bytes}
        deadline = time.monotonic() + 60.0
        # The first is never settled, but all others are in the end.
        while (
            settings.get("is_handled") and outbox.retained_messages + outbox.queued > 1 and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        worker.announce({"messages": sent, "seconds": seconds, **kept})
        worker.wait_for_end()


def metronome(settings: dict[str, typing.Any]) -> None:
    """Publish `rate` messages a second with the time at which each was sent."""
    interval = 1 / settings["rate"]
    with Grav(bus=settings["endpoint"]) as grav:
        pod = grav.connect()
        worker.announce({})
        worker.wait_for_go()
        begin = time.monotonic()
        sent = 0
        while (due := begin + sent * interval) < begin + settings["seconds"]:
            time.sleep(max(0.0, due - time.monotonic()))
            pod.publish(settings["type"], time.monotonic_ns())
            sent += 1
        pod.flush(60.0, settled=True)
        worker.announce({"messages": sent})
        worker.wait_for_end()


def visitor(settings: dict[str, typing.Any]) -> None:
    """Connect, publish one message and disconnect, so many times; with a connection of its own every 100th time."""
    worker.announce({})
    worker.wait_for_go()
    left = settings["times"]
    while left > 0:
        with Grav(bus=settings["endpoint"]) as grav:
            for _ in range(min(left, 100)):
                with grav.connect() as pod:
                    pod.publish(settings["type"], left)
                left -= 1
    worker.announce({"messages": settings["times"]})
    worker.wait_for_end()


if __name__ == "__main__":
    worker.main({"bus": bus, "listener": listener, "flooder": flooder, "metronome": metronome, "visitor": visitor})
