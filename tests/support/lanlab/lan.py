"""The lab: bridges, hosts, and the faults between them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen
from types import TracebackType
from typing import Any, Self

from support.lanlab import leftovers
from support.lanlab.host import Host
from support.lanlab.machine import start_side, why_not
from support.lanlab.namespaces import LanLabError, inside, process_state, run_command, set_offload
from support.lanlab.ping import ping
from support.lanlab.quantities import Quantity, bits, seconds, share

MOST_HOSTS = 200

Event = dict[str, Any]
Hosts = Host | int | Sequence[Host | int]


class Lan:
    """A switch and some hosts; a context manager. What it made is taken away however its process ends.

    Args:
        hosts: How many, up to 200; `host(0)` is 10.77.NET.1.
        net: Third number of their addresses.
        mtu: Of every link.
        seed: Of the random choices of `netem`.

    Raises:
        LanLabError: No lab can be built here.
    """

    def __init__(self, hosts: int = 2, net: int = 0, mtu: int = 1500, seed: int | None = None) -> None:
        if not 1 <= hosts <= MOST_HOSTS or not 0 <= net <= 255:
            raise ValueError(f"hosts must be 1..{MOST_HOSTS} and net 0..255")
        if reason := why_not():
            raise LanLabError(reason)
        leftovers.purge()
        self._setup(leftovers.new_name(), os.getpid(), net, mtu, hosts)
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self.dir.mkdir(mode=0o755, parents=True)
        start = process_state(self.owner)
        assert start is not None
        self._janitor = start_side("_janitor", str(self.owner), str(start[1]), self.lab, stderr=DEVNULL)
        atexit.register(self.close)
        try:
            self._build(hosts)
        except BaseException:
            self.close()
            raise
        self.note("lab_up", hosts=hosts, seed=self.seed)

    _janitor: Popen[bytes] | None = None

    def _setup(self, lab: str, owner: int, net: int, mtu: int, hosts: int) -> None:
        self.lab, self.owner, self.net, self.mtu = lab, owner, net, mtu
        self.sw = f"{lab}-sw"
        self.dir = leftovers.state_folder(lab)
        self.t0 = time.monotonic()
        self.seed = 0
        self.events: list[Event] = []
        self.networks: set[int] = set()
        self.lock = threading.RLock()
        self._timers: list[threading.Timer] = []
        self._is_closed = False
        self.hosts = [Host(self, index) for index in range(hosts)]

    def _build(self, hosts: int) -> None:
        self._save({"hosts": hosts, "net": self.net, "mtu": self.mtu, "seed": self.seed, "t0": self.t0, "cuts": []})
        run_command("ip", "netns", "add", self.sw)
        with inside(self.sw):
            for key in ("all", "default"):
                with contextlib.suppress(OSError):
                    Path(f"/proc/sys/net/ipv6/conf/{key}/disable_ipv6").write_text("1", encoding="ascii")
        self.switch("link", "set", "lo", "up")
        self._make_bridge("br0")
        # A hole: what is redirected into it reaches nobody.
        self.switch("link", "add", "name", "hole", "type", "veth", "peer", "name", "hole2")
        self.switch("link", "set", "hole", "up")
        self.switch("link", "set", "hole2", "up")
        for host in self.hosts:
            host.make()

    def _make_bridge(self, name: str) -> None:
        options = ("stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        self.switch("link", "add", "name", name, "type", "bridge", *options)
        self.switch("link", "set", name, "up")

    def bridge(self, network: int) -> str:
        """Return the bridge of a further network, made when it is new."""
        name = f"br{network}"
        if network not in self.networks:
            self._make_bridge(name)
            self.networks.add(network)
        return name

    @classmethod
    def attach(cls, lab: str) -> Self:
        """Return a second handle on a lab that another process owns."""
        wanted = lab if lab.startswith(leftovers.PREFIX) else leftovers.PREFIX + lab
        for name, pid, alive in leftovers.labs():
            if alive and name.startswith(wanted):
                self = cls.__new__(cls)
                state = json.loads((leftovers.state_folder(name) / "state.json").read_text(encoding="utf-8"))
                self._setup(name, pid, state["net"], state["mtu"], state["hosts"])
                self.t0, self.seed = state["t0"], state["seed"]
                return self
        raise LanLabError(f"no running lab {lab!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.hosts)

    def host(self, which: Host | int) -> Host:
        return which if isinstance(which, Host) else self.hosts[which]

    def _many(self, which: Hosts) -> list[Host]:
        return [self.host(each) for each in ([which] if isinstance(which, Host | int) else which)]

    def switch(self, *words: str, fails: bool = False) -> str:
        """Run `ip` in the switch's namespace."""
        return run_command("ip", "-n", self.sw, *words, fails=fails)

    # What handles share, and the clock of events

    def _load(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.dir / "state.json").read_text(encoding="utf-8"))
        return state

    def _save(self, state: dict[str, Any]) -> None:
        new = self.dir / f"state.json.{os.getpid()}"
        new.write_text(json.dumps(state), encoding="utf-8")
        new.replace(self.dir / "state.json")

    def clock(self) -> float:
        """Return the seconds since the lab was built: the time of `events` and `at`."""
        return time.monotonic() - self.t0

    def note(self, event: str, **values: Any) -> None:
        """Put a line into the log of events."""
        line = {"t": round(self.clock(), 6), "wall": time.time(), "event": event, **values}
        self.events.append(line)
        with contextlib.suppress(OSError), (self.dir / "events.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def at(self, when: float, call: Callable[..., object], *args: Any, **kwargs: Any) -> threading.Timer:
        """Call something at a time of `clock`; what it raises lands in `events`."""

        def go() -> None:
            try:
                call(*args, **kwargs)
            except Exception as exc:  # a script of faults must not die unseen
                self.note("error", call=getattr(call, "__name__", "?"), error=repr(exc))

        timer = threading.Timer(max(0.0, when - self.clock()), go)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()
        return timer

    # Partitions: of network 0

    def _cut(self, source: int, target: int) -> None:
        # Every frame from the source, to one or to many, dies on its way out to the target.
        match = ("match", "ether", "src", self.hosts[source].mac)
        hole = ("action", "mirred", "egress", "redirect", "dev", "hole")
        place = ("dev", f"p{target}", "egress", "pref", str(source + 1), "protocol", "all")
        run_command("tc", "-n", self.sw, "filter", "replace", *place, "u32", *match, *hole)

    def restore_cuts(self, host: Host) -> None:
        """Cut a host that has come back from whom it was cut before."""
        for source, target in self._load()["cuts"]:
            if target == host.index:
                self._cut(source, target)

    def partition(self, some: Hosts, others: Hosts | None = None, *, one_way: bool = False) -> None:
        """Cut some hosts from others (default: from all others); with `one_way` only their frames die."""
        left = self._many(some)
        right = self._many(others) if others is not None else [host for host in self.hosts if host not in left]
        with self.lock:
            state = self._load()
            pairs = [[one.index, other.index] for one in left for other in right if one is not other]
            for source, target in pairs + ([] if one_way else [pair[::-1] for pair in pairs]):
                if [source, target] not in state["cuts"]:
                    if self.hosts[target].is_up:
                        self._cut(source, target)
                    state["cuts"].append([source, target])
            self._save(state)
            names = [[host.name for host in side] for side in (left, right)]
            self.note("partition", some=names[0], others=names[1], one_way=one_way)

    def heal(self, some: Hosts | None = None, others: Hosts | None = None) -> None:
        """Undo partitions: all, those that touch some hosts, or those between some and others."""
        left = {host.index for host in (self._many(some) if some is not None else self.hosts)}
        right = {host.index for host in (self._many(others) if others is not None else self.hosts)}
        with self.lock:
            state = self._load()
            healed = [
                [source, target]
                for source, target in state["cuts"]
                if (source in left and target in right) or (target in left and source in right)
            ]
            for source, target in healed:
                if self.hosts[target].is_up:
                    place = ("dev", f"p{target}", "egress", "pref", str(source + 1))
                    run_command("tc", "-n", self.sw, "filter", "del", *place, fails=True)
            state["cuts"] = [pair for pair in state["cuts"] if pair not in healed]
            self._save(state)
            self.note("heal", cuts=healed)

    # Bandwidth, by the kernel's token bucket

    def rate(self, hosts: Hosts, limit: Quantity | None = None, *, direction: str = "both") -> None:
        """Limit the bandwidth of `eth0`, as in `"10mbit"`; None lifts the limit."""
        for host in self._many(hosts):
            for way, namespace, device in (("egress", host.ns, "eth0"), ("ingress", self.sw, host.port)):
                if direction not in (way, "both"):
                    continue
                run_command("tc", "-n", namespace, "qdisc", "del", "dev", device, "root", fails=True)
                if limit is not None:
                    rate = bits(limit)
                    burst = str(max(2 * self.mtu, int(rate / 8 / 250)))
                    bucket = ("tbf", "rate", f"{rate:.0f}bit", "burst", burst, "latency", "50ms")
                    run_command("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", *bucket)
            self.note("rate", host=host.name, limit=limit, direction=direction)

    # Delay, jitter, loss, duplicates: by a relay in user space, without a kernel module

    def netem(
        self,
        hosts: Hosts,
        delay: Quantity = 0,
        jitter: Quantity = 0,
        loss: Quantity = 0,
        duplicate: Quantity = 0,
        reorder: Quantity = 0,
        rate: Quantity = 0,
        limit: int = 20000,
        *,
        direction: str = "egress",
    ) -> None:
        """Spoil the link of hosts.

        Args:
            hosts: Whose link.
            delay: Time each frame takes longer.
            jitter: By how much that varies, either way; the order of frames stays.
            loss: Share of frames that are lost.
            duplicate: Share of frames that come twice.
            reorder: Share of frames that are sent at once, ahead of the delayed ones.
            rate: Bits a second; 0 for no limit.
            limit: Frames that may wait.
            direction: `egress` (what it sends), `ingress` or `both`. A call replaces that direction's settings.
        """
        if direction not in ("egress", "ingress", "both"):
            raise ValueError("direction must be egress, ingress or both")
        settings = {
            "delay": seconds(delay),
            "jitter": seconds(jitter),
            "loss": share(loss),
            "duplicate": share(duplicate),
            "reorder": share(reorder),
            "rate": bits(rate),
            "limit": limit,
        }
        ways = ("egress", "ingress") if direction == "both" else (direction,)
        with self.lock:
            for host in self._many(hosts):
                self._start_relay(host)
                host.relay.tell(dict.fromkeys(ways, settings))
                self.note("netem", host=host.name, direction=direction, **{k: v for k, v in settings.items() if v})

    def clear_netem(self, hosts: Hosts | None = None) -> None:
        """Make the link of some hosts, or of all, a clean one again."""
        with self.lock:
            for host in self._many(hosts) if hosts is not None else self.hosts:
                if host.relay.is_running:
                    self.switch("link", "set", host.port, "nomaster", fails=True)
                    self.stop_relay(host)
                    if host.is_up:
                        with host.enter():
                            set_offload("eth0", on=True)
                        self.switch("link", "set", host.port, "master", "br0")
                    self.note("netem_clear", host=host.name)

    def netem_stats(self, host: Host | int) -> dict[str, Any]:
        """Return the frames seen, lost, doubled in each direction since `netem` was switched on."""
        return self.host(host).relay.tell({})

    def _start_relay(self, host: Host) -> None:
        if host.relay.is_running:
            return
        if not host.is_up:
            raise LanLabError(f"{host.name} is switched off")
        near, far, mtu = f"x{host.index}", f"y{host.index}", str(self.mtu)
        self.switch("link", "add", "name", near, "mtu", mtu, "type", "veth", "peer", "name", far, "mtu", mtu)
        with host.enter():  # the relay moves whole frames with their checksums
            set_offload("eth0", on=False)
        with inside(self.sw):
            set_offload(far, on=False)
        self.switch("link", "set", near, "promisc", "on", "up")
        self.switch("link", "set", host.port, "promisc", "on", "nomaster")
        self.switch("link", "set", far, "master", "br0", "up")
        try:
            host.relay.start(self.sw, host.port, near, self.seed + host.index)
        except BaseException:
            self.stop_relay(host)
            self.switch("link", "set", host.port, "master", "br0", fails=True)
            raise

    def stop_relay(self, host: Host) -> None:
        """End a host's relay, if there is one, and its cable."""
        host.relay.stop()
        self.switch("link", "del", f"x{host.index}", fails=True)

    # Measuring

    def ping(
        self, asker: Host | int, asked: Host | int, count: int = 5, interval: float = 0.02, timeout: float = 1.0
    ) -> list[float | None]:
        """Return the round-trip times of ICMP requests in seconds; None for one that was lost."""
        with self.host(asker).enter():
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with raw:
            return ping(self.host(asked).ip, count=count, interval=interval, timeout=timeout, raw=raw)

    def is_reachable(self, asker: Host | int, asked: Host | int, timeout: float = 2.0) -> bool:
        """Tell whether one host answers another within a time; it waits that long for a yes.

        After a cut a host asks for the address again only once a second, as on a real LAN.
        """
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            if self.ping(asker, asked, count=1, interval=0, timeout=min(0.1, left))[0] is not None:
                return True
        return False

    # The end

    def close(self) -> None:
        """Take the lab down, if it is this process's. Idempotent."""
        if self._is_closed or self.owner != os.getpid():
            return
        self._is_closed = True
        for timer in self._timers:
            timer.cancel()
            if timer is not threading.current_thread():
                timer.join()
        leftovers.remove(self.lab)
        for host in self.hosts:
            host.relay.reap()
        if self._janitor is not None:
            self._janitor.kill()
            self._janitor.wait()
        atexit.unregister(self.close)
