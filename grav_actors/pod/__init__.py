"""Pods: two-way connections to the bus, over a link that the pods of a process share."""
