"""What is wrong between the nodes of a cluster: clocks that disagree, connections that do not open or are slow.

Pure functions of what was heard.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.doctor.cluster.facts import Cluster, Link
from orchestrator.doctor.finding import Finding

_SKEW_S = 2.0
_WRONG_S = 60.0
_SLOW_BYTES_PER_S = 100e6
_FAR_S = 0.01
_NTP = "set the clocks by NTP (chrony): ages in `status` are wrong, and S3 refuses requests that are minutes off"


def judge(cluster: Cluster) -> list[Finding]:
    """All findings about clocks and connections."""
    return [finding for check in (clocks, links) for finding in check(cluster)]


def clocks(cluster: Cluster) -> Iterator[Finding]:
    """How far the clocks of the nodes are from the driver's."""
    apart = []
    for node in cluster.well:
        if node.clock is None:
            continue
        ahead, within = node.clock
        surely = max(0.0, abs(ahead) - within)
        apart.append(surely)
        if surely > _SKEW_S:
            text = f"{node.name} is {ahead:+.1f} s from the driver"
            yield Finding("clocks", text, surely <= _WRONG_S, _NTP)
    if apart and max(apart) <= _SKEW_S:
        yield Finding("clocks", f"all nodes are within {max(0.1, max(apart)):.1f} s of the driver")


def links(cluster: Cluster) -> Iterator[Finding]:
    """Plain TCP from node to node, on ports such as training uses."""
    broken = [link for link in cluster.links if link.error]
    for link in broken:
        text = f"{cluster.named([link.start])} does not reach {cluster.named([link.end])}: {link.error}"
        hint = "workers talk to each other on any port: open all ports between the nodes (security group, firewall)"
        yield Finding("network", text, False, hint)
    measured = [link for link in cluster.links if not link.error]
    if not measured:
        if len(cluster.nodes) == 1:
            yield Finding("network", "one node: nothing to measure")
        return
    slowest = min(measured, key=lambda link: link.bytes_per_s)
    farthest = max(measured, key=lambda link: link.latency_s)
    text = f"{_between(cluster, slowest)} {slowest.bytes_per_s / 1e6:.0f} MB/s"
    text += f", {_between(cluster, farthest)} {farthest.latency_s * 1000:.2f} ms for a round trip"
    poor = slowest.bytes_per_s < _SLOW_BYTES_PER_S or farthest.latency_s > _FAR_S
    hint = "gradients travel over this at every step: prefer one node with more workers, or larger batches"
    yield Finding("network", f"at worst {text}", hint=hint if poor else "")


def _between(cluster: Cluster, link: Link) -> str:
    return f"{cluster.named([link.start])} to {cluster.named([link.end])}"
