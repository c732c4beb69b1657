"""What a process notes of its handlers, and what its parent reads of that."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.actor.slate import MAX_SLOTS, Handling, Slate, Slot, read_slate, slate_size
from grav_actors.pod.inbound import Inbound

SENDER, ID = b"s" * 16, bytes(range(16))


def inbound(message_type: str = "x", *, seq: int = 1, attempt: int = 1) -> Inbound:
    return Inbound(1, (SENDER, seq, 0, 0, message_type, 5, 9, 0, attempt), b"")


def handling(seq: int, message_type: str = "x", attempt: int = 1) -> Handling:
    return Handling(SENDER, seq, ID, message_type, attempt)


def entered(slate: Slate, seq: int, message_type: str = "x", attempt: int = 1) -> Slot:
    slot = slate.take()
    assert slot is not None
    slot.turn_to(inbound(message_type, attempt=attempt))
    slot.note(seq, ID, seq)
    return slot


def test_empty_slate_says_that_no_handler_ran() -> None:
    assert read_slate(bytes(slate_size(3))) == []
    assert read_slate(b"") == []


@given(st.integers(1, 2**53), st.text(st.characters(codec="utf-8"), min_size=1, max_size=63), st.integers(1, 2**53))
def test_message_in_a_handler_is_read_as_it_was_noted(seq: int, message_type: str, attempt: int) -> None:
    memory = bytearray(slate_size(1))
    entered(Slate(memory), seq, message_type, attempt)
    assert read_slate(bytes(memory)) == [handling(seq, message_type, attempt)]


def test_longest_type_fits() -> None:
    memory = bytearray(slate_size(1))
    entered(Slate(memory), 1, "x" * 255)
    assert read_slate(bytes(memory)) == [handling(1, "x" * 255)]


def test_next_message_of_a_run_takes_the_place_of_the_one_before() -> None:
    memory = bytearray(slate_size(1))
    slot = entered(Slate(memory), 1)
    slot.note(2, ID, 2)
    assert read_slate(bytes(memory)) == [handling(2)]
    slot.clear()
    assert read_slate(bytes(memory)) == []


def test_each_of_several_handlers_has_a_slot_and_gives_it_back() -> None:
    memory = bytearray(slate_size(3))
    slate = Slate(memory)
    slots = [entered(slate, seq) for seq in (1, 2, 3)]
    assert slate.take() is None
    slate.give_back(slots[1])
    assert read_slate(bytes(memory)) == [handling(1), handling(3)]
    entered(slate, 4)
    assert read_slate(bytes(memory)) == [handling(1), handling(4), handling(3)]


@pytest.mark.parametrize("cut", range(32))
def test_process_that_dies_in_the_middle_of_a_note_was_in_no_other_handler(cut: int) -> None:
    memory = bytearray(slate_size(1))
    first, second = 0x0101010101010101, 0x0202020202020202
    slot = entered(Slate(memory), first)
    before = bytes(memory)
    slot.note(second, b"o" * 16, second)
    torn = memory[:cut] + before[cut:]
    assert read_slate(bytes(torn)) == ([] if cut else [handling(first)])


def test_run_is_described_while_nothing_is_noted() -> None:
    memory = bytearray(slate_size(1))
    slate = Slate(memory)
    slot = entered(slate, 1)
    slot.clear()
    slot.turn_to(inbound("other"))
    assert read_slate(bytes(memory)) == []


def test_slate_has_a_limit() -> None:
    assert slate_size(10**9) == slate_size(MAX_SLOTS)


def test_report_names_type_uuid_and_attempt() -> None:
    assert str(handling(1, "sensor.temp", 2)) == "sensor.temp 00010203-0405-0607-0809-0a0b0c0d0e0f (attempt 2)"


@given(st.binary(max_size=slate_size(2)))
def test_bytes_that_make_no_sense_never_raise(raw: bytes) -> None:
    assert isinstance(read_slate(raw), list)


def test_length_of_a_type_beyond_its_place_does_no_harm() -> None:
    memory = bytearray(slate_size(1))
    entered(Slate(memory), 1)
    struct.pack_into("<B", memory, 32 + 24, 255)
    assert read_slate(bytes(memory))[0].type.rstrip("\0") == "x"
