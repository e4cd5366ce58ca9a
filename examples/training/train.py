"""Trains a small network, data parallel over every device this process may use. Knows nothing of Glowplug.

    python train.py                               starts one process a device itself
    torchrun --nproc-per-node 2 train.py          is started once a device by torchrun

NCCL where there are GPUs, gloo on the CPU. Each process asserts that all agree and that the loss fell.
"""

import gc
import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 60
BATCH = 256
FEATURES = 16


def device_count() -> int:
    # A virtual GPU is no device of torch's: on the CPU, as many processes as the function asked GPUs for.
    return torch.cuda.device_count() or int(os.environ.get("GLOWPLUG_GPU_COUNT") or 2)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 1))


def batch(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, drawn anew by each rank, and what the network shall make of them."""
    inputs = torch.randn(BATCH, FEATURES, device=device)
    return inputs, inputs.square().mean(1, keepdim=True)


def train(device: torch.device) -> tuple[float, float]:
    """This rank's part. Returns the loss over all ranks in the first step and in the last."""
    rank = dist.get_rank()
    torch.manual_seed(rank)
    model = DistributedDataParallel(network().to(device))  # takes rank 0's parameters everywhere
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(STEPS):
        inputs, targets = batch(device)
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(mean_of_ranks(loss.detach()))
    assert_ranks_agree(model, device)
    assert losses[-1] < losses[0] / 2, f"rank {rank}: the loss went from {losses[0]:.3f} to {losses[-1]:.3f}"
    return losses[0], losses[-1]


def mean_of_ranks(value: torch.Tensor) -> float:
    total = value.clone()
    dist.all_reduce(total)
    return total.item() / dist.get_world_size()


def assert_ranks_agree(model: nn.Module, device: torch.device) -> None:
    """Every rank is there once, and after training all hold the same parameters, bit for bit."""
    ranks = dist.get_world_size()
    total = torch.tensor([dist.get_rank() + 1.0], device=device)
    dist.all_reduce(total)
    assert total.item() == ranks * (ranks + 1) / 2, f"the ranks sum to {total.item()}"
    own = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    gathered = [torch.empty_like(own) for _ in range(ranks)]
    dist.all_gather(gathered, own)
    for rank, other in enumerate(gathered):
        assert torch.equal(own, other), f"rank {rank} holds other parameters than rank {dist.get_rank()}"


def run_rank(local_rank: int, rendezvous: str = "env://", ranks: int = -1) -> None:
    """Be one rank: join the others, train, leave. ``ranks`` is needed where the environment does not say."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if on_gpu else "gloo"
    rank = local_rank if ranks > 0 else -1
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=ranks)
    try:
        first, last = train(device)
        if dist.get_rank() == 0:
            name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
            print(
                f"{dist.get_world_size()} ranks on {name} ({backend}) agree: loss {first:.3f} -> {last:.3f}"
            )
    finally:
        leave()


def leave() -> None:
    """End the process group before the interpreter ends."""
    # A model in DistributedDataParallel is part of a reference cycle and keeps the group alive: then gloo
    # still has threads running as the interpreter ends, and sometimes they abort it.
    gc.collect()
    dist.destroy_process_group()


def spawn_ranks(ranks: int) -> None:
    """One new process a rank. They meet in a file, so no port has to be free."""
    with tempfile.TemporaryDirectory() as directory:
        mp.spawn(run_rank, args=(f"file://{directory}/rendezvous", ranks), nprocs=ranks)


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:
        run_rank(int(os.environ["LOCAL_RANK"]))
    else:
        spawn_ranks(device_count())
