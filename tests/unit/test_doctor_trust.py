"""What the doctor says of keys, of the beacons' secret, and of the mesh of a node that runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.doctor.finding import Finding, State
from grav_actors.doctor.mesh import judge_mesh
from grav_actors.doctor.trust import Keys, judge_keys, judge_secret
from grav_actors.doctor.trust_probe import look_at_keys, read_secret
from grav_actors.mesh.certificate import Certificate
from grav_actors.mesh.keys import KeyFolder

KEYS = Keys("/keys", "farm", "p" * 40, "", ("cellar",))


def judged(facts: Keys, *, is_needed: bool = True, is_insecure: bool = False) -> list[tuple[str, State]]:
    return [
        (finding.check, finding.state) for finding in judge_keys(facts, is_needed=is_needed, is_insecure=is_insecure)
    ]


@pytest.mark.parametrize(
    ("facts", "findings"),
    [
        (KEYS, [("keys", State.OK), ("allowed keys", State.OK)]),
        (replace(KEYS, allowed=()), [("keys", State.OK), ("allowed keys", State.WARNING)]),
        (
            replace(KEYS, refused=("x.key is none",)),
            [("keys", State.OK), ("allowed keys", State.WRONG), ("allowed keys", State.OK)],
        ),
        (Keys("/keys"), [("keys", State.WRONG)]),
        (replace(KEYS, problem="mode 0644"), [("keys", State.WRONG)]),
    ],
)
def test_keys_are_judged_where_they_are_needed(facts: Keys, findings: list[tuple[str, State]]) -> None:
    assert judged(facts) == findings


def test_keys_that_are_not_needed_are_not_judged() -> None:
    assert judged(Keys("/keys"), is_needed=False) == [("keys", State.OK)]


def test_insecure_is_a_warning_whatever_keys_there_are() -> None:
    assert judged(KEYS, is_insecure=True) == [("keys", State.WARNING)]


def test_folder_of_keys_is_looked_at_as_a_node_does(tmp_path: Path) -> None:
    assert look_at_keys(tmp_path / "keys") == Keys(str(tmp_path / "keys"))

    folder = KeyFolder(tmp_path / "keys")
    pair = folder.new("farm")
    folder.allow(Certificate("a" * 40, "cellar"))
    bad = folder.allowed_folder / "attic.key"
    bad.write_text("no key")
    facts = look_at_keys(folder.path)
    assert (facts.name, facts.public_key, facts.problem) == ("farm", pair.public_key, "")
    assert facts.allowed == ("cellar",)
    (refused,) = facts.refused
    assert str(bad) in refused


def test_key_that_others_could_read_is_a_problem_that_names_the_remedy(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.new("farm")
    folder.pair_file.chmod(0o640)
    assert "mode 0640" in look_at_keys(folder.path).problem
    assert "chmod 600" in look_at_keys(folder.path).problem


def test_secret_is_looked_at_where_one_is_configured(tmp_path: Path) -> None:
    assert judge_secret(read_secret(BeaconSettings())[1], is_used=False) == []

    settings = BeaconSettings(secret_file=tmp_path / "secret")
    assert judge_secret(read_secret(settings)[1], is_used=True)[0].state is State.WRONG

    (tmp_path / "secret").write_text("sixteen bytes, at least")
    (tmp_path / "secret").chmod(0o600)
    secret, problem = read_secret(settings)
    assert secret == b"sixteen bytes, at least"
    assert judge_secret(problem, is_used=True)[0].state is State.OK


# The mesh


def peer(state: str = "up", **fields: Any) -> dict[str, Any]:
    return {
        "name": "cellar",
        "uuid": "1",
        "endpoint": "tcp://c:1",
        "state": state,
        "lag_in": 0,
        "last_seen": 4.0,
        **fields,
    }


def beacon(**fields: Any) -> dict[str, Any]:
    status = {"interfaces": ["lo"], "sent": 3, "heard": 9, "endpoints": 0, "refused": {}, "errors": {}, **fields}
    return {"name": "Beacon", "status": status}


def judged_mesh(**fields: Any) -> list[Finding]:
    return judge_mesh({"peers": [], "unreached": {}, "discoveries": [], **fields})


def test_peer_that_is_up_is_ok_and_one_that_is_not_a_warning() -> None:
    up, down = judged_mesh(peers=[peer(lag_in=5), peer("down", name="roof"), peer("withdrawn")])
    assert (up.state, up.seen) == (State.OK, "node cellar is up at tcp://c:1, 5 messages behind")
    assert (down.state, down.seen) == (State.WARNING, "node roof is down, heard 4 s ago")


def test_earlier_life_of_a_node_that_is_up_is_not_missed() -> None:
    findings = judged_mesh(peers=[peer("down"), peer(), peer("down", name=""), peer(name="")])
    assert [finding.state for finding in findings] == [State.OK, State.WARNING, State.OK]


def test_node_without_peers_is_a_warning() -> None:
    assert [finding.check for finding in judged_mesh(peers=[peer("withdrawn")])] == ["peers"]


def test_endpoint_that_leads_to_nobody_is_a_warning_with_the_reason() -> None:
    finding = judged_mesh(peers=[peer()], unreached={"tcp://d:1": "another group"})[1]
    assert (finding.state, finding.seen) == (State.WARNING, "no node at tcp://d:1: another group")


@pytest.mark.parametrize("reason", ["unsigned", "signed", "forged", "version", "malformed"])
def test_refused_beacons_are_a_warning_that_says_what_to_do(reason: str) -> None:
    finding, told = judged_mesh(peers=[peer()], discoveries=[beacon(refused={reason: 7})])[1:]
    assert finding.state is State.WARNING
    assert f"7 were refused as {reason}" in finding.seen
    assert finding.remedy
    assert told.state is State.OK


def test_silence_of_beacons_is_a_warning_only_for_a_lonely_node() -> None:
    assert judged_mesh(peers=[peer()], discoveries=[beacon()])[-1].state is State.OK
    assert judged_mesh(discoveries=[beacon()])[-1].state is State.WARNING
    assert judged_mesh(discoveries=[beacon(endpoints=1)])[-1].state is State.OK


def test_interface_on_which_no_beacon_can_be_sent_is_a_warning() -> None:
    finding = judged_mesh(peers=[peer()], discoveries=[beacon(errors={"eth0": "no carrier"})])[1]
    assert finding.state is State.WARNING
    assert "eth0" in finding.seen


def test_discovery_that_tells_nothing_is_not_judged() -> None:
    assert len(judged_mesh(peers=[peer()], discoveries=[{"name": "StaticPeers", "status": None}])) == 1
