"""A module that computes on the card as it is imported: no process that did can be forked."""

import json
import os

import modal

app = modal.App("cuda-at-import")

if not modal.is_local():
    import torch

    TABLE = torch.arange(1000, device="cuda").square()


@app.function(gpu=os.environ.get("GPU_TYPE", "any"))
def total() -> int:
    return int(TABLE.sum())


@app.local_entrypoint()
def main() -> str:
    return json.dumps([total.remote(), total.remote()])
