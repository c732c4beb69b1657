"""Nodes of a mesh on the hosts of a LAN lab, and what must hold between them."""
