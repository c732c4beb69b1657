"""Two actors: a thermometer that measures when asked to, and a display that remembers the last value."""

from grav_actors import Actor, Message, on_type


class Thermometer(Actor):
    """Publishes a temperature for each `sensor.poll`."""

    def __init__(self, site: str = "roof") -> None:
        self.site = site

    @on_type("sensor.poll")
    def poll(self, msg: Message) -> None:
        """Measure once."""
        self.publish("sensor.temp", {"site": self.site, "celsius": 21.5})


class Display(Actor):
    """Knows the latest temperature."""

    def on_start(self) -> None:
        """Begin without a value."""
        self.last: float | None = None

    @on_type("sensor.temp")
    def show(self, msg: Message) -> None:
        """Remember a temperature."""
        self.last = msg.data["celsius"]

    @on_type("display.last")
    def report(self, msg: Message) -> float | None:
        """Return the latest value: what a handler returns is the answer to an ask."""
        return self.last
