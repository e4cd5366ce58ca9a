"""A100 means 40 GB."""

import os

import modal

stub = modal.Stub()


@stub.function(gpu="A100")
def my_a100_function():
    return (
        os.environ["GLOWPLUG_GPU_TYPE"],
        int(os.environ["GLOWPLUG_GPU_COUNT"]),
        os.environ["GLOWPLUG_CLOUD"],
    )


@stub.local_entrypoint()
def main():
    kind, count, cloud = my_a100_function.call()
    assert (kind, count) == ("A100-40GB", 1), (kind, count, cloud)
    print("my_a100_function ran on", count, kind or "CPU only", cloud)
