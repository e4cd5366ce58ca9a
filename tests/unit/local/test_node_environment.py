"""What of its surroundings a container's interpreter is given, and what a user's env= cannot take away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from glowplug.backends.local.environments import Environments, runtime_directory
from glowplug.backends.local.sandbox import NodeEnvironment


def base(environ: dict[str, str], executable: str = sys.executable, **client: str) -> dict[str, str]:
    environments = Environments(runtime_directory(), "/alias", Path("/nowhere"), None, sandboxed=True)
    environment = environments.of_app({"executable": executable, "env": client})
    return NodeEnvironment.read(environ).base(environment)


def test_settings_of_the_node_reach_containers_and_others_do_not():
    found = base(
        {"NCCL_NVLS_ENABLE": "0", "NVSHMEM_X": "1", "TORCH_SYMM_MEM_Y": "2", "NCCLISH": "3", "AWS_KEY": "4"}
    )
    assert {name: value for name, value in found.items() if name.startswith(("NCCL", "NVS", "TORCH_"))} == {
        "NCCL_NVLS_ENABLE": "0",
        "NVSHMEM_X": "1",
        "TORCH_SYMM_MEM_Y": "2",
    }
    assert "AWS_KEY" not in found


def test_programs_a_function_starts_find_what_it_finds_itself():
    found = base({}, PYTHONPATH="/my/modules:/others", LD_LIBRARY_PATH="/my/libraries")
    assert found["PYTHONPATH"].split(":") == ["/alias", runtime_directory(), "/my/modules", "/others"]
    assert found["LD_LIBRARY_PATH"] == "/my/libraries"
    assert "" not in base({})["PYTHONPATH"].split(":")  # it would be the working directory


def test_python_is_the_interpreter_of_the_app_whatever_it_is_called(tmp_path: Path):
    lonely = tmp_path / "python3.99"
    lonely.symlink_to(sys.executable)
    found = base({}, executable=str(lonely))
    said = subprocess.run(
        ["sh", "-c", "python -c 'import sys; print(sys.executable)'"],
        env={**found, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == str(lonely)


def test_a_python_beside_the_interpreter_comes_first():
    assert base({})["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)
