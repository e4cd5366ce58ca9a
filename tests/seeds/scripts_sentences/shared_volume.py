"""What an A100 function wrote into a shared volume, a CPU function in the same cloud reads."""

import os

import modal

stub = modal.Stub("weights")
volume = modal.SharedVolume().persist("weights-of-2023")


@stub.function(gpu="A100", shared_volumes={"/weights": volume})
def train():
    with open("/weights/loss", "w") as file:
        file.write("0.25")
    return os.environ["GLOWPLUG_CLOUD"]


@stub.function(cloud="gcp", shared_volumes={"/weights": volume})
def read():
    with open("/weights/loss") as file:
        return float(file.read()), os.environ["GLOWPLUG_CLOUD"], os.environ["GLOWPLUG_GPU_COUNT"]


@stub.local_entrypoint()
def main(only_read: bool = False):
    if not only_read:
        assert train.call() == "gcp"
    loss, cloud, count = read.call()
    assert (loss, cloud, count) == (0.25, "gcp", "0"), (loss, cloud, count)
    print("read a loss of", loss, "in", cloud)
