"""Where an app's code is and what it runs in: what a container needs to import the same functions.

A function is addressed by module and qualified name. A script's module is its stem, whether it was imported
under that name (``glowplug run script.py``) or runs as ``__main__`` (``python script.py``).
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from glowplug.client.serializer import file_of

MAX_SOURCE_FILES = 10_000


@dataclass(frozen=True)
class Source:
    """The code of an app.

    ``directory`` comes first on ``sys.path``; ``module`` is importable from there, by ``package`` under a
    dotted name. ``digest`` changes when the script changes or a module it has imported from its directory.
    """

    script: str | None
    directory: str
    module: str
    digest: str
    package: bool

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)


def module_name(module: str) -> str:
    """The name under which a container imports ``module``: for ``__main__`` that of its file."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:  # python -m package.module
        return spec.name[: -len(".__main__")] if spec.name.endswith(".__main__") else spec.name
    path = file_of("__main__")
    return os.path.splitext(os.path.basename(path))[0] if path else "__main__"


def adopt_main() -> None:
    """Make the running program importable under its own name too, so that results whose classes it defines
    come back as these classes, instead of running it once more."""
    main = sys.modules.get("__main__")
    if file_of("__main__"):
        sys.modules.setdefault(module_name("__main__"), main)  # type: ignore[arg-type]


def is_importable(module: str) -> bool:
    """Whether a container can import ``module``: not what was typed into a notebook or an interpreter."""
    return module != "__main__" or file_of("__main__") is not None


def find_source(module: str) -> Source:
    """The source of the app whose functions are defined in ``module`` (``__main__`` included)."""
    path = file_of(module)
    if path is None:
        return Source(None, os.getcwd(), "__main__", _digest([]), False)
    script = os.path.abspath(path)
    name = module_name(module)
    directory = os.path.dirname(script)
    depth = name.count(".") + (os.path.basename(script) == "__init__.py")
    for _ in range(depth):
        directory = os.path.dirname(directory)
    return Source(script, directory, name, _digest(local_files(script, directory)), depth > 0)


def local_files(script: str, directory: str) -> list[str]:
    """The script and every module loaded from its directory, but not what was installed below it."""
    installed = tuple({os.path.join(os.path.abspath(prefix), "") for prefix in (sys.prefix, sys.base_prefix)})
    inside = os.path.join(directory, "")
    files = {script}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) if isinstance(module, ModuleType) else None
        if not path:
            continue
        path = os.path.abspath(path)
        if path.startswith(inside) and not path.startswith(installed) and "site-packages" not in path:
            files.add(path)
    return sorted(files)[:MAX_SOURCE_FILES]


def find_environment() -> dict[str, Any]:
    """The Python of this process: interpreter, prefixes and search path, as a container on this machine
    needs them."""
    return {
        "executable": sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "sys_path": [os.path.abspath(path) if path else os.getcwd() for path in sys.path],
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        # Where its interpreter finds native libraries and modules; nothing else of this environment.
        "env": {
            name: os.pathsep.join(map(os.path.abspath, filter(None, os.environ[name].split(os.pathsep))))
            for name in ("LD_LIBRARY_PATH", "PYTHONPATH")
            if os.environ.get(name)
        },
    }


def _digest(files: list[str]) -> str:
    digest = hashlib.sha256()
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            continue  # deleted since it was imported
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]
