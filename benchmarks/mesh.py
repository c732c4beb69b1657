"""Messages from node to node over one link, plain and encrypted, beside those over one bus.

    python -m benchmarks.mesh

Each node has a process, its bus one, the sender and the receiver one each; all on this machine, by its loopback.
"""

import argparse
import contextlib
import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time
import typing

from benchmarks import worker
from benchmarks.throughput import SETTLE_LIMIT, Delivery, judge, processor_time
from benchmarks.worker import Worker, WorkerError
from benchmarks.workload import SIZE, Load, Received, Sent
from grav_actors import Grav
from grav_actors.mesh.keys import KeyFolder

SCENES = ("bus", "link", "link with keys")
"""One bus; two nodes; two nodes with keys."""
PATIENCE = 30.0


def node(settings: dict[str, typing.Any]) -> None:
    """Be a node that listens, and is linked to another one if told so."""
    with Grav(transport="zmq", keys=settings.get("keys"), endpoint="tcp://127.0.0.1:0") as grav:
        if settings.get("peer"):
            grav.connect_endpoint(settings["peer"], PATIENCE)
        listens = grav._hub.endpoint if grav._hub is not None else ""
        bus = grav._bus.pid if grav._bus is not None else None
        worker.announce({"endpoint": grav.bus_endpoint, "listens": listens, "bus": bus})
        worker.wait_for_end()


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Attributes:
        costs: Nanoseconds of processor a message, of each process.
    """

    delivery: Delivery
    costs: dict[str, float]


def measure(scene: str, load: Load, size: int = SIZE) -> Result:
    """Run one scene once."""
    with contextlib.ExitStack() as stack:
        folders = make_keys(stack) if scene == "link with keys" else [None, None]
        settings = {"size": size, "load": dataclasses.asdict(load)}
        there = stack.enter_context(Worker("mesh", "node", keys=folders[0]))
        far = there.ready()
        counter = stack.enter_context(Worker("ours", "receiver", **settings, endpoint=far["endpoint"]))
        counter.ready()
        processes = {"far node": there.pid, "far bus": far["bus"], "receiver": counter.pid}
        near = far
        if scene != "bus":
            here = stack.enter_context(Worker("mesh", "node", keys=folders[1], peer=far["listens"]))
            near = here.ready()
            processes |= {"near node": here.pid, "near bus": near["bus"]}
        sender = stack.enter_context(Worker("ours", "sender", **settings, endpoint=near["endpoint"]))
        sender.ready()
        processes["sender"] = sender.pid
        before = {name: processor_time(pid) for name, pid in processes.items()}
        counter.go()
        sender.go()
        sent = Sent(**sender.read(load.seconds + SETTLE_LIMIT))
        received = Received(**counter.read(SETTLE_LIMIT))
        costs = {name: (processor_time(pid) - before[name]) / sent.messages for name, pid in processes.items()}
    return Result(dataclasses.replace(judge(sent, [received], size), cost=sum(costs.values())), costs)


def make_keys(stack: contextlib.ExitStack) -> list[str | None]:
    """Return the folders of two nodes that allow each other."""
    where = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    folders = [KeyFolder(where / name) for name in ("one", "other")]
    pairs = [folder.new(folder.path.name) for folder in folders]
    for folder, pair in zip(folders, reversed(pairs), strict=True):
        folder.allow(pair.public())
    return [str(folder.path) for folder in folders]


def compare(load: Load, pairs: int, size: int) -> bool:
    """Run the scenes in turn and print their rates; return whether every run counts."""
    results: dict[str, list[Result]] = {scene: [] for scene in SCENES}
    is_good = True
    for number in range(pairs):
        for scene in SCENES if number % 2 == 0 else SCENES[::-1]:
            try:
                result = measure(scene, load, size)
            except WorkerError as error:
                print(f"{number + 1}/{pairs} {scene}: FAILED: {error}", file=sys.stderr, flush=True)
                is_good = False
                continue
            problem = result.delivery.problem
            text = f"{result.delivery.rate:,.0f}/s, {result.delivery.cost:,.0f} ns of processor a message {problem}"
            print(f"{number + 1}/{pairs} {scene}: {text}", file=sys.stderr, flush=True)
            is_good = is_good and not problem
            results[scene].append(result)
    show({scene: found for scene, found in results.items() if found})
    return is_good


def show(results: dict[str, list[Result]]) -> None:
    """Print medians: the rates, and what a message costs each process."""
    rates = {scene: statistics.median(each.delivery.rate for each in found) for scene, found in results.items()}
    for scene, found in results.items():
        share = f"{rates[scene] / rates['bus']:.2f} of one bus" if "bus" in rates else ""
        print(f"{scene:16} {rates[scene]:12,.0f}/s  {share}")
        costs = {name: statistics.median(each.costs[name] for each in found) for name in found[0].costs}
        parts = ", ".join(f"{name} {cost:,.0f}" for name, cost in costs.items())
        print(f"{'':16} {sum(costs.values()):12,.0f} ns of processor a message: {parts}")


def run() -> int:
    """Compare, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mesh", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of sending in each run (default: 3)")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each scene (default: 3)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"bytes of each message (default: {SIZE})")
    options = parser.parse_args()
    began = time.monotonic()
    is_good = compare(Load(options.seconds), options.pairs, options.size)
    print(f"in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0 if is_good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["node"]:
        worker.main({"node": node})
    else:
        sys.exit(run())
