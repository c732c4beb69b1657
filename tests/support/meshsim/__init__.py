"""Nodes of a mesh under a seeded scheduler with virtual time: the core, without sockets."""
