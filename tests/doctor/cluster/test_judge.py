"""From what was heard of a cluster to findings: one trouble is one finding, which names the node and what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.doctor.cluster import access, judge, links, nodes, stores
from orchestrator.doctor.cluster.facts import Cluster, gather
from orchestrator.doctor.finding import Finding

HEAD, OTHER, THIRD = "a" * 56, "b" * 56, "c" * 56
ADDRESSES = {HEAD: "10.0.0.1", OTHER: "10.0.0.2", THIRD: "10.0.0.3"}
GB = 10**9
FACTS: dict[str, Any] = {
    "host": "x",
    "versions": {"python": "3.11.7", "ray": "2.60.0", "torch": "2.11.0+cu128", "mlflow": "3.17.2"},
    "product": {"version": "0.1.0", "code": "abc", "where": "/app"},
    "cpus": 8,
    "memory": 64 * GB,
    "shm": 32 * GB,
    "files": 65536,
    "disks": {
        "TMPDIR": {"path": "/tmp", "total": 500 * GB, "free": 300 * GB, "device": 1},
        "the session's folder": {"path": "/tmp/ray", "total": 500 * GB, "free": 300 * GB, "device": 1},
    },
    "gpus": {"names": ["H200"], "driver": "580.1"},
    "stop_wait_s": "60",
}


def described(node: str, **changes: Any) -> dict[str, Any]:
    resources = {"CPU": 8, "GPU": 1, "memory": 40 * GB, "object_store_memory": 20 * GB}
    return {"id": node, "address": ADDRESSES[node], "head": node == HEAD, **resources, **changes}


def heard(*lines: dict[str, Any], count: int = 2, facts: dict[str, dict[str, Any]] | None = None) -> Cluster:
    """A cluster where all is well, but for the changes to some nodes' facts, and with some lines more."""
    known = list(ADDRESSES)[:count]
    told: list[dict[str, Any]] = [
        {"kind": "head", "ray_version": "2.60.0", "asks_for_token": True},
        {"kind": "driver", "facts": FACTS},
        {"kind": "nodes", "nodes": [described(node) for node in known]},
        *({"kind": "node", "id": node, "answer": {**FACTS, **(facts or {}).get(node, {})}} for node in known),
        *({"kind": "cuda", "id": node, "answer": {"names": ["H200"]}} for node in known),
        *({"kind": "clock", "id": node, "ahead_s": 0.01, "within_s": 0.001} for node in known),
        {"kind": "link", "start": HEAD, "end": OTHER, "answer": {"latency_s": 1e-4, "bytes_per_s": 2e9}},
        *lines,
        {"kind": "done"},
    ]
    return gather([json.dumps(line) for line in told], "10.0.0.1:6379")


def troubles(cluster: Cluster) -> list[Finding]:
    """What is not as it should be, problems and notes."""
    return [finding for finding in judge(cluster, in_job=False) if not finding.ok or finding.hint]


def the_trouble(cluster: Cluster, *, ok: bool = False) -> Finding:
    (finding,) = troubles(cluster)
    assert finding.ok == ok and finding.hint, finding
    return finding


def test_a_cluster_that_is_well_has_no_trouble() -> None:
    cluster = heard()
    assert troubles(cluster) == []
    found = {finding.check: finding.found for finding in judge(cluster, in_job=False)}
    assert "2 of 2 answer: 10.0.0.1, 10.0.0.2" in found["nodes"]
    assert "ray 2.60.0" in found["versions"] and "1 x H200, driver 580.1" in found["GPUs"]
    assert "2000 MB/s" in found["network"] and "60 s to save" in found["stopping jobs"]


def test_another_version_names_node_found_and_expected() -> None:
    older = {"versions": {**FACTS["versions"], "mlflow": "3.1.0"}}
    finding = the_trouble(heard(facts={OTHER: older}))
    assert finding.check == "version of mlflow"
    assert finding.found == "10.0.0.2 has mlflow 3.1.0, expected 3.17.2 as the driver has"
    both = the_trouble(heard(facts={HEAD: older, OTHER: older}))
    assert both.found.startswith("10.0.0.1, 10.0.0.2 has mlflow 3.1.0")


