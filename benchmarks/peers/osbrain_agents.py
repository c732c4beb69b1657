"""osBrain agents, each in a process of its own: PUSH-PULL and REQ-REP. What they send is pickled."""
# What is optional may be missing when types are checked:
# pyright: basic, reportMissingImports=false

import contextlib
import time
import typing

import osbrain

from benchmarks import worker
from benchmarks.workload import END, PAYLOAD, WARM_UP, Load, Pace, Received, Sent, asked, is_enough, to_json


class Receiver(osbrain.Agent):
    """Counts, and keeps its report."""

    def on_init(self) -> None:
        """Begin with nothing."""
        self.messages = self.size = 0
        self.result: dict[str, typing.Any] | None = None

    def take(self, data: typing.Any) -> None:
        """Take one message."""
        if data == END:
            self.result = to_json(Received(self.messages, self.size, time.monotonic()))
        else:
            self.messages += 1
            self.size += len(data)

    def echo(self, data: typing.Any) -> typing.Any:
        """Answer a question with its own data."""
        return data

    def report(self) -> dict[str, typing.Any] | None:
        """Return what came, once the end marker has come."""
        return self.result


class Sender(osbrain.Agent):
    """Sends, and asks."""

    def flood(self, load: dict[str, typing.Any], size: int) -> dict[str, typing.Any]:
        """Send as long as it shall."""
        data, sent = b"x" * size, 0
        pace = Pace(Load(**load), size)
        while batch := pace.next_batch(sent):
            for _ in range(batch):
                self.send("main", data)
            sent += batch
        self.send("main", END)
        return to_json(Sent(sent, pace.started))

    def ask_on(self, load: dict[str, typing.Any]) -> dict[str, typing.Any]:
        """Ask one question after the other."""
        times: list[int] = []
        started = time.monotonic()
        while not is_enough(Load(**load), len(times) - WARM_UP, started):
            asked_at = time.perf_counter_ns()
            self.send("main", PAYLOAD)
            if self.recv("main") != PAYLOAD:
                raise RuntimeError("the answer is not what was asked")
            times.append(time.perf_counter_ns() - asked_at)
            if len(times) == WARM_UP:
                started = time.monotonic()
        return to_json(asked(times[WARM_UP:], time.monotonic() - started))


@contextlib.contextmanager
def agents() -> typing.Iterator[tuple[typing.Any, typing.Any]]:
    """Run a receiver and a sender."""
    names = osbrain.run_nameserver()
    try:
        yield osbrain.run_agent("receiver", base=Receiver), osbrain.run_agent("sender", base=Sender)
    finally:
        names.shutdown()


def throughput(settings: dict[str, typing.Any]) -> None:
    """Let a sender send to a receiver."""
    with agents() as (receiver, sender):
        sender.connect(receiver.bind("PULL", handler="take"), alias="main")
        worker.announce({})
        worker.wait_for_go()
        sent = sender.flood(settings["load"], settings["size"])
        while (received := receiver.report()) is None:
            time.sleep(0.01)
        worker.announce({"sent": sent, "received": [received]})
        worker.wait_for_end()


def ask(settings: dict[str, typing.Any]) -> None:
    """Let one agent ask another, one question at a time."""
    with agents() as (receiver, sender):
        sender.connect(receiver.bind("REP", handler="echo"), alias="main")
        worker.announce({})
        worker.wait_for_go()
        worker.announce(sender.ask_on(settings["load"]))
        worker.wait_for_end()


if __name__ == "__main__":
    # Their processes find the agents' classes by module, which here is called __main__.
    from benchmarks.peers import osbrain_agents

    worker.keep_output()
    worker.main({"throughput": osbrain_agents.throughput, "ask": osbrain_agents.ask})
