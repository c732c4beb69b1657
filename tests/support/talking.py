"""Actors that write: processes and threads, also below a supervisor."""

from __future__ import annotations

import sys

from grav_actors import Actor, Child, Crash, Message, Supervisor, on_type


class Talker(Actor):
    """Prints and logs what it is told."""

    @on_type("talk.say")
    def say(self, msg: Message) -> None:
        sys.stdout.write(f"out {msg.data}\n")
        self.log.warning("%s", msg.data)

    @on_type("talk.crash")
    def crash(self, msg: Message) -> None:
        if not msg.redelivered:
            raise Crash(msg.data)


class Branch(Supervisor):
    """Runs one of each kind."""

    children = (Child(Talker, name="deep"), Child(Talker, name="light", kind="thread"))
