"""A small Lightning module; every rank asserts, at the end, that all agree. Knows nothing of Glowplug."""

import lightning
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from train import BATCH, FEATURES, STEPS, assert_ranks_agree, mean_of_ranks, network


class Regression(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.losses: list[float] = []

    def training_step(self, batch, batch_index):
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.network(inputs), targets)
        self.losses.append(mean_of_ranks(loss.detach()))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def on_train_end(self) -> None:
        assert_ranks_agree(self, self.device)
        first, last = self.losses[0], self.losses[-1]
        assert last < first / 2, f"the loss went from {first:.3f} to {last:.3f}"
        on = f"{torch.cuda.get_device_name()} (nccl)" if self.device.type == "cuda" else "CPU (gloo)"
        self.print(f"{dist.get_world_size()} ranks on {on} agree: loss {first:.3f} -> {last:.3f}")


def batches(ranks: int) -> DataLoader:
    """Enough for STEPS steps of every rank; Lightning gives each its share."""
    inputs = torch.randn(BATCH * STEPS * ranks, FEATURES)
    return DataLoader(TensorDataset(inputs, inputs.square().mean(1, keepdim=True)), batch_size=BATCH)


def fit(strategy: str, ranks: int) -> None:
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=ranks,
        strategy=strategy,
        # Said, not guessed: where mpi4py is installed, guessing starts MPI, and MPI may end the process.
        plugins=[LightningEnvironment()],
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Regression(), batches(ranks))
