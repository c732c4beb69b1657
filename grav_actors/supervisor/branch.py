"""A supervisor as it is seen from outside: its children, one of them whole, and orders for them."""

from __future__ import annotations

import threading
from typing import Any

from grav_actors.actor.actor import Actor
from grav_actors.actor.handlers import on_type
from grav_actors.actor.runtime import ActorRuntime
from grav_actors.actor.spec import ActorSpec
from grav_actors.errors import ActorStartError, GravError
from grav_actors.message import Message
from grav_actors.pod.link import Link
from grav_actors.supervisor.runner import Runner

CHILDREN = "grav.sys.control.children"
"""What a supervisor runs: `{actors: [...], pools: [...]}`."""
INSPECT = "grav.sys.control.inspect"
"""All that is known of the actor whose name is the question's data."""
ORDER = "grav.sys.control.order"
"""`[verb, name, count]`, see `carry_out`; answered when it is done."""

START_TIMEOUT = 10.0
JOIN_LIMIT = 1.0

DONE = "done"
REFUSED = "refused"
FAILED = "failed"


def branch_name(uuid: str) -> str:
    """Return the name under which a nested supervisor answers, from the uuid of its pod.

    It is another one in each of its lives, as that of the last may not be free yet.
    """
    return f"grav.of.{uuid.replace('-', '')}"


def outcome(status: str, text: str = "", traceback: str = "") -> dict[str, str]:
    """Return what became of an order: `done`, `refused` or `failed`, why, and the remote traceback if there is one."""
    return {"status": status, "text": text, "traceback": traceback}


def carry_out(runner: Runner, verb: str, name: str, count: int) -> dict[str, str]:
    """Carry out an order, and wait until it is done. Runs long: not in a handler.

    Args:
        verb: `start`, `stop` or `restart` an actor, or all instances of a pool; `scale` a pool.
        count: Instances that the pool shall have.
    """
    try:
        if verb == "scale":
            if name not in runner.pools():
                text = f"{name} is no pool; give it `instances = 2` or more in grav.toml, or in its Child"
                return outcome(REFUSED, text)
            runner.scale(name, count)
            return outcome(DONE)
        orders = {"start": runner.start_child, "stop": runner.stop_child, "restart": runner.restart_child}
        names = runner.instances(name)
        for one in reversed(names) if verb == "stop" else names:
            orders[verb](one)
    except KeyError as exc:
        return outcome(REFUSED, f"there is no {exc.args[0]} here any more")
    except ActorStartError as exc:
        return outcome(FAILED, str(exc.args[0]), exc.remote_traceback)
    except (GravError, ValueError) as exc:
        return outcome(REFUSED, str(exc))
    return outcome(DONE)


class Branch(Actor):
    """Answers for a nested supervisor, also while that one is busy."""

    concurrency = 4

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    @classmethod
    def start(cls, runner: Runner, link: Link, uuid: str) -> ActorRuntime:
        """Have a runner answered for; to be ended by `end`.

        Args:
            uuid: That of the supervisor's pod.
        """
        runtime = ActorRuntime(ActorSpec(cls, branch_name(uuid), (runner,)), link, lambda ending: None, None)
        runtime.start(START_TIMEOUT)
        return runtime

    @staticmethod
    def end(runtime: ActorRuntime) -> None:
        """Answer no more."""
        runtime.stop("shutdown")
        runtime.wait(JOIN_LIMIT)
        runtime.join(JOIN_LIMIT)

    @on_type(CHILDREN)
    def children(self, msg: Message) -> dict[str, Any]:
        """List the children."""
        return {"actors": self._runner.rows(), "pools": self._runner.pools()}

    @on_type(INSPECT)
    def inspect(self, msg: Message) -> dict[str, Any] | None:
        """Describe one child; None if there is no such."""
        try:
            return self._runner.inspect(msg.data)
        except KeyError:
            return None

    @on_type(ORDER)
    def order(self, msg: Message) -> None:
        """Carry out an order; answered when it is done."""
        self.defer_reply(msg)
        # On a thread of its own: what it starts or stops may need this actor meanwhile.
        threading.Thread(target=self._order, args=(msg,), name="grav-order", daemon=True).start()

    def _order(self, msg: Message) -> None:
        try:
            answer = carry_out(self._runner, *msg.data)
        except Exception as exc:
            self._runtime.answers.fail(msg, exc)
        else:
            self.reply(msg, answer)
