"""A CPU function near the A100s of its volume."""

import os

import modal

stub = modal.Stub()


@stub.function(cloud="gcp")
def my_cpu_function():
    return (
        os.environ["GLOWPLUG_GPU_TYPE"],
        int(os.environ["GLOWPLUG_GPU_COUNT"]),
        os.environ["GLOWPLUG_CLOUD"],
    )


@stub.local_entrypoint()
def main():
    kind, count, cloud = my_cpu_function.call()
    assert (kind, count, cloud) == ("", 0, "gcp"), (kind, count, cloud)
    print("my_cpu_function ran on", count, kind or "CPU only", cloud)
