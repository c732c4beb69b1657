"""A node that is tied to another messaging system by a bridge."""

import threading
from typing import Any

import pytest

from grav_actors import ConfigError, ConnectionClosedError, Grav, Message, TransportNotConfiguredError
from grav_actors.transports.base import BridgePod, TransportOptions

PATIENCE = 20.0


class Post:
    """Another messaging system, in memory: what was sent to each topic."""

    def __init__(self) -> None:
        self.sent: dict[str, list[Any]] = {}
        self.topics: dict[str, Letterbox] = {}
        self.options: list[TransportOptions] = []
        self.closed: list[str] = []
        self._changed = threading.Condition()

    def setup(self, options: TransportOptions) -> None:
        self.options.append(options)

    def connect_topic(self, topic: str) -> "Letterbox":
        if topic == "nowhere":
            raise ConnectionClosedError("the post office is shut")
        return Letterbox(self, topic)

    def take(self, topic: str, data: Any) -> None:
        with self._changed:
            self.sent.setdefault(topic, []).append(data)
            self._changed.notify_all()

    def wait(self, topic: str, count: int) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent.get(topic, [])) >= count, PATIENCE)
            return self.sent[topic]


class Letterbox:
    def __init__(self, post: Post, topic: str) -> None:
        self._post, self._topic = post, topic

    def start(self, pod: BridgePod) -> None:
        if self._topic == "shut":
            raise ConnectionClosedError("the letterbox is shut")
        self.pod = pod
        self._post.topics[self._topic] = self
        pod.on(self._take)

    def _take(self, message: Message) -> None:
        if message.type.startswith("out."):
            self._post.take(self._topic, message.data)

    def close(self) -> None:
        self._post.closed.append(self._topic)


def test_messages_go_both_ways_over_a_topic_until_the_node_stops() -> None:
    post = Post()
    with Grav(bridge=post) as grav:
        assert [options.node_uuid for options in post.options] == [grav.node_uuid]
        grav.connect_bridge_topic("news")
        grav.connect_bridge_topic("news")
        pod = grav.connect()
        pod.on_type("in.*", lambda m: post.take("came", m.data))
        pod.publish("out.letter", "to the world")
        assert post.wait("news", 1) == ["to the world"]
        post.topics["news"].pod.send(Message("in.letter", "from the world"))
        assert post.wait("came", 1) == ["from the world"]
        pod.publish("out.letter", "the last one")

    assert post.sent["news"] == ["to the world", "the last one"]
    assert post.closed == ["news"]
    with pytest.raises(ConnectionClosedError):
        grav.connect_bridge_topic("news")


@pytest.mark.parametrize(("topic", "text"), [("nowhere", "post office"), ("shut", "letterbox")])
def test_topic_that_cannot_be_reached_says_so_and_leaves_no_pod(topic: str, text: str) -> None:
    with Grav(bridge=Post()) as grav:
        pods = grav.stats()["pods"]
        for _ in range(2):
            with pytest.raises(ConnectionClosedError, match=text):
                grav.connect_bridge_topic(topic)
        assert grav.stats()["pods"] == pods
        with pytest.raises(ConfigError, match="topic is 7"):
            grav.connect_bridge_topic(7)  # type: ignore[arg-type]


def test_bridge_that_cannot_work_ends_the_start_and_leaves_nothing() -> None:
    class Broken(Post):
        def setup(self, options: TransportOptions) -> None:
            raise ConfigError("no stamps")

    with pytest.raises(ConfigError, match="no stamps"):
        Grav(bridge=Broken())


def test_transport_is_no_bridge() -> None:
    with Grav(transport="loopback") as grav, pytest.raises(TransportNotConfiguredError, match="needs a bridge"):
        grav.connect_bridge_topic("news")
