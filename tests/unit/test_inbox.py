"""What waits for a receiver: handed over in order, bounded, and nothing after the end."""

import logging
import threading

import pytest

from grav_actors.transports import inbox as module
from grav_actors.transports.base import Channel, Incoming, LinkDown, MeshFrame, Subscribed
from grav_actors.transports.inbox import Inbox

PATIENCE = 20.0
LOGGER = logging.getLogger("inbox")


def frame(number: int, size: int = 0) -> MeshFrame:
    return MeshFrame(Channel.STREAM, b"%d" % number, bytes(size))


def test_items_are_handed_over_in_order_and_then_reported_as_done() -> None:
    inbox, seen, done = Inbox(LOGGER), [], threading.Event()
    inbox.put(Subscribed(b"1"))
    inbox.start("t", "peer", lambda uuid, item: seen.append((uuid, item)))
    inbox.offer([frame(2), frame(3)])
    inbox.put(Subscribed(b"4"), done.set)

    assert done.wait(PATIENCE)
    assert seen == [("peer", each) for each in (Subscribed(b"1"), frame(2), frame(3), Subscribed(b"4"))]
    inbox.close()


def test_end_comes_once_and_last() -> None:
    inbox, seen = Inbox(LOGGER), list[Incoming]()
    inbox.put(Subscribed(b"1"))
    inbox.end(LinkDown("first"))
    inbox.end(LinkDown("second"))
    inbox.put(Subscribed(b"2"))
    inbox.offer([frame(3)])
    ended = threading.Event()

    def receive(uuid: str, item: Incoming) -> None:
        seen.append(item)
        if isinstance(item, LinkDown):
            ended.set()

    inbox.start("t", "peer", receive)
    assert ended.wait(PATIENCE)
    inbox.close()
    assert seen == [Subscribed(b"1"), LinkDown("first")]


@pytest.mark.parametrize(("limit", "value"), [("MOST_ITEMS", 3), ("MOST_BYTES", 2 * 1256)])
def test_frames_for_which_there_is_no_room_are_lost_and_counted(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(module, limit, value)
    inbox, seen, done = Inbox(LOGGER), list[Incoming](), threading.Event()
    inbox.offer(frame(number, 1000) for number in range(10))
    inbox.put(Subscribed(b"kept"), done.set)
    inbox.start("t", "peer", lambda uuid, item: seen.append(item))

    assert done.wait(PATIENCE)
    assert [item.header for item in seen if isinstance(item, MeshFrame)] == [b"0", b"1", b"2"]
    assert inbox.lost == 7
    inbox.offer([frame(11)])
    inbox.close()


def test_closing_waits_for_the_receiver_and_hands_over_nothing_more() -> None:
    inbox, seen = Inbox(LOGGER), list[Incoming]()
    entered, go_on = threading.Event(), threading.Event()

    def receive(uuid: str, item: Incoming) -> None:
        seen.append(item)
        entered.set()
        assert go_on.wait(PATIENCE)

    inbox.offer([frame(1), frame(2)])
    inbox.start("t", "peer", receive)
    assert entered.wait(PATIENCE)
    closer = threading.Thread(target=inbox.close)
    closer.start()
    go_on.set()
    closer.join(PATIENCE)

    assert seen == [frame(1)]
    inbox.offer([frame(3)])
    inbox.put(Subscribed(b"4"))


def test_receiver_that_raises_is_logged_and_gets_the_next(caplog: pytest.LogCaptureFixture) -> None:
    inbox, done = Inbox(LOGGER), threading.Event()

    def receive(uuid: str, item: Incoming) -> None:
        if item == frame(1):
            raise RuntimeError("broken wing")
        done.set()

    inbox.offer([frame(1), frame(2)])
    inbox.start("t", "peer", receive)
    assert done.wait(PATIENCE)
    inbox.close()
    assert "broken wing" in caplog.text
