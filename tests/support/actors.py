"""Actors for tests, which processes can import too. Nobody here sleeps: whoever shall wait asks a Gate."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from grav_actors import Actor, ActorRef, Child, Crash, Message, Reject, on_type

LIMIT = 30.0


class Gate(Actor):
    """Lets handlers wait until a test says so. Run it as a thread, under the name `gate`."""

    def on_start(self) -> None:
        self.closed: list[Message] = []
        self.watchers: list[Message] = []
        self.arrived: list[Any] = []

    @on_type("gate.wait")
    def wait(self, msg: Message) -> None:
        """Answered when the gate opens."""
        self.defer_reply(msg)
        self.closed.append(msg)
        self.arrived.append(msg.data)
        self._tell_watchers()

    @on_type("gate.arrived")
    def tell_arrived(self, msg: Message) -> None:
        """Answered with who has come, when they are as many as the data says."""
        self.defer_reply(msg)
        self.watchers.append(msg)
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        for watcher in self.watchers.copy():
            if len(self.arrived) >= watcher.data:
                self.watchers.remove(watcher)
                self.reply(watcher, self.arrived)

    @on_type("gate.open")
    def open(self, msg: Message) -> int:
        """Let all go on that wait; the answer is how many."""
        closed, self.closed = self.closed, []
        for waiting in closed:
            self.reply(waiting, msg.data)
        return len(closed)


class Plain(Actor):
    """Plain handlers."""

    def __init__(self, greeting: str = "hello") -> None:
        self.greeting = greeting

    @on_type("echo", "echo.*")
    def echo(self, msg: Message) -> Any:
        return [self.greeting, msg.data]

    @on_type("where")
    def where(self, msg: Message) -> Any:
        return [os.getpid(), self.name, self.ref, self.log.name]

    @on_type("nothing")
    def nothing(self, msg: Message) -> None:
        return None

    @on_type("fail")
    def fail(self, msg: Message) -> Any:
        raise ValueError(f"bad {msg.data}")

    @on_type("unpackable")
    def unpackable(self, msg: Message) -> Any:
        return {1, 2}

    @on_type("headers")
    def headers(self, msg: Message) -> Any:
        return dict(msg.headers)


class Asynchronous(Plain):
    """The same as coroutines."""

    @on_type("echo", "echo.*")
    async def echo(self, msg: Message) -> Any:
        await asyncio.sleep(0)
        return [self.greeting, msg.data]

    @on_type("fail")
    async def fail(self, msg: Message) -> None:
        await asyncio.sleep(0)
        raise ValueError(f"bad {msg.data}")


class Hooked(Actor):
    """Tells of its hooks under the type `hook`."""

    def __init__(self) -> None:
        self.publish("hook", "init")

    def on_start(self) -> None:
        self.publish("hook", "start")

    def on_stop(self, reason: str) -> None:
        self.publish("hook", f"stop {reason}")

    def on_restart(self, cause: str) -> None:
        self.publish("hook", f"restart {cause.partition(':')[0]}")

    @on_type("end")
    def end(self, msg: Message) -> None:
        end(self, msg.data)


class LastWords(Actor):
    """Says a number of things when it is stopped."""

    def __init__(self, count: int) -> None:
        self.count = count

    def on_stop(self, reason: str) -> None:
        for number in range(self.count):
            self.publish("last", number)


class HookedAsync(Actor):
    """The same with hooks that are coroutines."""

    async def on_start(self) -> None:
        await asyncio.sleep(0)
        self.publish("hook", "start")

    async def on_stop(self, reason: str) -> None:
        await asyncio.sleep(0)
        self.publish("hook", f"stop {reason}")

    async def on_restart(self, cause: str) -> None:
        await asyncio.sleep(0)
        self.publish("hook", f"restart {cause.partition(':')[0]}")

    @on_type("end")
    async def end(self, msg: Message) -> None:
        await asyncio.sleep(0)
        end(self, msg.data)


def end(actor: Actor, how: str) -> None:
    """End an actor in one of many ways."""
    if how == "stop":
        actor.stop()
    elif how == "crash":
        raise Crash("told to")
    elif how == "exit":
        sys.exit(3)
    elif how == "os_exit":
        os._exit(3)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


class Family(Actor):
    """Sends with and without parents; the answers are the parents' uuids."""

    @on_type("cause")
    def cause(self, msg: Message) -> Any:
        self.publish("effect", "default")
        self.publish("effect", "none", parent="")
        self.publish("effect", "message", parent=Message("other", parent_id=msg.uuid))
        self.publish("effect", "uuid", parent=msg.data)
        self.tell(self.name, "told", "tell")
        return self.ask(msg.headers.get("to", "witness"), "parent")

    @on_type("told")
    def told(self, msg: Message) -> None:
        self.publish("effect", [msg.data, msg.parent_id])


