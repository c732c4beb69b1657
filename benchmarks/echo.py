"""The actor that is killed, in a module of its own: its process imports nothing else."""

import os

from grav_actors import Actor, Message, on_type


class Echo(Actor):
    """Publishes its process id for each message."""

    @on_type("recovery.ping")
    def ping(self, msg: Message) -> None:
        """Tell who has handled it."""
        self.publish("recovery.pong", [msg.data, os.getpid()])
