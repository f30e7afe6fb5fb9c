"""What is wrong with the storage as the nodes of a cluster see it: who cannot write, who does not see others' files.

Pure functions of what was heard; an address is shown without what it keeps secret.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from orchestrator.doctor.cluster.facts import Cluster, Store
from orchestrator.doctor.finding import Finding
from orchestrator.storage import redacted

_SKEW_S = 2.0
_EVERYWHERE = (
    "check the address, the credentials and the network of every node; credentials of this shell do not travel"
)


def judge(cluster: Cluster) -> list[Finding]:
    """All findings about the places that were given."""
    return [finding for store in cluster.stores.values() for finding in _store(cluster, store)]


def _store(cluster: Cluster, store: Store) -> Iterator[Finding]:
    name, others = redacted(store.uri), len(cluster.well)
    refused = _refused(cluster, store, name)
    unseen = _unseen(cluster, store, name)
    yield from refused
    yield from unseen
    if not refused and not unseen:
        text = f"{name}: written from the driver and {others} node{'s' * (others > 1)}"
        yield Finding(store.what, text + ", read by the others" * (others > 1))
    skew = max(store.skews.values(), key=abs, default=0.0)
    if abs(skew) > _SKEW_S:
        who = cluster.named([node for node, ahead in store.skews.items() if ahead == skew])
        text = f"the clock of {name} is {skew:+.1f} s from that of {who}"
        yield Finding("clock of the storage", text, hint="set the clocks by NTP: ages in `status` will be wrong")


def _refused(cluster: Cluster, store: Store, name: str) -> list[Finding]:
    """One finding for each reason, with all who were given it."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for node, error in store.errors.items():
        by_reason[error].append(node)
    everybody = len(cluster.well) + 1
    findings = []
    for error, nodes in by_reason.items():
        who = "everybody" if len(nodes) == everybody else cluster.named(nodes)
        text = f"{name} cannot be written from {who}: {error}"
        enough = store.what == "data" and store.readable >= set(nodes)
        hint = "it can be read, which is all that training does" if enough else _EVERYWHERE
        findings.append(Finding(store.what, text, enough, hint))
    return findings


def _unseen(cluster: Cluster, store: Store, name: str) -> list[Finding]:
    """What some wrote and others do not see: a folder of each machine's own, most often."""
    missing = [reader for reader, wrong in store.unseen.items() if "missing" in wrong.values()]
    findings = []
    if missing:
        text = f"{name}: {cluster.named(missing)} see nothing of what the other nodes wrote there"
        hint = "it is a folder of each node's own: give a shared one (NFS), or a URI of object storage"
        findings.append(Finding(store.what, text, False, hint))
    for reader, wrong in store.unseen.items():
        others = {error for error in wrong.values() if error != "missing"}
        if others:
            text = f"{cluster.named([reader])} cannot read from {name}: {sorted(others)[0]}"
            findings.append(Finding(store.what, text, False, _EVERYWHERE))
    return findings
