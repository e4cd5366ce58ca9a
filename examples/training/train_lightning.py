"""A Lightning script of the strategy `ddp`, which starts it again for every further rank."""

from lightning_model import fit
from train import device_count, leave

if __name__ == "__main__":
    fit("ddp", device_count())
    leave()
