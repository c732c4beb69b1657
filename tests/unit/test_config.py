"""grav.toml: what it may say, and that each mistake is told in one line with its file and line."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grav_actors.config import ConfigFileError, NodeConfig, find_project, load_config
from grav_actors.discovery.beacon_settings import BeaconSettings
from grav_actors.errors import ConfigError
from grav_actors.options import Backoff, BusOptions, RestartLimits
from grav_actors.tables import ActorTable, MeshTable, NodeTable, SupervisorTable
from grav_actors.toml_lines import key_lines

NAME_RULE = "must be a name of 1 to 64 characters of A-Z a-z 0-9 . _ -, not"

SIZE_RULE = 'write "64KiB", "1MiB", "2GiB" or a whole number of bytes'
DURATION_RULE = 'write "200ms", "5s", "10m", "1h" or a number of seconds, 0 or more'
STATIC_RULE = 'discovery names "static", which dials peers, and there are none; add peers'
BEACON_RULE = 'beacon has settings, but discovery does not name "beacon"; add it there'
INSECURE_RULE = "insecure is true, which means without keys, and keys names some; take one out"
SECRET_RULE = 'write it into a file of mode 0600 and name that: secret_file = "beacon.secret"'
STRATEGIES = '"one_for_one", "one_for_all" or "rest_for_one"'

FULL = """\
# grav.toml
[node]
name = "greenhouse"
belongs_to = "farm"
interests = ["vision"]            # capabilities this node offers to tunnels

[bus]
replay_limit = 1000
max_message = "1MiB"
send_timeout = "10s"

[supervisor]                      # the root
strategy = "one_for_one"
max_restarts = 5
within = "30s"
backoff = { first = "200ms", max = "30s", factor = 2.0, jitter = 0.2 }

[actors.temp]
class = "greenhouse:Thermometer"
kind = "process"
instances = 2
restart = "permanent"
args = { site = "roof" }

[actors.display]
class = "greenhouse:Display"      # a Supervisor subclass is as welcome
kind = "thread"

[mesh]
transport = "zmq"
listen = "tcp://0.0.0.0:7470"
discovery = ["beacon"]
peers = []                        # static endpoints besides
keys = "keys"
insecure = false
"""


def load(tmp_path: Path, text: str, name: str = "grav.toml") -> NodeConfig:
    file = tmp_path / name
    file.write_bytes(text.encode())
    return load_config(file)


def refused(tmp_path: Path, text: str, name: str = "grav.toml") -> str:
    """Return the error of a text, from the file's name on."""
    with pytest.raises(ConfigFileError) as caught:
        load(tmp_path, text, name)
    error = caught.value
    shown = str(error)
    assert "\n" not in shown
    assert error.path == tmp_path / name
    assert shown.startswith(f"{tmp_path / name}:{error.line}: ")
    return shown.removeprefix(f"{tmp_path}/")


# What is allowed


def test_every_table_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, FULL) == NodeConfig(
        node=NodeTable("greenhouse", "farm", ("vision",)),
        bus=BusOptions(1000, 1048576, 10.0),
        supervisor=SupervisorTable("one_for_one", RestartLimits(5, 30.0, Backoff(0.2, 30.0, 2.0, 0.2))),
        actors=(
            ActorTable("temp", "greenhouse:Thermometer", "process", 2, args={"site": "roof"}),
            ActorTable("display", "greenhouse:Display", "thread"),
        ),
        mesh=MeshTable("zmq", "tcp://0.0.0.0:7470", ("beacon",), (), tmp_path / "keys", False),
    )


def test_an_empty_file_is_the_configuration_without_a_file(tmp_path: Path) -> None:
    assert load(tmp_path, "") == NodeConfig()


@pytest.mark.parametrize("table", ["node", "bus", "supervisor", "actors"])
def test_an_empty_table_is_as_good_as_none(tmp_path: Path, table: str) -> None:
    assert load(tmp_path, f"[{table}]\n") == NodeConfig()


def test_an_empty_mesh_is_a_mesh(tmp_path: Path) -> None:
    assert load(tmp_path, "[mesh]\n").mesh == MeshTable()


