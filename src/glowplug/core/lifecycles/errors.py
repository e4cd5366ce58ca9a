"""The error of a move no table allows: always a defect of the core, never of its input."""

from __future__ import annotations


class IllegalMove(Exception):
    def __init__(self, thing: str, id: str, old: str, new: str) -> None:
        super().__init__(f"{thing} {id} cannot go from {old} to {new}")
