"""The actor that is spawned in numbers, in a module of its own: its process imports nothing else."""

from grav_actors import Actor, Message, on_type


class Member(Actor):
    """Answers, and says of a published call that it has heard it."""

    def on_start(self) -> None:
        """Nothing is told yet."""
        self.told = 0

    @on_type("crowd.tell")
    def count(self, msg: Message) -> None:
        """Count what it is told."""
        self.told += 1

    @on_type("crowd.ask")
    def answer(self, msg: Message) -> int:
        """Tell how often it was told something."""
        return self.told

    @on_type("crowd.call")
    def call(self, msg: Message) -> None:
        """Answer the whole crowd's call."""
        self.publish("crowd.here", self.name)