def test_an_actor_may_say_all_that_a_child_may(tmp_path: Path) -> None:
    text = """\
[actors.temp]
class = "greenhouse:Thermometer"
kind = "thread"
instances = 3
group = "readers"
restart = "transient"
significant = true
args = { site = "roof", limits = [1, 2], deep = { a = 1 } }
start_timeout = "1m"
shutdown = 0
handler_timeout = 2.5
"""
    (actor,) = load(tmp_path, text).actors
    assert dataclasses.asdict(actor) == {
        "name": "temp",
        "target": "greenhouse:Thermometer",
        "kind": "thread",
        "instances": 3,
        "group": "readers",
        "restart": "transient",
        "significant": True,
        "args": {"site": "roof", "limits": [1, 2], "deep": {"a": 1}},
        "start_timeout": 60.0,
        "shutdown": 0.0,
        "handler_timeout": 2.5,
    }
    assert actor.names == ("temp-1", "temp-2", "temp-3")


def test_one_instance_has_the_actors_own_name() -> None:
    assert ActorTable("temp", "m:C").names == ("temp",)


def test_actors_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = "".join(f'[actors.{name}]\nclass = "m:C"\n' for name in "zbya")
    assert [actor.name for actor in load(tmp_path, text).actors] == list("zbya")


def test_arguments_may_have_a_table_of_their_own(tmp_path: Path) -> None:
    (actor,) = load(tmp_path, '[actors.temp]\nclass = "m:C"\n[actors.temp.args]\nsite = "roof"\n').actors
    assert actor.args == {"site": "roof"}


def test_backoff_may_have_a_table_of_its_own(tmp_path: Path) -> None:
    config = load(tmp_path, '[supervisor.backoff]\nfirst = "1s"\n')
    assert config.supervisor.limits == RestartLimits(backoff=Backoff(first=1.0))


def test_an_absolute_folder_of_keys_stays(tmp_path: Path) -> None:
    mesh = load(tmp_path, '[mesh]\nkeys = "/etc/grav/keys"\n').mesh
    assert mesh is not None
    assert mesh.keys == Path("/etc/grav/keys")


def test_beacons_have_a_table_of_their_own(tmp_path: Path) -> None:
    text = '[mesh.beacon]\nport = 7000\ninterfaces = ["eth0"]\nipv6 = false\nsecret_file = "beacon.secret"\n'
    mesh = load(tmp_path, text).mesh
    assert mesh is not None
    assert mesh.beacon == BeaconSettings(
        port=7000, interfaces=("eth0",), ipv6=False, secret_file=tmp_path / "beacon.secret"
    )


@pytest.mark.parametrize(
    ("listen", "is_exposed"),
    [
        (None, False),
        ("tcp://0.0.0.0:7470", True),
        ("tcp://*:7470", True),
        ("tcp://10.0.0.1:7470", True),
        ("tcp://farm.example:7470", True),
        ("tcp://[::]:7470", True),
        ("nats://127.0.0.1", True),
        ("tcp://127.0.0.1:7470", False),
        ("tcp://127.1.2.3:0", False),
        ("tcp://[::1]:7470", False),
        ("tcp://localhost:7470", False),
        ("ipc:///run/grav.sock", False),
    ],
)
def test_listener_is_exposed_unless_it_is_known_not_to_be(listen: str | None, is_exposed: bool) -> None:
    assert MeshTable(listen=listen).is_exposed is is_exposed


def test_listener_of_a_strangers_transport_is_exposed_unless_it_says_otherwise() -> None:
    assert MeshTable(transport="pigeon").is_exposed
    assert not MeshTable(transport="pigeon", listen="pigeon://127.0.0.1:1").is_exposed


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://127.0.0.1:0", "tcp://*:7470", "tcp://farm.example:65535", "tcp://[::1]:7470", "nats://x/y"],
)
def test_endpoints_to_listen_on(tmp_path: Path, endpoint: str) -> None:
    mesh = load(tmp_path, f'[mesh]\nlisten = "{endpoint}"\n').mesh
    assert mesh is not None
    assert mesh.listen == endpoint


