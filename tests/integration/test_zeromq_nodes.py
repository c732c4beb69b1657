"""Nodes linked over ZeroMQ on the loopback; each is a process of its own, so that it can be killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from grav_actors.mesh.keys import KeyFolder
from support.lanmesh.stage import LanNode, Stage

Start = Callable[..., LanNode]


class Here:
    """This machine, in the place of a host of a lab."""

    name, ip = "here", "127.0.0.1"

    def popen(self, command: list[str], env: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(command, env={**os.environ, **env}, **options)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return `start(name, endpoint="tcp://127.0.0.1:0", **options)`: a node that runs."""
    nodes: list[LanNode] = []

    def start(name: str, endpoint: str = "tcp://127.0.0.1:0", **options: Any) -> LanNode:
        node = LanNode(Here(), tmp_path / f"{name}.log", {"name": name, "endpoint": endpoint, **options})
        nodes.append(node)
        node.wait_ready()
        return node

    yield start
    Stage.together(*(lambda node=node: node.close() or {} for node in nodes))


def exchange(nodes: list[LanNode], count: int) -> None:
    """Have every node publish, and assert that every other gets all of it, once and in order."""
    for node in nodes:
        for peer in nodes:
            if peer is not node:
                node("wait_for", uuid=peer.uuid, state="up")
        node("send", count=count)
    for node in nodes:
        for peer in nodes:
            if peer is not node:
                came = node("collected", uuid=peer.uuid, last=count)
                assert (came["count"], came["missing"], came["disorder"]) == (count, 0, 0)


def test_three_nodes_with_keys_carry_everything_both_ways(start: Start, tmp_path: Path) -> None:
    folders = [KeyFolder(tmp_path / f"keys{index}") for index in range(3)]
    pairs = [folder.new(folder.path.name) for folder in folders]
    for folder in folders:
        for pair in pairs:
            if pair.name != folder.path.name:
                folder.allow(pair.public())
    nodes = [start(f"n{index}", keys=str(folder.path)) for index, folder in enumerate(folders)]
    for first, second in ((0, 1), (2, 1), (2, 0)):
        nodes[first]("connect", endpoint=nodes[second].endpoint)

    exchange(nodes, 300)


def test_killed_node_is_down_at_once_and_another_takes_its_address(start: Start) -> None:
    stays, dies = start("stays"), start("dies")
    stays("connect", endpoint=dies.endpoint)
    exchange([stays, dies], 10)

    dies.kill()
    assert stays("wait_for", uuid=dies.uuid, state="down")["state"] == "down"
    after = start("after", endpoint=dies.endpoint)

    assert (after.endpoint, after.uuid != dies.uuid) == (dies.endpoint, True)
    stays("wait_for", uuid=after.uuid, state="up")  # what was connected to is dialled again
    after("send", count=10)
    assert stays("collected", uuid=after.uuid, last=10)["count"] == 10


def test_frame_that_the_peer_could_not_take_is_announced_there_and_its_link_stands(start: Start) -> None:
    small, large = start("small", max_message=65_536), start("large", max_message=8_000_000)
    large("connect", endpoint=small.endpoint)
    exchange([small, large], 10)

    large("send", count=1, first=11, size=4_000_000)
    large("send", count=10, first=12)
    came = small("collected", uuid=large.uuid, last=21)
    assert (came["count"], came["gap"], came["missing"], came["last"]) == (20, 1, 1, 21)
    for node, peer in ((small, large), (large, small)):
        events = [kind for _, kind, data in node("happened")["events"] if data["uuid"] == peer.uuid]
        assert [kind for kind in events if kind != "gap"] == ["up"]
