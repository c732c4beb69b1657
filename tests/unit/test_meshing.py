"""The table [mesh] of a configuration file, made into what a node starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from grav_actors.discovery.beacon import Beacon
from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.discovery.static import StaticPeers
from grav_actors.errors import ConfigError
from grav_actors.mesh.certificate import Certificate
from grav_actors.mesh.keys import KeyFolder
from grav_actors.meshing import MeshPlan, plan_table
from grav_actors.tables import MeshTable

LOCAL = "tcp://127.0.0.1:7470"
EVERYWHERE = "tcp://0.0.0.0:7470"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder for keys, still without any."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "grav-actors" / "keys"


def plan(table: MeshTable) -> MeshPlan:
    return plan_table(table, lambda keys, reason: ConfigError(f"{'.'.join(keys)}: {reason}"))


def table(**values: object) -> MeshTable:
    return MeshTable(**{"transport": "exposed", **values})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def exposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport that, unlike the loopback, may reach other machines."""
    from grav_actors import transports

    target = "grav_actors.transports.loopback:LoopbackTransport"
    monkeypatch.setitem(transports._BUILT_IN, "exposed", target)


def test_beacons_are_the_discovery_unless_the_file_says_otherwise() -> None:
    assert [type(each) for each in plan(table(listen=LOCAL)).discoveries] == [Beacon]
    assert plan(table(listen=LOCAL, discovery=())).discoveries == ()


def test_beacon_gets_its_settings() -> None:
    settings = BeaconSettings(port=7000)
    (beacon,) = plan(table(listen=LOCAL, beacon=settings)).discoveries
    assert isinstance(beacon, Beacon)
    assert beacon._settings is settings


@pytest.mark.parametrize("discovery", [(), ("static",)])
def test_peers_are_dialled_whether_or_not_static_is_named(discovery: tuple[str, ...]) -> None:
    (static,) = plan(table(listen=LOCAL, discovery=discovery, peers=("tcp://a:1", "tcp://b:2"))).discoveries
    assert isinstance(static, StaticPeers)
    assert static._settings.peers == ("tcp://a:1", "tcp://b:2")


def test_listener_has_its_port_and_address() -> None:
    made = plan(table(listen=LOCAL))
    assert (made.port, made.uri) == (7470, "tcp://127.0.0.1")


@pytest.mark.parametrize("listen", [None, EVERYWHERE, "tcp://eth0:7470", "tcp://[::]:7470"])
def test_listener_beyond_this_machine_needs_keys_and_the_error_names_the_commands(
    listen: str | None, home: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(table(listen=listen))
    text = str(caught.value)
    assert text.startswith("mesh.listen: ")
    assert all(part in text for part in ("grav-actors keys new", "grav-actors keys allow", "insecure", str(home)))


def test_keys_are_those_of_the_user_when_the_file_names_none(home: Path) -> None:
    KeyFolder(home).new("farm")
    assert plan(table(listen=EVERYWHERE)).custom == {"keys": home, "insecure": False}


def test_node_of_this_machine_alone_has_no_keys_unless_the_file_names_some(home: Path, tmp_path: Path) -> None:
    KeyFolder(home).new("farm")
    assert plan(table(listen=LOCAL)).custom == {"keys": None, "insecure": False}

    KeyFolder(tmp_path / "own").new("farm")
    assert plan(table(listen=LOCAL, keys=tmp_path / "own")).custom["keys"] == tmp_path / "own"


@pytest.mark.parametrize("transport", ["loopback", "zmq"])
def test_transport_that_stays_on_this_machine_by_default_needs_no_keys(transport: str) -> None:
    assert plan(table(transport=transport)).custom == {"keys": None, "insecure": False}


def test_zmq_that_listens_beyond_this_machine_needs_keys() -> None:
    with pytest.raises(ConfigError, match="grav-actors keys new"):
        plan(table(transport="zmq", listen=EVERYWHERE))


def test_insecure_needs_no_keys(home: Path) -> None:
    KeyFolder(home).new("farm")
    assert plan(table(listen=EVERYWHERE, insecure=True)).custom == {"keys": None, "insecure": True}


def test_keys_that_others_could_read_are_refused(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "own")
    folder.new("farm")
    folder.pair_file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"mesh\.keys: .* has mode 0644"):
        plan(table(listen=LOCAL, keys=folder.path))


def test_allowed_key_that_is_none_does_not_stop_the_node(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "own")
    folder.new("farm")
    folder.allow(Certificate("a" * 40, "cellar"))
    (folder.allowed_folder / "attic.key").write_text("no key")
    assert plan(table(listen=EVERYWHERE, keys=folder.path)).custom["keys"] == folder.path


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"transport": "expose"}, 'mesh.transport: no transport is called "expose"; did you mean "exposed"?'),
        ({"discovery": ("beakon",)}, 'mesh.discovery: no discovery is called "beakon"; did you mean "beacon"?'),
    ],
)
def test_unknown_name_is_told_with_the_nearest(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(table(listen=LOCAL, **values))
    assert str(caught.value).startswith(text)


def test_a_node_without_a_mesh_loads_nothing_of_it() -> None:
    prefixes = ("grav_actors.mesh", "grav_actors.transports", "grav_actors.discovery")
    look = f"import sys, grav_actors.node; print([name for name in sys.modules if name.startswith({prefixes})])"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
