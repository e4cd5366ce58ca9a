"""Driver, wheels and toolkit against each other, on machines made of a few files."""

from __future__ import annotations

import json

import pytest

from glowplug.backends.local.doctor import cuda
from glowplug.backends.local.doctor.check import Patient


@pytest.fixture
def examine(tmp_path):
    """``examine(driver, installed, toolkit=, nvcc=)``: (name, status, what, fix) of every finding."""

    def made(driver="", installed=None, toolkit="", nvcc=""):
        environ = {"PATH": str(tmp_path / "bin")}
        if driver:
            version = tmp_path / "sys/module/nvidia/version"
            version.parent.mkdir(parents=True)
            version.write_text(driver + "\n")
        if toolkit:
            home = tmp_path / "opt/cuda"
            home.mkdir(parents=True)
            (home / "version.json").write_text(json.dumps({"cuda": {"version": toolkit}}))
            environ["CUDA_HOME"] = "/opt/cuda"
        if nvcc:
            program = tmp_path / "bin/nvcc"
            program.parent.mkdir()
            program.write_text("")
            program.chmod(0o755)
        patient = Patient(tmp_path / "home", environ, tmp_path)
        found = cuda.examine(patient, installed or {}, lambda path: nvcc)
        return [(each.name, each.status, each.what, each.fix) for each in found]

    return made


def test_nothing_to_compare(examine):
    assert examine(driver="550.54.14") == []


def test_a_stack_that_fits(examine):
    found = examine("570.26", {"torch": "2.7.0+cu128", "cupy-cuda12x": "13.4.0"}, toolkit="12.8.1")
    assert [each[:2] for each in found] == [
        ("cuda wheels", "ok"),
        ("cuda wheels", "ok"),
        ("cuda toolkit", "ok"),
    ]
    assert found[0][2] == "torch 2.7.0+cu128: CUDA 12.8, which driver 570.26 serves"


@pytest.mark.parametrize(
    ("driver", "torch", "status"),
    [
        ("580.65.06", "2.9.0+cu130", "ok"),
        ("575.51.03", "2.9.0+cu130", "fail"),
        ("580.65.06", "2.0.0+cu118", "ok"),
        ("535.54.03", "2.7.0+cu128", "warn"),
        ("520.61.05", "2.7.0+cu128", "fail"),
        ("525.60.13", "2.0.0+cu118", "ok"),
    ],
)
def test_a_driver_serves_its_own_cuda_and_older_ones(examine, driver, torch, status):
    [(_, found, what, fix)] = examine(driver, {"torch": torch})
    assert found == status, what
    assert bool(fix) == (status != "ok")


def test_what_an_old_driver_could_use_is_the_fix(examine):
    [(_, _, what, fix)] = examine("550.54.14", {"torch": "2.9.0+cu130"})
    assert what == "torch 2.9.0+cu130: CUDA 13.0 needs driver 580 or newer; this is 550.54.14"
    assert fix == (
        "install driver 580 or newer, or use what is built for CUDA 12: "
        "pip install torch --index-url https://download.pytorch.org/whl/cu129"
    )


def test_wheels_that_do_not_say_it_are_known_by_their_runtime(examine):
    [(_, status, what, _)] = examine("550.54.14", {"torch": "2.6.0", "nvidia-cuda-runtime-cu12": "12.4.127"})
    assert (status, "CUDA 12.4" in what) == ("ok", True)
    assert cuda.wheels_of({"jax-cuda12-plugin": "0.5.0", "nvidia-cuda-runtime-cu12": "12.8.90"}) == [
        cuda.Part("jax-cuda12-plugin 0.5.0", (12, -1))
    ]
    assert cuda.wheels_of({"nvidia-cuda-runtime": "13.0.48"})[0].cuda == (13, 0)


def test_pytorch_without_cuda_beside_a_card(examine):
    [(_, status, what, fix)] = examine("550.54.14", {"torch": "2.6.0+cpu"})
    assert (status, what) == ("warn", "torch 2.6.0+cpu is built without CUDA and does not see the cards")
    assert fix.startswith("pip install torch --index-url")


def test_pytorch_without_cuda_and_without_a_card_is_fine(examine):
    assert examine(installed={"torch": "2.6.0+cpu"}) == []


def test_two_major_versions_in_one_environment(examine):
    found = examine("580.65.06", {"torch": "2.9.0+cu130", "cupy-cuda12x": "13.4.0"})
    assert [each[1] for each in found] == ["ok", "ok", "warn"]
    assert "two major versions" in found[-1][2]


def test_a_toolkit_that_cannot_compile_for_pytorch(examine):
    found = examine("580.65.06", {"torch": "2.9.0+cu130"}, toolkit="12.8.1")
    assert found[-1][1] == "warn"
    assert "extensions of PyTorch cannot be compiled here" in found[-1][2]


def test_a_toolkit_is_found_by_its_compiler(examine):
    [(name, status, what, _)] = examine(nvcc="Cuda compilation tools, release 12.4, V12.4.131")
    assert (name, status) == ("cuda toolkit", "ok")
    assert what.endswith("bin/nvcc: CUDA 12.4; there is no driver here that could be compared")


def test_a_toolkit_without_its_version_file_is_known_by_its_runtime(examine, tmp_path):
    library = tmp_path / "usr/local/cuda/lib64/libcudart.so.11.8.89"
    library.parent.mkdir(parents=True)
    library.write_text("")
    [(_, status, what, _)] = examine("470.42.01")
    assert (status, "CUDA 11.8 came with driver 520" in what) == ("warn", True)


def test_a_compiler_that_says_nothing_is_no_toolkit(examine):
    assert examine(nvcc="nonsense") == []
