"""What a container may see: the paths, devices and variables of its root, and the bubblewrap that makes
it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glowplug.backends.local.bubblewrap import Bubblewrap
from glowplug.backends.local.environments import (
    CERTIFICATES_INSIDE,
    HOME,
    Environment,
    FilesBind,
)
from glowplug.backends.local.hidden import HiddenPaths
from glowplug.ports.volumes import View
from glowplug.wire.agreed import LAYERS, NEW_ROOT, SCRATCH

SYSTEM_PATHS = (
    "/usr",
    "/etc",
    "/opt",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/sys",
)
RESOLVER_PATHS = ("/run/systemd/resolve", "/run/resolvconf")
"""Where /etc/resolv.conf may point."""
PRIVATE_DIRECTORIES = (
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/mnt", 0o755),
)
GPU_CONTROL_DEVICES = (
    "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/dxg",
)  # fmt: skip
MIG_CAPABILITIES = "/dev/nvidia-caps"
LINK_LIMIT = 40
"""As many links as the kernel follows."""
ZYGOTE_VOLUMES = "/.volumes"
"""Where a zygote holds the volumes its containers bind to the paths their functions name."""
ZYGOTE_FILES = "/.glowplug/files"
"""Where it holds the files of images that containers lay over their paths."""
NOT_OF_IMAGES = frozenset({"dev", "proc", "sys", "tmp", "run", ".glowplug"})
"""What a root file system may bring and a container has of its own."""


@dataclass(frozen=True)
class VolumeMount:
    """``source`` is the directory that every container's view of the volume lies in; ``layered``: its commits
    are under ``trees`` there, what containers write under ``mounts``. ``inode`` tells a volume from a later
    one of its name, which a zygote that holds the former does not see."""

    source: str
    path: str
    read_only: bool = False
    layered: bool = False
    inode: int = 0

    def arguments(self, number: int) -> list[str]:
        """How a zygote holds it, for bubblewrap."""
        place = f"{ZYGOTE_VOLUMES}/{number}"
        if not self.layered:
            return ["--ro-bind" if self.read_only else "--bind", self.source, place]
        arguments = ["--ro-bind", f"{self.source}/trees", f"{place}/trees"]
        if not self.read_only:
            arguments += ["--bind", f"{self.source}/mounts", f"{place}/mounts"]
        return arguments

    def view(self, number: int, view: View) -> dict[str, str]:
        """A container's view as the zygote's paths say it."""

        def inside(path: str) -> str:
            return f"{ZYGOTE_VOLUMES}/{number}{path[len(self.source) :]}" if path else ""

        return {
            "path": self.path,
            "source": inside(view.source),
            "upper": inside(view.upper),
            "work": inside(view.work),
        }


@dataclass(frozen=True)
class RootPlan:
    """The root of a family of containers. ``binds``: (source, path, "ro", "overlay" or "hidden"), parents
    before children."""

    binds: tuple[tuple[str, str, str], ...]
    links: tuple[tuple[str, str], ...]
    volumes: tuple[VolumeMount, ...] = ()
    files: tuple[FilesBind, ...] = ()
    """Laid over what the binds show, in this order."""
    directories: tuple[str, ...] = ()
    """Made where there is nothing else: a working directory."""
    scratch: str = ""
    """A directory on disk, in which containers have one each for what they write; else that is in memory."""
    gpu_devices: tuple[str, ...] = ()
    """Every GPU device of the node; a container gets those of its own GPUs."""
    inodes: tuple[int, ...] = ()
    """Of the image's directories: one made anew has the path of the damaged one, which an older zygote still
    shows."""

    @property
    def digest(self) -> str:
        text = repr(
            (
                self.scratch,
                self.binds,
                self.links,
                self.volumes,
                self.gpu_devices,
                self.files,
                self.directories,
                self.inodes,
            )
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def bubblewrap_arguments(self, bubblewrap: Bubblewrap) -> list[str]:
        """The sandbox of a zygote: everything read-only, and the right to make roots for its forks."""
        arguments = [
            bubblewrap.path, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent",
            # Root of its own user namespace, whoever started the server. Under another number bubblewrap adds
            # a second one, from which the zygote could not come back to its PID namespace after a fork.
            "--uid", "0", "--gid", "0",
            # To make namespaces and mounts; to let go of it all; to leave the network; to make overlays,
            # whose working directory nobody may enter; to enter a container's namespace with another view of
            # a volume. Containers keep none of it.
            "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP", "--cap-add", "CAP_NET_ADMIN",
            "--cap-add", "CAP_DAC_OVERRIDE", "--cap-add", "CAP_SYS_CHROOT",
            "--proc", "/proc", "--dev", "/dev", "--perms", "0700", "--dir", NEW_ROOT,
            "--perms", "0700", "--dir", LAYERS,
        ]  # fmt: skip
        for path, mode in PRIVATE_DIRECTORIES:
            arguments += ["--perms", f"{mode:04o}", "--dir", path]
        for path, target in self.links:
            arguments += ["--symlink", target, path]
        for source, path, mode in self.binds:
            if mode != "hidden":
                arguments += ["--ro-bind", source, path]
            elif os.path.isdir(source):
                arguments += ["--perms", "0755", "--tmpfs", path]
            else:
                arguments += ["--ro-bind", "/dev/null", path]
        arguments += self._files_arguments()
        for number, volume in enumerate(self.volumes):
            arguments += volume.arguments(number)
        if self.scratch:
            arguments += ["--bind", self.scratch, SCRATCH]
        for device in self.gpu_devices:
            arguments += ["--dev-bind-try", device, device]
        for source, path, mode in self.binds:
            if mode == "hidden" and os.path.isdir(source):
                # It is the same for every container. What lies in it has its place by now.
                arguments += ["--remount-ro", path]
        return [*arguments, "--chdir", "/"]

    def for_container(
        self, devices: Sequence[str], block_network: bool = False, views: Sequence[View] = ()
    ) -> dict[str, Any]:
        """The plan a fork carries out (``container.isolation.enter_root``). ``views``: of its volumes."""
        overlaid = self._overlaid()
        modes = {path: "overlay" if path in overlaid else mode for _, path, mode in self.binds}
        # In the zygote each path shows its source already, and covers come with what they lie in, but for
        # overlays: those show what is below.
        binds = [
            [path, path, mode]
            for path, mode in modes.items()
            if mode != "hidden" or modes.get(_ancestor(path, list(modes)) or "") == "overlay"
        ]
        binds += [[f"{ZYGOTE_FILES}/{n}", each.path, "files"] for n, each in enumerate(self.files)]
        shown = [self.view_inside(view) for view in views]
        return {
            "binds": binds,
            # A volume may lie in another, whichever was named first.
            "volumes": [
                list(each.values()) for each in sorted(shown, key=lambda each: each["path"].count("/"))
            ],
            "links": [list(link) for link in self.links],
            "private": [list(entry) for entry in PRIVATE_DIRECTORIES],
            "directories": list(self.directories),
            "devices": list(devices),
            "block_network": block_network,
        }

    def view_inside(self, view: View) -> dict[str, str]:
        """A view of one of the volumes, by the zygote's paths."""
        for number, volume in enumerate(self.volumes):
            if volume.path == view.mount_path:
                return volume.view(number, view)
        raise KeyError(view.mount_path)

    def _files_arguments(self) -> list[str]:
        """The files for the containers, and each at its own path for what a module reads while the zygote
        imports it. That is not to be had below a path that is shown read-only and lacks the name; such an
        import fails here, and each container tries it anew."""
        arguments: list[str] = []
        covered = [path for _, path, _ in self.binds]
        seen: set[str] = set()
        for number, each in enumerate(self.files):
            arguments += ["--ro-bind", each.source, f"{ZYGOTE_FILES}/{number}"]
        for each in self.files:
            for name in sorted(os.listdir(each.source)):
                path = f"{each.path.rstrip('/')}/{name}"
                above = _ancestor(path, [*covered, *seen])
                if path in seen or path in covered or (above is not None and not os.path.exists(path)):
                    continue
                seen.add(path)
                arguments += ["--ro-bind", f"{each.source}/{name}", path]
        return arguments

    def _overlaid(self) -> set[str]:
        """The paths that must let something be made in them: where a volume, files or the working directory
        lie below, and no directory is there yet."""
        wanted = [*(each.path for each in self.volumes), *(each.path for each in self.files)]
        shown = {path: source for source, path, _ in self.binds}
        found = set()
        for path in [*wanted, *self.directories]:
            above = _ancestor(path, list(shown))
            if above and not os.path.isdir(shown[above] + path[len(above) :]):
                found.add(above)
        return found


