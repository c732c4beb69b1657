"""A terminal of the chat: what is typed here is read on every node, and the other way round.

    python chat.py [NAME]

It joins the node that `grav-actors up` runs in this folder. Ctrl-D, or `/quit`, leaves.
"""

import getpass
import sys

from grav_actors import BusNotFoundError, Grav, GravError, Message, NoRespondersError

NODE_NEWS = {"grav.sys.node.up": "has joined", "grav.sys.node.down": "is gone"}


def say(line: str) -> None:
    """Print a line, in one piece: the callbacks of both pods and the main thread do so, each on a thread of its own."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show(msg: Message) -> None:
    """Print what somebody says."""
    say(f"{msg.data['who']}: {msg.data['text']}")


def show_node(msg: Message) -> None:
    """Print that a node has come or gone."""
    say(f"* node {msg.data['name']} {NODE_NEWS[msg.type]}")


def show_people(grav: Grav) -> None:
    """Ask the room of this node who was heard, and print the answer."""
    try:
        people = grav.ask("chat.people", to="room")
    except NoRespondersError:
        say("* no room is open here")
        return
    for person in people:
        say(f"* {person['who']} ({person['lines']} lines)")


def chat(who: str) -> None:
    """Read lines from the terminal until its end, and send each to everybody."""
    with Grav(bus="auto") as grav:
        news = grav.connect()
        news.on_type("grav.sys.node.*", show_node)
        # With replay: first what was said before, each line once. A pod never gets what it has sent itself.
        pod = grav.connect_with_replay()
        pod.on_type("chat.said", show)
        say(f"* you are {who}; /people tells who is here, Ctrl-D leaves")
        for line in sys.stdin:
            text = line.strip()
            if text == "/quit":
                break
            if text == "/people":
                show_people(grav)
            elif text:
                pod.publish("chat.said", {"who": who, "text": text})


if __name__ == "__main__":
    try:
        chat(sys.argv[1] if len(sys.argv) > 1 else getpass.getuser())
    except KeyboardInterrupt:
        sys.exit(130)
    except BusNotFoundError as error:
        sys.exit(f"{error}\nStart this node first: grav-actors up")
    except GravError as error:
        sys.exit(f"the chat has ended: {error}")
