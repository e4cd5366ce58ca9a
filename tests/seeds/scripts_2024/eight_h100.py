"""The largest open models take a whole machine."""

import os

import modal

app = modal.App()


def granted():
    """What this container was given: type and count, and that it sees as many devices."""
    kind, count = os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    return kind, count


@app.function(gpu=modal.gpu.H100(count=8))
def run_llama_405b_fp8():
    assert not modal.is_local()
    return granted()


@app.local_entrypoint()
def main():
    assert modal.is_local()
    landed = run_llama_405b_fp8.remote()
    assert landed == ("H100", 8), landed
    print("run_llama_405b_fp8 ran on", *landed)
