"""What ``glowplug gpus`` prints."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from glowplug.cli import fleet
from glowplug.cli.gpus import gpus
from glowplug.model.node import ForeignUse, Gpu, Node

RTX = Gpu("GPU-0", "RTX-4090", 24, memory_mib=24564, price_usd_per_hour=0.39)
H100 = Gpu("GPU-0", "H100", 80, memory_mib=81559, price_usd_per_hour=3.95)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in a home without a server: (exit code, output)."""
    monkeypatch.setenv("GLOWPLUG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("GLOWPLUG_GPUS", raising=False)

    def run(*arguments, shown=None, **environ):
        if shown is not None:
            monkeypatch.setattr(fleet, "load_fleet", lambda: shown)
        result = CliRunner().invoke(gpus, arguments, env=environ)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


def wire(banner, *nodes, held=None):
    shown = [node.to_wire() for node in nodes]
    for node in shown:
        node["gpus"] = [{**gpu, "held_by": (held or {}).get(gpu["uuid"])} for gpu in node["gpus"]]
    return {"banner": banner, "nodes": shown}


def test_a_workstation(run, golden):
    cards = (
        replace(RTX, foreign=(ForeignUse(4242, "alice", 12000, "python"),)),
        replace(RTX, uuid="GPU-1", index=1, note="too hot (hardware slowdown)"),
    )
    node = Node("box", cards, {"cloud": "onprem"}, 32.0, 128000)
    golden("cli/gpus_workstation.txt", run(shown=wire("REAL 2× RTX-4090", node))[1])


def test_every_state(run, golden):
    cards = [replace(H100, uuid=f"GPU-{n}", index=n) for n in range(8)]
    cards = [
        replace(gpu, nvlink_peers=tuple(f"GPU-{n}" for n in range(8) if n != gpu.index)) for gpu in cards
    ]
    cards[2] = replace(cards[2], healthy=False, unhealthy_reason="Xid 79: the GPU has fallen off the bus")
    cards[3] = replace(cards[3], locked_by="pid 77 of bob, home /home/bob/.local/share/glowplug")
    cards[4] = replace(cards[4], foreign=(ForeignUse(0, "unknown", 30000),))
    cards[5] = replace(cards[5], note="power brake")
    two = (ForeignUse(5, "alice", 900, "a"), ForeignUse(6, "uid 1005", 100))
    cards[6] = replace(cards[6], foreign=two)
    cards[7] = Gpu(
        "GPU-7", "FOO-X99", 0, 7, healthy=False, unhealthy_reason="NVML cannot reach it (GPU is lost)"
    )
    holder = {"app": "train", "function": "fit", "container_id": "ct-1-7", "user": "ann"}
    node = {**wire("REAL 7× H100, 1× FOO-X99", Node("dgx", tuple(cards), {}, 1.0), held={"GPU-0": holder})}
    node["nodes"][0]["draining"] = True
    golden("cli/gpus_states.txt", run(shown=node)[1])


def test_slices(run, golden):
    cards = (
        Gpu("MIG-1", "A100", 20, 0, is_slice=True, price_usd_per_hour=1.05),
        Gpu("MIG-2", "A100", 20, 0, is_slice=True, price_usd_per_hour=1.05),
        Gpu("GPU-1", "A100", 40, 1, price_usd_per_hour=2.1),
    )
    shown = wire("REAL 2× A100-20GB slice, 1× A100-40GB", Node("box", cards), held={"MIG-2": "train.fit"})
    golden("cli/gpus_slices.txt", run(shown=shown)[1])


def test_a_virtual_fleet(run, golden, monkeypatch):
    monkeypatch.setattr("glowplug.backends.local.inventory.fleet.this_machine", lambda: _Machine)
    code, output = run(GLOWPLUG_GPUS="8xH100,2xT4;4xA100-80GB,2xA100-20GB @cloud=gcp @market=spot")
    assert code == 0
    golden("cli/gpus_virtual.txt", output)


class _Machine:
    name, cpus, memory_mib = "box", 16.0, 65536


def test_no_gpu(run, golden):
    problem = "no NVIDIA driver is installed here (libnvidia-ml.so.1 is not found)"
    golden("cli/gpus_none.txt", run(shown=wire(f"NO GPU: {problem}", Node("box", cpus=4.0)))[1])


def test_json(run):
    code, output = run("--json", GLOWPLUG_GPUS="H100,T4")
    assert code == 0
    shown = json.loads(output)
    assert shown["banner"] == "VIRTUAL 1× H100, 1× T4: functions run on the CPU"
    [node] = shown["nodes"]
    assert [(gpu["type"], gpu["held_by"]) for gpu in node["gpus"]] == [("H100", None), ("T4", None)]


def test_which_cards_hold_a_model(run):
    code, output = run("--fits", "34B", GLOWPLUG_GPUS="2xA100-80GB")
    assert code == 0
    assert "34B parameters, bf16, inference" in output
    assert "has 2, 2 free" in output
    code, output = run("--fits", "34B", "--dtype", "fp8", "--json", GLOWPLUG_GPUS="2xH100")
    assert json.loads(output)["dtype"] == "fp8"
    code, output = run("--fits", "34B", "--method", "qlora", GLOWPLUG_GPUS="none")
    assert "qlora" in output
    assert "This fleet" not in output


def test_a_held_card_is_told_to_fits(run):
    shown = wire("REAL 1× H100", Node("box", (H100,)), held={"GPU-0": "train.fit"})
    assert "34B parameters" in run("--fits", "34B", shown=shown)[1]


def test_dtype_without_a_model_is_refused(run):
    code, output = run("--dtype", "fp8")
    assert code == 2
    assert "belong to --fits" in output


def test_colours_only_for_terminals(run, monkeypatch):
    assert "\x1b[" not in run(GLOWPLUG_GPUS="H100")[1]
    monkeypatch.setenv("GLOWPLUG_GPUS", "H100")
    assert "\x1b[32m" in CliRunner().invoke(gpus, color=True).output
    assert "\x1b[" not in CliRunner().invoke(gpus, color=True, env={"NO_COLOR": "1"}).output
