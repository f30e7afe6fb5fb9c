"""What takes two: a node and the driver's clock, a node and another node, a node and the storage.

All is asked at once and given up after its time; what is heard is told as it comes.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.doctor.cluster import probe

USUAL_S = 27.0
"""Seconds for all questions to a cluster, for which the time of each is made; with more or less, they stretch or
shrink."""
_CLOCK_S = 2.0
_LINK_S = 4.0
_WRITE_S = 6.0
_READ_S = 3.0
_CUDA_S = 9.0
_ROUND_TRIPS = 5
_MOST_READERS = 8
"""Others that read what a node has written; in a larger cluster only the next ones do."""

Call = tuple[str, Any]
"""A node's id, and the reference to what it will answer."""


def answered(calls: Iterable[Call], seconds: float) -> dict[str, dict[str, Any]]:
    """What each node answers, or why it does not, within that time for all of them; nothing of one that is silent."""
    import ray

    answers: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + seconds
    for node, reference in calls:
        try:
            answers[node] = {"answer": ray.get(reference, timeout=max(0.01, deadline - time.monotonic()))}
        except ray.exceptions.GetTimeoutError:
            answers[node] = {}
        except Exception as error:  # Ray raises whatever comes
            answers[node] = {"failed": type(error).__name__, "why": " ".join(str(error).split())[:2000]}
    return answers


class Measures:
    """Measurements between nodes that answer.

    Args:
        tell: takes what is heard.
        probes: node -> its probe; the head first.
        addresses: node -> its IP address.
        pace: by how much all times are longer than usual.
    """

    def __init__(
        self, tell: Callable[..., None], probes: Mapping[str, Any], addresses: Mapping[str, str], pace: float
    ) -> None:
        self._tell, self._probes, self._addresses, self._pace = tell, probes, addresses, pace

    def take(self, stores: Mapping[str, str], with_gpus: Sequence[str]) -> None:
        """Take all of them.

        Args:
            stores: which option -> the path or URI that it gave.
            with_gpus: nodes whose GPUs are to be tried.
        """
        cuda = [(node, self._probes[node].cuda.remote()) for node in with_gpus]
        threads = [threading.Thread(target=self._store, args=store, daemon=True) for store in stores.items()]
        for thread in threads:
            thread.start()
        self._clocks()
        self._links()
        for thread in threads:
            thread.join((_WRITE_S + 2 * _READ_S + 1) * self._pace)
        for node, answer in self._answered(cuda, _CUDA_S).items():
            self._tell("cuda", id=node, **answer)

    def _clocks(self) -> None:
        """How far each node's clock is ahead of this one, from the quickest of a few round trips."""
        import ray

        deadline = time.monotonic() + _CLOCK_S * self._pace
        for node, actor in self._probes.items():
            trips: list[tuple[float, float]] = []
            with contextlib.suppress(ray.exceptions.RayError):
                for _ in range(_ROUND_TRIPS):
                    before = time.time()
                    there = ray.get(actor.now.remote(), timeout=max(0.01, deadline - time.monotonic()))
                    trip = time.time() - before
                    trips.append((trip, there - before - trip / 2))
            if trips:
                trip, ahead = min(trips)
                self._tell("clock", id=node, ahead_s=ahead, within_s=trip / 2)

    def _links(self) -> None:
        """Each node to the next one, all at once: as the members of a group send gradients."""
        ring = list(self._probes)
        pairs = [(ring[index - 1], ring[index]) for index in range(len(ring)) if len(ring) > 2 or index]
        if not pairs:
            return
        opened = [
            (node, self._probes[node].serve.remote(self._addresses[node], 2 * _LINK_S * self._pace)) for node in ring
        ]
        doors = self._answered(opened, _LINK_S)
        calls = [
            (end, self._probes[start].measure.remote(self._addresses[end], doors[end]["answer"], _LINK_S))
            for start, end in pairs
            if "answer" in doors[end]
        ]
        measured = {**doors, **self._answered(calls, _LINK_S + 1)}
        for start, end in pairs:
            self._tell("link", start=start, end=end, **measured[end])

    def _store(self, what: str, uri: str) -> None:
        """A file from every node and from here, read by the others, and removed."""
        names, corpus = {node: f".doctor-{uuid.uuid4().hex}" for node in self._probes}, what == "data"
        calls = [(node, actor.write.remote(uri, names[node], corpus)) for node, actor in self._probes.items()]
        began = time.monotonic()
        here = _within(_WRITE_S * self._pace, lambda: _written_here(uri, corpus))
        left = _WRITE_S + 0.5 - (time.monotonic() - began) / self._pace
        written = self._answered(calls, left)
        self._tell("store", what=what, uri=uri, here=here, written=written)
        there = [node for node, answer in written.items() if not answer.get("answer", {"error": 1}).get("error")]
        calls = [(n, self._probes[n].read.remote(uri, [names[o] for o in _next(there, n)])) for n in there]
        owner = {name: node for node, name in names.items()}
        for node, answer in self._answered(calls, _READ_S).items():
            if "answer" in answer:
                answer = {"answer": {owner[name]: error for name, error in answer["answer"].items()}}
            self._tell("read", what=what, id=node, **answer)
        self._answered([(node, self._probes[node].remove.remote(uri, names[node])) for node in there], _READ_S)

    def _answered(self, calls: Iterable[Call], seconds: float) -> dict[str, dict[str, Any]]:
        return answered(calls, seconds * self._pace)


def _written_here(uri: str, corpus: bool) -> dict[str, Any]:
    name = f".doctor-{uuid.uuid4().hex}"
    answer = probe.write(uri, name, corpus)
    if "error" not in answer:
        probe.remove(uri, name)
    return answer


def _within(seconds: float, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What work answers, if it does in time; else it goes on in a thread that nobody waits for."""
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else {"error": "no answer in time"}


def _next(ring: list[str], node: str) -> list[str]:
    """The nodes after one, at most as many as read what it has written."""
    start = ring.index(node)
    others = ring[start + 1 :] + ring[:start]
    return others[:_MOST_READERS]
