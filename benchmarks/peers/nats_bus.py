"""A NATS server, and processes that talk over it with nats-py.

Data travels as it is, without a codec. A sender keeps no more than a window under way, as the server drops what a slow
client does not fetch.
"""
# What is optional may be missing when types are checked:
# pyright: basic, reportMissingImports=false

import asyncio
import collections.abc
import pathlib
import socket
import subprocess
import time
import typing

import nats

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
    ack_every,
    asked,
    is_enough,
    to_json,
    window,
)

ACK = "acknowledge"
START_LIMIT = 10.0


def bus(settings: dict[str, typing.Any]) -> None:
    """Start the server on a free port of the loopback, and end it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = pathlib.Path(settings["folder"]) / "nats.conf"
    configuration.write_text(f'listen: "127.0.0.1:{port}"\nmax_payload: 33554432\n', encoding="ascii")
    server = subprocess.Popen(["nats-server", "-c", str(configuration)], stderr=subprocess.DEVNULL)  # noqa: S607
    try:
        _wait_until_it_listens(port)
        worker.announce({"endpoint": f"nats://127.0.0.1:{port}", "pid": server.pid})
        worker.wait_for_end()
    finally:
        server.kill()
        server.wait()


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


Role = collections.abc.Callable[[dict[str, typing.Any]], typing.Coroutine[typing.Any, typing.Any, None]]


def in_loop(role: Role) -> collections.abc.Callable[[dict[str, typing.Any]], None]:
    """Return a role that runs in asyncio."""
    return lambda settings: asyncio.run(role(settings))


async def wait_for_go() -> None:
    """Wait for the parent's word without stopping the loop; the process ends when the parent does."""
    await asyncio.get_running_loop().run_in_executor(None, worker.wait_for_go)
    worker.end_with_parent()


async def receiver(settings: dict[str, typing.Any]) -> None:
    """Count messages until the end marker."""
    connection = await nats.connect(settings["endpoint"])
    every = ack_every(settings["size"])
    messages = size = 0
    finished = 0.0
    is_done = asyncio.Event()
    name = str(connection.client_id)

    async def take(message: typing.Any) -> None:
        nonlocal messages, size, finished
        if message.subject == END:
            finished = time.monotonic()
            is_done.set()
            return
        messages += 1
        size += len(message.data)
        if messages % every == 0:
            await connection.publish(ACK, f"{name} {messages}".encode())

    await connection.subscribe("bench.*", cb=take)
    await connection.flush()
    worker.announce({})
    await wait_for_go()
    await is_done.wait()
    worker.announce(to_json(Received(messages, size, finished)))
    await asyncio.Event().wait()


async def sender(settings: dict[str, typing.Any]) -> None:
    """Publish, never more than a window ahead of the slowest receiver."""
    connection = await nats.connect(settings["endpoint"], pending_size=window(settings["size"]) * settings["size"])
    acknowledged: dict[str, int] = {}
    has_news = asyncio.Event()

    async def note(message: typing.Any) -> None:
        name, _, count = message.data.decode().partition(" ")
        acknowledged[name] = int(count)
        has_news.set()

    await connection.subscribe(ACK, cb=note)
    await connection.flush()
    worker.announce({})
    await wait_for_go()
    data = b"x" * settings["size"]
    most = window(settings["size"])
    publish = connection.publish
    sent = 0
    pace = Pace(Load(**settings["load"]), settings["size"])
    while batch := pace.next_batch(sent):
        while True:
            has_news.clear()
            slowest = min(acknowledged.values()) if len(acknowledged) == settings["receivers"] else 0
            if sent + batch - slowest <= most:
                break
            await has_news.wait()
        for _ in range(batch):
            await publish(DATA, data)
        sent += batch
        await asyncio.sleep(0)
    await publish(END, b"")
    await connection.flush()
    worker.announce(to_json(Sent(sent, pace.started)))
    await asyncio.Event().wait()


async def answerer(settings: dict[str, typing.Any]) -> None:
    """Answer each question with its own data."""
    connection = await nats.connect(settings["endpoint"])

    async def answer(message: typing.Any) -> None:
        await message.respond(message.data)

    await connection.subscribe(QUESTION, cb=answer)
    await connection.flush()
    worker.announce({})
    await wait_for_go()
    await asyncio.Event().wait()


async def asker(settings: dict[str, typing.Any]) -> None:
    """Ask with so many tasks, each one question after the other."""
    connection = await nats.connect(settings["endpoint"])
    clock = time.perf_counter_ns
    times: list[int] = []

    async def ask_on(started: float, load: Load) -> None:
        while not is_enough(load, len(times), started):
            asked_at = clock()
            answer = await connection.request(QUESTION, PAYLOAD, timeout=10.0)
            if answer.data != PAYLOAD:
                raise RuntimeError("the answer is not what was asked")
            times.append(clock() - asked_at)

    async def ask_all(load: Load) -> float:
        started = time.monotonic()
        await asyncio.gather(*(ask_on(started, load) for _ in range(settings["outstanding"])))
        return time.monotonic() - started

    worker.announce({})
    await wait_for_go()
    await ask_all(Load(messages=WARM_UP))
    times.clear()
    elapsed = await ask_all(Load(**settings["load"]))
    worker.announce(to_json(asked(times, elapsed)))
    await asyncio.Event().wait()


if __name__ == "__main__":
    worker.main(
        {
            "bus": bus,
            "receiver": in_loop(receiver),
            "sender": in_loop(sender),
            "answerer": in_loop(answerer),
            "asker": in_loop(asker),
        }
    )
