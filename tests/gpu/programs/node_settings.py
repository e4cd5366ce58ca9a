"""What everything that a container starts finds of the settings of its node.

Nothing here calls NCCL: whoever compares the answer with the node decides whether anything may.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import modal

app = modal.App("node-settings")

PREFIXES = ("NCCL_", "NVSHMEM_", "TORCH_SYMM_MEM_")


def settings() -> dict[str, str]:
    """As Python sees them and as C code does, which is whom they are for; both must say the same."""
    found = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    for name, value in found.items():
        in_c = getenv(name.encode())
        if in_c is None or in_c.decode() != value:
            found[name] = f"{value!r}, but {in_c!r} in C"
    return found


def _report(queue) -> None:
    queue.put(settings())


def _in_child(method: str) -> dict[str, str]:
    context = get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=_report, args=(queue,))
    child.start()
    found = queue.get()
    child.join()
    return found


def _in_program(*command: str) -> list[dict[str, str]]:
    """What each process that ``command`` starts reports; they are told where by an environment variable."""
    with tempfile.TemporaryDirectory() as directory:
        environ = {**os.environ, "REPORT_TO": directory}
        subprocess.run([*command, __file__], env=environ, check=True)
        return [json.loads(path.read_text()) for path in sorted(Path(directory).iterdir())]


def everywhere(processes: int) -> dict[str, dict[str, str]]:
    launcher = ("python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    torchrun = _in_program(*launcher)
    assert len(torchrun) == processes, f"torchrun ran {len(torchrun)} processes, not {processes}"
    return {
        "container": settings(),
        "forked child": _in_child("fork"),
        "spawned child": _in_child("spawn"),
        "subprocess": _in_program("python")[0],
        **{f"torchrun's child {rank}": found for rank, found in enumerate(torchrun)},
    }


# A user's own env= neither removes nor changes what the node sets.
@app.function(
    gpu="any", env={"NCCL_NVLS_ENABLE": "1", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "", "NCCL_DEBUG": "WARN"}
)
def forked_container(processes: int) -> dict[str, dict[str, str]]:
    return everywhere(processes)


@app.function(gpu="any", serialized=True)
def fresh_container(processes: int):
    import node_settings

    return node_settings.everywhere(processes)


@app.local_entrypoint()
def main(processes: int = 2) -> str:
    return json.dumps(
        {
            "forked": forked_container.remote(processes),
            "fresh": fresh_container.remote(processes),
        }
    )


if __name__ == "__main__" and "REPORT_TO" in os.environ:
    (Path(os.environ["REPORT_TO"]) / str(os.getpid())).write_text(json.dumps(settings()))
    sys.exit(0)
