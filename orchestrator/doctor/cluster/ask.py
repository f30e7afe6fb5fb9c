"""The program that asks a cluster for its facts, in a process of its own: it can be given up, whatever Ray does.

It reads a request, a line of JSON, and writes lines of JSON as the facts come in, so that nothing is lost when it is
ended in the middle: `facts.py` says what they hold.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.doctor import machine
from orchestrator.doctor.cluster import probe, usage
from orchestrator.doctor.cluster.measures import USUAL_S, Measures, answered
from orchestrator.errors import OrchestratorError
from orchestrator.runtime.head import knock

_KNOCK_S = 8.0
_LOOK_S = 12.0
"""Seconds for a node to start a process and look around."""


def main() -> None:
    """Ask, and say what is heard."""
    request = json.loads(sys.stdin.readline())
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # Ray prints what it likes

    def tell(kind: str, **facts: Any) -> None:
        print(json.dumps({"kind": kind, **facts}), file=told, flush=True)

    try:
        ask(request, request["seconds"] / USUAL_S, tell)
    except OrchestratorError as error:
        tell("refused", message=error.message, hint=error.hint)
    tell("done")
    os._exit(0)  # a cluster that hangs must not keep its doctor


def ask(request: Mapping[str, Any], pace: float, tell: Callable[..., None]) -> None:
    """Join the cluster, and ask every node at once.

    Raises:
        OrchestratorError: there is no cluster, or it refuses.
    """
    import ray

    head = knock(request["address"], patience_s=_KNOCK_S * pace, restart_s=0)
    if head is not None:
        tell("head", ray_version=head.ray_version, asks_for_token=head.asks_for_token)
    tell("driver", facts=probe.look({"data.cache": request["cache"]} if request["cache"] else {}))
    heard = usage.listen(head.address) if head is not None else {}
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(request["address"], log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    tell("nodes", nodes=[_described(node) for node in nodes.values()])
    probes = _probes(nodes)
    calls = [(node, actor.look.remote(request["cache"])) for node, actor in probes.items()]
    looked = answered(calls, _LOOK_S * pace)
    for node, answer in looked.items():
        tell("node", id=node, **answer)
    well = {node: probes[node] for node, answer in looked.items() if "answer" in answer}
    with_gpus = [n for n in well if nodes[n]["Resources"].get("GPU") or looked[n]["answer"]["gpus"]["names"]]
    addresses = {node: nodes[node]["NodeManagerAddress"] for node in well}
    stores = {what: request[what] for what in ("storage", "data") if request[what]}
    Measures(tell, well, addresses, pace).take(stores, with_gpus)
    _tell_usage(tell, set(nodes) - set(well), heard, pace)
    for actor in probes.values():
        ray.kill(actor)


def _described(node: Mapping[str, Any]) -> dict[str, Any]:
    resources = node["Resources"]
    return {
        "id": node["NodeID"],
        "address": node["NodeManagerAddress"],
        "head": "node:__internal_head__" in resources,
        **{kind: resources.get(kind, 0) for kind in ("CPU", "GPU", "memory", "object_store_memory")},
    }


def _probes(nodes: Iterable[str]) -> dict[str, Any]:
    """A probe on every node, whatever else runs there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    for module in (probe, machine):
        ray.cloudpickle.register_pickle_by_value(module)
    kind = ray.remote(probe.Probe)
    options = {"num_cpus": 0, "max_concurrency": 8}
    return {
        node: kind.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False), **options).remote()
        for node in nodes
    }


def _tell_usage(tell: Callable[..., None], nodes: set[str], heard: Mapping[str, Any], pace: float) -> None:
    """What the agents of nodes that do not answer have said of them: their disks, above all."""
    deadline = time.monotonic() + (usage.EVERY_S + 1) * max(1.0, pace)
    while nodes - set(heard) and time.monotonic() < deadline:
        time.sleep(0.1)
    for node in nodes & set(heard):
        tell("usage", id=node, disks=heard[node])


if __name__ == "__main__":
    main()
