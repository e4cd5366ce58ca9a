"""``glowplug.gpu``: GPU requests as objects; see ``sdk/gpu.py``."""

from __future__ import annotations

from glowplug.sdk.gpu import A10G, A100, H100, L4, L40S, T4, Any, Inferentia2

__all__ = ["A10G", "A100", "H100", "L4", "L40S", "T4", "Any", "Inferentia2"]
