"""Nodes on the hosts of a lab, told what to do from outside."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, Popen
from types import TracebackType
from typing import IO, Any, Protocol, Self

from support.lanlab import Lan

TESTS = Path(__file__).resolve().parents[2]
PATIENCE = 90.0
"""Seconds after which a node is taken for hung."""

Answer = dict[str, Any]


class StageError(Exception):
    """A node could not do what it was told."""


class Place(Protocol):
    """Where a node runs: a host of a lab, or anything that starts processes."""

    name: str

    @property
    def ip(self) -> str:
        """Its address."""
        ...

    def popen(self, command: list[str], env: dict[str, str], **options: Any) -> Popen[Any]:
        """Start a process."""
        ...


class LanNode:
    """A node of a mesh, as a process on a host.

    Attributes:
        uuid, endpoint: Of the node; new when it was opened again.
        bound_at: When its listener was there, by the machine's clock.
    """

    def __init__(self, host: Place, log: Path, config: Answer) -> None:
        self.host = host
        self.name = config["name"]
        self._log = log.open("ab")
        command = [sys.executable, "-u", "-m", "support.lanmesh.node", json.dumps(config)]
        env = {"PYTHONPATH": str(TESTS)}
        self._process: Popen[str] = host.popen(command, env, stdin=PIPE, stdout=PIPE, stderr=self._log, text=True)
        self._answers: queue.Queue[str] = queue.Queue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        for line in pipe:
            self._answers.put(line)
        self._answers.put("")

    def wait_ready(self) -> None:
        """Wait until it runs."""
        self._take_identity(self._next())

    def _take_identity(self, about: Answer) -> None:
        self.uuid, self.endpoint, self.bound_at = about["uuid"], about["endpoint"], about["bound_at"]

    def __call__(self, do: str, **arguments: Any) -> Answer:
        """Have it do something, and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([do, arguments]) + "\n")
        self._process.stdin.flush()
        return self._next()

    def reopen(self) -> None:
        """Have it start anew."""
        self._take_identity(self("reopen"))

    def _next(self) -> Answer:
        line = self._answers.get(timeout=PATIENCE)
        answer: Answer = json.loads(line) if line else {"error": f"it has ended: {self._last_words()}"}
        if "error" in answer:
            raise StageError(f"node {self.name} on {self.host.name}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")[-500:].strip()

    def kill(self) -> None:
        """End the process without a word."""
        self._process.kill()
        self._process.wait()

    def close(self, limit: float = 15.0) -> None:
        """End it, as a user does; the process when that takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(limit)
        except (OSError, TimeoutError):
            pass
        finally:
            self._process.kill()
            self._process.wait(limit)
            self._reader.join(limit)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._log.close()


class Stage:
    """A lab and the nodes that were started on it; a context manager."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan
        self.nodes: list[LanNode] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ThreadPoolExecutor(len(self.nodes) or 1) as pool:
            list(pool.map(lambda node: node.close(), self.nodes))

    def start(self, host: int, name: str = "", **config: Any) -> LanNode:
        """Start a node that listens on every address of its host, and finds others by beacons; do not wait for it."""
        defaults = {
            "name": name or f"n{len(self.nodes)}",
            "endpoint": "tcp://0.0.0.0:7470",
            "discovery": ["beacon"],
            "insecure": "keys" not in config,
        }
        node = LanNode(self.lan.host(host), self.lan.dir / f"node{len(self.nodes)}.log", {**defaults, **config})
        self.nodes.append(node)
        return node

    def start_all(self, hosts: int, **config: Any) -> list[LanNode]:
        """Start a node on each of the first hosts, and wait until they run."""
        nodes = [self.start(host, **config) for host in range(hosts)]
        for node in nodes:
            node.wait_ready()
        return nodes

    @staticmethod
    def together(*calls: Callable[[], Answer]) -> list[Answer]:
        """Do several things at the same time."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(lambda call: call(), calls))

    @staticmethod
    def all(nodes: list[LanNode], do: str, **arguments: Any) -> list[Answer]:
        """Have nodes do something at the same time."""
        with ThreadPoolExecutor(len(nodes)) as pool:
            return list(pool.map(lambda node: node(do, **arguments), nodes))