def test_pyproject_holds_the_same_below_its_own_table(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n\n' + FULL.replace("\n[", "\n[tool.grav-actors.")
    here = load(tmp_path, text, "pyproject.toml")
    assert here == load(tmp_path, FULL)


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    text = "\ufeff" + FULL.replace("\n", "\r\n")
    assert load(tmp_path, text) == load(tmp_path, FULL)


# What is refused


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[actor.temp]\nclass = "m:C"', '1: unknown table "actor"; did you mean "actors"?'),
        ("\nname = 3", '2: unknown key "name"'),
        ("[nodes]", '1: unknown table "nodes"; did you mean "node"?'),
        ("node = 3", "1: node must be a table, not 3"),
        ("[[bus]]", "1: bus must be a table, not [{}]"),
        ("actors = []", "1: actors must be a table, not []"),
        ('[actors]\ntemp = "m:C"', '2: [actors] temp must be a table, not "m:C"'),
        ('[[actors.temp]]\nclass = "m:C"', "1: [actors] temp must be a table, not [{'class': 'm:C'}]"),
        ("[node]\nnam = 'x'", '2: [node] unknown key "nam"; did you mean "name"?'),
        ("[node]\nzzz = 'x'", '2: [node] unknown key "zzz"'),
        (
            "[node]\nname = 'a b'",
            f'2: [node] name {NAME_RULE} "a b"',
        ),
        (
            "[node]\nname = 3",
            f"2: [node] name {NAME_RULE} 3",
        ),
        ("[node]\nbelongs_to = ''", '2: [node] belongs_to must be a text of printable characters, not ""'),
        ("[node]\ninterests = 'vision'", '2: [node] interests must be a list of texts, not "vision"'),
        ("[node]\ninterests = ['a', 3]", "2: [node] interests must be a list of printable texts; 3 is none"),
        ("[bus]\nreplay_limit = -1", "2: [bus] replay_limit must be at least 0, not -1"),
        ("[bus]\nreplay_limit = '5'", '2: [bus] replay_limit must be a whole number, not "5"'),
        ("[bus]\nreplay_limit = true", "2: [bus] replay_limit must be a whole number, not True"),
        ("[bus]\nmax_message = 0", "2: [bus] max_message must be at least 1, not 0"),
        (
            "[bus]\nmax_message = '1MB'",
            f'2: [bus] max_message: "1MB" is no size; {SIZE_RULE}',
        ),
        ("[bus]\n\nsend_timeout = 0", "3: [bus] send_timeout must be more than 0 seconds, not 0"),
        (
            "[bus]\nsend_timeout = '5 parsecs'",
            f'2: [bus] send_timeout: "5 parsecs" is no duration; {DURATION_RULE}',
        ),
        (
            "[supervisor]\nstrategy = 'one_for_al'",
            f'2: [supervisor] strategy must be {STRATEGIES}, not "one_for_al"; did you mean "one_for_all"?',
        ),
        ("[supervisor]\nmax_restarts = 0", "2: [supervisor] max_restarts must be at least 1, not 0"),
        ("[supervisor]\nmax_restarts = 1.5", "2: [supervisor] max_restarts must be a whole number, not 1.5"),
        ("[supervisor]\nwithin = 0", "2: [supervisor] within must be more than 0 seconds, not 0"),
        ("[supervisor]\nbackoff = 3", "2: [supervisor] backoff must be a table, not 3"),
        (
            "[supervisor]\nbackoff = { first = 1, frist = 2 }",
            '2: [supervisor.backoff] unknown key "frist"; did you mean "first"?',
        ),
        ("[supervisor.backoff]\nfactor = 0.5", "2: [supervisor.backoff] factor must be at least 1, not 0.5"),
        (
            "[supervisor.backoff]\nfirst = 2\nmax = 1",
            "3: [supervisor.backoff] max must be at least as long as first (2 s), not 1 s",
        ),
        ("[actors.temp]", '1: [actors.temp] has no "class"; write class = "module:Class"'),
        (
            '[actors."a b"]',
            f'1: [actors."a b"] name {NAME_RULE} "a b"',
        ),
        (
            "[actors.temp]\nclass = 'greenhouse.Display'",
            '2: [actors.temp] class: "greenhouse.Display" is no target; did you mean "greenhouse:Display"?',
        ),
        (
            "[mesh]\ntransport = ''",
            f'2: [mesh] transport {NAME_RULE} ""',
        ),
        ("[mesh]\nlisten = 7470", '2: [mesh] listen must be an endpoint like "tcp://host:7470", not 7470'),
        (
            "[mesh]\nlisten = 'tcp://0.0.0.0'",
            '2: [mesh] listen must be tcp://host:port with a port of 0 to 65535, not "tcp://0.0.0.0"',
        ),
        (
            "[mesh]\npeers = ['tcp://a:1', 'tcp://b:0']",
            '2: [mesh] peers must be tcp://host:port with a port of 1 to 65535, not "tcp://b:0"',
        ),
        ("[mesh]\npeers = 'tcp://a:1'", '2: [mesh] peers must be a list of texts, not "tcp://a:1"'),
        ("[mesh]\ndiscovery = 'beacon'", '2: [mesh] discovery must be a list of texts, not "beacon"'),
        ("[mesh]\nkeys = 3", "2: [mesh] keys must be a text, not 3"),
        ("[mesh]\ninsecure = 1", "2: [mesh] insecure must be true or false, not 1"),
        ("[mesh]\ndiscovery = ['beacon', 'beacon']", '2: [mesh] discovery names "beacon" twice; take one out'),
        ("[mesh]\npeers = ['tcp://a:1', 'tcp://a:1']", '2: [mesh] peers names "tcp://a:1" twice; take one out'),
        ("[mesh]\ndiscovery = ['static']", f"2: [mesh] {STATIC_RULE}"),
        ("[mesh]\ndiscovery = []\n[mesh.beacon]\nport = 7000", f"3: [mesh] {BEACON_RULE}"),
        ("[mesh]\nkeys = 'k'\ninsecure = true", f"3: [mesh] {INSECURE_RULE}"),
        ("[mesh]\nbeacon = 3", "2: [mesh] beacon must be a table, not 3"),
        ("[mesh.beacon]\nprot = 3", '2: [mesh.beacon] unknown key "prot"; did you mean "port"?'),
        ("[mesh.beacon]\n\nport = 0", "3: [mesh.beacon] port must be at least 1, not 0"),
        (
            "[mesh.beacon]\ngroup = '10.0.0.1'",
            '2: [mesh.beacon] group must be an IPv4 multicast group like "239.255.71.82", not "10.0.0.1"',
        ),
        (
            "[mesh.beacon]\ninterfaces = 'lo'",
            '2: [mesh.beacon] interfaces must be a list of names like ["eth0"], not "lo"',
        ),
        (
            "[mesh.beacon]\nsecret_file = ''",
            '2: [mesh.beacon] secret_file must be a text of printable characters, not ""',
        ),
        (
            "[mesh.beacon]\nsecret = 'a secret of some length'",
            f'2: [mesh.beacon] unknown key "secret"; {SECRET_RULE}',
        ),
        ("[mesh]\nlisen = 'x'", '2: [mesh] unknown key "lisen"; did you mean "listen"?'),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, error: str) -> None:
    assert refused(tmp_path, text) == f"grav.toml:{error}"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("instance = 2", 'unknown key "instance"; did you mean "instances"?'),
        ("prefetch = 3", 'unknown key "prefetch"; it is an attribute of the actor\'s class'),
        ("stuck_after = 3", 'unknown key "stuck_after"; it is an attribute of the actor\'s class'),
        ("concurrency = 3", 'unknown key "concurrency"; it is an attribute of the actor\'s class'),
        ("target = 'm:C'", 'unknown key "target"; did you mean "class"?'),
        ("name = 'x'", 'unknown key "name"'),
        ("kind = 'proces'", 'kind must be "process" or "thread", not "proces"; did you mean "process"?'),
        ("instances = 0", "instances must be at least 1, not 0"),
        ("instances = 1000000000", "instances must be at most 10000, not 1000000000"),
        ("group = ''", f'group {NAME_RULE} ""'),
        ("restart = 'always'", 'restart must be "permanent", "transient" or "temporary", not "always"'),
        ("significant = 'yes'", 'significant must be true or false, not "yes"'),
        (
            "args = ['roof']",
            "args must be a table of keyword arguments, like { site = \"roof\" }, not ['roof']",
        ),
        ("args = { 'a b' = 1 }", 'args has a key that can name no argument: "a b"'),
        ("start_timeout = 0", "start_timeout must be more than 0 seconds, not 0"),
        ("handler_timeout = 0", "handler_timeout must be more than 0 seconds, not 0"),
    ],
)
def test_a_mistake_of_an_actor_is_told_with_its_line(tmp_path: Path, line: str, error: str) -> None:
    text = f'[node]\n\n# a comment\n[actors.temp]\nclass = "m:C"\n\n{line}\n[bus]\n'
    assert refused(tmp_path, text) == f"grav.toml:7: [actors.temp] {error}"


