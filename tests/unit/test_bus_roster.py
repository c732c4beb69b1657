"""The roster: what a restarted bus reads of the one before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grav_actors.bus import roster
from grav_actors.bus.receiver import Receiver
from grav_actors.bus.sender import Sender
from grav_actors.filters import FilterSet
from grav_actors.ids import new_id
from grav_actors.protocol import PodSettings, pack

SETTINGS = PodSettings(actor=True, supervisor=b"s" * 16, incarnation=3, service="a", group="g", prefetch=4)


def receiver(name: str) -> Receiver:
    filters = FilterSet(listening=True)
    filters.set_type("x.*", False)
    uuid = new_id()
    return Receiver(uuid, name, SETTINGS, filters, Sender(uuid))


def names(raw: bytes) -> list[str]:
    return [entry.name for entry in roster.read_roster(raw)]


def test_who_joined_and_did_not_leave_is_read_with_everything_said() -> None:
    one, other = receiver("one"), receiver("other")
    raw = roster.join_record(one) + roster.join_record(other) + roster.leave_record(other.uuid)
    (entry,) = roster.read_roster(raw)
    assert (entry.uuid, entry.name, entry.settings, entry.filters) == (one.uuid, "one", SETTINGS, one.filters.to_wire())


def test_the_last_filter_counts() -> None:
    one = receiver("one")
    raw = roster.join_record(one)
    one.filters = FilterSet()
    (entry,) = roster.read_roster(raw + roster.filter_record(one))
    assert entry.filters == FilterSet().to_wire()


def test_a_journal_written_anew_says_the_same() -> None:
    pods = [receiver(name) for name in "abc"]
    assert names(roster.compact(pods)) == ["a", "b", "c"]


def test_a_record_that_was_cut_off_ends_the_reading() -> None:
    whole = roster.join_record(receiver("one"))
    part = roster.join_record(receiver("other"))
    for cut in range(len(part)):
        assert names(whole + part[:cut]) == ["one"]


def test_a_malformed_record_ends_the_reading() -> None:
    good = roster.join_record(receiver("one"))
    for bad in (
        pack(roster.JOIN, b"short", "n", SETTINGS.to_wire(), FilterSet().to_wire()),
        pack(roster.JOIN, new_id(), 5, SETTINGS.to_wire(), FilterSet().to_wire()),
        pack(roster.JOIN, new_id(), "n", (1, 2), FilterSet().to_wire()),
        pack(roster.FILTER, new_id(), FilterSet().to_wire()),
        b"\x05", b"\xc1", b"\x90", b"\x81\xa1x\x01",
    ):  # fmt: skip
        assert names(good + bad + roster.join_record(receiver("later"))) == ["one"]


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_raise_nothing(raw: bytes) -> None:
    roster.read_roster(raw)


@given(st.integers(0, 300), st.binary(min_size=1, max_size=3))
def test_a_journal_with_wrong_bytes_raises_nothing(at: int, wrong: bytes) -> None:
    raw = bytearray(roster.compact([receiver("one"), receiver("other")]))
    raw[at : at + len(wrong)] = wrong
    for entry in roster.read_roster(bytes(raw)):
        FilterSet.from_wire(entry.filters).allows_type("x")
