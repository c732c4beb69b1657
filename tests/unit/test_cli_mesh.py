"""What `up` says of the mesh."""

from pathlib import Path
from typing import Any

import pytest

from grav_actors.cli.mesh import REMEMBERED, PeerNews, mesh_line
from grav_actors.mesh.view import Peer
from grav_actors.tables import MeshTable


def peer(state: str, **fields: Any) -> Peer:
    values: dict[str, Any] = {
        "uuid": "1",
        "name": "cellar",
        "endpoint": "tcp://10.0.0.2:7470",
        "state": state,
        "belongs_to": "*",
        "interests": (),
        "rtt": None,
        "last_seen": 0.0,
        **fields,
    }
    return Peer(**values)


def told(*changes: tuple[str, str]) -> list[str]:
    lines: list[str] = []
    news = PeerNews(lines.append)
    for state, reason in changes:
        news.tell(peer(state), reason)
    return lines


def test_peer_that_comes_stays_silent_returns_and_leaves_is_told_in_one_line_each() -> None:
    assert told(
        ("joining", ""), ("up", ""), ("suspect", "silent for 3.0 s"), ("up", ""), ("down", "its link ended"), ("up", "")
    ) == [
        "node cellar has joined, tcp://10.0.0.2:7470",
        "node cellar is silent: silent for 3.0 s; waiting for it",
        "node cellar is back",
        "node cellar is gone: its link ended",
        "node cellar is back",
    ]


def test_peer_that_has_left_joins_anew() -> None:
    assert told(("up", ""), ("withdrawn", "it has left the mesh"), ("up", ""))[1:] == [
        "node cellar has left",
        "node cellar has joined, tcp://10.0.0.2:7470",
    ]


def test_peer_that_never_came_up_is_not_called_gone() -> None:
    assert told(("joining", ""), ("down", "10 s without proof")) == ["node cellar does not come up: 10 s without proof"]


def test_peer_without_a_name_or_address_is_told_by_its_uuid() -> None:
    lines: list[str] = []
    PeerNews(lines.append).tell(peer("up", name="", endpoint=""), "")
    assert lines == ["node 1 has joined"]


def test_only_so_many_peers_are_remembered() -> None:
    lines: list[str] = []
    news = PeerNews(lines.append)
    for number in range(REMEMBERED + 1):
        news.tell(peer("up", uuid=str(number)), "")
    news.tell(peer("up", uuid="0"), "")
    news.tell(peer("up", uuid=str(REMEMBERED)), "")
    assert ["back" in line for line in lines[-2:]] == [False, True]


def test_keys_are_told_where_there_are_any() -> None:
    line = mesh_line(MeshTable(discovery=()), "tcp://127.0.0.1:5", Path("/home/ann/keys"))
    assert line.endswith("; looks for nobody; trusts the keys in /home/ann/keys")


@pytest.mark.parametrize(
    ("table", "endpoint", "line"),
    [
        (
            MeshTable(listen="tcp://0.0.0.0:7470"),
            "tcp://0.0.0.0:7470",
            "mesh: listens on tcp://0.0.0.0:7470; finds others by beacon",
        ),
        (
            MeshTable(),
            "tcp://127.0.0.1:5",
            "mesh: listens on tcp://127.0.0.1:5, for this machine alone; finds others by beacon",
        ),
        (
            MeshTable(listen="tcp://a:7470", discovery=("beacon", "static"), peers=("tcp://a:1", "tcp://b:1")),
            "tcp://a:7470",
            "mesh: listens on tcp://a:7470; finds others by beacon and a list of 2",
        ),
        (MeshTable(discovery=()), "", "mesh: does not listen; looks for nobody"),
    ],
)
def test_mesh_is_told_in_one_line(table: MeshTable, endpoint: str, line: str) -> None:
    assert mesh_line(table, endpoint) == line
