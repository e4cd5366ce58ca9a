"""What runs inside containers imports under Python 3.9 itself, where this machine has one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cloudpickle
import pytest

ROOT = Path(__file__).parents[3]
LAYERS = ("model", "wire", "client", "sdk", "container")
# The command line's part of the sdk needs click; the alias of modal takes modal's place when it is imported.
ELSEWHERE = {"sdk/entrypoint.py", "sdk/alias/modal.py"}


@pytest.fixture(scope="module")
def python39() -> str:
    found = shutil.which("python3.9")
    if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
        return found
    pytest.skip("no python3.9 on PATH")


def test_every_module_imports(python39: str, tmp_path: Path):
    modules = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for layer in LAYERS
        for path in sorted((ROOT / "src" / "glowplug" / layer).rglob("*.py"))
        if path.name != "__main__.py"
        and path.relative_to(ROOT / "src" / "glowplug").as_posix() not in ELSEWHERE
    ]
    (tmp_path / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
    script = (
        "import importlib, json, sys\n"
        "sys.dont_write_bytecode = True\n"
        f"sys.path[:0] = [{str(ROOT / 'src')!r}, {str(tmp_path)!r}]\n"
        "failed = {}\n"
        f"for name in {modules!r}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except Exception as problem:\n"
        "        failed[name] = repr(problem)\n"
        "print(json.dumps(failed))\n"
    )
    done = subprocess.run([python39, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}
