"""A type by its name."""

import os

import modal

app = modal.App()


def granted():
    """What this container was given: type and count, and that it sees as many devices."""
    kind, count = os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    return kind, count


@app.function(gpu="A10G")
def run_sdxl_turbo():
    assert not modal.is_local()
    return granted()


@app.local_entrypoint()
def main():
    assert modal.is_local()
    landed = run_sdxl_turbo.remote()
    assert landed in [("A10G", 1), ("A10", 1)], landed
    print("run_sdxl_turbo ran on", *landed)
