"""Several large cards of one machine."""

import os

import modal

app = modal.App()


def granted():
    """What this container was given: type and count, and that it sees as many devices."""
    kind, count = os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    return kind, count


@app.function(gpu=modal.gpu.A100(size="80GB", count=4))
def finetune_llama_70b():
    assert not modal.is_local()
    return granted()


@app.local_entrypoint()
def main():
    assert modal.is_local()
    landed = finetune_llama_70b.remote()
    assert landed == ("A100-80GB", 4), landed
    print("finetune_llama_70b ran on", *landed)