def test_a_class_must_be_a_text(tmp_path: Path) -> None:
    assert refused(tmp_path, "[actors.temp]\nclass = 3").startswith(
        "grav.toml:2: [actors.temp] class: 3 is no target; "
    )


def test_a_name_too_long_for_its_instances_is_refused(tmp_path: Path) -> None:
    name = "x" * 63
    assert load(tmp_path, f'[actors.{name}]\nclass = "m:C"\n').actors[0].names == (name,)
    text = f'[actors.{name}]\nclass = "m:C"\ninstances = 2\n'
    assert refused(tmp_path, text).startswith(f"grav.toml:3: [actors.{name}] instances make too long a name")


def test_two_actors_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    text = '[actors.temp]\nclass = "m:C"\ninstances = 2\n[actors.temp-2]\nclass = "m:C"\n'
    assert refused(tmp_path, text) == (
        'grav.toml:4: [actors.temp-2] "temp-2" is also the name of an instance of [actors.temp]'
    )


def test_an_instance_that_would_take_the_name_of_an_actor_is_refused(tmp_path: Path) -> None:
    text = '[actors.temp-2]\nclass = "m:C"\n[actors.temp]\nclass = "m:C"\ninstances = 2\n'
    assert refused(tmp_path, text) == 'grav.toml:3: [actors.temp] "temp-2" is also the name of [actors.temp-2]'


