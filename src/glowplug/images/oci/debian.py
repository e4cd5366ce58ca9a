"""A Debian with Python for machines without a registry: packages of a Debian mirror, put together by
mmdebstrap, once for each version of Python.

It is what ``python:3.11-slim`` is for: a small Debian whose ``python`` and ``pip`` are ready. The suite
decides the version of Python; other versions lie over the newest suite that needs no other.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glowplug.images.commands import BuildStopped
from glowplug.images.oci.room import Room
from glowplug.images.oci.storage import REPOSITORY, Storage
from glowplug.model import errors

SUITES = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"}
PLAIN_SUITE = "bookworm"
"""Under interpreters that are no package of it."""
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
TAG_PREFIX = "debian-"
VERSION = 1
"""Goes into a base's name: raised when what is made changes."""
SEARCH_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
OPERATOR_CERTIFICATES = "/usr/local/share/ca-certificates"
MEMORY_WANTED_BYTES = 4 << 30
"""Free memory, above which a base is put together there."""
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
_MERGED_USR = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
_FINISH = r"""
set -e
[ ! -e "$1/usr/bin/python3" ] || ln -sf /usr/bin/python3 "$1/usr/local/bin/python"
rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED
apt="$1/etc/apt/apt.conf.d/90small"
printf 'APT::Keep-Downloaded-Packages "false";\nAcquire::Languages "none";\n' > "$apt"
if ls "$2"/*.crt >/dev/null 2>&1; then
    mkdir -p "$1/usr/local/share/ca-certificates"
    cp "$2"/*.crt "$1/usr/local/share/ca-certificates/"
    chroot "$1" update-ca-certificates
fi
"""


@dataclass(frozen=True)
class DebianBase:
    """``python_version``: of the suite's own Python; empty for none."""

    suite: str
    python_version: str
    mirror: str = MIRROR

    @property
    def packages(self) -> list[str]:
        python = ["python3", *(["python3-distutils"] if self.suite in ("bullseye", "bookworm") else [])]
        return ["ca-certificates", *(python if self.python_version else [])]

    @property
    def tag(self) -> str:
        text = json.dumps([VERSION, self.suite, self.packages, self.mirror, _LEFT_OUT, _FINISH])
        certificates = hashlib.sha256()
        for path in _operator_certificates():
            certificates.update(path.read_bytes())
        digest = hashlib.sha256(text.encode() + certificates.digest()).hexdigest()
        return f"{TAG_PREFIX}{self.suite}-{digest[:16]}"


def make(
    base: DebianBase,
    storage: Storage,
    environ: Mapping[str, str],
    on_line: Callable[[str], None],
    stopped: Callable[[], bool],
) -> str:
    """The reference of this base; made when it is not there. Raises ``ImageBuildError``."""
    reference = f"{REPOSITORY}:{base.tag}"
    if base.tag in storage.images():
        return reference
    with storage.lock(base.tag, stopped):
        if base.tag in storage.images():
            return reference
        on_line(f"making a Debian {base.suite} from {base.mirror}, once for this home")
        with tempfile.TemporaryDirectory(prefix=TAG_PREFIX, dir=storage.directory) as directory:
            archive = _bootstrap(base, Path(directory), environ, on_line, stopped)
            take_in(base, archive, storage)
    return reference


