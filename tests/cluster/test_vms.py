"""The machines of clouds: files for `ray up` against Ray's own schema and checks, and against the house's rules."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.manifests import CLUSTER, replaced

FOLDER = CLUSTER / "vms"
CLOUDS = ("aws", "gcp")


def load(cloud: str) -> dict[str, Any]:
    """A file as it is, before Ray fills in what it leaves out."""
    return dict(yaml.safe_load((FOLDER / f"{cloud}.yaml").read_text()))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_takes_the_file(cloud: str) -> None:
    check(load(cloud))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_file_keeps_the_rules(cloud: str) -> None:
    assert list(file_problems(load(cloud))) == []


def test_both_clouds_are_used_alike() -> None:
    aws, gcp = map(load, CLOUDS)
    for same in ("max_workers", "idle_timeout_minutes", "head_node_type", "file_mounts", "rsync_exclude"):
        assert aws[same] == gcp[same], same
    assert list(aws["available_node_types"]) == list(gcp["available_node_types"])
    assert set(aws) == set(gcp)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("max_worker", 3, "max_worker"),
        ("max_workers", "8", "max_workers|not of type|'8'"),
        ("provider/type", ..., "type"),
        ("provider/type", "azur", "azur"),
        ("auth/ssh_proxy_comand", "x", "ssh_proxy_comand"),
        ("head_node_type", "haed", "head_node_type"),
        ("available_node_types/gpu/min_worker", 1, "min_worker"),
        ("available_node_types/gpu/node_config", ..., "node_config"),
        ("available_node_types/gpu/resources/GPU", "4", "'4'"),
        ("available_node_types/gpu/min_workers", 9, "max_workers"),
        ("rsync_exclude", ".git", "not of type"),
        ("setup_comands", [], "setup_comands"),
    ],
)
def test_ray_refuses_a_broken_file(cloud: str, path: str, value: Any, words: str) -> None:
    broken = copy.deepcopy(load(cloud))
    replaced(broken, path, value)
    with pytest.raises((ValidationError, ValueError, KeyError, NotImplementedError), match=words):
        check(broken)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("provider/use_internal_ips", False, "public addresses"),
        ("head_start_ray_commands/1", "ray start --head --dashboard-host=127.0.0.1 --num-cpus=0", "token"),
        ("worker_start_ray_commands/1", "RAY_AUTH_MODE=disabled; ray start --address=$RAY_HEAD_IP:6379", "token"),
        ("head_start_ray_commands/1", "RAY_AUTH_MODE=token ray start --head --num-cpus=0", "dashboard"),
        ("head_start_ray_commands/1", "RAY_AUTH_MODE=token ray start --head --dashboard-host=0.0.0.0", "dashboard"),
        ("setup_commands/2", "pip install ~/syncnet", "pins"),
        ("head_setup_commands/0", "pip install -c x 'boto3>=1.4'", "pins"),
        ("file_mounts/~~~.ray", "~/.ray", "secret"),
        ("file_mounts/~~.aws", "~/.aws", "secret"),
        ("rsync_exclude", [".git"], ".env"),
        ("available_node_types/gpu_spot/max_workers", 80, "more workers"),
        ("available_node_types/head/resources", {"CPU": 4}, "head"),
    ],
)
def test_the_rules_notice_a_broken_file(cloud: str, path: str, value: Any, words: str) -> None:
    broken = copy.deepcopy(load(cloud))
    replaced(broken, path, value)
    assert any(words in found for found in file_problems(broken))


def test_a_head_that_may_be_taken_away_is_noticed() -> None:
    for cloud in CLOUDS:
        broken = copy.deepcopy(load(cloud))
        broken["available_node_types"]["head"]["node_config"] |= broken["available_node_types"]["gpu_spot"][
            "node_config"
        ]
        assert any("spot" in found for found in file_problems(broken))


def check(config: dict[str, Any]) -> None:
    """What `ray up` does with a file before it asks the cloud for anything."""
    validate_config(prepare_config(config))


def file_problems(config: dict[str, Any]) -> Iterator[str]:
    """What the house's rules say of one file."""
    if not config["provider"].get("use_internal_ips"):
        yield "machines have public addresses"
    yield from _command_problems(config)
    for remote, local in config["file_mounts"].items():
        if re.search(r"\.ray|\.aws|\.ssh|\.config|\.env|token|secret|credential", f"{remote} {local}"):
            yield f"{remote} copies what is secret"
    if ".env" not in config["rsync_exclude"]:
        yield ".env would be copied to every machine"
    head = config["available_node_types"][config["head_node_type"]]
    if "spot" in repr(head["node_config"]).lower():
        yield "the head is a spot machine"
    if head["resources"] != {"CPU": 0}:
        yield "the head takes work"
    for name, kind in config["available_node_types"].items():
        if kind.get("max_workers", 0) > config["max_workers"]:
            yield f"{name}: more workers than the cluster may have"


def _command_problems(config: dict[str, Any]) -> Iterator[str]:
    for role in ("head", "worker"):
        (start,) = (line for line in config[f"{role}_start_ray_commands"] if "ray start" in line)
        if "RAY_AUTH_MODE=token" not in start:
            yield f"{role}: Ray does not ask for a token"
        if role == "head" and "--dashboard-host=127.0.0.1" not in start:
            yield "head: the dashboard is open to others"
        if not any(".ray/auth_token" in line for line in config["setup_commands"]):
            yield f"{role}: has no token"
    for line in (*config["setup_commands"], *config["head_setup_commands"]):
        words = line.partition("pip install")[2].split()
        wanted = [word for word in words if not word.startswith("-") and "constraints" not in word]
        loose = [word for word in wanted if word != "~/syncnet" and not re.fullmatch(r"[\w-]+==[\d.]+", word)]
        if words and ("-c" not in words or loose):
            yield f"not held by the pins: {line}"
