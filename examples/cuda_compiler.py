"""A compiler in the image: nvcc builds a kernel of one's own when the image is built, a function calls it.

python cuda_compiler.py
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import glowplug as modal

SOURCE = Path(__file__).with_name("saxpy.cu")
COMPILE = "nvcc -O2 -shared -Xcompiler -fPIC -o {library} {source}"

app = modal.App("cuda-compiler")
image = (
    modal.Image.from_registry("nvidia/cuda:12.8.1-devel-ubuntu24.04", add_python="3.12")
    .add_local_file(SOURCE, "/src/saxpy.cu", copy=True)
    .run_commands(COMPILE.format(library="/usr/local/lib/libsaxpy.so", source="/src/saxpy.cu"))
)


@app.function(gpu="any", image=image)
def saxpy(a: float, x: list[float], y: list[float]) -> list[float]:
    library = ctypes.CDLL("/usr/local/lib/libsaxpy.so")
    library.saxpy.argtypes = [ctypes.c_int, ctypes.c_float, ctypes.c_void_p, ctypes.c_void_p]
    numbers = ctypes.c_float * len(x)
    given, result = numbers(*x), numbers(*y)
    problem = library.saxpy(len(x), a, given, result)
    if problem:
        raise RuntimeError(f"CUDA error {problem}")
    return list(result)


if __name__ == "__main__":
    if os.path.exists("/dev/nvidiactl"):
        with modal.enable_output(), app.run():
            print(saxpy.remote(2.0, [1.0, 2.0, 3.0], [10.0, 20.0, 30.0]))
    elif shutil.which("nvcc"):
        with tempfile.TemporaryDirectory() as directory:
            command = COMPILE.format(library=f"{directory}/libsaxpy.so", source=SOURCE)
            subprocess.run(command.split(), check=True)
        print("there is no NVIDIA card here; the kernel compiles")
    else:
        print("there is no NVIDIA card here, and this example is about one")
