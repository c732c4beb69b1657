"""The other sides of the comparison, each module a worker: raw sockets, multiprocessing, and other frameworks."""