def test_each_difference_is_a_finding_and_builds_of_torch_are_none() -> None:
    facts = {OTHER: {"versions": {"python": "3.12.1", "ray": "2.60.0", "torch": "2.11.0+cpu", "mlflow": None}}}
    found = troubles(heard(facts=facts))
    assert [finding.check for finding in found] == ["version of python", "version of mlflow"]
    assert "has no mlflow, expected 3.17.2" in found[1].found


@pytest.mark.parametrize(
    ("product", "words"),
    [
        ({"error": "ModuleNotFoundError: No module named 'orchestrator'"}, "10.0.0.2 cannot import it: ModuleNotFound"),
        (
            {"version": "0.1.0", "code": "xyz", "where": "/old"},
            "has 0.1.0 (code xyz) in /old, expected 0.1.0 (code abc)",
        ),
    ],
)
def test_another_product_or_none(product: dict[str, str], words: str) -> None:
    finding = the_trouble(heard(facts={OTHER: {"product": product}}))
    assert words in finding.found and "--working-dir" in finding.hint


def test_a_node_that_does_not_answer_is_one_finding() -> None:
    silent = {"kind": "node", "id": THIRD}
    assert the_trouble(heard(silent, count=3)).found == "10.0.0.3 does not answer in time"
    dies = {**silent, "failed": "ActorDiedError", "why": "The actor died. It had a reason."}
    finding = the_trouble(heard(dies, count=3))
    assert "10.0.0.3: processes end at their start there: ActorDiedError: The actor died" in finding.found
    environment = {**silent, "failed": "RuntimeEnvSetupError", "why": "pip failed"}
    assert "runtime environment cannot be set up there: pip failed" in the_trouble(heard(environment, count=3)).found


