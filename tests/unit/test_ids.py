"""Ids: unique, version 8, readable as UUIDs."""

import os
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.ids import id_bytes, id_text, new_id, process_prefix


def test_an_id_is_a_uuid_of_version_8() -> None:
    parsed = uuid.UUID(bytes=new_id())
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


def test_every_id_of_a_process_begins_with_its_prefix() -> None:
    assert len(process_prefix()) == 8
    assert all(new_id().startswith(process_prefix()) for _ in range(100))


def test_the_counter_counts_by_one() -> None:
    first, second = new_id(), new_id()
    assert int.from_bytes(second, "big") - int.from_bytes(first, "big") == 1


def test_threads_never_share_an_id() -> None:
    made: list[list[bytes]] = [[] for _ in range(8)]
    threads = [threading.Thread(target=lambda ids=ids: ids.extend(new_id() for _ in range(2_000))) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for ids in made for one in ids}) == 16_000


def test_a_forked_child_has_a_prefix_of_its_own() -> None:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write_end, new_id())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write_end)
    child = os.read(read_end, 100)
    os.close(read_end)
    assert uuid.UUID(bytes=child).version == 8
    assert child[:8] != process_prefix()


@given(st.binary(min_size=16, max_size=16))
def test_text_is_canonical_and_comes_back(raw: bytes) -> None:
    assert id_text(raw) == str(uuid.UUID(bytes=raw))
    assert id_bytes(id_text(raw)) == raw


@given(st.text(max_size=40))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        id_bytes(text)


GOOD = "0190b8f2-5c3a-8d1e-9f00-3a5b7c9d1e2f"


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD.upper(),
        GOOD.replace("-", ""),
        "{" + GOOD + "}",
        GOOD + " ",
        GOOD[:-1],
        "0190b8f25-c3a-8d1e-9f00-3a5b7c9d1e2f",
        "0190b8f2 5c3a-8d1e-9f00-3a5b7c9d1e2f",
        "\u0660190b8f-5c3a-8d1e-9f00-3a5b7c9d1e2f",
        None,
        5,
        GOOD.encode(),
    ],
)
def test_only_canonical_text_is_an_id(text: object) -> None:
    with pytest.raises(ValueError, match="not an id"):
        id_bytes(text)  # type: ignore[arg-type]
