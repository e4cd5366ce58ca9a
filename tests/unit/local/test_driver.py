"""What of an NVIDIA driver is shown inside an image's root, and by which of the node's descriptions it is
found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glowplug.backends.local import driver
from glowplug.backends.local.environments import Environment, with_driver


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Files as a driver's packages leave them."""
    lib = tmp_path / "usr/lib/x86_64-linux-gnu"
    lib.mkdir(parents=True)
    for name in ("libcuda.so.550.54", "libnvidia-ml.so.550.54", "libEGL_nvidia.so.550.54", "libc.so.6"):
        (lib / name).write_text(name)
    for link, target in (("libcuda.so.1", "libcuda.so.550.54"), ("libcuda.so", "libcuda.so.1")):
        (lib / link).symlink_to(target)
    for path in (
        "usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        "etc/vulkan/icd.d/nvidia_icd.json",
        "usr/bin/nvidia-smi",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    return tmp_path


def mounts(node: Path) -> list[str]:
    lib = f"{node}/usr/lib/x86_64-linux-gnu"
    return [
        f"{lib}/libcuda.so.550.54", f"{lib}/libnvidia-ml.so.550.54", f"{node}/usr/bin/nvidia-smi",
        f"{node}/usr/share/glvnd/egl_vendor.d/10_nvidia.json", f"{node}/etc/vulkan/icd.d/nvidia_icd.json",
    ]  # fmt: skip


def inside(files: driver.DriverFiles) -> set[str]:
    return {path.removeprefix(driver.INSIDE) for _, path in files.binds}


def test_a_library_has_every_name_that_leads_to_it(node: Path) -> None:
    lib = f"{node}/usr/lib/x86_64-linux-gnu"
    files = driver.sort_files([f"{lib}/libcuda.so.1", f"{lib}/libc.so.6", f"{lib}/libnvidia-gone.so.1"])
    assert inside(files) == {"/lib/libcuda.so", "/lib/libcuda.so.1", "/lib/libcuda.so.550.54"}
    assert {source for source, _ in files.binds} == {f"{lib}/libcuda.so.550.54"}


def test_descriptions_and_programs_have_places_of_their_own(node: Path) -> None:
    assert inside(driver.sort_files(mounts(node))) >= {
        "/bin/nvidia-smi",
        "/lib/libnvidia-ml.so.550.54",
        "/share/glvnd/egl_vendor.d/10_nvidia.json",
        "/share/vulkan/icd.d/nvidia_icd.json",
    }


def test_cdi_as_json_and_as_yaml_say_the_same(node: Path, tmp_path: Path) -> None:
    pairs = [{"hostPath": path, "containerPath": path, "options": ["ro"]} for path in mounts(node)]
    description = {"kind": "nvidia.com/gpu", "containerEdits": {"mounts": pairs}}
    as_json, as_yaml = tmp_path / "cdi-json", tmp_path / "cdi-yaml"
    as_json.mkdir()
    as_yaml.mkdir()
    (as_json / "nvidia.json").write_text(json.dumps(description))
    lines = [
        "---",
        "cdiVersion: 0.5.0",
        "containerEdits:",
        "  deviceNodes:",
        "  - path: /dev/nvidiactl",
        "  mounts:",
    ]
    for pair in pairs:
        lines += [f"  - containerPath: {pair['containerPath']}", f"    hostPath: {pair['hostPath']}"]
        lines += ["    options:", "    - ro", "    - nosuid"]
    lines += ["kind: nvidia.com/gpu"]
    (as_yaml / "nvidia.yaml").write_text("\n".join(lines))
    found = list(driver.described_by_cdi([str(as_json)]))
    assert found == mounts(node)
    assert list(driver.described_by_cdi([str(as_yaml)])) == found


@pytest.mark.parametrize("text", ["", "{", '{"kind": "nvidia.com/gpu", "devices": 3}', '["nvidia.com/gpu"]'])
def test_a_damaged_description_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "nvidia.json").write_text(text)
    assert list(driver.described_by_cdi([str(tmp_path)])) == []


def test_the_linkers_cache_names_the_driver_only() -> None:
    cache = """3 libs found in cache `/etc/ld.so.cache'
	libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1
	libnvidia-ml.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1
	libcudart.so.12 (libc6,x86-64) => /usr/local/cuda/lib64/libcudart.so.12
	libEGL.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libEGL.so.1
"""
    assert list(driver.found_by_linker(cache)) == [
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    ]


def test_an_images_own_libraries_come_first(node: Path) -> None:
    files = driver.sort_files(mounts(node))
    image = Environment("/usr/bin/python", root="/r", variables={"LD_LIBRARY_PATH": "/usr/local/nvidia/lib"})
    given = with_driver(image, files)
    assert given.variables["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib:/.glowplug/driver/lib"
    assert given.node_files == files.binds
    assert with_driver(Environment("/usr/bin/python"), files) == Environment("/usr/bin/python")
    assert with_driver(image, driver.DriverFiles()) == image
