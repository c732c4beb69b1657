"""Actors: objects with handlers, driven by a pod."""
