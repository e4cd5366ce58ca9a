"""A 34B model at half precision needs more than 40 GB."""

import os

import modal

app = modal.App()


def granted():
    """What this container was given: type and count, and that it sees as many devices."""
    kind, count = os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    return kind, count


@app.function(gpu=modal.gpu.A100(size="80GB"))
def llama_34b():
    assert not modal.is_local()
    return granted()


@app.local_entrypoint()
def main():
    assert modal.is_local()
    landed = llama_34b.remote()
    assert landed == ("A100-80GB", 1), landed
    print("llama_34b ran on", *landed)
