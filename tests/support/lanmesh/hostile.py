"""What must hold between the hosts of a LAN when one of them means no good: scenarios, as in `scenarios`."""

from __future__ import annotations

import json
import sys
from subprocess import PIPE

from grav_actors.mesh.keys import KeyFolder
from support.lanmesh.attacks import FLOOD, FORGER, GARBAGE, RECORDER, REPLAYER
from support.lanmesh.scenarios import Figures, assert_changes, both, settle
from support.lanmesh.stage import LanNode, Stage, StageError

INTRODUCE, INTRODUCED, FAILED = b"GZ\x01\x01", b"GZ\x01\x11", b"GZ\x01\x15"
"""How these begin on the wire when nothing is encrypted; `docs/mesh.md` section 18."""
WELCOME, INITIATE, READY = b"\x07WELCOME", b"\x08INITIATE", b"\x05READY"
"""Commands of ZMTP: the second and the third word of a handshake with keys, and what ends each handshake well."""


def make_keys(stage: Stage, members: int, strangers: int = 0) -> list[str]:
    """Return folders of keys that allow each other, and then some that allow all and are allowed by nobody."""
    folders = [KeyFolder(stage.lan.dir / f"keys{index}") for index in range(members + strangers)]
    pairs = [folder.new(f"node{index}") for index, folder in enumerate(folders)]
    for index, folder in enumerate(folders):
        for number, pair in enumerate(pairs):
            if number != index and (number < members or index >= members):
                folder.allow(pair.public())
    return [str(folder.path) for folder in folders]


def assert_undisturbed(one: LanNode, other: LanNode) -> None:
    """Assert that two nodes have seen each other come up, and nothing else, and nobody else."""
    assert_changes(one, other, "up")
    for node, peer in both(one, other):
        assert node("happened")["peers"] == [[peer.uuid, "up"]], node("happened")


def strangers(stage: Stage) -> Figures:
    """Nodes without the right key or of another group, garbage, a flood of beacons: nobody gets in or is disturbed."""
    keys = make_keys(stage, 3, strangers=1)
    members = [stage.start(index, keys=keys[index], belongs_to="farm") for index in range(2)]
    for member in members:
        member.wait_ready()
    one, other = members
    stage.all(members, "wait_for_peers", count=1)
    stage.all(members, "publish", rate=500)
    before = [member("memory")["mib"] for member in members]

    intruders = [
        stage.start(2, "foreign", keys=keys[2], belongs_to="barn"),
        stage.start(2, "unknown", keys=keys[3], endpoint="tcp://0.0.0.0:7480"),
        stage.start(2, "keyless", endpoint="tcp://0.0.0.0:7490"),
    ]
    lan = stage.lan
    attacks = [lan.host(2).python(GARBAGE, member.host.ip, number) for number, member in enumerate(members)]
    attacks.append(lan.host(2).python(FLOOD))
    for intruder in intruders:
        intruder.wait_ready()
    refused = 0
    for intruder in intruders:
        try:
            intruder("connect", endpoint=f"tcp://{one.host.ip}:7470", timeout=1.0)
        except StageError:
            refused += 1
    for attack in attacks:
        assert attack.wait(60) == 0
    sums = settle(stage, one, other)
    assert_undisturbed(one, other)
    assert refused == len(intruders), refused
    grown = max(member("memory")["mib"] - mib for member, mib in zip(members, before, strict=True))
    assert grown < 60, grown
    assert not any(state == "up" for intruder in intruders for _, state in intruder("happened")["peers"])
    return {"intruders": refused, "accepted": 0, "grown MiB": round(grown, 1), **sums}


def forgery(stage: Stage) -> Figures:
    """A host takes the uuid of a member: with a key of its own that is allowed, and with one that is not."""
    keys = make_keys(stage, 3, strangers=1)
    one, other = members = [stage.start(index, keys=keys[index]) for index in range(2)]
    for member in members:
        member.wait_ready()
    stage.all(members, "wait_for_peers", count=1)
    stage.all(members, "publish", rate=500)

    forged = 0
    for node, victim in both(one, other):
        for folder, answer in ((keys[2], "was here with another key before"), (keys[3], "does not allow this")):
            command = [sys.executable, "-c", FORGER, f"tcp://{node.host.ip}:7470", folder, victim.uuid]
            said = stage.lan.host(2).run(command)
            assert answer in said, said
            forged += 1
    sums = settle(stage, one, other)
    assert_undisturbed(one, other)
    return {"forged": forged, "accepted": 0, **sums}


def replay(stage: Stage, times: int = 1) -> Figures:
    """A host sends again, byte for byte, what a member has said when it was linked: without keys, and with them."""
    keys = make_keys(stage, 2)
    tapes = stage.lan.dir / "tapes"
    tapes.mkdir()
    ports = (7470, 17_470, 7480, 17_480)
    with_keys = [{"endpoint": "tcp://0.0.0.0:7480", "keys": folder} for folder in keys]
    first = [stage.start(0, discovery=None), stage.start(0, discovery=None, **with_keys[0])]
    for node in first:
        node.wait_ready()
    recorder = stage.lan.host(0).python(RECORDER, tapes, *ports, stdin=PIPE, stdout=PIPE, text=True)
    assert recorder.stdout is not None
    assert recorder.stdout.readline() == "ready\n"
    second = [stage.start(1, discovery=None), stage.start(1, discovery=None, **with_keys[1])]
    for node in second:
        node.wait_ready()
    pairs = list(zip(first, second, strict=True))
    for (one, other), port in zip(pairs, (7470, 7480), strict=True):
        other("connect", endpoint=f"tcp://{one.host.ip}:{port}")
        stage.all([one, other], "wait_for_peers", count=1)
        stage.all([one, other], "publish", rate=200)
    recorder.communicate("that is enough", timeout=30)
    recorded = {port: [bytes.fromhex(path.read_text()) for path in tapes.glob(f"{port}-*")] for port in ports}
    assert any(INTRODUCE in tape for tape in recorded[7470]), "no introduction was recorded"
    assert any(INITIATE in tape for tape in recorded[7480]), "no handshake with keys was recorded"

    command = [sys.executable, "-c", REPLAYER, first[0].host.ip, str(tapes), str(times), *map(str, ports)]
    answers: list[tuple[int, bytes]] = [
        (port, bytes.fromhex(answer)) for port, answer in json.loads(stage.lan.host(2).run(command, limit=120))
    ]
    assert len(answers) == times * sum(map(len, recorded.values()))
    # The one without keys asks who is said to have introduced himself, and is told that it was not so now; the one with
    # keys does not come to an understanding.
    assert any(FAILED in answer for port, answer in answers if port == 7470), "nobody has looked at the introduction"
    assert not any(INTRODUCED in answer for _, answer in answers)
    assert any(WELCOME in answer for port, answer in answers if port == 7480), "nobody has looked at the first word"
    assert not any(READY in answer for port, answer in answers if port in (7480, 17_480))
    sums = [settle(stage, one, other) for one, other in pairs]
    for one, other in pairs:
        assert_undisturbed(one, other)
    return {"replayed": len(answers), "accepted": 0, **{name: sum(each[name] for each in sums) for name in sums[0]}}