def make_root_plan(
    environment: Environment,
    source: dict[str, Any],
    volumes: Sequence[VolumeMount],
    gpu_devices: Sequence[str],
    hidden: HiddenPaths | None = None,
    scratch: str = "",
) -> RootPlan:
    """The host paths an interpreter and a script need, and nothing else of the host. ``source`` is that of
    the app; ``hidden`` says what of these paths is not shown."""
    links: dict[str, str] = {}
    shown: dict[str, tuple[str, str]] = {}
    """By path: source and mode."""
    if environment.root:
        _show_root(environment.root, links, shown)
    else:
        _show_system(environment, links, shown)
    for origin, path in (*environment.runtime_binds, *environment.node_files):
        shown[path] = (origin, "ro")
    directory = source.get("directory")
    if directory and os.path.isdir(directory):
        if os.path.realpath(directory) != "/":
            shown[os.path.abspath(directory)] = (os.path.abspath(directory), "overlay")
        elif source.get("script"):  # beside it is the whole machine
            script = os.path.abspath(source["script"])
            shown[script] = (script, "ro")
    if hidden is not None:
        origins = {path: origin for path, (origin, _) in shown.items()}
        for path in hidden.within(origins, directory if directory in shown else None):
            shown[path] = (path, "hidden")
    binds: list[tuple[str, str, str]] = []
    for path in sorted(shown, key=lambda each: (each.count("/"), each)):
        origin, mode = shown[path]
        first = "/" + path.split("/")[1]
        if first in links or (mode == "ro" and _is_covered(origin, path, binds)):
            continue
        binds.append((origin, path, mode))
    return RootPlan(
        tuple(binds),
        tuple(sorted(links.items())),
        tuple(volumes),
        scratch=scratch,
        gpu_devices=tuple(gpu_devices),
        files=environment.files,
        directories=tuple(filter(None, [environment.workdir])),
        inodes=tuple(map(_inode, _made_places(environment))),
    )


