"""As many of a type as a function may have, of each type the document names."""

import os

import modal

app = modal.App()


def granted():
    count = int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    assert len(set(os.environ["GLOWPLUG_GPU_UUIDS"].split(","))) == count
    return [os.environ["GLOWPLUG_GPU_TYPE"], count, os.environ["GLOWPLUG_NODE"]]


@app.function(gpu="H100:8")
def eight_h100():
    return granted()


@app.function(gpu="A100-80GB:8")
def eight_a100():
    return granted()


@app.function(gpu="L4:8")
def eight_l4():
    return granted()


@app.function(gpu=modal.gpu.T4(count=8))
def eight_t4():
    return granted()


@app.function(gpu=modal.gpu.A10G(count=4))
def four_a10g():
    return granted()


@app.function(gpu="T4:4")
def four_t4():
    return granted()


@app.function(gpu="A10:2")
def two_a10():
    return granted()


@app.local_entrypoint()
def main():
    for function in (eight_h100, eight_a100, eight_l4, eight_t4, four_a10g, four_t4, two_a10):
        print(*function.remote())
