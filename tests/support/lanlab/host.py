"""One machine of a lab."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.lanlab.namespaces import (
    NETNS_DIR,
    LanLabError,
    inside,
    is_in,
    kill_all,
    pids_in,
    run_command,
    signal_all,
)
from support.lanlab.relay import Relay

if TYPE_CHECKING:
    from support.lanlab.lan import Lan

Command = str | Sequence[object]


class Host:
    """One machine of a lab, made by `Lan`; `lan.host(i)` returns it.

    It is on network 0 with `eth0`; `plug_in` adds interfaces on further networks.
    """

    def __init__(self, lan: Lan, index: int) -> None:
        self.lan, self.index = lan, index
        self.name = f"h{index}"
        self.ns = f"{lan.lab}-{self.name}"
        self.dir = lan.dir / self.name
        self.port = f"p{index}"  # its bridge port, in the switch
        self.relay = Relay(lan.dir / f"{self.name}.ctl")

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ip}>"

    # Addresses

    @property
    def ip(self) -> str:
        return self.address(0)

    @property
    def ip6(self) -> str:
        return str(ipaddress.ip_address(f"fd77:{self.lan.net:x}::{self.index + 1:x}"))

    @property
    def mac(self) -> str:
        return f"02:4c:4c:{self.lan.net:02x}:00:{self.index + 1:02x}"

    def address(self, network: int) -> str:
        """Return its IPv4 address on a network."""
        return f"10.{77 + network}.{self.lan.net}.{self.index + 1}"

    # Processes

    def env(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            **os.environ,
            "TMPDIR": str(self.dir / "tmp"),
            "XDG_RUNTIME_DIR": str(self.dir / "run"),
            "HOME": str(self.dir / "home"),
            "HOSTNAME": self.name,
            "LANLAB_HOST": self.name,
            "LANLAB_IP": self.ip,
            **(extra or {}),
        }

    def argv(self, command: Command) -> list[str]:
        """Return the command line that runs a command on this host, with one pid all along."""
        words = ["sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        prefix = ["ip", "netns", "exec", self.ns]
        if shutil.which("unshare"):  # for a host name of its own
            set_name = 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"'
            prefix += ["unshare", "--uts", "--", "sh", "-c", set_name, self.name]
        return prefix + words

    def popen(self, command: Command, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start a process on this host. Returns once it is there, so that `kill` and `close` cannot miss it."""
        self._check_up()
        process = subprocess.Popen(self.argv(command), env=self.env(env), **options)
        while not is_in(self.ns, process.pid) and process.poll() is None:
            time.sleep(0.0005)
        return process

    def run(
        self, command: Command, env: Mapping[str, str] | None = None, *, limit: float = 30, check: bool = True
    ) -> str:
        """Run a command to its end and return what it wrote."""
        self._check_up()
        done = subprocess.run(
            self.argv(command),
            env=self.env(env),
            timeout=limit,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if check and done.returncode:
            raise LanLabError(f"{command} ended with {done.returncode} on {self.name}: {done.stdout.strip()}")
        return done.stdout

    def python(self, code: str, *arguments: object, **options: Any) -> subprocess.Popen[Any]:
        """Start a Python program of this text."""
        return self.popen([sys.executable, "-u", "-c", code, *arguments], **options)

    def pids(self) -> list[int]:
        return pids_in(self.ns)

    def signal(self, number: int) -> list[int]:
        """Signal every process on the host; return those that were hit."""
        self.lan.note("signal", host=self.name, number=int(number))
        return signal_all(self.ns, number)

    def freeze(self) -> list[int]:
        return self.signal(signal.SIGSTOP)

    def thaw(self) -> list[int]:
        return self.signal(signal.SIGCONT)

    def enter(self) -> AbstractContextManager[None]:
        """Put this thread on the host for the block: the sockets it makes belong there."""
        return inside(self.ns)

    def _check_up(self) -> None:
        if not self.is_up:
            raise LanLabError(f"{self.name} is switched off")

    # Power and cables

    @property
    def is_up(self) -> bool:
        return (NETNS_DIR / self.ns).exists()

    def kill(self) -> None:
        """Cut the power: cables first, so that no FIN or RST gets out; then everything is gone but the disk."""
        with self.lan.lock:
            self.lan.note("host_kill", host=self.name)
            ports = [self.port, *(f"{self.port}n{network}" for network in self.lan.networks)]
            for port in ports:
                self.lan.switch("link", "set", port, "down", fails=True)
            self.lan.stop_relay(self)
            kill_all(self.ns)
            for port in ports:
                self.lan.switch("link", "del", port, fails=True)
            run_command("ip", "netns", "del", self.ns, fails=True)
            shutil.rmtree(self.dir / "run", ignore_errors=True)  # a runtime folder is memory

    def boot(self) -> None:
        """Bring a killed host back: same name, address and disk, nothing running, only `eth0`."""
        with self.lan.lock:
            if not self.is_up:
                self.make()
                self.lan.restore_cuts(self)
            self.lan.note("host_boot", host=self.name)

    def link_down(self) -> None:
        """Pull the cable of `eth0`: the host sees no carrier, addresses and routes stay."""
        self.lan.switch("link", "set", self.port, "down")
        self.lan.note("link_down", host=self.name)

    def link_up(self) -> None:
        """Put the cable of `eth0` back."""
        self.lan.switch("link", "set", self.port, "up")
        self.lan.note("link_up", host=self.name)

    def plug_in(self, network: int) -> str:
        """Add the interface `eth<network>` on a further network, and return its address."""
        with self.lan.lock:
            bridge = self.lan.bridge(network)
            port, device = f"{self.port}n{network}", f"eth{network}"
            mac = f"02:4c:4d:{network:02x}:00:{self.index + 1:02x}"
            self._cable(port, device, bridge, mac)
            self._ip("addr", "add", f"{self.address(network)}/24", "brd", "+", "dev", device)
            self._ip("link", "set", device, "up")
        self.lan.note("plug_in", host=self.name, network=network)
        return self.address(network)

    def pull_out(self, network: int) -> None:
        """Take an interface out of the machine again, as of a USB adapter; network 0 is `eth0`."""
        self.lan.switch("link", "del", f"{self.port}n{network}" if network else self.port)
        self.lan.note("pull_out", host=self.name, network=network)

    def stats(self) -> dict[str, int]:
        """Return bytes, packets and drops of `eth0`, as the host counts them."""
        (link,) = json.loads(run_command("ip", "-n", self.ns, "-s", "-j", "link", "show", "eth0"))
        counters = link["stats64"]
        return {
            f"{way}_{what}": counters[way][what] for way in ("rx", "tx") for what in ("bytes", "packets", "dropped")
        }

    def make(self) -> None:
        """Build it: folders, namespace, cable, addresses."""
        for name in ("tmp", "run", "home"):
            (self.dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        run_command("ip", "netns", "add", self.ns)
        with inside(self.ns):
            for key in ("all", "default"):  # no second or two of checks whether an IPv6 address is taken
                with contextlib.suppress(OSError):
                    Path(f"/proc/sys/net/ipv6/conf/{key}/accept_dad").write_text("0", encoding="ascii")
        self._cable(self.port, "eth0", "br0", self.mac)
        self._ip("link", "set", "lo", "up")
        self._ip("addr", "add", f"{self.ip}/24", "brd", "+", "dev", "eth0")
        self._ip("link", "set", "eth0", "up")
        self._ip("route", "add", "default", "dev", "eth0")
        self._ip("addr", "add", f"{self.ip6}/64", "dev", "eth0", "nodad", fails=True)

    def _cable(self, port: str, device: str, bridge: str, mac: str) -> None:
        mtu = str(self.lan.mtu)
        end = ("peer", "name", device, "mtu", mtu, "address", mac, "netns", self.ns)
        self.lan.switch("link", "add", "name", port, "mtu", mtu, "type", "veth", *end)
        self.lan.switch("link", "set", port, "master", bridge, "up")
        run_command("tc", "-n", self.lan.sw, "qdisc", "add", "dev", port, "clsact")

    def _ip(self, *words: str, fails: bool = False) -> None:
        run_command("ip", "-n", self.ns, *words, fails=fails)
