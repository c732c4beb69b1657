"""The lab for a terminal, and the two processes that run beside one: `python -m support.lanlab --help`."""

import argparse
import contextlib
import signal
import subprocess
import sys

from support.lanlab.lan import Lan
from support.lanlab.leftovers import PREFIX, labs, purge, watch_owner
from support.lanlab.machine import why_not
from support.lanlab.namespaces import LanLabError
from support.lanlab.relay import carry

POWER = {
    "link-down": "pull the cable",
    "link-up": "plug it in",
    "kill": "cut the power",
    "boot": "switch on again",
    "freeze": "stop every process",
    "thaw": "let them go on",
}


def main() -> int:
    """Run a command line; return the exit code."""
    match sys.argv[1:]:
        case ["_janitor", pid, start, lab]:
            watch_owner(int(pid), int(start), lab)
            return 0
        case ["_relay", port, uplink, path, seed]:
            carry(port, uplink, path, seed)
            return 0
        case _:
            pass
    try:
        return run(parse())
    except (LanLabError, ValueError) as exc:
        print("lanlab:", exc, file=sys.stderr)  # noqa: T201
        return 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lanlab", description="A small LAN inside this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build a lab and hold it until Ctrl-C")
    up.add_argument("--hosts", type=int, default=3)
    up.add_argument("--mtu", type=int, default=1500)
    commands.add_parser("list", help="the labs on this machine")
    commands.add_parser("purge", help="remove labs of dead owners")
    commands.add_parser("doctor", help="whether a lab can be built here")

    def on_lab(name: str, text: str, *, has_host: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        command.add_argument("lab")
        if has_host:
            command.add_argument("host", type=hosts, help="0 or h0; several: 0,1")
        return command

    on_lab("exec", "run a command on a host").add_argument("argv", nargs=argparse.REMAINDER)
    cut = on_lab("partition", "cut hosts from others (default: from all others)")
    cut.add_argument("others", nargs="?", type=hosts)
    cut.add_argument("--one-way", action="store_true")
    on_lab("heal", "undo all partitions", has_host=False)
    netem = on_lab("netem", "spoil the link of hosts")
    for name in ("delay", "jitter", "loss", "duplicate", "reorder", "rate"):
        netem.add_argument(f"--{name}", default=0)
    netem.add_argument("--direction", default="egress", choices=["egress", "ingress", "both"])
    netem.add_argument("--clear", action="store_true")
    on_lab("rate", "limit the bandwidth").add_argument("rate", help="such as 10mbit, or none")
    for name, text in POWER.items():
        on_lab(name, text)
    return parser.parse_args()


def hosts(text: str) -> list[int]:
    return [int(word.removeprefix("h")) for word in text.split(",")]


def run(args: argparse.Namespace) -> int:
    match args.command:
        case "doctor":
            reason = why_not()
            print(reason or "a lab can be built here")  # noqa: T201
            return 1 if reason else 0
        case "list":
            for name, pid, alive in labs():
                state = "running" if alive else "dead: purge removes it"
                print(name.removeprefix(PREFIX), "owner", pid, state)  # noqa: T201
            return 0
        case "purge":
            for name in purge():
                print("removed", name.removeprefix(PREFIX))  # noqa: T201
            return 0
        case "up":
            return hold(args.hosts, args.mtu)
        case _:
            return act(Lan.attach(args.lab), args)


def hold(count: int, mtu: int) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Lan(hosts=count, mtu=mtu) as lan, contextlib.suppress(KeyboardInterrupt):
        print("lab", lan.lab.removeprefix(PREFIX))  # noqa: T201
        for host in lan.hosts:
            print(host.name, host.ip, host.ip6, flush=True)  # noqa: T201
        while True:
            signal.pause()
    return 0


def act(lan: Lan, args: argparse.Namespace) -> int:
    match args.command:
        case "exec":
            host = lan.host(args.host[0])
            argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
            return subprocess.call(host.argv(argv), env=host.env())
        case "partition":
            lan.partition(args.host, args.others, one_way=args.one_way)
        case "heal":
            lan.heal()
        case "netem" if args.clear:
            lan.clear_netem(args.host)
        case "netem":
            spoilt = (args.delay, args.jitter, args.loss, args.duplicate, args.reorder, args.rate)
            lan.netem(args.host, *spoilt, direction=args.direction)
        case "rate":
            lan.rate(args.host, None if args.rate == "none" else args.rate)
        case name:
            for index in args.host:
                getattr(lan.host(index), name.replace("-", "_"))()
    return 0


if __name__ == "__main__":
    sys.exit(main())
