"""The CUDA stack: does the driver serve the wheels and the toolkit that are installed, and do those fit each
other?

The driver is the machine's; CUDA itself comes with wheels, with a toolkit or with an image, each in a version
of its own. What a driver must at least be is NVIDIA's table of minor version compatibility, table 1 of
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html; the drivers that came with
each toolkit are listed in https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/. A newer driver always
serves an older CUDA.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from glowplug.backends.local.doctor.check import Check, Patient
from glowplug.backends.local.inventory.nvml import loaded_driver_version

MINIMUM_DRIVER = {11: 450, 12: 525, 13: 580}
"""Branch of the oldest driver that runs anything built with this major version of CUDA."""
SHIPPED_DRIVER = {
    (11, 8): 520, (12, 0): 525, (12, 1): 530, (12, 2): 535, (12, 3): 545, (12, 4): 550, (12, 5): 555,
    (12, 6): 560, (12, 8): 570, (12, 9): 575, (13, 0): 580,
}  # fmt: skip
"""Branch of the driver that came with the toolkit: with an older one, kernels that are compiled when a
program starts (PTX) and the newest features do not work."""
NVCC_TIMEOUT_S = 10.0
TORCH_WHEELS = "https://download.pytorch.org/whl"

Version = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """Something installed that brings CUDA or was built for it."""

    name: str
    cuda: Version
    """The minor version is -1 where only the major one is known."""

    @property
    def cuda_text(self) -> str:
        return f"CUDA {self.cuda[0]}" + (f".{self.cuda[1]}" if self.cuda[1] >= 0 else ".x")


def installed_here() -> dict[str, str]:
    """Distributions of this process's environment, where functions without an image run."""
    found = ((each.metadata["Name"], each.version) for each in distributions())
    return {name.lower().replace("_", "-"): version for name, version in found if name}


def nvcc_release(path: str) -> str:
    """What ``nvcc --version`` says; empty when it does not."""
    try:
        said = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=NVCC_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout


def examine(
    patient: Patient,
    installed: Mapping[str, str] | None = None,
    ask_nvcc: Callable[[str], str] = nvcc_release,
) -> list[Check]:
    """Nothing where neither wheels nor a toolkit are found."""
    installed = installed_here() if installed is None else installed
    wheels = wheels_of(installed)
    toolkit = toolkit_of(patient, ask_nvcc)
    driver = loaded_driver_version(patient.root)
    found = [_served(part, driver) for part in [*wheels, *([toolkit] if toolkit else [])]]
    found += _without_cuda(installed, driver)
    found += _apart(wheels)
    if toolkit is not None:
        found += _compiling(toolkit, wheels)
    return found


def wheels_of(installed: Mapping[str, str]) -> list[Part]:
    """PyTorch, JAX and CuPy with the CUDA they were built for."""
    parts: list[Part] = []
    torch = installed.get("torch")
    if torch is not None:
        tag = re.search(r"\+cu(\d\d)(\d+)", torch)
        cuda = (int(tag[1]), int(tag[2])) if tag else _runtime_of(installed) if "+" not in torch else None
        if cuda is not None:
            parts.append(Part(f"torch {torch}", cuda))
    for name, version in sorted(installed.items()):
        built = re.fullmatch(r"(?:cupy-cuda|jax-cuda)(\d\d)(?:x|\d|-plugin)", name)
        if built:
            parts.append(Part(f"{name} {version}", (int(built[1]), -1)))
    if not parts and (cuda := _runtime_of(installed)) is not None:
        parts.append(Part("the CUDA runtime of Python wheels", cuda))
    return parts


def _runtime_of(installed: Mapping[str, str]) -> Version | None:
    """Of nvidia-cuda-runtime-cu12, or nvidia-cuda-runtime of CUDA 13 and later."""
    versions = [
        _version(version)
        for name, version in installed.items()
        if re.fullmatch(r"nvidia-cuda-runtime(-cu\d\d)?", name)
    ]
    return max((version for version in versions if version is not None), default=None)


