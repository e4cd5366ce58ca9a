"""Eight of one type, by the object of that era."""

import os

import modal

app = modal.App()


def granted():
    """What this container was given: type and count, and that it sees as many devices."""
    kind, count = os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    return kind, count


@app.function(gpu=modal.gpu.H100(count=8))
def train_sdxl():
    assert not modal.is_local()
    return granted()


@app.local_entrypoint()
def main():
    assert modal.is_local()
    landed = train_sdxl.remote()
    assert landed == ("H100", 8), landed
    print("train_sdxl ran on", *landed)
