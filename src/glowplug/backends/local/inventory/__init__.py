"""What GPUs this machine has and who uses them."""
