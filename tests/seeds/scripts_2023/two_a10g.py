"""A count, by the object of that type."""

import os

import modal

stub = modal.Stub()


@stub.function(gpu=modal.gpu.A10G(count=2))
def my_a10g_function():
    return (
        os.environ["GLOWPLUG_GPU_TYPE"],
        int(os.environ["GLOWPLUG_GPU_COUNT"]),
        os.environ["GLOWPLUG_CLOUD"],
    )


@stub.local_entrypoint()
def main():
    kind, count, cloud = my_a10g_function.call()
    assert (kind, count) == ("A10G", 2), (kind, count, cloud)
    print("my_a10g_function ran on", count, kind or "CPU only", cloud)
