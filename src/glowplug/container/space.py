"""What is said when a container has filled what it may write."""

from __future__ import annotations

import errno
import os
import sys

FULL_BYTES = 1 << 20
"""Less is left than this: it is full."""


def tell_if_full(error: OSError) -> None:
    """The kernel says only that no space is left; here is said of what, and what to do."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return
    root = os.statvfs("/")
    if root.f_bavail * root.f_frsize < FULL_BYTES:
        total_mib = root.f_blocks * root.f_frsize >> 20
        sys.stderr.write(
            f"glowplug: the {total_mib} MiB that this container may write itself are full: raise "
            "ephemeral_disk= or write to a volume\n"
        )
        sys.stderr.flush()
