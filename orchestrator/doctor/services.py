"""Checks of Ray: its version, and the cluster that RAY_ADDRESS names, in bounded time."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys

from orchestrator.doctor.finding import Finding
from orchestrator.errors import OrchestratorError
from orchestrator.runtime.head import knock
from orchestrator.storage import redacted

SUPPORTED = "2.60."
"""Train V2 and the way runs are recovered changed between minor versions of Ray; pyproject.toml says the same."""
_CONNECT_S = 3.0
_ANSWER_S = 25.0
_SAME = "is that the head of a Ray cluster, with the same version of Ray and Python as here?"
_ASK = (
    "import json, logging, ray\n"
    "ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)\n"
    "nodes = [node for node in ray.nodes() if node['Alive']]\n"
    "print(json.dumps({'nodes': len(nodes), 'all': ray.cluster_resources(), 'free': ray.available_resources()}))\n"
)


def ray_version() -> Finding:
    """Whether this Ray is the one that is supported."""
    version = importlib.metadata.version("ray")
    ok = version.startswith(SUPPORTED)
    return Finding("Ray's version", version, ok, "" if ok else f"install ray {SUPPORTED}x")


def ray(connect_s: float = _CONNECT_S, answer_s: float = _ANSWER_S) -> Finding:
    """Whether the cluster of RAY_ADDRESS answers, and what it has.

    Args:
        connect_s: seconds that its head may take to answer; Ray itself would try for minutes.
        answer_s: seconds that the cluster may take to let a program in.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        return Finding("Ray", "no RAY_ADDRESS: runs start a local Ray of their own")
    try:
        knock(address, patience_s=connect_s, restart_s=0)
    except OrchestratorError as error:
        return Finding("Ray", error.message, False, error.hint)
    try:
        # a program of its own: it can be given up, and leaves no connection in this one
        asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=answer_s)
    except subprocess.TimeoutExpired:
        hint = "somebody listens there, but Ray does not answer: `ray status` on its head, and the same version of Ray?"
        return Finding("Ray", f"{redacted(address)} lets nobody in within {answer_s:g} s", False, hint)
    if asked.returncode:
        words = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        hint = "is a Ray running on this machine (`ray status`)?" if address == "auto" else _SAME
        return Finding("Ray", f"{redacted(address)}: {words}", False, hint)
    told = json.loads(asked.stdout.strip().splitlines()[-1])
    parts = [f"{told['free'].get(kind, 0):g} of {told['all'].get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    return Finding("Ray", f"{redacted(address)}: {told['nodes']} nodes, {', '.join(parts)}")
