"""A training script that starts its processes itself, run as it is: `glowplug run in_subprocess.py`."""

import modal

app = modal.App("training-in-subprocess")


@app.function(gpu=modal.gpu.A100(count=2))
def run():
    import subprocess
    import sys

    subprocess.run(
        ["python", "train.py"],
        stdout=sys.stdout,
        stderr=sys.stderr,
        check=True,
    )
