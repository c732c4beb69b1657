"""An actor that is started in numbers."""

from __future__ import annotations

import os

from grav_actors import Actor, Message, on_type


class Member(Actor):
    """Says who and where it is, to one who asks and to all when it is called with all."""

    @on_type("crowd.ask")
    def answer(self, msg: Message) -> list[object]:
        return [self.name, os.getpid()]

    @on_type("crowd.call")
    def call(self, msg: Message) -> None:
        self.publish("crowd.here", self.name)
