"""Every parameter of every version is accepted; what is not carried out says so."""

from __future__ import annotations

import pathlib

import pytest

from glowplug.model.declared import Effect, options_of
from glowplug.model.errors import DeprecationError, InvalidError, NotCarriedOutWarning
from glowplug.model.function import RetryPolicy
from glowplug.model.gpu import GpuRequest
from glowplug.model.options import FunctionOptions
from glowplug.model.retries import Retries
from glowplug.model.schedule import Period
from glowplug.model.secret import SecretDefinition
from glowplug.model.volume import VolumeDefinition

TABLE = options_of(FunctionOptions)

# Each parameter the decorator has had in some version, with every default it had.
DEFAULTS_OF_ALL_VERSIONS = {
    "image": [None],
    "schedule": [None],
    "secret": [None],
    "secrets": [(), None],
    "gpu": [None],
    "rate_limit": [None],
    "serialized": [False],
    "mounts": [()],
    "shared_volumes": [{}],
    "cpu": [None],
    "memory": [None],
    "proxy": [None],
    "retries": [None],
    "concurrency_limit": [None],
    "container_idle_timeout": [None],
    "timeout": [300, None],
    "interactive": [False],
    "keep_warm": [False, None],
    "name": [None],
    "is_generator": [None],
    "cloud": [None],
    "allow_cross_region_volumes": [False, None],
    "network_file_systems": [{}],
    "volumes": [{}],
    "allow_concurrent_inputs": [None],
    "checkpointing_enabled": [False, None],
    "block_network": [False],
    "_allow_background_volume_commits": [False, None],
    "max_inputs": [None],
    "_experimental_boost": [False],
    "_experimental_scheduler": [False],
    "_experimental_scheduler_placement": [None],
    "region": [None],
    "enable_memory_snapshot": [False],
    "ephemeral_disk": [None],
    "min_containers": [None],
    "max_containers": [None],
    "buffer_containers": [None],
    "scaledown_window": [None],
    "i6pn": [None],
    "include_source": [None],
    "_experimental_proxy_ip": [None],
    "_experimental_custom_scaling_factor": [None],
    "_experimental_enable_gpu_snapshot": [False],
    "_experimental_buffer_containers": [None],
    "restrict_modal_access": [False],
    "experimental_options": [None],
    "env": [None],
    "startup_timeout": [None],
    "routing_region": [None],
    "nonpreemptible": [False],
    "single_use_containers": [False],
    "_experimental_restrict_output": [False],
}
OURS = {"gpu_fallback_after", "restart_generator"}

# A value that asks for something, for each option that does not do what it says.
ASKING = {
    "enable_memory_snapshot": True,
    "schedule": Period(hours=1),
    "proxy": object(),
    "i6pn": True,
    "routing_region": "us-east",
    "nonpreemptible": True,
    "experimental_options": {"x": 1},
    "allow_concurrent_inputs": 4,
    "interactive": True,
    "rate_limit": object(),
    "allow_cross_region_volumes": True,
    "_allow_background_volume_commits": True,
    "_experimental_boost": True,
    "_experimental_scheduler": True,
    "_experimental_scheduler_placement": object(),
    "_experimental_proxy_ip": "x",
    "_experimental_custom_scaling_factor": 1.5,
    "_experimental_enable_gpu_snapshot": True,
    "_experimental_restrict_output": True,
}
OLD = {
    "secret": (SecretDefinition({"A": "1"}), "secrets"),
    "shared_volumes": ({"/data": VolumeDefinition("v")}, "network_file_systems"),
    "keep_warm": (2, "min_containers"),
    "concurrency_limit": (3, "max_containers"),
    "container_idle_timeout": (20, "scaledown_window"),
    "checkpointing_enabled": (True, "enable_memory_snapshot"),
    "_experimental_buffer_containers": (1, "buffer_containers"),
}


def test_the_table_is_every_parameter_of_every_version_and_ours():
    assert set(TABLE) == set(DEFAULTS_OF_ALL_VERSIONS) | OURS


@pytest.mark.parametrize("name", sorted(DEFAULTS_OF_ALL_VERSIONS))
def test_the_default_of_any_version_changes_nothing_and_says_nothing(name):
    plain = vars(FunctionOptions())
    for default in DEFAULTS_OF_ALL_VERSIONS[name]:
        assert vars(FunctionOptions(**{name: default})) == plain
    assert plain["notices"] == ()


def test_nothing_is_silently_ignored():
    silent = {name for name, option in TABLE.items() if option.effect is Effect.CARRIED_OUT}
    assert set(ASKING) == set(TABLE) - silent - set(OLD)


@pytest.mark.parametrize("name", sorted(ASKING))
def test_what_is_not_carried_out_says_so_by_name(name):
    notices = FunctionOptions(**{name: ASKING[name]}).notices
    assert [notice.category for notice in notices] == [NotCarriedOutWarning]
    assert notices[0].text.startswith(f"{name}= ")
    assert len(notices[0].text) > len(name) + 30, "a reason or what happens instead"


def test_source_cannot_be_hidden():
    assert FunctionOptions(include_source=True).notices == ()
    assert "include_source=False means nothing" in FunctionOptions(include_source=False).notices[0].text


@pytest.mark.parametrize("name", sorted(OLD))
def test_old_names_work_and_give_the_new_one(name):
    value, new_name = OLD[name]
    options = FunctionOptions(**{name: value})
    assert options.notices[0].category is DeprecationError
    assert options.notices[0].text == f"{name}= is now called {new_name}="
    assert (
        vars(options)[new_name]
        == vars(FunctionOptions(**{new_name: [value] if name == "secret" else value}))[new_name]
    )


