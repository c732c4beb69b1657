"""A small LAN inside one Linux machine: each host is a network namespace with addresses of its own.

    with Lan(hosts=3) as lan:
        program = lan.host(0).popen([sys.executable, "node.py"])
        lan.partition(0, [1, 2])  # both ways; one_way=True for one
        lan.heal()
        lan.netem(1, delay="20ms", jitter="5ms", loss="1%")
        lan.host(2).kill()  # a power cut; boot() brings it back
        lan.host(1).plug_in(1)  # a second interface, eth1, on a second network

All hosts hang on bridges that lie in a namespace of their own, so nothing of the machine is touched. Needs root
and iproute2; the standard library is enough otherwise. `python -m support.lanlab --help`, in the folder `tests`,
is the same for a terminal.
"""

from support.lanlab.host import Host
from support.lanlab.lan import Lan
from support.lanlab.leftovers import labs, purge
from support.lanlab.machine import why_not
from support.lanlab.namespaces import LanLabError

__all__ = ["Host", "Lan", "LanLabError", "labs", "purge", "why_not"]