def _made_places(environment: Environment) -> list[str]:
    files = [bind.source for bind in environment.files]
    return [environment.root or environment.prefix, *(origin for origin, _ in environment.node_files), *files]


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0  # the container says which


def _show_system(environment: Environment, links: dict[str, str], shown: dict[str, tuple[str, str]]) -> None:
    """The node's own system and the interpreter's directories."""
    for path in SYSTEM_PATHS:
        if os.path.islink(path):
            links[path] = os.readlink(path)
        elif os.path.isdir(path):
            shown[path] = (path, "ro")
    wanted = [environment.prefix, environment.base_prefix, *RESOLVER_PATHS, *environment.sys_path]
    if not environment.runtime_binds:
        wanted.append(environment.runtime)
    wanted += _link_directories(environment.executable)
    # A program started from /tmp has it on sys.path; that is no reason to show the whole of it.
    never = {"/", *(path for path, _ in PRIVATE_DIRECTORIES)}
    for path in filter(None, wanted):
        for each in {os.path.abspath(path), os.path.realpath(path)}:
            if os.path.exists(each) and each not in never:
                shown.setdefault(each, (each, "ro"))


def _show_root(root: str, links: dict[str, str], shown: dict[str, tuple[str, str]]) -> None:
    """An image's root file system, writable inside, never written."""
    for name in os.listdir(root):
        if name in NOT_OF_IMAGES:
            continue
        if os.path.islink(f"{root}/{name}"):
            links[f"/{name}"] = os.readlink(f"{root}/{name}")
        else:
            shown[f"/{name}"] = (f"{root}/{name}", "overlay" if os.path.isdir(f"{root}/{name}") else "ro")


def _link_directories(executable: str) -> list[str]:
    """Where each link on the way from ``executable`` to the program itself lies."""
    directories = [os.path.dirname(executable)]
    for _ in range(LINK_LIMIT):
        if not os.path.islink(executable):
            break
        executable = os.path.normpath(os.path.join(directories[-1], os.readlink(executable)))
        directories.append(os.path.dirname(executable))
    return directories


def _is_covered(source: str, path: str, binds: Sequence[tuple[str, str, str]]) -> bool:
    """Whether a bind above shows ``path`` already. An overlay does not show what is mounted inside it."""
    above = _ancestor(path, [bound for _, bound, _ in binds])
    if above is None:
        return False
    origin, mode = next((origin, mode) for origin, bound, mode in binds if bound == above)
    if mode == "hidden":
        return False
    if origin + path[len(above) :] != source:
        return False
    return mode == "ro" or os.stat(source).st_dev == os.stat(origin).st_dev


