"""A type by its name."""

import os

import modal

stub = modal.Stub()


@stub.function(gpu="A10G")
def my_a10g_function():
    return (
        os.environ["GLOWPLUG_GPU_TYPE"],
        int(os.environ["GLOWPLUG_GPU_COUNT"]),
        os.environ["GLOWPLUG_CLOUD"],
    )


@stub.local_entrypoint()
def main():
    kind, count, cloud = my_a10g_function.call()
    assert (kind, count) == ("A10G", 1), (kind, count, cloud)
    print("my_a10g_function ran on", count, kind or "CPU only", cloud)
