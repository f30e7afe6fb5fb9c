"""How a cluster lets people in and out: its head, its token, how a job is stopped, what travels with a job.

Pure functions of what was heard, but for the size of the working directory.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator.doctor.cluster.facts import Cluster
from orchestrator.doctor.finding import Finding
from orchestrator.storage import redacted

_STOP_S = 30
_RAY_STOP_S = 3
_LARGE_MB = 50.0
_MOST_MB = 500.0
"""What Ray refuses to take along."""
_JOB_FOLDER = "/runtime_resources/"


def head(cluster: Cluster) -> Finding:
    """Whether the cluster lets this process in."""
    if cluster.refused is not None:
        return Finding("Ray", cluster.refused[0], False, cluster.refused[1])
    where = redacted(cluster.address)
    if not cluster.joined:
        hint = "`ray status` on its head: is this machine one of its nodes, with the same version of Ray and Python?"
        if cluster.last_words:
            return Finding("Ray", f"Ray at {where}: {cluster.last_words}", False, hint)
        text = f"Ray at {where} answers, but lets nobody in within {cluster.asked_s:.0f} s"
        return Finding("Ray", text if cluster.head else text.replace("answers, but ", ""), False, hint)
    version = cluster.head.get("ray_version", "")
    hint = "" if cluster.done else f"not everything could be measured within {cluster.asked_s:.0f} s"
    return Finding("Ray", f"{where}{f', version {version}' if version else ''}", cluster.done, hint)


def token(cluster: Cluster) -> Iterator[Finding]:
    """Whether strangers are kept out."""
    if not cluster.head:
        return
    beyond = [node.address for node in cluster.nodes.values() if not _is_loopback(node.address)]
    if cluster.head["asks_for_token"]:
        yield Finding("token", "Ray lets in only who has its token")
    elif beyond:
        text = f"Ray asks for no token, and listens on {', '.join(sorted(set(beyond))[:4])}"
        hint = "who reaches its ports runs any code: start all nodes with RAY_AUTH_MODE=token (`ray get-auth-token`)"
        yield Finding("token", text, hint=hint)
    else:
        yield Finding("token", "Ray asks for no token, and is on this machine alone")


def stop(cluster: Cluster, in_job: bool) -> Iterator[Finding]:
    """Whether a job that is stopped has the time to save."""
    heads = [node.facts for node in cluster.well if node.head]
    facts = cluster.driver if in_job else heads[0] if heads else None
    if not facts:
        return
    given = facts.get("stop_wait_s")
    seconds = int(given) if given and given.isdigit() else _RAY_STOP_S
    text = f"a job that is stopped has {seconds} s to save, then it is killed"
    hint = "submit with `--runtime-env jobs/runtime_env.yaml`, or set RAY_JOB_STOP_WAIT_TIME_S=60 where Ray is started"
    yield Finding("stopping jobs", text, hint="" if seconds >= _STOP_S else hint)


def working_dir(folder: Path) -> Iterator[Finding]:
    """What travels, or has travelled, to every node with a job that is submitted from a folder."""
    travelled = _JOB_FOLDER in f"{folder}/"
    if not travelled and not (folder / ".rayignore").exists():
        return
    mb = (_size(folder) if travelled else upload_bytes(folder)) / 1e6
    text = f"{mb:.1f} MB {'came' if travelled else 'go'} with {'this job' if travelled else 'a job from here'}"
    if mb > _MOST_MB:
        yield Finding("working directory", text, False, f"Ray takes at most {_MOST_MB:g} MB: see .rayignore")
    else:
        yield Finding("working directory", text, hint="what is large there? see .rayignore" if mb > _LARGE_MB else "")


def upload_bytes(folder: Path, most: float = 2 * _MOST_MB * 1e6) -> int:
    """Bytes that `ray job submit --working-dir` would take from a folder, by Ray's own rules; counts up to `most`."""
    from ray._private.runtime_env.packaging import _dir_travel

    total = 0

    def add(path: Path) -> None:
        nonlocal total
        total += path.lstat().st_size if path.is_file() else 0
        if total > most:
            raise OverflowError

    mute = logging.Logger("mute", logging.CRITICAL)  # it tells which files it ignores
    with contextlib.suppress(OverflowError):
        _dir_travel(folder.absolute(), [], add, include_gitignore=True, logger=mute)
    return total


def _size(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost" or os.uname().nodename == address