def _ancestor(path: str, candidates: Sequence[str]) -> str | None:
    """The longest candidate that is a proper ancestor of ``path``."""
    found = [each for each in candidates if path != each and path.startswith(each.rstrip("/") + "/")]
    return max(found, key=len, default=None)


def gpu_device_paths() -> list[str]:
    """Every NVIDIA device node of this machine."""
    dev = Path("/dev")
    cards = sorted(str(path) for path in dev.glob("nvidia[0-9]*"))
    control = [path for path in GPU_CONTROL_DEVICES if os.path.exists(path)]
    caps = (
        sorted(str(path) for path in Path(MIG_CAPABILITIES).glob("*"))
        if os.path.isdir(MIG_CAPABILITIES)
        else []
    )
    return cards + control + caps


def devices_of_container(minors: Sequence[int], has_slices: bool) -> list[str]:
    """The device nodes for cards with these minor numbers; none for a function without a GPU."""
    if not minors:
        return []
    devices = [f"/dev/nvidia{minor}" for minor in minors] + list(GPU_CONTROL_DEVICES)
    if has_slices and os.path.isdir(MIG_CAPABILITIES):
        devices += sorted(str(path) for path in Path(MIG_CAPABILITIES).glob("*"))
    return devices


PASSED_VARIABLES = (
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLUMNS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR")
PASSED_PREFIXES = ("LC_",)
SYSTEM_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = "glowplug/container/bin"
"""In the runtime: a `python` for interpreters that come without one beside them, as Debian's does."""
NODE_PREFIXES = ("NCCL_", "NVSHMEM_", "TORCH_SYMM_MEM_")
"""Settings of a node that every container keeps, whatever the user's env= says."""


@dataclass(frozen=True)
class NodeEnvironment:
    """Variables of this machine: what is passed on and what is forced."""

    passed: dict[str, str] = field(default_factory=dict)
    container_env: dict[str, str] = field(default_factory=dict)
    home: str = HOME
    """Without a sandbox the server's user has his own: what is root's he may not read."""
    user: str = "root"

    @classmethod
    def read(cls, environ: dict[str, str], given: Mapping[str, str] | None = None) -> NodeEnvironment:
        """What of the server's ``environ`` reaches containers, and what it gives them on its own."""
        return cls(
            passed={
                **(given or {}),
                **{
                    name: value
                    for name, value in environ.items()
                    if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIXES)
                },
            },
            container_env={name: value for name, value in environ.items() if name.startswith(NODE_PREFIXES)},
        )

    def base(self, environment: Environment) -> dict[str, str]:
        """What an interpreter of this environment needs, before anything of its functions."""
        given = environment.variables
        # What a function starts finds its interpreter, `modal` and Glowplug, and the modules it finds itself.
        programs = [
            os.path.dirname(environment.executable),
            os.path.join(environment.runtime, PROGRAMS),
            given.get("PATH") or SYSTEM_PROGRAMS,
        ]
        modules = [environment.alias, environment.runtime, given.get("PYTHONPATH", "")]
        if environment.files:
            modules.insert(1, HOME)
        return {
            **(_for_images(self.passed) if environment.root else self.passed),
            "HOME": self.home,
            "USER": self.user,
            **given,
            "PATH": os.pathsep.join(programs),
            "GLOWPLUG_PYTHON": environment.executable,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, modules)),
            # torch.cuda.is_available() then asks the driver without initialising CUDA, after which no process
            # can be forked: neither a zygote nor what a training starts.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            **self.container_env,
        }


def _for_images(passed: dict[str, str]) -> dict[str, str]:
    """What is passed on to an image: paths of the node are none there, its authorities are shown to it."""
    kept = {name: value for name, value in passed.items() if name not in CERTIFICATE_VARIABLES}
    inside = {name: CERTIFICATES_INSIDE for name in CERTIFICATE_VARIABLES[:2] if name in passed}
    return {**kept, **inside}


def zygote_command(
    executable: str, fd: int, sandboxed: bool, sys_path: Sequence[str], preload: str, own_modules_first: bool
) -> list[str]:
    command = [
        executable,
        "-m",
        "glowplug.container.entrypoint",
        str(fd),
        "--path",
        "\n".join(sys_path),
    ]
    if sandboxed:
        command.append("--sandboxed")
    if own_modules_first:
        command.append("--own-modules-first")
    return [*command, "--preload", preload]