class Witness(Actor):
    """Answers with the parent of the question."""

    @on_type("parent")
    def parent(self, msg: Message) -> str:
        return msg.parent_id


class Talker(Actor):
    """Says things and hears them."""

    def on_start(self) -> None:
        self.words: list[Any] = []

    @on_type("say")
    def say(self, msg: Message) -> None:
        self.publish("talk", msg.data)

    @on_type("say.self")
    def say_to_itself(self, msg: Message) -> None:
        self.tell(self.ref, "talk", msg.data)

    @on_type("talk")
    def hear(self, msg: Message) -> None:
        self.words.append(msg.data)

    @on_type("heard")
    def heard(self, msg: Message) -> list[Any]:
        return self.words


class Named(Actor):
    """Takes arguments that are called like those of spawn."""

    def __init__(self, name: str, kind: str, actor_class: str) -> None:
        self.names = [name, kind, actor_class]

    @on_type("names")
    def tell_names(self, msg: Message) -> list[str]:
        return self.names


class Asker(Actor):
    """Asks as it is told: `[to, type, data, timeout]`; errors come back as `[class, text]`."""

    @on_type("ask")
    def ask_plain(self, msg: Message) -> Any:
        to, message_type, data, timeout = msg.data
        try:
            return self.ask(to, message_type, data, timeout=timeout)
        except Exception as exc:
            return [type(exc).__name__, str(exc)]

    @on_type("tell")
    def tell_on(self, msg: Message) -> None:
        self.tell(*msg.data)

    @on_type("ask.ref")
    def ask_ref(self, msg: Message) -> Any:
        ref: ActorRef = msg.data
        return ref.ask("echo", "by reference", timeout=LIMIT)


class AskerAsync(Asker):
    """The same with coroutines."""

    @on_type("ask")
    async def ask_plain(self, msg: Message) -> Any:
        to, message_type, data, timeout = msg.data
        try:
            return await self.ask_async(to, message_type, data, timeout=timeout)
        except Exception as exc:
            return [type(exc).__name__, str(exc)]


class Deferring(Actor):
    """Answers later: `later.get` is answered by `later.put`, or from a thread with `later.thread`."""

    def on_start(self) -> None:
        self.open: list[Message] = []

    @on_type("later.get", "later.published")
    def get(self, msg: Message) -> None:
        self.defer_reply(msg)
        self.open.append(msg)
        self.publish("later.deferred", msg.data)

    @on_type("later.put")
    def put(self, msg: Message) -> int:
        closed, self.open = self.open, []
        for waiting in closed:
            self.reply(waiting, msg.data)
        return len(closed)

    @on_type("later.thread")
    def thread(self, msg: Message) -> None:
        self.defer_reply(msg)
        threading.Thread(target=self.reply, args=(msg, "from a thread")).start()

    @on_type("later.both")
    def both(self, msg: Message) -> str:
        self.reply(msg, "explicit")
        return "returned"

    @on_type("later.fail")
    def fail(self, msg: Message) -> None:
        self.defer_reply(msg)
        raise ValueError("after all")

    @on_type("later.wrong")
    def wrong(self, msg: Message) -> list[str]:
        """Answered with what is said to those who give something else for a message."""
        no_message: Any = "no message"
        calls: list[Callable[[], object]] = [
            lambda: self.reply(no_message, 1),
            lambda: self.defer_reply(no_message),
            lambda: self.publish("later.published", parent=7),  # type: ignore[arg-type]
        ]
        said = []
        for call in calls:
            try:
                call()
            except TypeError as exc:
                said.append(str(exc))
        return said

    @on_type("later.twice")
    def twice(self, msg: Message) -> Any:
        self.defer_reply(msg)
        texts = []
        for message in (msg, Message("other")):
            try:
                self.defer_reply(message)
            except ValueError as exc:
                texts.append(str(exc))
        self.reply(msg, texts)
        return None

    @on_type("later.crash")
    def crash(self, msg: Message) -> None:
        raise Crash("with open questions")


