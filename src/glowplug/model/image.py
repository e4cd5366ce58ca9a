"""An image as declared: an immutable chain of steps. Building it is somebody else's work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ImageStep:
    """One method call of the chain: ``pip_install("torch", pre=True)``."""

    method: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        parts = [repr(argument) for argument in self.arguments]
        parts += [f"{name}={value!r}" for name, value in self.options.items()]
        return f"{self.method}({', '.join(parts)})"


class ImageDefinition:
    """What an environment is made of, step by step, in order. Never changes."""

    def __init__(self, steps: tuple[ImageStep, ...] = ()) -> None:
        self.steps = steps

    def __repr__(self) -> str:
        return "Image." + ".".join(str(step) for step in self.steps) if self.steps else "Image()"