def test_a_mistake_in_pyproject_is_told_with_its_whole_table(tmp_path: Path) -> None:
    text = '[project]\nname = "x"\n[tool.grav-actors.actors.temp]\nclass = "m:C"\ninstance = 2\n'
    assert refused(tmp_path, text, "pyproject.toml") == (
        'pyproject.toml:5: [tool.grav-actors.actors.temp] unknown key "instance"; did you mean "instances"?'
    )
    assert refused(tmp_path, "[tool.grav-actors]\nactor = {}\n", "pyproject.toml") == (
        'pyproject.toml:2: [tool.grav-actors] unknown table "actor"; did you mean "actors"?'
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "1: there is no table [tool.grav-actors]"),
        ("\n[tool.ruff]", "2: there is no table [tool.grav-actors]"),
        ("\ntool = 3", "2: tool must be a table, not 3"),
        ("\n[tool]\ngrav-actors = 3", "3: [tool] grav-actors must be a table, not 3"),
    ],
)
def test_a_pyproject_without_the_table_is_refused(tmp_path: Path, text: str, error: str) -> None:
    assert refused(tmp_path, text, "pyproject.toml") == f"pyproject.toml:{error}"


@pytest.mark.parametrize(
    ("text", "line", "place"),
    [
        ("[node]\nname = \n", 2, "(column 8)"),
        ("[node]\nname = 'x'\nname = 'y'\n", 3, "(column 11)"),
        ("[node]\n[bus]\n[node]\n", 3, "(column 6)"),
        ('[node]\nname = "x\n', 2, "(column 10)"),
        ('[node]\nname = """x\n\n y\n\n', 4, "(at the end of the file)"),
        ("[node]\nname = 2024-02-30\n", 2, "(column 8)"),
    ],
)
def test_broken_toml_is_told_with_its_line(tmp_path: Path, text: str, line: int, place: str) -> None:
    error = refused(tmp_path, text)
    assert error.startswith(f"grav.toml:{line}: ")
    assert error.endswith(place)
    assert "at line" not in error