class Waiting(Actor):
    """Waits at the gate in its handlers, and tells what it sees then."""

    def handle(self, msg: Message) -> Any:
        self.ask("gate", "gate.wait", msg.data, timeout=LIMIT)
        self.publish("waited", [msg.data, msg.cancelled, msg.redelivered, msg.attempt])
        return msg.data

    @on_type("wait", "wait.*")
    def wait(self, msg: Message) -> Any:
        return self.handle(msg)

    @on_type("free")
    def free(self, msg: Message) -> Any:
        return self.name


class WaitingPool(Waiting):
    """The same, several at a time, in threads."""

    concurrency = 3


class WaitingAsync(Waiting):
    """The same with a coroutine."""

    @on_type("wait", "wait.*")
    async def wait(self, msg: Message) -> Any:
        await self.ask_async("gate", "gate.wait", msg.data, timeout=LIMIT)
        self.publish("waited", [msg.data, msg.cancelled, msg.redelivered, msg.attempt])
        return msg.data


class WaitingTasks(WaitingAsync):
    """The same, several at a time, as tasks."""

    concurrency = 3


class Member(Actor):
    """A member of a group; `work` with the data `wait` waits at the gate."""

    group = "workers"

    @on_type("work")
    def work(self, msg: Message) -> Any:
        if msg.data == "wait":
            self.ask("gate", "gate.wait", self.name, timeout=LIMIT)
        self.publish("worked", [self.name, msg.data, msg.redelivered])
        return self.name


class Free(Actor):
    """Answers at once what the others wait with."""

    @on_type("wait")
    def wait(self, msg: Message) -> str:
        return self.name


class FailsFirst(Actor):
    """Fails at what others can do."""

    @on_type("echo")
    def echo(self, msg: Message) -> None:
        raise ValueError("not this one")


class StartsSlowlyAgain(Actor):
    """Waits at the gate before it is ready for the second time."""

    def on_restart(self, cause: str) -> None:
        self.ask("gate", "gate.wait", cause, timeout=LIMIT)

    @on_type("echo")
    def echo(self, msg: Message) -> Any:
        return msg.data

    @on_type("end")
    def end(self, msg: Message) -> None:
        end(self, msg.data)


class StartsAtGate(Actor):
    """Waits at the gate before it is ready."""

    def on_start(self) -> None:
        self.ask("gate", "gate.wait", timeout=LIMIT)


class Timed(Actor):
    """Starts and cancels timers."""

    def on_start(self) -> None:
        self.count = 0
        self.timer = self.after(3600, "never")

    @on_type("timer.after")
    def start_after(self, msg: Message) -> None:
        self.after(msg.data, "tick", "after")

    @on_type("timer.every")
    def start_every(self, msg: Message) -> None:
        self.timer = self.every(msg.data, "tick", "every")

    @on_type("timer.cancel")
    def cancel(self, msg: Message) -> int:
        self.timer.cancel()
        return self.count

    @on_type("tick")
    def tick(self, msg: Message) -> None:
        self.count += 1
        self.publish("ticked", [msg.data, self.count])

    @on_type("end")
    def end(self, msg: Message) -> None:
        end(self, msg.data)


class Special(Exception):
    """Crashes those that list it."""


class TimedInNarrowMailbox(Actor):
    """Has a timer, and a mailbox that takes little."""

    mailbox_limit = 2
    prefetch = 1
    overflow = "drop_newest"

    def on_start(self) -> None:
        self.every(0.2, "tick")

    @on_type("tick")
    def tick(self, msg: Message) -> None:
        self.publish("ticked")

    @on_type("wait")
    def wait(self, msg: Message) -> None:
        self.ask("gate", "gate.wait", timeout=LIMIT)

    @on_type("fill")
    def fill(self, msg: Message) -> None:
        return None


class Failing(Actor):
    """Fails as it is told, with `[how, attempts that fail]`."""

    crash_on = (Special, KeyError)

    @on_type("try")
    def attempt(self, msg: Message) -> Any:
        how, attempts = msg.data
        self.publish("tried", [how, msg.attempt, msg.redelivered, os.getpid()])
        if msg.attempt > attempts:
            return "done"
        raise {"fail": ValueError, "special": Special, "key": KeyError, "crash": Crash, "reject": Reject}[how](how)

    @on_type("fine")
    def fine(self, msg: Message) -> str:
        return "fine"


class FailsThrice(Failing):
    """Gives up sooner."""

    max_deliver = 3


