"""Who takes part: this framework and what it is compared with, and whether each is installed here."""

import dataclasses
import importlib.util
import shutil
import typing


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: For the command line and in files.
        title: For readers.
        module: The worker's module in `benchmarks`.
        settings: What its worker is told besides.
        is_whole: One worker starts and drives all its parts itself; else each part is a worker.
        has_bus: It has a process in the middle.
        package, command: What must be installed; "" for nothing.
    """

    name: str
    title: str
    module: str
    settings: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    is_whole: bool = False
    has_bus: bool = True
    package: str = ""
    command: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether it can run here."""
        has_package = not self.package or importlib.util.find_spec(self.package) is not None
        return has_package and (not self.command or shutil.which(self.command) is not None)


OURS = "ours"
BASELINE = "baseline"

SIDES = {
    side.name: side
    for side in (
        Side(OURS, "grav-actors", "ours"),
        Side(BASELINE, "one-message-per-send bus", "baseline"),
        Side("raw", "raw DEALER-ROUTER-DEALER echo", "raw"),
        Side("pushpull", "raw PUSH-PULL", "peers.pushpull", has_bus=False),
        Side("queue", "multiprocessing.Queue", "peers.channels", {"kind": "queue"}, is_whole=True),
        Side("pipe", "multiprocessing.Pipe", "peers.channels", {"kind": "pipe"}, is_whole=True),
        Side("threadqueue", "queue.Queue", "peers.threads", {"kind": "queue"}, is_whole=True),
        Side("pykka", "Pykka", "peers.threads", {"kind": "pykka"}, is_whole=True, package="pykka"),
        Side("nats", "NATS, nats-py", "peers.nats_bus", package="nats", command="nats-server"),
        Side("thespian", "Thespian", "peers.thespian_actors", is_whole=True, package="thespian"),
        Side("xoscar", "xoscar", "peers.xoscar_actors", is_whole=True, package="xoscar"),
        Side("osbrain", "osBrain", "peers.osbrain_agents", is_whole=True, package="osbrain"),
        # Not sides of their own, but another state of one.
        Side("alone", "grav-actors without the idle pods", "ours"),
        Side("onebus", "grav-actors, one bus", "ours"),
        # What plain Python needs to start.
        Side("python", "bare interpreter", "startup"),
        Side("process", "multiprocessing.Process, spawned", "startup"),
    )
}
"""All there are; the order is that of the tables."""
