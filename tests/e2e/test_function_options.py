"""Options of a function that change what its containers are: seen from inside them."""

from __future__ import annotations

import json

SCRIPT = """
import json, os, socket
import modal

app = modal.App()


@app.function(block_network=True)
def alone():
    server = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(server.getsockname()).close()  # the loopback works
    return sorted(name for _, name in socket.if_nameindex())


@app.function(max_inputs=2, max_containers=1)
def twice(x):
    return os.environ["MODAL_TASK_ID"]


@app.function(single_use_containers=True, max_containers=1)
def once(x):
    return os.environ["MODAL_TASK_ID"]


@app.function(env={"NCCL_TEST_SETTING": "mine", "OWN": "yes"}, secrets=[modal.Secret.from_dict({"KEY": "s"})])
def variables():
    return {name: os.environ.get(name) for name in ("NCCL_TEST_SETTING", "OWN", "KEY", "CLIENTS_OWN")}


@app.local_entrypoint()
def main():
    found = {
        "interfaces": alone.remote(),
        "twice": [twice.remote(number) for number in range(4)],
        "once": [once.remote(number) for number in range(3)],
        "variables": variables.remote(),
    }
    print(json.dumps(found))
"""


def test_what_options_do(cli, tmp_path):
    (tmp_path / "options.py").write_text(SCRIPT)
    done = cli("run", "options.py", NCCL_TEST_SETTING="the node's", CLIENTS_OWN="secret")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["interfaces"] == ["lo"]
    first, second, third, fourth = found["twice"]
    assert first == second != third == fourth
    assert len(set(found["once"])) == 3
    assert found["variables"] == {
        "NCCL_TEST_SETTING": "the node's",  # no env= removes what the node needs
        "OWN": "yes",
        "KEY": "s",
        "CLIENTS_OWN": None,
    }


def test_block_network_without_a_sandbox_is_refused(cli, tmp_path):
    (tmp_path / "options.py").write_text(SCRIPT)
    done = cli("run", "options.py", GLOWPLUG_SANDBOX="off")
    assert done.returncode == 1
    assert "block_network=True, which needs a sandbox" in done.stderr
    assert "Traceback" not in done.stderr
