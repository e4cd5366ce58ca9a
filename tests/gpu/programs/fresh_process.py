"""What a container costs without any of it: an interpreter, torch, CUDA, the first result."""

import torch

assert float(torch.arange(10, device="cuda").sum()) == 45.0
