"""What is known of a cluster, put together from the lines of `ask.py`; whatever did not come in time is missing here.

Contract: plain values only, so that every judgement about them is a pure function of this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Node:
    """One node."""

    id: str
    address: str
    """Its IP address."""
    head: bool = False
    resources: dict[str, float] = field(default_factory=dict)
    """What Ray believes it has: `CPU`, `GPU`, and bytes of `memory` and `object_store_memory`."""
    name: str = ""
    """For messages: its address, with a part of its id where several nodes have the same."""
    facts: dict[str, Any] | None = None
    """What `probe.look` returned there; none where it did not answer."""
    failure: str = ""
    """Ray's name for why it did not answer; empty where it did, or was silent."""
    why: str = ""
    """Ray's words about it."""
    disks: dict[str, Any] = field(default_factory=dict)
    """Path -> `total` and `free` bytes, as its agent says; only of a node that does not answer."""
    cuda: dict[str, Any] | None = None
    """What torch says of its GPUs."""
    clock: tuple[float, float] | None = None
    """Seconds that it is ahead of the driver, and how far this may be wrong."""


@dataclass
class Link:
    """A connection from one node to another."""

    start: str
    end: str
    error: str = ""
    latency_s: float = 0.0
    """Seconds of the quickest round trip."""
    bytes_per_s: float = 0.0


@dataclass
class Store:
    """A storage, seen from everywhere."""

    what: str
    """The option that named it."""
    uri: str
    errors: dict[str, str] = field(default_factory=dict)
    """Node, or "" for the driver -> why it could not write."""
    readable: set[str] = field(default_factory=set)
    """Of those, who sees a corpus there."""
    unseen: dict[str, dict[str, str]] = field(default_factory=dict)
    """Node -> whose file it could not read -> why; `missing` where it is not there."""
    skews: dict[str, float] = field(default_factory=dict)
    """Node, or "" for the driver -> seconds that the storage's clock is surely ahead of its own."""


@dataclass
class Cluster:
    """All that was heard."""

    address: str
    refused: tuple[str, str] | None = None
    """Why there is nothing to look at, and what to do about it."""
    head: dict[str, Any] = field(default_factory=dict)
    """`ray_version`, `asks_for_token`."""
    driver: dict[str, Any] = field(default_factory=dict)
    """What `probe.look` returned in the driver."""
    joined: bool = False
    done: bool = False
    """Whether the asking came to its end."""
    nodes: dict[str, Node] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    stores: dict[str, Store] = field(default_factory=dict)
    asked_s: float = 0.0
    """Seconds in which it had to answer."""
    last_words: str = ""
    """What the asking program said last before it broke down."""

    @property
    def well(self) -> list[Node]:
        """The nodes that answer, the head first."""
        return [node for node in self.nodes.values() if node.facts is not None]

    def named(self, nodes: Iterable[str]) -> str:
        """Nodes by their ids, for a message; "" is the driver."""
        return ", ".join(self.nodes[node].name if node else "the driver" for node in nodes)


def gather(lines: Iterable[str], address: str) -> Cluster:
    """Put together what `ask.py` wrote; a line that was cut off is left out."""
    cluster = Cluster(address)
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        _HEARD[told.pop("kind")](cluster, told)
    return cluster


def _refused(cluster: Cluster, told: Mapping[str, Any]) -> None:
    cluster.refused = (told["message"], told["hint"])


def _head(cluster: Cluster, told: Mapping[str, Any]) -> None:
    cluster.head = dict(told)


def _driver(cluster: Cluster, told: Mapping[str, Any]) -> None:
    cluster.driver = told["facts"]


def _nodes(cluster: Cluster, told: Mapping[str, Any]) -> None:
    cluster.joined = True
    known = sorted(told["nodes"], key=lambda node: (not node["head"], node["address"], node["id"]))
    addresses = [node["address"] for node in known]
    for node in known:
        alone = addresses.count(node["address"]) == 1
        name = node["address"] if alone else f"{node['address']} ({node['id'][:6]})"
        resources = {kind: node[kind] for kind in ("CPU", "GPU", "memory", "object_store_memory")}
        cluster.nodes[node["id"]] = Node(node["id"], node["address"], node["head"], resources, name)


def _node(cluster: Cluster, told: Mapping[str, Any]) -> None:
    node = cluster.nodes[told["id"]]
    node.facts = told.get("answer")
    node.failure, node.why = told.get("failed", ""), told.get("why", "")


def _usage(cluster: Cluster, told: Mapping[str, Any]) -> None:
    cluster.nodes[told["id"]].disks = told["disks"]


def _cuda(cluster: Cluster, told: Mapping[str, Any]) -> None:
    cluster.nodes[told["id"]].cuda = told.get("answer", {"error": "no answer in time"})


def _clock(cluster: Cluster, told: Mapping[str, Any]) -> None:
    cluster.nodes[told["id"]].clock = (told["ahead_s"], told["within_s"])


def _link(cluster: Cluster, told: Mapping[str, Any]) -> None:
    answer = told.get("answer")
    measured = answer if isinstance(answer, dict) else {"error": _silence(told)}
    cluster.links.append(Link(told["start"], told["end"], **measured))


def _store(cluster: Cluster, told: Mapping[str, Any]) -> None:
    store = cluster.stores[told["what"]] = Store(told["what"], told["uri"])
    for node, answer in {"": {"answer": told["here"]}, **told["written"]}.items():
        result = answer.get("answer", {"error": _silence(answer)})
        if result.get("error"):
            store.errors[node] = result["error"]
            store.readable |= {node} if result.get("readable") else set()
        elif result["skew"] is not None:
            store.skews[node] = result["skew"]


def _read(cluster: Cluster, told: Mapping[str, Any]) -> None:
    wrong = told.get("answer", {told["id"]: _silence(told)})
    if wrong:
        cluster.stores[told["what"]].unseen[told["id"]] = wrong


def _done(cluster: Cluster, _: Mapping[str, Any]) -> None:
    cluster.done = True


def _silence(told: Mapping[str, Any]) -> str:
    return str(told.get("why", "no answer in time"))[:200]


_HEARD = {
    "refused": _refused,
    "head": _head,
    "driver": _driver,
    "nodes": _nodes,
    "node": _node,
    "usage": _usage,
    "cuda": _cuda,
    "clock": _clock,
    "link": _link,
    "store": _store,
    "read": _read,
    "done": _done,
}
