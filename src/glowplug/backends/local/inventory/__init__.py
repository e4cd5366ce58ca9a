"""What GPUs this machine has, who uses them, and the locks that keep them apart."""

from glowplug.backends.local.inventory.fleet import Inventory, banner
from glowplug.backends.local.inventory.locks import GpuLocks
from glowplug.backends.local.inventory.virtual import parse_fleet
from glowplug.backends.local.inventory.watch import Watch

__all__ = ["GpuLocks", "Inventory", "Watch", "banner", "parse_fleet"]
