"""The parts of process hosting that need no process: frames, lines, the channel, the handle."""

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.errors import ReentrantWaitError
from grav_actors.supervisor.channel import Channel
from grav_actors.supervisor.handle import ChildProcess
from grav_actors.supervisor.pipes import (
    MAX_LINE,
    FrameBuffer,
    LineBuffer,
    StderrTee,
    encode_frame,
    payload_file,
)


def chunks(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut data into pieces of the sizes, over and over."""
    position = turn = 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield data[position : position + size]
        position += size
        turn += 1


Sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


class TestFrames:
    @given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(0, 2**40), max_size=4)), Sizes)
    def test_frames_come_out_as_they_went_in_however_cut(
        self, contents: list[dict[str, int]], sizes: list[int]
    ) -> None:
        buffer = FrameBuffer(1000)
        data = b"".join(encode_frame(content, 1000) for content in contents)

        assert [frame for chunk in chunks(data, sizes) for frame in buffer.feed(chunk)] == contents

    def test_frame_above_the_limit_is_not_made(self) -> None:
        with pytest.raises(ValueError, match="at most 10 are allowed"):
            encode_frame("x" * 20, 10)

    def test_frame_above_the_limit_is_refused_before_it_is_complete(self) -> None:
        with pytest.raises(ValueError, match="2147483648 bytes; at most 10"):
            FrameBuffer(10).feed(b"\x80\0\0\0")

    def test_bytes_that_are_no_messagepack_raise_value_error(self) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the text is MessagePack's
            FrameBuffer(10).feed(b"\0\0\0\1\xc1")

    @pytest.mark.parametrize("content", [{"n": 2**70}, {"s": {1}}])
    def test_content_that_messagepack_cannot_carry_is_an_error_of_the_caller(self, content: object) -> None:
        with pytest.raises((ValueError, TypeError)):
            encode_frame(content, 1000)

    def test_file_names_that_are_no_utf8_pass(self) -> None:
        name = os.fsdecode(b"caf\xe9")

        assert FrameBuffer(100).feed(encode_frame([name], 100)) == [[name]]


class TestLines:
    @given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=30)), Sizes)
    def test_lines_come_out_as_they_went_in_however_cut(self, lines: list[str], sizes: list[int]) -> None:
        buffer = LineBuffer()
        data = "".join(f"{line}\n" for line in lines).encode()

        assert [line for chunk in chunks(data, sizes) for line in buffer.feed(chunk)] == lines
        assert buffer.end() == []

    def test_last_line_needs_no_end(self) -> None:
        buffer = LineBuffer()

        assert buffer.feed(b"one\ntwo") == ["one"]
        assert buffer.end() == ["two"]
        assert buffer.end() == []

    def test_carriage_return_before_the_end_is_not_part_of_the_line(self) -> None:
        assert LineBuffer().feed(b"one\r\ntw\ro\n") == ["one", "tw\ro"]

    def test_bytes_that_are_no_utf8_are_replaced(self) -> None:
        assert LineBuffer().feed(b"caf\xe9!\n") == ["caf\ufffd!"]

    def test_line_of_the_largest_size_is_whole(self) -> None:
        assert LineBuffer().feed(b"x" * MAX_LINE + b"\n") == ["x" * MAX_LINE]

    def test_longer_line_is_cut_and_says_how_much_is_missing(self) -> None:
        buffer = LineBuffer()
        for _ in range(3):
            assert buffer.feed(b"x" * MAX_LINE) == []

        cut = "x" * MAX_LINE + f" [cut: {2 * MAX_LINE + 2} more bytes]"
        assert buffer.feed(b"yz\nnext\n") == [cut, "next"]


class TestTee:
    def test_reader_that_stalls_costs_bytes_and_no_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StderrTee, "PATIENCE", 0.01)
        read_end, write_end = os.pipe()
        try:
            tee = StderrTee(write_end)
            for _ in range(200):
                tee.write(["x" * 999])
            dropped = tee.dropped
            assert 0 < dropped < 200_000

            assert os.read(read_end, 300_000) == b"".join([b"x" * 999 + b"\n"] * 200)[: 200_000 - dropped]
            tee.write(["again"])
            note = f"[{dropped} bytes of stderr were dropped: nobody was reading]"
            assert os.read(read_end, 1000).decode().splitlines() == [note, "again"]
            assert tee.dropped == 0
        finally:
            os.close(read_end)
            os.close(write_end)

    def test_closed_descriptor_is_no_error(self) -> None:
        read_end, write_end = os.pipe()
        os.close(read_end)
        tee = StderrTee(write_end)

        tee.write(["lost"])
        assert tee.dropped == 5
        os.close(write_end)
        tee.write(["lost"])
        assert tee.dropped == 10


def test_payload_file_holds_the_payload_and_then_ends() -> None:
    payload = os.urandom(300_000)
    with os.fdopen(payload_file(payload), "rb") as file:
        assert file.read() == payload
        assert file.read() == b""


class TestChannel:
    @pytest.fixture
    def pair(self) -> Iterator[tuple[Channel, Channel]]:
        one, other = (Channel(sock) for sock in socket.socketpair())
        yield one, other
        one.close()
        other.close()

    def test_frames_keep_their_order_and_their_descriptors(self, pair: tuple[Channel, Channel]) -> None:
        one, other = pair
        ends: list[int] = []
        for number in range(5):
            read_end, write_end = os.pipe()
            os.write(write_end, bytes([number]))
            os.close(write_end)
            ends.append(read_end)
        for number, end in enumerate(ends):
            one.send(["plain", number])
            one.send(["with", number], [end])

        frames = other.receive()
        assert frames == [[word, number] for number in range(5) for word in ("plain", "with")]
        for number in range(5):
            (end,) = other.take_fds(1)
            assert os.read(end, 10) == bytes([number])
            assert not os.get_inheritable(end)
            os.close(end)

    def test_what_does_not_fit_waits_for_flush(self, pair: tuple[Channel, Channel]) -> None:
        one, other = pair
        sent = [["big", number, "x" * 100_000] for number in range(30)]
        for frame in sent:
            one.send(frame)
        assert one.wants_write

        received: list[object] = []
        while len(received) < len(sent):
            received += other.receive()
            one.flush()
        assert received == sent
        assert not one.wants_write

    def test_descriptors_are_closed_by_whoever_does_not_take_them(self) -> None:
        one, other = (Channel(sock) for sock in socket.socketpair())
        read_end, write_end = os.pipe()
        one.send(["with"], [write_end])
        assert other.receive() == [["with"]]

        other.close()

        assert os.read(read_end, 1) == b""
        os.close(read_end)
        one.close()

    def test_end_of_the_peer_comes_after_its_last_frame(self, pair: tuple[Channel, Channel]) -> None:
        one, other = pair
        other.send(["last"])
        other.close()
        one.send(["into the void"])

        assert one.receive() == [["last"]]
        assert one.ended
        assert not one.wants_write

    def test_bytes_that_are_no_frames_end_the_channel(self) -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        theirs.send(b"GET / HTTP/1.1\r\n")

        assert channel.receive() == []
        assert channel.ended
        channel.close()
        theirs.close()


class FakeOverseer:
    """Stands for the watcher's thread."""

    def __init__(self, *, current: bool = False) -> None:
        self.current = current
        self.signals: list[tuple[int, int]] = []

    def is_current_thread(self) -> bool:
        return self.current

    def send_signal(self, child: ChildProcess, number: int) -> None:
        self.signals.append((child.pid, number))

    def give_order(self, child: ChildProcess, frame: bytes) -> None:
        raise AssertionError("nobody takes orders here")


class TestHandle:
    @pytest.mark.parametrize(
        ("code", "text"),
        [
            (0, "exit code 0"),
            (3, "exit code 3"),
            (-9, "signal SIGKILL (9)"),
            (-11, "signal SIGSEGV (11)"),
            (-40, "signal 40"),
        ],
    )
    def test_exit_is_described(self, code: int, text: str) -> None:
        child = ChildProcess("a", 1, None, FakeOverseer())
        assert (child.describe_exit(), child.exitcode, child.is_alive()) == ("running", None, True)

        child.record_exit(code)

        assert (child.describe_exit(), child.exitcode, child.is_alive()) == (text, code, False)
        assert repr(child) == f"<ChildProcess a pid=1 {text}>"

    def test_tail_keeps_20_lines_of_500_characters(self) -> None:
        child = ChildProcess("a", 1, None, FakeOverseer())
        for number in range(30):
            child.record_stderr(f"{number} " + "x" * 1000)

        assert [line.split()[0] for line in child.stderr_tail] == [str(number) for number in range(10, 30)]
        assert {len(line) for line in child.stderr_tail} == {500}

    def test_without_a_descriptor_signals_go_through_the_server_until_the_exit(self) -> None:
        overseer = FakeOverseer()
        child = ChildProcess("a", 12, None, overseer)
        child.terminate()
        child.record_exit(0)
        child.kill()

        assert overseer.signals == [(12, signal.SIGTERM)]

    def test_unknown_signal_is_refused(self) -> None:
        with pytest.raises(ValueError, match="1000 is no signal"):
            ChildProcess("a", 1, None, FakeOverseer()).send_signal(1000)

    def test_wait_ends_when_all_is_delivered(self) -> None:
        child = ChildProcess("a", 1, None, FakeOverseer())
        child.record_exit(0)
        assert not child.wait(0)

        threading.Thread(target=child.record_end).start()

        assert child.wait(5)

    def test_wait_in_a_callback_is_refused_unless_it_is_over(self) -> None:
        child = ChildProcess("a", 1, None, FakeOverseer(current=True))
        with pytest.raises(ReentrantWaitError):
            child.wait(1)
        child.record_end()
        assert child.wait(1)

    def test_negative_timeout_is_refused(self) -> None:
        with pytest.raises(ValueError, match="-1"):
            ChildProcess("a", 1, None, FakeOverseer()).wait(-1)

    @pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs process descriptors")
    def test_descriptor_is_closed_at_the_exit(self) -> None:
        read_end, write_end = os.pipe()
        child = ChildProcess("a", 1, write_end, FakeOverseer())
        child.record_exit(0)

        assert select.select([read_end], [], [], 5)[0]
        assert os.read(read_end, 1) == b""
        os.close(read_end)
