"""Where a secret of a lab must not be found: in no log, on no machine, in no stored object, in no record of MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.lab import recorded, stored
from tests.lab.lab import ARTIFACTS, DATA, RUNS, Lab

_KEPT_IN = ("home/.ray/auth_token", "swift/proxy.conf", "pg/password", "redis.conf")
"""Files of machines that exist to keep a secret; only their owners read them."""


def leaks(lab: Lab) -> list[str]:
    """Each place that holds a secret, and which; none when all is well."""
    found = _in_files(lab.root, lab.secrets)
    for bucket in (DATA, RUNS, ARTIFACTS):
        for what, secret in lab.secrets.items():
            found += [f"{what} in s3://{bucket}/{name}" for name in lab.ask(stored.holding, bucket, secret)]
    rows = lab.call(recorded.everything, lab.postgres.uri)
    return found + [f"{what} in MLflow's records" for what, secret in lab.secrets.items() if secret in rows]


def _in_files(root: Path, secrets: Mapping[str, str]) -> list[str]:
    found = []
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
        if path.as_posix().endswith(_KEPT_IN) or _is_data(path.relative_to(root)):
            continue
        content = path.read_bytes()
        found += [
            f"{what} in {path.relative_to(root)}" for what, secret in secrets.items() if secret.encode() in content
        ]
    return found


def _is_data(path: Path) -> bool:
    """What servers keep on their disks, which is asked for by way of the servers."""
    return path.is_relative_to("services/swift/devices") or path.is_relative_to("services/pg/data")
