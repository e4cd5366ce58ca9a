"""Bandwidth of an all-reduce over all cards of this process, as torchrun starts it: prints GB/s on rank 0."""

import os
import statistics

import torch
import torch.distributed as dist

GIB = 1 << 30
WARM_UPS = 5
ROUNDS = 20


def main() -> None:
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    ranks = dist.get_world_size()
    values = torch.full((GIB // 2,), 2.0**-rank, dtype=torch.bfloat16, device="cuda")
    dist.all_reduce(values)
    expected = sum(2.0**-each for each in range(ranks))
    assert bool((values == expected).all()), f"rank {rank}: the sum is wrong"
    values.zero_().add_(1.0)
    seconds = []
    for _ in range(WARM_UPS + ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        dist.all_reduce(values, op=dist.ReduceOp.AVG)
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    if rank == 0:
        median = statistics.median(seconds[WARM_UPS:])
        # "Bus bandwidth": what each card must send, whatever the number of cards.
        print(f"busbw {2 * (ranks - 1) / ranks * GIB / median / 1e9:.2f} GB/s", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
