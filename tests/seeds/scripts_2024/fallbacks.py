"""Fallbacks with a count of their own, in order of preference."""

import os

import modal

app = modal.App()


def granted():
    """What this container was given: type and count, and that it sees as many devices."""
    kind, count = os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    return kind, count


@app.function(gpu=["h100", "a100-40gb:2"])
def run_on_80gb():
    assert not modal.is_local()
    return granted()


@app.local_entrypoint()
def main():
    assert modal.is_local()
    landed = run_on_80gb.remote()
    assert landed == ("H100", 1), landed
    print("run_on_80gb ran on", *landed)
