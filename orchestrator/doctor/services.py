"""Checks of Ray: its version, and the cluster that RAY_ADDRESS names, in bounded time."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys

from orchestrator.doctor.finding import Finding
from orchestrator.storage import redacted

SUPPORTED = "2.60."
"""Train V2 and the way runs are recovered changed between minor versions of Ray; pyproject.toml says the same."""
_CONNECT_S = 3.0
_ANSWER_S = 45.0
_SAME = "is that the head of a Ray cluster, with the same version of Ray and Python as here?"
_DEFAULT_PORTS = {"ray": 10001}
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
        connect_s: seconds that its port may take; Ray itself would try for minutes.
        answer_s: seconds that the cluster may take to let a program in.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        return Finding("Ray", "no RAY_ADDRESS: runs start a local Ray of their own")
    if address.startswith(("http://", "https://")):
        hint = "that is where jobs are submitted; on the cluster RAY_ADDRESS=auto, or HOST:6379"
        return Finding("Ray", f"{redacted(address)} is no address that a program can join", False, hint)
    try:
        place = host_and_port(address)
        if place is not None:
            socket.create_connection(place, timeout=connect_s).close()
    except (OSError, ValueError) as error:
        hint = "is the head running, and its port open from here? or unset RAY_ADDRESS for a local Ray"
        return Finding("Ray", f"{redacted(address)} does not answer: {error}", False, hint)
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


def host_and_port(address: str) -> tuple[str, int] | None:
    """Where an address of Ray leads; none for `auto`, which only the machine itself can tell.

    Raises:
        ValueError: it is no address.
    """
    if address == "auto":
        return None
    scheme, _, rest = address.rpartition("://")
    host, colon, port = rest.partition("/")[0].rpartition(":")
    if not colon:
        host, port = rest.partition("/")[0], str(_DEFAULT_PORTS.get(scheme, ""))
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("an address of Ray is `auto`, HOST:PORT or ray://HOST:PORT")
    return host.strip("[]"), int(port)
