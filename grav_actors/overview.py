"""All actors of a node: those of its root supervisor, and those of the supervisors below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from grav_actors.bus.inquiry import PODS
from grav_actors.errors import GravError
from grav_actors.options import did_you_mean
from grav_actors.protocol import BUS_NAME
from grav_actors.supervisor.branch import (
    CHILDREN,
    FAILED,
    INSPECT,
    ORDER,
    REFUSED,
    branch_name,
    carry_out,
    outcome,
)
from grav_actors.supervisor.effects import MemberState
from grav_actors.supervisor.runner import Runner

ANSWER_LIMIT = 1.5
"""Seconds that a supervisor below may take to say what it runs: it does nothing else."""
DEGRADED = (MemberState.BACKOFF.value, MemberState.FAILED.value)
UNREADY = (*DEGRADED, MemberState.STARTING.value, MemberState.DRAINING.value)

Row = dict[str, Any]


class Ask(Protocol):
    """Asks an actor, and returns the data of its answer."""

    def __call__(self, type: str, data: Any = None, *, to: str, timeout: float | None = 5.0) -> Any:
        """Ask `to`; wait at most `timeout` seconds."""
        ...


@dataclass(slots=True)
class Look:
    """What one look has shown.

    Attributes:
        rows: The actors; those of a supervisor follow it.
        pools: Names of pools, each with the name of its supervisor.
        pods: The actors' pods on the bus, by name, whosoever they are.
    """

    rows: list[Row] = field(default_factory=list)
    pools: dict[str, str] = field(default_factory=dict)
    pods: dict[str, Row] = field(default_factory=dict)

    @property
    def is_degraded(self) -> bool:
        """Whether an actor does not run that should."""
        return any(row["state"] in DEGRADED for row in self.rows)

    def supervisor_of(self, name: str) -> str | None:
        """Return the supervisor of an actor or pool, "" for the root; None if there is no such."""
        for row in self.rows:
            if row["name"] == name:
                return str(row["supervisor"])
        return self.pools.get(name)

    def refusal(self, name: str) -> str:
        """Return why there is no actor of that name."""
        if name in self.pods:
            return f"{name} belongs to another program on this bus, which has to end it: `grav-actors run`, or a script"
        names = {row["name"] for row in self.rows} | self.pools.keys()
        return f"this node has no actor {name}{did_you_mean(name, names) or '; `grav-actors ps` lists them'}"


class Overview:
    """Looks at the whole tree of a node, and finds the supervisor that an order is for.

    Args:
        ask: Asks an actor, as `Pod.ask`.
    """

    def __init__(self, runner: Runner, ask: Ask) -> None:
        self._runner = runner
        self._ask = ask

    def look(self) -> Look:
        """List all actors, with their mailboxes."""
        pods = self._ask(PODS, to=BUS_NAME)
        look = Look(pods={pod["name"]: pod for pod in pods if pod["actor"]})
        self._add(look, "", self._runner.rows(), self._runner.pools())
        return look

    def _add(self, look: Look, supervisor: str, rows: list[Row], pools: list[str]) -> None:
        look.pools.update(dict.fromkeys(pools, supervisor))
        for row in rows:
            pod = look.pods.get(row["name"])
            row["supervisor"] = supervisor
            row["mailbox"] = pod["mailbox"] if pod is not None else 0
            row["stuck"] = pod is not None and pod["stuck"]
            look.rows.append(row)
            if row["supervises"] and pod is not None and pod["connected"]:
                try:
                    below = self._ask(CHILDREN, to=branch_name(pod["uuid"]), timeout=ANSWER_LIMIT)
                except GravError as exc:  # it is ending, or hangs
                    row["error"] = row["error"] or f"what it runs is not known: {exc}"
                else:
                    self._add(look, row["name"], below["actors"], below["pools"])

    def inspect(self, name: str) -> Row:
        """Return all that is known of an actor, or under `refused` why nothing is."""
        look = self.look()
        row = next((row for row in look.rows if row["name"] == name), None)
        if row is None:
            instances = [row["name"] for row in look.rows if row["pool"] == name]
            text = f"{name} is a pool; name an instance: {', '.join(instances)}" if instances else look.refusal(name)
            return {"refused": text}
        if not row["supervisor"]:
            try:
                whole: Row | None = self._runner.inspect(name)
            except KeyError:
                whole = None
        else:
            whole = self._ask(INSPECT, name, to=branch_name(look.pods[row["supervisor"]]["uuid"]), timeout=ANSWER_LIMIT)
        if whole is None:
            return {"refused": f"there is no {name} here any more"}
        return {**row, **whole, "pod": look.pods.get(name)}

    def order(self, verb: str, name: str, count: int) -> dict[str, str]:
        """Have an order carried out by whoever supervises the actor; see `carry_out`."""
        look = self.look()
        supervisor = look.supervisor_of(name)
        if supervisor is None:
            return outcome(REFUSED, look.refusal(name))
        if not supervisor:
            return carry_out(self._runner, verb, name, count)
        try:
            answer: dict[str, str] = self._ask(
                ORDER, [verb, name, count], to=branch_name(look.pods[supervisor]["uuid"]), timeout=None
            )
        except GravError as exc:
            return outcome(FAILED, f"supervisor {supervisor} could not: {exc}")
        return answer
