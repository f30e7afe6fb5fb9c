"""Where a secret of a lab must not be found: in no log, on no machine, in no stored object, in no record of MLflow.

The files of all machines are read, and with them the disk of the S3 server, on which objects lie as they are.
"""

from __future__ import annotations

from tests.lab import recorded
from tests.lab.lab import Lab

_KEPT_IN = ("home/.ray/auth_token", "swift/proxy.conf", "pg/password", "redis.conf")
"""Files of machines that exist to keep a secret; only their owners read them."""


def leaks(lab: Lab) -> list[str]:
    """Each place that holds a secret, and which; none when all is well."""
    rows = lab.call(recorded.everything, lab.postgres.uri).encode()
    known = {what: secret.encode() for what, secret in lab.secrets.items()}
    found = [f"{what} in MLflow's records" for what, secret in known.items() if secret in rows]
    for path in sorted(lab.root.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.as_posix().endswith(_KEPT_IN):
            content = path.read_bytes()
            found += [f"{what} in {path.relative_to(lab.root)}" for what, secret in known.items() if secret in content]
    return found
