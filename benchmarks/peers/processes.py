"""`multiprocessing.Process` by the start method `spawn`: prints the milliseconds until each of some children is there.

Run as a program: a child imports the module that has started it, so this one imports nothing else.
"""

import multiprocessing
import multiprocessing.connection
import time

PROCESSES = 8


def say_ready(pipe: "multiprocessing.connection.Connection[bool, bool]") -> None:
    """In the child."""
    pipe.send(True)


def main() -> None:
    """Start one child after the other."""
    context = multiprocessing.get_context("spawn")
    for _ in range(PROCESSES):
        here, there = context.Pipe(duplex=False)
        started = time.perf_counter()
        process = context.Process(target=say_ready, args=(there,))
        process.start()
        here.recv()
        print((time.perf_counter() - started) * 1000)
        process.join()


if __name__ == "__main__":
    main()