def test_keep_warm_of_2023_may_be_a_flag():
    assert FunctionOptions(keep_warm=True).min_containers == 1


def test_an_old_name_beside_its_new_one_is_refused_unless_both_collect():
    with pytest.raises(InvalidError, match="keep_warm= is the old name of min_containers="):
        FunctionOptions(keep_warm=1, min_containers=2)
    one, two = SecretDefinition({"A": "1"}), SecretDefinition({"B": "2"})
    assert FunctionOptions(secret=one, secrets=[two]).secrets == (two, one)
    volume = VolumeDefinition("v")
    both = FunctionOptions(
        shared_volumes={"/a": volume}, network_file_systems={"/b": volume}, volumes={"/c": volume}
    )
    assert set(both.mounted_volumes) == {"/a", "/b", "/c"}


def test_what_is_kept():
    options = FunctionOptions(
        gpu=["H100", "a100-40gb:2"],
        timeout=None,
        retries=2,
        region="us-east",
        cloud=" GCP".strip(),
        env={"A": "1", "B": None},
        volumes={pathlib.PurePosixPath("/data/"): VolumeDefinition("v")},
        memory=512,
    )
    assert options.gpu == (GpuRequest("H100"), GpuRequest("A100", count=2, memory_gb=40))
    assert options.timeout == 300
    assert options.retries == RetryPolicy(max_retries=2, backoff_coefficient=1.0, initial_delay_s=1.0)
    assert options.region == ("us-east",)
    assert options.cloud == "gcp"
    assert options.env == {"A": "1"}
    assert list(options.volumes) == ["/data"]
    assert options.memory == (512, None)
    assert FunctionOptions(memory=(512, 1024)).memory == (512, 1024)
    assert FunctionOptions(cloud="auto").cloud is None
    assert FunctionOptions(gpu=True).gpu == FunctionOptions(gpu="any").gpu
    with pytest.raises(AttributeError, match="cannot be changed"):
        options.timeout = 3


def test_retries_objects():
    policy = FunctionOptions(retries=Retries(max_retries=3, initial_delay=0, max_delay=9)).retries
    assert policy == RetryPolicy(max_retries=3, backoff_coefficient=2.0, initial_delay_s=0.0, max_delay_s=9.0)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"gpus": "T4"}, r"gpus= is not a known option. Did you mean gpu=\?"),
        ({"gpu": "A10G:5"}, "up to 4"),
        ({"timeout": 0}, "from 1 to 86400"),
        ({"timeout": 86401}, "from 1 to 86400"),
        ({"timeout": "60"}, "number of seconds"),
        ({"timeout": True}, "number of seconds"),
        ({"timeout": float("nan")}, "number of seconds"),
        ({"startup_timeout": 0}, "startup_timeout=0"),
        ({"retries": -1}, "from 0 to"),
        ({"retries": 1.5}, "whole number"),
        ({"retries": True}, "whole number"),
        ({"min_containers": -1}, "0 or more"),
        ({"max_containers": 0}, "1 or more"),
        ({"concurrency_limit": 0}, r"concurrency_limit= \(now max_containers=\)"),
        ({"min_containers": 3, "max_containers": 2}, "more than max_containers=2"),
        ({"max_inputs": 2, "single_use_containers": True}, "contradicts"),
        ({"scaledown_window": 0}, "positive"),
        ({"gpu_fallback_after": -1}, "0 or more"),
        ({"cpu": 0}, "positive"),
        ({"cpu": (2, 1)}, "below the request"),
        ({"memory": "1G"}, "MiB"),
        ({"memory": (1, 2, 3)}, "MiB"),
        ({"image": "debian"}, "must be an Image"),
        ({"schedule": "hourly"}, "Period or a Cron"),
        ({"secrets": SecretDefinition({})}, "must be a list"),
        ({"secrets": [{"A": "1"}]}, "Secret.from_dict"),
        ({"secret": "name"}, "not a Secret"),
        ({"env": ["A"]}, "dict"),
        ({"env": {"A=B": "1"}}, "not a name"),
        ({"env": {"A": 1}}, "must be a string, not int"),
        ({"volumes": ["/v"]}, "dict of paths"),
        ({"volumes": {"v": VolumeDefinition("v")}}, "must be absolute"),
        ({"volumes": {"/a/../b": VolumeDefinition("v")}}, "must be absolute"),
        ({"volumes": {"/": VolumeDefinition("v")}}, "belongs to the container"),
        ({"volumes": {"/tmp/": VolumeDefinition("v")}}, "belongs to the container"),
        ({"volumes": {"/v": "name"}}, "not a volume"),
        ({"name": ""}, "not empty"),
        ({"cloud": 3}, "cloud="),
        ({"region": ["us", 3]}, "region="),
        ({"keep_warm": "2"}, "whole number"),
        ({"allow_concurrent_inputs": 0}, "1 or more"),
    ],
)
def test_bad_values_say_what_would_be_valid(given, text):
    with pytest.raises(InvalidError, match=text):
        FunctionOptions(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"max_retries": -1},
        {"max_retries": 1, "backoff_coefficient": 0.5},
        {"max_retries": 1, "backoff_coefficient": 11},
        {"max_retries": 1, "initial_delay": -1},
        {"max_retries": 1, "initial_delay": 61},
        {"max_retries": 1, "max_delay": 0.5},
        {"max_retries": 1, "max_delay": 61},
    ],
)
def test_retries_stay_in_their_ranges(given):
    with pytest.raises(InvalidError, match=r"Retries\("):
        Retries(**given)


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65, 3, "ä"])
def test_names_of_volumes_can_be_directories(name):
    with pytest.raises(InvalidError, match="use letters, digits"):
        VolumeDefinition(name)
