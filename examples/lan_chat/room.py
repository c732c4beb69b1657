"""The room of a chat: one on each node. It hears what is said anywhere, and answers who was heard."""

import typing

from grav_actors import Actor, Message, on_type

MOST_PEOPLE = 1000


class Room(Actor):
    """Keeps count of the people. What comes from other nodes reaches it like what is said on this one."""

    def on_start(self) -> None:
        """Begin with an empty room."""
        self.people: dict[str, int] = {}

    @on_type("chat.said")
    def listen(self, msg: Message) -> None:
        """Count a line for who has said it."""
        who = str(msg.data["who"])
        if who in self.people or len(self.people) < MOST_PEOPLE:
            self.people[who] = self.people.get(who, 0) + 1

    @on_type("chat.people")
    def count(self, msg: Message) -> list[dict[str, typing.Any]]:
        """Answer who has said how many lines."""
        return [{"who": who, "lines": lines} for who, lines in self.people.items()]