def toolkit_of(patient: Patient, ask_nvcc: Callable[[str], str]) -> Part | None:
    """Where CUDA_HOME says, else the one whose nvcc is found, else /usr/local/cuda."""
    homes = [patient.environ.get("CUDA_HOME"), patient.environ.get("CUDA_PATH")]
    nvcc = shutil.which("nvcc", path=patient.environ.get("PATH", ""))
    for home in [*filter(None, homes), "/usr/local/cuda"]:
        version = _version_of_home(patient, home)
        if version is not None:
            return Part(f"the toolkit in {home}", version)
        if nvcc is not None and home == "/usr/local/cuda":
            break
    if nvcc is not None:
        release = re.search(r"release (\d+)\.(\d+)", ask_nvcc(nvcc))
        if release:
            return Part(f"the toolkit of {nvcc}", (int(release[1]), int(release[2])))
    return None


def _version_of_home(patient: Patient, home: str) -> Version | None:
    inside = home.lstrip("/")
    try:
        return _version(json.loads(patient.read(f"{inside}/version.json"))["cuda"]["version"])
    except (ValueError, LookupError, TypeError):
        pass
    libraries = Path(patient.root, inside, "lib64").glob("libcudart.so.*.*")
    versions = [_version(path.name.removeprefix("libcudart.so.")) for path in libraries]
    return max((version for version in versions if version is not None), default=None)


def _served(part: Part, driver: str) -> Check:
    name = "cuda " + ("toolkit" if part.name.startswith("the toolkit") else "wheels")
    what = f"{part.name}: {part.cuda_text}"
    branch = _branch(driver)
    needed = MINIMUM_DRIVER.get(part.cuda[0])
    if branch is None:
        return Check(name, "ok", f"{what}; there is no driver here that could be compared")
    if needed is not None and branch < needed:
        older = max((major for major, least in MINIMUM_DRIVER.items() if least <= branch), default=None)
        instead = f", or use what is built for CUDA {older}: {_install(part, older)}" if older else ""
        return Check(
            name,
            "fail",
            f"{what} needs driver {needed} or newer; this is {driver}",
            f"install driver {needed} or newer{instead}",
        )
    shipped = SHIPPED_DRIVER.get(part.cuda, 0)
    if branch < shipped:
        return Check(
            name,
            "warn",
            f"{what} came with driver {shipped}; with {driver} what was compiled runs, and kernels "
            "that are compiled at run time (from PTX) may not",
            f"install driver {shipped} or newer",
        )
    return Check(name, "ok", f"{what}, which driver {driver} serves")


def _install(part: Part, major: int) -> str:
    if part.name.startswith("torch"):
        minor = max(minor for cuda, minor in SHIPPED_DRIVER if cuda == major)
        return f"pip install torch --index-url {TORCH_WHEELS}/cu{major}{minor}"
    if part.name.startswith("cupy"):
        return f"pip install cupy-cuda{major}x"
    if part.name.startswith("jax"):
        return f"pip install 'jax[cuda{major}]'"
    return f"a toolkit {major}"


def _without_cuda(installed: Mapping[str, str], driver: str) -> list[Check]:
    torch = installed.get("torch", "")
    if not driver or "+cpu" not in torch:
        return []
    return [
        Check(
            "cuda wheels",
            "warn",
            f"torch {torch} is built without CUDA and does not see the cards",
            f"pip install torch --index-url {TORCH_WHEELS}/cu128",
        )
    ]


def _apart(wheels: list[Part]) -> list[Check]:
    """Two major versions of CUDA in one environment."""
    majors = {part.cuda[0] for part in wheels}
    if len(majors) < 2:
        return []
    listed = ", ".join(f"{part.name} ({part.cuda_text})" for part in wheels)
    return [
        Check(
            "cuda wheels",
            "warn",
            f"{listed}: libraries of two major versions in one process may not get on",
            f"install those built for CUDA {max(majors)}, or give each function an image of its own",
        )
    ]


def _compiling(toolkit: Part, wheels: list[Part]) -> list[Check]:
    """Extensions of PyTorch are compiled with a toolkit of the same major version."""
    torch = next((part for part in wheels if part.name.startswith("torch")), None)
    if torch is None or torch.cuda[0] == toolkit.cuda[0]:
        return []
    return [
        Check(
            "cuda toolkit",
            "warn",
            f"{toolkit.name} is {toolkit.cuda_text} and {torch.name} {torch.cuda_text}: extensions of "
            "PyTorch cannot be compiled here",
            f"export CUDA_HOME=… of a toolkit {torch.cuda[0]}, or compile in an image (docs/cuda.md)",
        )
    ]


def _branch(driver: str) -> int | None:
    match = re.match(r"\d+", driver)
    return int(match[0]) if match else None


def _version(text: str) -> Version | None:
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
