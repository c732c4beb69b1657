"""xoscar actors, in two processes of one pool. Arguments of calls are pickled.

A sender keeps so many calls open as a window of tasks allows; each call is answered.
"""
# What is optional may be missing when types are checked:
# pyright: basic, reportMissingImports=false

import asyncio
import time
import typing

import xoscar

from benchmarks import worker
from benchmarks.workload import PAYLOAD, WARM_UP, Load, Pace, Received, Sent, asked, batch, is_enough, to_json


class Receiver(xoscar.Actor):
    """Counts, and sends back what it is asked."""

    def __init__(self) -> None:
        self.messages = self.size = 0

    async def take(self, data: bytes) -> None:
        """Take one message."""
        self.messages += 1
        self.size += len(data)

    async def report(self) -> dict[str, typing.Any]:
        """Return what came."""
        return to_json(Received(self.messages, self.size, time.monotonic()))

    async def echo(self, data: bytes) -> bytes:
        """Answer a question with its own data."""
        return data


class Sender(xoscar.Actor):
    """Sends, and asks."""

    def __init__(self, target: typing.Any) -> None:
        self.target = target

    async def send(self, load: dict[str, typing.Any], size: int) -> dict[str, typing.Any]:
        """Send as long as it shall; return both reports."""
        data, sent = b"x" * size, 0
        pace = Pace(Load(**load), size)
        while pace.next_batch(sent):
            await asyncio.gather(*(self.target.take(data) for _ in range(batch(size))))
            sent += batch(size)
        return {"sent": to_json(Sent(sent, pace.started)), "received": [await self.target.report()]}

    async def ask(self, load: dict[str, typing.Any], outstanding: int) -> dict[str, typing.Any]:
        """Ask with so many tasks, each one question after the other; return the report."""
        times: list[int] = []

        async def ask_on(started: float, load: Load) -> None:
            while not is_enough(load, len(times), started):
                asked_at = time.perf_counter_ns()
                if await self.target.echo(PAYLOAD) != PAYLOAD:
                    raise RuntimeError("the answer is not what was asked")
                times.append(time.perf_counter_ns() - asked_at)

        async def ask_all(load: Load) -> float:
            started = time.monotonic()
            await asyncio.gather(*(ask_on(started, load) for _ in range(outstanding)))
            return time.monotonic() - started

        await ask_all(Load(messages=WARM_UP))
        times.clear()
        elapsed = await ask_all(Load(**load))
        return to_json(asked(times, elapsed))


async def _run(call: typing.Callable[[typing.Any], typing.Awaitable[dict[str, typing.Any]]]) -> None:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=2)
    async with pool:
        address = pool.external_address
        receiver = await xoscar.create_actor(
            Receiver, address=address, allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1)
        )
        sender = await xoscar.create_actor(
            Sender, receiver, address=address, allocate_strategy=xoscar.allocate_strategy.ProcessIndex(2)
        )
        worker.announce({})
        await asyncio.get_running_loop().run_in_executor(None, worker.wait_for_go)
        worker.announce(await call(sender))
        await asyncio.get_running_loop().run_in_executor(None, worker.wait_for_end)


def throughput(settings: dict[str, typing.Any]) -> None:
    """Let a sender send to a receiver."""
    asyncio.run(_run(lambda sender: sender.send(settings["load"], settings["size"])))


def ask(settings: dict[str, typing.Any]) -> None:
    """Let one actor ask another."""
    asyncio.run(_run(lambda sender: sender.ask(settings["load"], settings["outstanding"])))


if __name__ == "__main__":
    # The pool's processes find the actors' classes by module, which here is called __main__.
    from benchmarks.peers import xoscar_actors

    worker.main({"throughput": xoscar_actors.throughput, "ask": xoscar_actors.ask})
