"""Every function of the document in one module. A name that comes twice means the last one."""

import os

import modal

app = modal.App()


def granted():
    return os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])


@app.function(gpu="any")
def render_toy_story():
    return granted()


@app.function(gpu="A10G")
def run_sdxl_turbo():
    return granted()


@app.function(gpu="A100")
def run_sdxl_batch():
    return granted()


@app.function(gpu="H100")
def finetune_sdxl():
    return granted()


@app.function(gpu=["H200", "A100-80GB"])
def finetune_sdxl():
    return granted()


@app.function(gpu=modal.gpu.H100(count=8))
def train_sdxl():
    return granted()


@app.function(gpu="H100:4")
def train_sdxl():
    return granted()


@app.function(gpu="H100")
def run_mixtral():
    return granted()


@app.function(gpu="A100")
def llama_7b():
    return granted()


@app.function(gpu=modal.gpu.A100(size="80GB"))
def llama_34b():
    return granted()


@app.function(gpu=modal.gpu.A100(size="80GB", count=4))
def finetune_llama_70b():
    return granted()


@app.function(gpu=modal.gpu.H100(count=8))
def run_llama_405b_fp8():
    return granted()


@app.function(gpu=["h100", "a100-40gb:2"])
def run_on_80gb():
    return granted()


@app.local_entrypoint()
def main():
    expected = {
        render_toy_story: [("T4", 1)],
        run_sdxl_turbo: [("A10G", 1)],
        run_sdxl_batch: [("A100-40GB", 1)],
        finetune_sdxl: [("A100-80GB", 1)],
        train_sdxl: [("H100", 4)],
        run_mixtral: [("H100", 1)],
        llama_7b: [("A100-40GB", 1)],
        llama_34b: [("A100-80GB", 1)],
        finetune_llama_70b: [("A100-80GB", 4)],
        run_llama_405b_fp8: [("H100", 8)],
        # All run at once, so the H100s may be spoken for.
        run_on_80gb: [("H100", 1), ("A100-40GB", 2)],
    }
    calls = [(function.spawn(), wanted) for function, wanted in expected.items()]
    for call, wanted in calls:
        landed = call.get()
        assert landed in wanted, (landed, wanted)
    print("all", len(calls), "ran where they should")
