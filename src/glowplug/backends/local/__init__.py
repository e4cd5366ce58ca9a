"""This machine as a node: its cards, its sandbox, its containers."""
