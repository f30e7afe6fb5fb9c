"""The product on isolated nodes that share nothing but a network: outputs, losses, and what a person is told.

Every test goes through `ray job submit`, and looks into the S3 server by other means than the product's. The lab is
made once; whoever breaks something in it, mends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import recorded, stored
from tests.lab.jobs import Job
from tests.lab.lab import DATA, RUNS, Lab, missing
from tests.lab.leaks import leaks
from tests.lab.project import PREPARE, TRAIN, make_videos, make_weights, prepare_alone
from tests.processes import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("lab"),
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]
STEPS = 80


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A head and a worker; at the end no secret may have got out, whatever the tests did."""
    lab = Lab()
    try:
        yield lab
        assert leaks(lab) == []
    finally:
        lab.close()


@pytest.fixture(scope="module")
def expected(lab: Lab) -> dict[str, str]:
    """What one machine makes of the same videos, without Ray."""
    make_videos(lab.root / "videos")
    lab.ask(stored.upload, lab.root / "videos", f"{DATA}/videos")
    lab.call(prepare_alone, lab.s3.uri(DATA, "videos"), lab.s3.uri(DATA, "corpus"), lab.s3.environment)
    return seen(lab, "corpus")


def seen(lab: Lab, name: str) -> dict[str, str]:
    """What is visible of a prepared folder: digests by names. Killed writers may leave hidden objects."""
    found = lab.ask(stored.digests, f"{DATA}/{name}")
    return {name: digest for name, digest in found.items() if not Path(name).name.startswith(".")}


def prepare(lab: Lab, name: str, **variables: dict[str, str]) -> Job:
    return lab.submit("prepare", lab.s3.uri(DATA, "videos"), "--out", lab.s3.uri(DATA, name), *PREPARE, **variables)


def until_some_is_stored(lab: Lab, name: str, job: Job) -> None:
    """Wait until the first clips of a preparation are in object storage, and not yet all."""

    def some() -> bool:
        return job.code is not None or any(key.endswith(".arrow") for key in lab.ask(stored.sizes, f"{DATA}/{name}"))

    wait_for(some, "a stored shard", 120, lambda: job.said)
    assert job.code is None and "manifest.parquet" not in lab.ask(stored.sizes, f"{DATA}/{name}"), job.said


def test_two_nodes_over_a_slow_network_give_what_one_machine_gives(lab: Lab, expected: dict[str, str]) -> None:
    worker = lab.workers[0]
    worker.machine.slow(mbit=8, ms=50, loss=0.01)
    try:
        job = prepare(lab, "slow")
        job.until("clips/s")
        assert len(set(lab.where("ray::"))) == 2, "both nodes take part"
        job.finish()
    finally:
        worker.machine.fast()
    assert seen(lab, "slow") == expected


def test_a_storage_that_is_killed_shows_nothing_half_and_the_same_command_continues(
    lab: Lab, expected: dict[str, str]
) -> None:
    job = prepare(lab, "torn")
    until_some_is_stored(lab, "torn", job)
    lab.s3.kill()
    assert job.wait() != 0
    assert job.said.count("error: s3://data/") == 2, "once in the log, and once in Ray's words at the end"
    lab.s3.start()
    left = seen(lab, "torn")
    assert "manifest.parquet" not in left
    assert {digest for name, digest in left.items() if name.endswith(".arrow")} < set(expected.values())
    prepare(lab, "torn").finish()
    assert seen(lab, "torn") == expected


def test_wrong_credentials_are_one_error_that_tells_none(lab: Lab, expected: dict[str, str]) -> None:
    job = prepare(lab, "refused", job_env={"AWS_SECRET_ACCESS_KEY": "not-this-one"})
    assert job.wait() != 0
    assert "error: s3://data/" in job.said and "hint: check the address, the cred" in job.said, job.said
    assert "not-this-one" not in job.said and "Traceback" not in job.said
    assert lab.ask(stored.sizes, f"{DATA}/refused") == {}


def test_without_the_token_nobody_submits_a_job(lab: Lab) -> None:
    for token in ("0" * 64, ""):
        job = prepare(lab, "stranger", env={"RAY_AUTH_TOKEN": token, "RAY_AUTH_TOKEN_PATH": "/nonexistent"})
        assert job.wait() != 0
        assert "oken" in job.said
    assert lab.ask(stored.sizes, f"{DATA}/stranger") == {}


def test_a_training_that_loses_a_node_ends_like_an_undisturbed_one(lab: Lab, expected: dict[str, str]) -> None:
    make_weights(lab.root / "weights.pt")
    lab.ask(stored.upload, lab.root / "weights.pt", f"{DATA}/weights.pt")
    settings = [f"train.steps={STEPS}", f"eval.every={STEPS // 2}", *lab.places()]
    lab.submit("train", TRAIN, "--name", "undisturbed", *settings).finish()
    job = lab.submit("train", TRAIN, "--name", "disturbed", *settings)
    lab.until_saved(job, "disturbed", 20)
    assert len(set(lab.where("RayTrainWorker"))) == 2, "its workers are on two nodes"
    lab.kill_worker()
    lab.add_worker()
    job.finish()
    ends = [lab.ask(stored.digests, f"{RUNS}/{name}/step-{STEPS:09d}") for name in ("undisturbed", "disturbed")]
    tensors = [{name: end[name] for name in end if name.endswith(".safetensors")} for end in ends]
    assert tensors[0] and tensors[0] == tensors[1]
    runs = lab.call(recorded.runs, lab.tracking.uri)
    assert sorted((run.name, run.status) for run in runs) == [("disturbed", "FINISHED"), ("undisturbed", "FINISHED")]
    assert [run.repeated for run in runs] == [[], []]
    assert runs[0].steps["train/loss"] == runs[1].steps["train/loss"]


def test_a_head_that_is_restarted_knows_its_nodes_and_the_same_command_continues(
    lab: Lab, expected: dict[str, str]
) -> None:
    before = lab.workers[0].machine.processes()
    job = prepare(lab, "headless")
    until_some_is_stored(lab, "headless", job)
    job.abandon()
    lab.restart_head()
    lab.head.wait_for_members(2)
    raylet = {pid for pid, line in before.items() if "raylet/raylet" in line}
    assert raylet and raylet <= set(lab.workers[0].machine.processes()), "the worker's Ray has lived on"
    prepare(lab, "headless").finish()
    assert seen(lab, "headless") == expected