def test_a_full_disk_is_found_where_tasks_start_and_where_none_does() -> None:
    full = {"TMPDIR": {"path": "/tmp", "total": 100 * GB, "free": GB // 2, "device": 7}}
    finding = the_trouble(heard(facts={OTHER: {"disks": full}}))
    assert finding.check == "full disk" and "10.0.0.2: /tmp has 0.50 of 100.0 GB free (TMPDIR)" in finding.found
    dead = {"kind": "node", "id": THIRD, "failed": "ActorDiedError", "why": "End of file."}
    agent = {"/": {"total": 9 * GB, "free": 5 * GB}, "/ray": {"total": GB, "free": 0}}
    finding = the_trouble(heard(dead, {"kind": "usage", "id": THIRD, "disks": agent}, count=3))
    assert finding.check == "full disk" and "no task starts there: /ray has 0.00 of 1.0 GB free" in finding.found


def test_ray_spills_nothing_to_a_disk_that_is_nearly_full() -> None:
    disk = {"path": "/ray", "total": 1000 * GB, "free": 30 * GB, "device": 7}
    finding = the_trouble(heard(facts={OTHER: {"disks": {"the session's folder": disk}}}))
    assert finding.check == "full disk" and "5%" in finding.hint
    little = {"path": "/cache", "total": 100 * GB, "free": 6 * GB, "device": 7}
    assert the_trouble(heard(facts={OTHER: {"disks": {"data.cache": little}}}), ok=True).check == "free space"


@pytest.mark.parametrize(
    ("gpus", "cuda", "ray", "words", "ok"),
    [
        ({"names": []}, {"names": []}, 2, "Ray gives 2 GPUs, but the node has none", False),
        ({"names": [], "error": "NVMLError"}, {"names": []}, 0, "NVIDIA's driver does not answer: NVMLError", False),
        ({"names": ["H200"]}, {"error": "driver too old"}, 1, "torch cannot use its GPUs", False),
        ({"names": ["H200", "H200"]}, {"names": ["H200"]}, 2, "it finds 1 of 2", False),
        ({"names": ["H200", "H200"]}, {"names": ["H200"] * 2}, 1, "Ray gives 1 of 2 GPUs", True),
    ],
)
def test_gpus_that_ray_and_the_node_see_otherwise(
    gpus: dict[str, Any], cuda: dict[str, Any], ray: int, words: str, ok: bool
) -> None:
    cluster = heard({"kind": "cuda", "id": OTHER, "answer": cuda}, facts={OTHER: {"gpus": gpus}})
    cluster.nodes[OTHER].resources["GPU"] = ray
    finding = the_trouble(cluster, ok=ok)
    assert finding.found.startswith("10.0.0.2: ") and words in finding.found


def test_what_ray_gives_away_beyond_what_is_there() -> None:
    checks = [
        ({"cpus": 2}, "processors", "10.0.0.2: 2, Ray gives 8"),
        ({"memory": 20 * GB}, "memory", "20.0 GB, Ray gives 40.0 GB"),
        ({"shm": 64 << 20}, "memory", "/dev/shm has 0.07 GB, the object store wants 20.00 GB"),
        ({"files": 1024}, "open files", "10.0.0.2: 1024"),
    ]
    for facts, check, words in checks:
        finding = the_trouble(heard(facts={OTHER: facts}), ok=True)
        assert finding.check == check and words in finding.found


def test_clocks_are_judged_beyond_what_the_round_trip_explains() -> None:
    assert troubles(heard({"kind": "clock", "id": OTHER, "ahead_s": 5.0, "within_s": 4.0})) == []
    finding = the_trouble(heard({"kind": "clock", "id": OTHER, "ahead_s": -5.0, "within_s": 0.1}), ok=True)
    assert finding.found == "10.0.0.2 is -5.0 s from the driver" and "NTP" in finding.hint
    the_trouble(heard({"kind": "clock", "id": OTHER, "ahead_s": 500.0, "within_s": 0.1}))


def test_links_that_do_not_open_or_are_slow() -> None:
    closed = {"kind": "link", "start": OTHER, "end": HEAD, "answer": {"error": "timed out"}}
    finding = the_trouble(heard(closed))
    assert finding.found == "10.0.0.2 does not reach 10.0.0.1: timed out" and "ports" in finding.hint
    slow = {"kind": "link", "start": OTHER, "end": HEAD, "answer": {"latency_s": 0.03, "bytes_per_s": 1e7}}
    finding = the_trouble(heard(slow), ok=True)
    assert "10.0.0.2 to 10.0.0.1 10 MB/s" in finding.found and "30.00 ms" in finding.found
    alone = heard()
    del alone.nodes[OTHER], alone.links[:]
    assert [found.found for found in links.links(alone)] == ["one node: nothing to measure"]


def store(what: str = "storage", here: dict[str, Any] | None = None, **written: dict[str, Any]) -> dict[str, Any]:
    fine = {"skew": 0.0}
    answers = {HEAD: {"answer": written.get("head", fine)}, OTHER: {"answer": written.get("other", fine)}}
    uri = "s3://key:secret@bucket/runs?endpoint_override=10.0.0.9:9000"
    return {"kind": "store", "what": what, "uri": uri, "here": here or fine, "written": answers}


def test_a_storage_that_everybody_writes_and_reads() -> None:
    (finding,) = stores.judge(heard(store()))
    assert finding.ok and finding.found == "s3://bucket/runs: written from the driver and 2 nodes, read by the others"


def test_a_storage_that_is_away_is_one_finding_without_credentials() -> None:
    away = {"error": "Could not connect"}
    finding = the_trouble(heard(store(here=away, head=away, other=away)))
    assert finding.found == "s3://bucket/runs cannot be written from everybody: Could not connect"
    finding = the_trouble(heard(store(other=away)))
    assert "cannot be written from 10.0.0.2: Could not connect" in finding.found
    assert "secret" not in finding.found + finding.hint


def test_a_corpus_that_can_only_be_read_is_enough_to_train() -> None:
    closed = {"error": "Read-only file system", "readable": True}
    the_trouble(heard(store("data", here=closed, head=closed, other=closed)), ok=True)
    the_trouble(heard(store("storage", here=closed, head=closed, other=closed)))
    the_trouble(heard(store("data", here=closed, head=closed, other={"error": "Read-only file system"})))


def test_a_folder_of_each_node_s_own_is_no_storage() -> None:
    finding = the_trouble(heard(store(), {"kind": "read", "what": "storage", "id": OTHER, "answer": {HEAD: "missing"}}))
    assert "10.0.0.2 see nothing of what the other nodes wrote there" in finding.found and "NFS" in finding.hint
    finding = the_trouble(heard(store(), {"kind": "read", "what": "storage", "id": OTHER}))
    assert "10.0.0.2 cannot read from s3://bucket/runs: no answer in time" in finding.found


def test_the_clock_of_the_storage() -> None:
    finding = the_trouble(heard(store(other={"skew": -30.0})), ok=True)
    assert finding.found == "the clock of s3://bucket/runs is -30.0 s from that of 10.0.0.2"


def test_strangers_and_jobs_that_are_stopped() -> None:
    told = {"kind": "head", "ray_version": "2.60.0", "asks_for_token": False}
    finding = the_trouble(heard(told), ok=True)
    assert finding.check == "token" and "10.0.0.1, 10.0.0.2" in finding.found and "RAY_AUTH_MODE=token" in finding.hint
    finding = the_trouble(heard(facts={HEAD: {"stop_wait_s": None}}), ok=True)
    assert "3 s to save" in finding.found and "RAY_JOB_STOP_WAIT_TIME_S" in finding.hint
    cluster = heard(facts={HEAD: {"stop_wait_s": None}})
    assert [found.hint for found in access.stop(cluster, in_job=True)] == [""], "of a job, its own variable counts"
    cluster.nodes[HEAD].address = cluster.nodes[OTHER].address = "127.0.0.1"
    cluster.head["asks_for_token"] = False
    assert [found.hint for found in access.token(cluster)] == [""]


def test_who_is_refused_or_not_let_in_gets_one_finding() -> None:
    refused = gather([json.dumps({"kind": "refused", "message": "no", "hint": "do"}), '{"kind": "do'], "x:1")
    assert [(f.found, f.hint, f.ok) for f in judge(refused, in_job=False)] == [("no", "do", False)]
    hangs = gather([json.dumps({"kind": "head", "ray_version": "2.60.0", "asks_for_token": True})], "x:1")
    hangs.asked_s = 27
    (finding,) = judge(hangs, in_job=False)
    assert finding.found == "Ray at x:1 answers, but lets nobody in within 27 s" and not finding.ok
    broken = gather([], "x:1")
    broken.last_words = "RuntimeError: Version mismatch"
    (finding,) = judge(broken, in_job=False)
    assert "Version mismatch" in finding.found


def test_what_could_not_be_measured_in_time_is_said() -> None:
    cluster = heard()
    cluster.done, cluster.asked_s = False, 27
    finding = the_trouble(cluster)
    assert finding.check == "Ray" and "not everything could be measured within 27 s" in finding.hint


def test_nodes_of_one_machine_are_told_apart() -> None:
    same = [described(HEAD), described(OTHER, address="10.0.0.1")]
    cluster = gather([json.dumps({"kind": "nodes", "nodes": same})], "x:1")
    assert [node.name for node in cluster.nodes.values()] == ["10.0.0.1 (aaaaaa)", "10.0.0.1 (bbbbbb)"]
    assert [finding.found for finding in nodes.answers(cluster)][1:] == [
        "10.0.0.1 (aaaaaa) does not answer in time",
        "10.0.0.1 (bbbbbb) does not answer in time",
    ]
