"""Where `any`, and a list with fallbacks, land on whatever fleet there is."""

import os

import modal

app = modal.App()


def landed():
    return os.environ["GLOWPLUG_GPU_TYPE"] + ":" + os.environ["GLOWPLUG_GPU_COUNT"]


@app.function(gpu="any")
def anywhere():
    return landed()


@app.function(gpu=["h100", "a100-40gb:2"])
def run_on_80gb():
    return landed()
