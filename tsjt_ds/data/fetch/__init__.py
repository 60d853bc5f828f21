"""Bringing the corpora of a recipe onto this machine."""
