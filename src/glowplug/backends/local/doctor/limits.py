"""Limits: may this user bound containers by control groups, and if not, how that is had."""

from __future__ import annotations

import os

from glowplug.backends.local import cgroups
from glowplug.backends.local.cgroups import Hierarchy
from glowplug.backends.local.doctor.check import Check, Patient

IN_CONTAINER = (
    "give the container a writable /sys/fs/cgroup: docker run --privileged, or a runtime that delegates one"
)
FOR_USER = "systemd-run --user --scope --property=Delegate=yes glowplug server start"


def examine(patient: Patient, found: tuple[list[Hierarchy], str] | None = None) -> list[Check]:
    hierarchies, refusal = cgroups.find() if found is None else found
    if hierarchies:
        version = max(each.version for each in hierarchies)
        has = sorted({name for each in hierarchies for name in each.controllers})
        return [Check("limits", "ok", f"control groups v{version} ({', '.join(has)})")]
    what = (
        f"no control groups of our own ({refusal}): containers are looked at twice a second and ended for "
        "too much memory, and cores are not bounded"
    )
    fix = "start the server as root, or let an administrator delegate a group"
    if patient.in_container:
        fix = IN_CONTAINER
    elif patient.exists("run/systemd/system") and os.getuid() != 0:
        fix = FOR_USER
    return [Check("limits", "warn", what, fix)]
