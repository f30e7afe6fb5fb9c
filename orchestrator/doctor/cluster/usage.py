"""What the agents of a cluster's nodes say about their machines every few seconds, also where no task can start.

Ray's dashboard listens to the same. Nothing of it is promised by Ray: where it cannot be heard, it is not known.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

EVERY_S = 5.0
"""Seconds between two reports of an agent, as Ray has it."""


def listen(address: str) -> dict[str, dict[str, Any]]:
    """Begin to listen, in a thread that ends with the process.

    Args:
        address: HOST:PORT of the head.

    Returns:
        Node -> path -> `total` and `free` bytes of the disk there; it fills up as the nodes report.
    """
    heard: dict[str, dict[str, Any]] = {}
    threading.Thread(target=lambda: asyncio.run(_hear(address, heard)), name="usage", daemon=True).start()
    return heard


async def _hear(address: str, heard: dict[str, dict[str, Any]]) -> None:
    try:
        from ray._private.gcs_pubsub import GcsAioResourceUsageSubscriber

        subscriber = GcsAioResourceUsageSubscriber(address=address)
        await subscriber.subscribe()
        while True:
            key, report = await subscriber.poll()
            if key is not None:
                node = (key.decode() if isinstance(key, bytes) else key).rpartition(":")[2]
                heard[node] = json.loads(report)["disk"]
    except Exception:  # the checks themselves say what is wrong with a cluster; this only explains it
        return
