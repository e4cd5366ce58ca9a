"""What is wrong with this machine for running GPU functions, and the command that mends each thing."""

from glowplug.backends.local.doctor.check import Check
from glowplug.backends.local.doctor.examine import checks

__all__ = ["Check", "checks"]