@pytest.mark.parametrize("text", ["x = " + "9" * 5000, "x = " + "[" * 100_000])
def test_toml_that_python_cannot_hold_is_refused(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).startswith("grav.toml:1: ")


def test_text_in_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "grav.toml").write_bytes(b"[node]\nname = 'x'\n# gr\xfcn\n")
    with pytest.raises(ConfigFileError, match=r"grav.toml:3: the text is not UTF-8$") as caught:
        load_config(tmp_path / "grav.toml")
    assert caught.value.line == 3


@pytest.mark.parametrize(("name", "reason"), [("none.toml", "no such file"), ("", "cannot be read: Is a directory")])
def test_a_file_that_cannot_be_read_is_told_without_a_line(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigFileError, match=reason) as caught:
        load_config(tmp_path / name)
    assert caught.value.path == tmp_path / name
    assert caught.value.line is None


def test_a_file_below_the_working_directory_is_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grav.toml").write_text("[nod]")
    for path in (Path("grav.toml"), tmp_path / "grav.toml"):
        with pytest.raises(ConfigError, match=r"^grav.toml:1: "):
            load_config(path)


def test_what_turns_out_wrong_later_is_told_with_its_line(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    error = config.error(("actors", "display", "class"), 'no module named "greenhouse"')
    assert str(error) == f'{tmp_path}/grav.toml:26: [actors.display] class: no module named "greenhouse"'
    assert str(config.error(("mesh", "transport"), "x")).endswith("grav.toml:30: [mesh] transport: x")


def test_without_a_file_what_turns_out_wrong_later_has_no_line() -> None:
    assert str(NodeConfig().error(("mesh", "transport"), "not available")) == "not available"


# Where keys stand


def test_lines_of_keys_in_every_way_to_write_them() -> None:
    text = """\
top.dotted.key = 1 # a = 2
"quoted.key" = @@@
[not.a.table]
fake = 1 \\@@@ still
@@@
'literal "key"' = \'\'\'
also = "not a key"
\'\'\'
[a."b.c" . d]
inline = { x = 1, "y z" = { w = [
  1, # ]
  { deep = "}" },
] } }
list = [
  "]",
  [ "#" ],
] # end
when = 1979-05-27 07:32:00 # a date with a blank
"esc\\u0061pe" = 1
[[many]]
k = 1
[many.sub]
k = 2
[[many]]
k = 3
[[many.inner]]
k = 4
five = @@@"quoted"@@@
last = true""".replace("@@@", '"""')
    tomllib.loads(text)
    lines = key_lines(text)
    expected: dict[tuple[str | int, ...], int] = {
        ("top", "dotted", "key"): 1,
        ("quoted.key",): 2,
        ('literal "key"',): 6,
        ("a", "b.c", "d"): 9,
        ("a", "b.c", "d", "inline"): 10,
        ("a", "b.c", "d", "inline", "x"): 10,
        ("a", "b.c", "d", "inline", "y z", "w"): 10,
        ("a", "b.c", "d", "inline", "y z", "w", 0): 11,
        ("a", "b.c", "d", "inline", "y z", "w", 1, "deep"): 12,
        ("a", "b.c", "d", "list"): 14,
        ("a", "b.c", "d", "list", 1, 0): 16,
        ("a", "b.c", "d", "when"): 18,
        ("a", "b.c", "d", "escape"): 19,
        ("many", 0): 20,
        ("many", 0, "k"): 21,
        ("many", 0, "sub", "k"): 23,
        ("many", 1): 24,
        ("many", 1, "k"): 25,
        ("many", 1, "inner", 0, "k"): 27,
        ("many", 1, "inner", 0, "five"): 28,
        ("many", 1, "inner", 0, "last"): 29,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("a", "b.c", "d", "fake") not in lines
    assert ("also",) not in lines


@pytest.mark.parametrize("text", ["x", "x =", "x = [1", 'x = "a', "[x", "= 3", "x = {a", "\x00"])
def test_what_is_no_toml_ends_the_search(text: str) -> None:
    with pytest.raises(ValueError, match="^no TOML in line 1$"):
        key_lines(text)


CHARACTERS = st.one_of(st.sampled_from("\"'\\#[]{}=.,\n"), st.characters(codec="utf-8"))


def test_a_line_that_cannot_be_found_is_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(text: str) -> dict[tuple[str | int, ...], int]:
        raise ValueError(text)

    monkeypatch.setattr("grav_actors.config.key_lines", lost)
    assert refused(tmp_path, "\n\n[nodes]") == 'grav.toml:1: unknown table "nodes"; did you mean "node"?'


KEYS = st.one_of(st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True), st.text(CHARACTERS, max_size=6))
TEXTS = st.text(CHARACTERS, max_size=8)
VALUES = st.recursive(
    st.one_of(st.integers(-999, 999), st.booleans(), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
TABLES = st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4)


def basic(text: str) -> str:
    """Write a text as a TOML string of one line."""
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in text) + '"'


def multi_line(text: str) -> str:
    """Write a text as a TOML string over several lines, with as little escaped as possible."""
    escaped = text.replace("\\", "\\\\").replace('"""', '""\\"')
    plain = "".join(c if c == "\n" or c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)
    return '"""\n' + (plain[:-1] + '\\"' if plain.endswith('"') else plain) + '"""'


def written(value: Any, newline: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return multi_line(value) if newline else basic(value)
    if isinstance(value, list):
        before = f"{newline}# ] }}{newline}" if newline else ""
        inner = "".join(f"{before}{written(item, newline)}," for item in value)
        return f"[{inner}{newline}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{basic(key)} = {written(item, newline)}" for key, item in value.items())
        return f"{{ {pairs} }}"
    return repr(value)


@given(TABLES, st.sampled_from(["", "\n"]))
def test_every_key_is_found_on_the_line_where_it_stands(tables: dict[str, dict[str, Any]], newline: str) -> None:
    out: list[str] = []
    expected: dict[tuple[str | int, ...], int] = {}
    for name, table in tables.items():
        out.append("# [comment] a = 1")
        expected[(name,)] = "\n".join(out).count("\n") + 2
        out.append(f"[{basic(name)}] # ]")
        for key, value in table.items():
            expected[(name, key)] = "\n".join(out).count("\n") + 2
            out.append(f" {basic(key)}\t= {written(value, newline)} # x = 1")
    text = "\n".join(out)
    assert tomllib.loads(text) == tables
    lines = key_lines(text)
    assert {path: lines.get(path) for path in expected} == expected
    assert all_paths(tables) <= set(lines)


def all_paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {path} if path else set()
    for key, item in items:
        found |= all_paths(item, (*path, key))
    return found


# Looking for the file


def test_the_file_is_looked_for_upwards(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "grav.toml").write_text("")
    assert find_project(below) == (tmp_path / "grav.toml").resolve()
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.grav-actors.node]\n")
    assert find_project(below) == (tmp_path / "a" / "pyproject.toml").resolve()


def test_grav_toml_goes_before_pyproject_of_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.grav-actors]\n")
    (tmp_path / "grav.toml").write_text("")
    assert find_project(tmp_path) == (tmp_path / "grav.toml").resolve()


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("[tool.grav-actors]\n", True),
        ("tool.grav-actors.node.name = 'x'\n", True),
        ("[tool]\ngrav-actors = 3\n", True),
        ("[tool.ruff]\n# [tool.grav-actors]\n", False),
        ("tool = 3\n", False),
        ("", False),
        ("[tool.grav-actors]\nbroken", True),
        ("broken", False),
        ("\udcff", False),
    ],
)
def test_a_pyproject_counts_when_it_has_the_table(tmp_path: Path, text: str, counts: bool) -> None:
    (tmp_path / "pyproject.toml").write_bytes(text.encode(errors="surrogateescape"))
    found = find_project(tmp_path)
    assert (found == (tmp_path / "pyproject.toml").resolve()) is counts


def test_a_folder_called_grav_toml_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "grav.toml").mkdir()
    found = find_project(tmp_path)
    assert found is None or not found.is_relative_to(tmp_path)
