"""Any GPU: the cheapest of those the document names."""

import os

import modal

stub = modal.Stub()


@stub.function(gpu="any")
def my_function():
    return (
        os.environ["GLOWPLUG_GPU_TYPE"],
        int(os.environ["GLOWPLUG_GPU_COUNT"]),
        os.environ["GLOWPLUG_CLOUD"],
    )


@stub.local_entrypoint()
def main():
    kind, count, cloud = my_function.call()
    assert (kind, count) == ("T4", 1), (kind, count, cloud)
    print("my_function ran on", count, kind or "CPU only", cloud)
