"""Backends carry commands out on nodes. They do not know each other."""
