"""The first available GPU is the cheapest card of the usual ones."""

import os

import modal

app = modal.App()


def granted():
    """What this container was given: type and count, and that it sees as many devices."""
    kind, count = os.environ["GLOWPLUG_GPU_TYPE"], int(os.environ["GLOWPLUG_GPU_COUNT"])
    assert len(os.environ["CUDA_VISIBLE_DEVICES"].split(",")) == count
    return kind, count


@app.function(gpu="any")
def render_toy_story():
    assert not modal.is_local()
    return granted()


@app.local_entrypoint()
def main():
    assert modal.is_local()
    landed = render_toy_story.remote()
    assert landed == ("T4", 1), landed
    print("render_toy_story ran on", *landed)