def _bootstrap(
    base: DebianBase,
    directory: Path,
    environ: Mapping[str, str],
    on_line: Callable[[str], None],
    stopped: Callable[[], bool],
) -> Path:
    program = shutil.which("mmdebstrap", path=environ.get("PATH", os.defpath))
    if program is None:
        raise errors.ImageBuildError(
            "no registry can be reached, and mmdebstrap, which makes a Debian without one, is not installed. "
            "On Debian and Ubuntu: apt-get install mmdebstrap debian-archive-keyring"
        )
    finish = directory / "finish.sh"
    finish.write_text(_FINISH)
    archive = directory / "root.tar"
    sources = [
        f"deb {base.mirror} {base.suite} main",
        f"deb {base.mirror} {base.suite}-updates main",
        f"deb {SECURITY_MIRROR} {base.suite}-security main",
    ]
    command = [
        program, "--mode=root", "--variant=minbase", f"--include={','.join(base.packages)}", "--format=tar",
        *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT), "--dpkgopt=force-unsafe-io",
        '--aptopt=Acquire::Languages "none"',
        *([f"--hook-dir={_MERGED_USR}"] if os.path.isdir(_MERGED_USR) else []),
        f"--customize-hook=sh {finish} \"$1\" {OPERATOR_CERTIFICATES}",
        base.suite, str(archive), *sources,
    ]  # fmt: skip
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        if line.startswith(("I: ", "W: ", "E: ")):
            on_line(line)

    variables = {"PATH": environ.get("PATH", os.defpath), "TMPDIR": str(directory), "HOME": str(directory)}
    variables |= {name: value for name, value in environ.items() if name.lower().endswith("_proxy")}

    def in_memory(stage: str) -> list[str]:
        # Thousands of small files that are read once more: no disk needs to see them, where memory is ample.
        return ["env", f"TMPDIR={stage}/own", *command] if _memory_is_ample() else command

    ended = Room(environ=variables).run(in_memory, keep, stopped)
    if ended.stopped:
        raise BuildStopped
    if ended.code != 0:
        last = "\n".join(f"  {line}" for line in lines[-12:])
        raise errors.ImageBuildError(
            f"a Debian {base.suite} could not be made from {base.mirror} (mmdebstrap: {ended.code}). "
            f"Is the mirror reachable, and is there room on the disk? Its last lines:\n{last}"
        )
    return archive


def take_in(base: DebianBase, archive: Path, storage: Storage) -> None:
    """Make the tar file of a root an image, by way of a directory in the layout that buildah pulls from."""
    layout = archive.parent / "layout"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    with archive.open("rb") as file:
        layer = hashlib.file_digest(file, "sha256").hexdigest()
    size = archive.stat().st_size
    archive.rename(blobs / layer)

    def put(value: object) -> dict[str, object]:
        raw = json.dumps(value).encode()
        digest = hashlib.sha256(raw).hexdigest()
        (blobs / digest).write_bytes(raw)
        return {"digest": f"sha256:{digest}", "size": len(raw)}

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = put(
        {
            "architecture": machine,
            "os": "linux",
            "config": {"Env": [f"PATH={SEARCH_PATH}", "LANG=C.UTF-8"], "Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
            "history": [{"created_by": f"mmdebstrap {base.suite}"}],
        }
    )
    kind = "application/vnd.oci.image"
    manifest = put(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": {"mediaType": f"{kind}.config.v1+json", **config},
            "layers": [{"mediaType": f"{kind}.layer.v1.tar", "digest": f"sha256:{layer}", "size": size}],
        }
    )
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": f"{kind}.manifest.v1+json", **manifest}]})
    )
    # buildah makes a name of the path, and few characters may be in one; a home may lie anywhere.
    nameable = Path(f"/tmp/glowplug-{os.getpid()}-{secrets.token_hex(8)}")
    nameable.symlink_to(layout)
    try:
        pulled = storage.answer("pull", "--quiet", "--signature-policy", storage.policy, f"oci:{nameable}")
    finally:
        nameable.unlink()
    storage.answer("tag", pulled.split()[-1], f"{REPOSITORY}:{base.tag}")


def _memory_is_ample() -> bool:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    available = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "0")
    return int(available) * 1024 >= MEMORY_WANTED_BYTES


def _operator_certificates() -> list[Path]:
    """Authorities that this machine's owner trusts beside the usual ones."""
    return sorted(Path(OPERATOR_CERTIFICATES).glob("*.crt"))
