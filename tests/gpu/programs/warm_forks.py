"""From asking for a new container to its first CUDA result: a fork of a process that has torch imported."""

import json
import os
import time

import modal
import torch

measuring = modal.App("measuring")
forks = modal.App("forks")


@forks.function(gpu=os.environ.get("GPU_TYPE", "any"))
def first_result() -> dict:
    begun = time.perf_counter()
    value = float(torch.arange(10, device="cuda").sum())
    return {"value": value, "cuda_s": time.perf_counter() - begun, "container": os.environ["MODAL_TASK_ID"]}


@measuring.local_entrypoint()
def main(times: int = 5) -> str:
    found = []
    for _ in range(times):
        with forks.run():  # a run's containers end with it, so each of these is new
            asked = time.perf_counter()
            answer = first_result.remote()
            answer["seconds"] = time.perf_counter() - asked
        assert answer["value"] == 45.0
        found.append(answer)
    return json.dumps(found)
