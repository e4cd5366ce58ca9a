"""A training script as a subprocess, which sees the devices of its container."""

import modal

app = modal.App()


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


@app.local_entrypoint()
def main():
    run.remote()