class Hopeless(Actor):
    """Fails at everything but one thing, and tells of its hooks."""

    def on_start(self) -> None:
        self.publish("hook", "start")

    def on_stop(self, reason: str) -> None:
        self.log.error("%s stops: %s", self.name, reason)

    def on_restart(self, cause: str) -> None:
        self.publish("hook", f"restart {cause.partition(' (')[0]}")

    @on_type("try")
    def attempt(self, msg: Message) -> None:
        raise ValueError("no")

    @on_type("fine")
    def fine(self, msg: Message) -> str:
        return "fine"


class CrashingPool(Actor):
    """Crashes in one handler while another waits at the gate."""

    concurrency = 2

    def on_start(self) -> None:
        self.publish("hook", "start")

    def on_stop(self, reason: str) -> None:
        self.publish("hook", f"stop {reason}")

    @on_type("wait")
    def wait(self, msg: Message) -> Any:
        self.ask("gate", "gate.wait", timeout=LIMIT)
        self.publish("hook", "waited")

    @on_type("end")
    def end(self, msg: Message) -> None:
        if msg.attempt == 1:
            end(self, msg.data)


class CrashingTasks(CrashingPool):
    """The same with tasks."""

    @on_type("wait")
    async def wait(self, msg: Message) -> None:
        await self.ask_async("gate", "gate.wait", timeout=LIMIT)
        self.publish("hook", "waited")


class Leaving(Actor):
    """Ends its process as if all were well."""

    @on_type("pid")
    def pid(self, msg: Message) -> int:
        return os.getpid()

    @on_type("leave")
    def leave(self, msg: Message) -> None:
        if not msg.redelivered:
            os._exit(0)


class Replayed(Actor):
    """Gets what was sent before it was there."""

    replay = True

    def on_start(self) -> None:
        self.seen: list[Any] = []

    @on_type("news")
    def news(self, msg: Message) -> None:
        self.seen.append(msg.data)

    @on_type("seen")
    def tell_seen(self, msg: Message) -> Any:
        return self.seen

    @on_type("end")
    def end(self, msg: Message) -> None:
        end(self, msg.data)


class Spawner(Actor):
    """Starts further actors."""

    @on_type("spawn")
    def start(self, msg: Message) -> Any:
        name, kind = msg.data
        return self.spawn(Plain, f"from {self.name}", name=name, kind=kind)

    @on_type("spawn.child")
    def start_child(self, msg: Message) -> Any:
        name, kind = msg.data
        return self.spawn(Child(Plain, name=name, kind=kind, instances=2))

    @on_type("spawn.bad")
    def start_bad(self, msg: Message) -> Any:
        try:
            return self.spawn(Unready, msg.data, kind="process")
        except Exception as exc:
            return [type(exc).__name__, str(exc.args[0]), getattr(exc, "remote_traceback", "")]


class SpawnsAtStart(Actor):
    """Has a further one started before it is ready itself, as deep as told."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def on_start(self) -> None:
        if self.depth > 0:
            self.spawn(SpawnsAtStart, self.depth - 1, kind="process")

    @on_type("depth")
    def tell_depth(self, msg: Message) -> int:
        return self.depth


class Unready(Actor):
    """Does not start, in one of many ways."""

    def __init__(self, how: str) -> None:
        self.how = how
        if how == "constructor":
            raise ValueError("not made")
        if how == "exit":
            sys.exit(4)

    def on_start(self) -> None:
        if self.how == "on_start":
            raise ValueError("not ready")
        if self.how == "os_exit":
            sys.stderr.write("the last words\n")
            sys.stderr.flush()
            os._exit(5)

    @on_type("echo")
    def echo(self, msg: Message) -> Any:
        return msg.data


class Holder(Actor):
    """Has a reference as an argument."""

    def __init__(self, other: ActorRef, others: dict[str, ActorRef] | None = None) -> None:
        self.other = other
        self.others = others or {}

    @on_type("hold")
    def hold(self, msg: Message) -> Any:
        return [self.other.ask("echo", 1, timeout=LIMIT), *(ref.name for ref in self.others.values())]


class Writing(Actor):
    """Writes to its standard streams."""

    def on_start(self) -> None:
        self.write("starts")

    @on_type("write")
    def on_write(self, msg: Message) -> None:
        self.write(msg.data)

    def write(self, text: str) -> None:
        """Write a line to both."""
        sys.stdout.write(f"out {text}\n")
        sys.stderr.write(f"err {text}\n")

    @on_type("end")
    def end(self, msg: Message) -> None:
        end(self, msg.data)
