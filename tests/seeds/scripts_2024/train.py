"""Stands beside the script that runs it: one process a device, all of one mind."""

import multiprocessing
import os


def step(rank, results):
    results.put((rank, sum(range(rank * 10, rank * 10 + 10))))


if __name__ == "__main__":
    devices = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    assert len(devices) == 2, devices
    results = multiprocessing.SimpleQueue()
    ranks = [multiprocessing.Process(target=step, args=(rank, results)) for rank in range(len(devices))]
    for rank in ranks:
        rank.start()
    total = sum(results.get()[1] for _ in ranks)
    for rank in ranks:
        rank.join()
    assert total == sum(range(20))
    print(f"trained on {len(devices)} devices, loss {1 / total:.4f}")
